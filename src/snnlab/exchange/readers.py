"""Readers of NIR: how each makes steps of NIR's equations, which are in continuous time.

    euler        tau dv/dt = v_leak - v + r I   becomes   v = v + dt/tau (v_leak - v + r I)
    exponential  the same                       becomes   v = a v + (1-a) (v_leak + r I)
                                                          with a = exp(-dt/tau)

An export chooses tau and r for a reader's step, so that its decay and its gain are those of the
network. What is said here of packages is what their programs do in the versions named.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Scheme = Literal["euler", "exponential"]
#: What a layer, or a readout, may become.
STANDARD = frozenset({"Linear", "Affine", "LIF", "CubaLIF", "IF", "LI", "I", "Delay"})
_COMMON = frozenset({"Linear", "Affine", "LIF", "CubaLIF"})


@dataclasses.dataclass(frozen=True)
class Reader:
    """How a reader steps.

    Attributes:
        summary: for ``--help``.
        dt: length of its step in s; 0: that of the network, as the file says.
        scheme: see the module.
        lif_r: the ``r`` that it takes of a LIF node: any, 1, or tau/dt. With the last two, the
            rest of the gain multiplies the weights.
        cuba_r: the ``r`` and ``w_in`` of a CubaLIF node: any, or tau/dt of each.
        subtracts: whether a spike subtracts the threshold, as the reader is told to; NIR's sets v
            to ``v_reset``.
        at_threshold: whether a membrane on the threshold spikes; NIR's has to be above it.
        alike: parameters that must be the same number for all neurons of a layer.
        zero_rest: whether ``v_leak`` and ``v_reset`` must be 0.
        nodes: types that it reads.
        recurrent: types of neurons that it reads with a recurrent map.
    """

    summary: str
    dt: float = 0.0
    scheme: Scheme = "euler"
    lif_r: Literal["any", "one", "gain"] = "any"
    cuba_r: Literal["any", "gain"] = "any"
    subtracts: bool = False
    at_threshold: bool = False
    alike: frozenset[str] = frozenset()
    zero_rest: bool = False
    nodes: frozenset[str] = STANDARD
    recurrent: frozenset[str] = STANDARD


READERS: dict[str, Reader] = {
    "nir": Reader("any that steps by Euler forwards, with the network's own dt"),
    "exponential": Reader("any whose decay is exp(-dt/tau)", scheme="exponential"),
    "snntorch": Reader(
        "snnTorch 1.0: dt is 1e-4 s, no recurrence, one threshold for a layer", 1e-4,
        lif_r="gain", cuba_r="gain", alike=frozenset({"v_threshold"}), zero_rest=True,
        nodes=_COMMON, recurrent=frozenset(),
    ),
    "norse": Reader(
        "norse 1.1: dt is 1e-3 s unless it is told another, the r of LIF is 1", 1e-3,
        lif_r="one", zero_rest=True, nodes=_COMMON, recurrent=_COMMON,
    ),
    "norse-subtract": Reader(
        "norse 1.1 by from_nir(graph, reset_method=reset_subtract), which counts for CubaLIF: "
        "a LIF has a synaptic current of one step", 1e-3,
        subtracts=True, zero_rest=True, nodes=_COMMON - {"LIF"}, recurrent=_COMMON - {"LIF"},
    ),
    "spikingjelly": Reader(
        "SpikingJelly 2.0: dt is 1e-4 s, one tau and one threshold for a layer", 1e-4,
        lif_r="gain", cuba_r="gain", at_threshold=True, zero_rest=True,
        alike=frozenset({"v_threshold", "tau", "tau_mem", "tau_syn"}), nodes=_COMMON | {"IF"},
        recurrent=_COMMON | {"IF"},
    ),
}  # fmt: skip
