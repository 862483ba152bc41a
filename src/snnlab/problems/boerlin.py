"""The sandbox: a spiking network beside the linear system that it tracks; its options and command.

:mod:`snnlab.problems.boerlin_simulation` runs it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from snnlab import config as configs
from snnlab.analysis.config import Metric
from snnlab.config import SET, CommaText, NameText, PathText, option, section
from snnlab.console import make_console
from snnlab.devices import chosen
from snnlab.errors import UsageError
from snnlab.experiment.command import proceed
from snnlab.models.config import DecoderInit

#: For ``--help``.
EXAMPLES = {
    "--auto_encoder --plot": "the auto-encoder, with its figure",
    "--data cue --repeat 10 --track_balance": "a cue accumulation trial, and its balance",
}


@section("Network and linear system")
class IntegratorConfig:
    """The two systems."""

    n: int = option(
        basic=True, default=400, help="neurons", gt=1, le=1_000_000, aliases=("neurons",)
    )
    j: int = option(
        basic=True,
        default=1,
        help="dimensions of the input; shd: channels from 501 on, below 1 all; cue: always 40",
        le=10_000,
        only={"data": ("float", "shd")},
    )
    alpha: float = option(default=0.9999, help="decay of a step", gt=0, lt=1)
    auto_encoder: bool = option(basic=True, default=False, help="x only leaks: no slow weights")
    coupling: float = option(
        default=-0.5,
        help="without --auto-encoder: A off the diagonal; the linear system is stable between -1 "
        "and 1/(J-1)",
        only={"auto_encoder": (False,)},
    )
    w_init: DecoderInit = option(default="boerlin-fix", help="decoding weights")
    weight_sparsity: float = option(
        default=0.3, help="share of zeros in boerlin-rand and rand", ge=0, lt=1,
        only={"w_init": ("boerlin-rand", "rand")},
    )  # fmt: skip
    mu: float = option(default=0.0, help="quadratic cost of a spike", ge=0)
    nu: float = option(default=0.0, help="linear cost of a spike", ge=0)
    v_rest: float = option(default=0.0, help="resting potential")
    sigma_v: float = option(default=1e-5, help="noise of the membrane, per step", ge=0)


@section("Input")
class IntegratorInput:
    """What both systems receive."""

    data: Literal["float", "shd", "cue"] = option(
        basic=True,
        default="float",
        help="float: plateaus; shd: first training recording; cue: a cue accumulation trial",
    )
    data_path: PathText = option(
        basic=True, default="", help="folder with the SHD files; empty: data in the cache folder",
        only={"data": ("shd",)},
    )  # fmt: skip
    input_scale: float = option(
        default=200.0, help="input of a spike of shd or cue", only={"data": ("shd", "cue")}
    )
    repeat: int = option(
        default=100, help="steps of a bin of shd or cue", gt=0, le=100_000,
        only={"data": ("shd", "cue")},
    )  # fmt: skip
    sigma_s: float = option(default=100.0, help="noise of the input, per step", ge=0)


@section("Run")
class SandboxConfig:
    """Where it runs, what is kept and drawn."""

    seed: int = option(
        basic=True,
        default=0,
        help="of weights, input and noise; -1: from the clock",
        ge=-1,
        lt=2**31,
    )
    devices: CommaText = option(
        basic=True, default="0", help="comma list of accelerator ids, all, or cpu"
    )
    filepath: PathText = option(
        basic=True, default="", help="folder of the run; empty: runs/boerlin-<data>-<time>"
    )
    exp_name: NameText = option(default="", help="name that the run's folder carries")
    track_balance: bool = option(
        basic=True, default=False, help="measure excitation against inhibition"
    )
    balance_metric: Metric = option(
        default="lowpass", help="filter of the two currents", only={"track_balance": SET}
    )
    plot: bool = option(
        basic=True,
        default=False,
        help="draw input, state, raster (and currents) into the run folder",
    )
    plot_neuron: int = option(
        default=0, help="neuron whose currents are drawn", ge=0,
        only=({"track_balance": SET, "plot": SET}, {"track_balance": SET, "save": SET}),
    )  # fmt: skip
    plot_dim: int = option(
        default=4, help="dimensions drawn at most", gt=0, le=16,
        only=({"plot": SET}, {"save": SET}),
    )  # fmt: skip
    plot_input_raster: bool = option(
        default=False, help="draw the input of shd and cue as a raster",
        only=({"data": ("shd", "cue"), "plot": SET}, {"data": ("shd", "cue"), "save": SET}),
    )  # fmt: skip
    save: NameText = option(default="", help="write the figure as <save>.png into --save_path too")
    save_path: PathText = option(default="plots", help="folder of --save", only={"save": SET})


@dataclasses.dataclass(frozen=True)
class Boerlin:
    """Config of ``tasks/boerlin.py``."""

    run: SandboxConfig = dataclasses.field(default_factory=SandboxConfig)
    model: IntegratorConfig = dataclasses.field(default_factory=IntegratorConfig)
    data: IntegratorInput = dataclasses.field(default_factory=IntegratorInput)

    def __post_init__(self) -> None:
        if self.run.plot_neuron >= self.model.n:
            raise UsageError(
                f"--plot_neuron {self.run.plot_neuron}: there are neurons 0 to {self.model.n - 1}"
            )
        if self.model.j < 1 and self.data.data != "shd":
            raise UsageError(f"--j {self.model.j}: only --data shd has a number of its own")
        name = self.run.save
        if name and (Path(name).name != name or name in (".", "..")):
            raise UsageError(
                f"--save {name}: a file name without folder; --save_path is the folder"
            )


def command(*, prog: str, description: str, argv: list[str] | None = None) -> int:
    """The whole command line."""
    console = make_console()
    config, dry_run = configs.parse(
        Boerlin, argv, prog=prog, description=description, note=console.print, examples=EXAMPLES
    )
    if proceed(config, dry_run, console):
        if len(chosen(config.run.devices)) > 1:
            console.print("the sandbox simulates one network, on the first device")
        from snnlab.problems.boerlin_simulation import run

        run(config, console)
    return 0
