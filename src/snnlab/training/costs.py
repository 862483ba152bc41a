"""What a network costs, by the definitions of NeuroBench.

Source: Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic computing
algorithms and systems", Nat. Commun. 16, 1545; as the package neurobench 2.3.0 computes them.
What is added up here was counted on the device while the test set was evaluated
(:mod:`snnlab.learners.counting`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnlab.learners.counting import Counts, whole

#: Energy of an operation in pJ, 45 nm CMOS at 0.9 V, 32-bit floating point: an addition is an AC;
#: with a multiplication (3.7 pJ) it is a MAC. Source: Horowitz 2014, ISSCC, 10-14.
PJ_AC, PJ_MAC = 0.9, 4.6
ENERGY = (
    f"estimate: {PJ_AC} pJ an AC, {PJ_MAC} pJ a MAC (Horowitz 2014, 45 nm, 32-bit float); without "
    "memory, neurons and communication"
)
DEFINITIONS = "NeuroBench (Yik et al. 2025), neurobench 2.3.0"
_OF_MEMBRANES = ("membrane_updates", "membrane_updates_per_step")
_OF_CONNECTIONS = (
    "connection_sparsity",
    *(
        f"synaptic_operations_{kind}{per}"
        for kind in ("dense", "effective_acs", "effective_macs")
        for per in ("", "_per_step")
    ),
    "energy_estimate_nj",
)
#: What is counted.
MEASURED = (
    "activation_sparsity", "activation_sparsity_by_layer", *_OF_CONNECTIONS, *_OF_MEMBRANES
)  # fmt: skip


class Costs:
    """What the evaluation of a split took, batch by batch."""

    def __init__(self) -> None:
        self._counts: Any = None

    def add(self, counts: Counts) -> None:
        """Add those of a batch."""
        found: Any = jax.device_get(counts)
        found = found._replace(activity=jax.tree.map(whole, found.activity))
        if self._counts is not None:
            before = self._counts
            both = jax.tree.map(np.add, before.activity, found.activity)
            found = found._replace(activity=both, samples=before.samples + found.samples)
        self._counts = found

    def facts(
        self, params: Iterable[Any], constants: Iterable[Any], steps: int, spiking: bool,
        unknown: tuple[str, ...] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """The flat dict ``costs`` of ``results.json``.

        ``synaptic_operations_*``, ``membrane_updates`` and ``energy_estimate_nj`` are means over
        samples, of a whole sequence; ``*_per_step`` are these divided by its steps. A number that
        cannot be given is ``None``, and ``reasons`` says why.

        ``samples``, ``steps``: that were counted, and of a sequence.
        ``footprint_bytes``: of parameters and buffers, ``parameter_bytes`` + ``buffer_bytes``.
        Buffers are the constants of the network: fixed weights and values, masks, signs, tables.
        ``connection_sparsity``: share of weights that are 0 or do not exist.
        ``activation_sparsity``: share of outputs of the layers' units in all steps that are 0;
        ``activation_sparsity_by_layer``.
        ``synaptic_operations_dense``: inputs times weights, 0 or not;
        ``synaptic_operations_effective_acs``, ``synaptic_operations_effective_macs``: those of a
        non-zero input and a non-zero weight; MACs in steps of a sample in which an input of the
        connection is not -1, 0 or 1.
        ``membrane_updates``: of neurons of the layers, in steps that change the membrane, the first
        step among them.
        ``energy_estimate_nj``: see ``energy_estimate_source``.

        Args:
            params, constants: arrays of the network.
            steps: T.
            spiking: whether the layers' outputs are spikes.
            unknown: operations that connect neurons and were not counted.
        """
        counts, reasons = self._counts, dict[str, str]()
        n = 0 if counts is None else int(counts.samples)
        numbers = dict.fromkeys(MEASURED) if not n else _measured(counts, n, steps)
        if not n:
            reasons = dict.fromkeys(MEASURED, "no sample was counted")
        elif unknown:
            told = f"neurons are connected by {', '.join(unknown)}, in a form that is not counted"
            reasons = dict.fromkeys(_OF_CONNECTIONS, told)
        if not spiking:
            reasons |= dict.fromkeys(_OF_MEMBRANES, "units without spikes have no membrane")
        sizes = [sum(int(a.nbytes) for a in map(np.asarray, some)) for some in (params, constants)]
        return {
            "definitions": DEFINITIONS, "split": "test", "samples": n, "steps": steps,
            "footprint_bytes": sum(sizes),
            "parameter_bytes": sizes[0], "buffer_bytes": sizes[1],
            **numbers, **dict.fromkeys(reasons),
            "energy_estimate_source": ENERGY,
            "reasons": reasons,
        }  # fmt: skip


def _measured(counts: Any, n: int, steps: int) -> dict[str, Any]:
    """All that the counts of ``n`` samples say."""
    connections, activity = counts.connections, counts.activity
    weights = [len(c.fan_out) * int(c.n_out) for c in connections]
    dense = sum(size * int(c.times) for size, c in zip(weights, connections, strict=True))
    acs, macs = (int(k.sum()) / n for k in (activity.acs, activity.macs))
    there = sum(int(c.fan_out.sum()) for c in connections)
    places = [n * steps * int(size) for size in counts.units]
    on = activity.outputs.tolist()
    updates = int(activity.updates.sum()) / n
    return {
        "connection_sparsity": _share(sum(weights) - there, sum(weights)),
        "activation_sparsity": _share(sum(places) - sum(on), sum(places)),
        "activation_sparsity_by_layer": [_share(k - j, k) for k, j in zip(places, on, strict=True)],
        "synaptic_operations_dense": float(dense),
        "synaptic_operations_dense_per_step": dense / steps,
        "synaptic_operations_effective_acs": acs,
        "synaptic_operations_effective_acs_per_step": acs / steps,
        "synaptic_operations_effective_macs": macs,
        "synaptic_operations_effective_macs_per_step": macs / steps,
        "membrane_updates": updates,
        "membrane_updates_per_step": updates / steps,
        "energy_estimate_nj": (PJ_AC * acs + PJ_MAC * macs) / 1000.0,
    }


def _share(part: int, whole: int) -> float:
    """Of nothing 0, as in the package."""
    return part / whole if whole else 0.0


def over_seeds(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of an experiment; what one of them cannot say is ``None``.

    What is no number, or is the same in all, is that of the first.
    """
    if not costs:
        return {}
    made = dict(costs[0])
    for name, value in made.items():
        values: list[Any] = [one.get(name) for one in costs]
        if isinstance(value, int | float):
            if None in values:
                made[name] = None
            elif any(v != value for v in values):
                made[name] = statistics.fmean(values)
        elif isinstance(value, list) and value and all(isinstance(v, list) for v in values):
            made[name] = [statistics.fmean(each) for each in zip(*values, strict=True)]
    return made
