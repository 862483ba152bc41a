"""Options of ``--model nir``: a whole network, of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from snnlab.config import option
from snnlab.models.kinds.readouts import Leaky
from snnlab.models.options import Options
from snnlab.options import PathText


class NIRFile(Options):
    """A file, and how its equations become steps."""

    kept: ClassVar[Mapping[str, str]] = {"network": "network.nir"}
    network: PathText = option(
        basic=True, default="", help="NIR file of --model nir (snnlab import shows what it holds)"
    )
    nir_step: Literal["auto", "euler", "exponential"] = option(
        default="auto",
        help="decay of a step for a time constant of the file: 1 - dt/tau, as most readers of NIR "
        "have it, or exp(-dt/tau); auto: what snnlab wrote, or euler",
    )
    nir_reset: Literal["auto", "value", "subtract"] = option(
        default="auto",
        help="what a spike of the file's neurons does: sets the membrane to v_reset, as NIR says, "
        "or subtracts the threshold, as norse can be told to; auto: what snnlab wrote, "
        "or value",
    )
    dt: float = Leaky.dt

    @staticmethod
    def check(config: Any) -> None:
        if not config.network:
            raise ValueError("--model nir needs --network FILE.nir")
