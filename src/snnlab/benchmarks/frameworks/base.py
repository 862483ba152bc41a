"""What every framework is given, and what it gives back."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from snnlab.errors import one_line


@dataclasses.dataclass(frozen=True)
class Case:
    """Data, weights and constants of the network.

    Attributes:
        xs: ``(T, B, n_in)`` input.
        labels: ``(B,)`` classes; without a readout not used.
        forward: of each layer ``(n_in or n, n)``.
        recurrent: of each layer ``(n, n)``; empty: layers without recurrence.
        out: of the readout ``(n, n_out)``; ``None``: the loss is the number of spikes of the
            last layer, averaged over the batch.
        decay: ``beta``, of the membranes.
        readout_decay: ``a``.
    """

    xs: np.ndarray
    labels: np.ndarray
    forward: list[np.ndarray]
    recurrent: list[np.ndarray]
    out: np.ndarray | None
    decay: float
    readout_decay: float


#: Calculates loss and gradients ``[*forward, *recurrent, out]``, in the framework's own arrays.
Run = Callable[[], tuple[Any, list[Any]]]


@dataclasses.dataclass(frozen=True)
class Framework:
    """A framework that the network can be run in.

    Attributes:
        module: to be imported; comes with the extra ``peers``, or with snnlab itself.
        make: the network as a function without arguments, on torch's or JAX's default device.
        differs: what is not as the package's docstring says.
        torch: whether it computes with torch.
        graph: whether a run is recorded once as a CUDA graph, which is then replayed.
    """

    module: str
    make: Callable[[Case], Run]
    differs: str
    torch: bool = True
    graph: bool = False

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    def trouble(self) -> str:
        """Why it cannot be imported here, in a line; empty if it can."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # noqa: BLE001 (what a broken installation raises is unknown)
            return f"cannot be imported: {one_line(str(error))[:120]}"
        return ""
