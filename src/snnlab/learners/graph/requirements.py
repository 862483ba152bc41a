"""What an online rule must be able to say of every parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import jax

from snnlab.errors import UsageError
from snnlab.learners.graph.jaxprs import variables
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import Elementwise


def require_trained(graph: StepGraph) -> None:
    """Refuse parameters that no online rule can train.

    Raises:
        UsageError: one that is not used, that neither a map nor elementwise operations of its
            neuron take up, or that reaches no output within a step.
    """
    used = {name for one in graph.relations for name in one.trained}
    # one that a neuron's parameter has beside others may do nothing but what recurrence does
    reaching = {n for one in graph.relations if one.reach or one.direct for n in one.trained}
    blocked = set(graph.param_names) - used
    for name in sorted(blocked):
        if _is_read(graph, graph.param_vars[name]):
            continue  # behind stop_gradient: held on purpose
        raise UsageError(
            f"--backend snnlab cannot train parameter {name}: the step does not use it"
        )
    for r, one in enumerate(graph.relations):
        if isinstance(one, Elementwise):
            _require_elementwise(graph, r, one)
        dead = one.is_map and not one.reach and not one.direct
        if one.trained and (dead or reaching.isdisjoint(one.trained)):
            raise UsageError(
                f"--backend snnlab cannot train parameter {one.trained[0]}: nothing that it "
                "drives reaches the output within a step; use --method bptt"
            )


def _is_read(graph: StepGraph, v: Any) -> bool:
    return any(v in variables(eqn.invars) for eqn in graph.jaxpr.eqns)


def _require_elementwise(graph: StepGraph, r: int, one: Elementwise) -> None:
    """Refuse what is no value of each neuron, or acts through the input of a map alone."""
    name = one.trained[0]
    reason = f"it enters the step through '{one.through}', neither as a map y = x @ W nor"
    if not one.is_local:
        raise UsageError(
            f"--backend snnlab cannot train parameter {name}: {reason} as a value of each "
            "neuron; let it multiply as W does, or use --method bptt"
        )
    for other in graph.relations:
        for p in other.blocks:
            behind = graph.live.get(p.var, set())
            own = any(kind == "h" for kind, _ in graph.local.get(p.var, ()))
            if ("y", r) in behind and not p.live and not own:
                raise UsageError(
                    f"--backend snnlab cannot train parameter {name}: it scales the input of a "
                    "map, through which it acts on all its neurons; use --method bptt"
                )


def refuse(graph: StepGraph, b: int, reason: str, chosen: Sequence[int] = ()) -> NoReturn:
    """State ``b`` cannot have a trace."""
    through = chosen or graph.acting[b]
    name = graph.relations[through[0]].trained[0]
    raise UsageError(
        f"an online rule cannot train parameter {name} through state {graph.states[b]}: {reason}; "
        "use --method bptt, or see the rules for networks in docs/architecture.md"
    )


def spikes_that_are_states(graph: StepGraph) -> int | None:
    """A state that keeps a layer's spikes, made of other states; most steps have none."""
    for b, v in enumerate(graph.new_vars):
        if any(v is shown for shown in graph.out.spikes) and set(graph.edges[b]) - {b}:
            return b
    return None


def reach_output_past_spikes(graph: StepGraph) -> int | None:
    """A state of a spiking layer that reaches the readout other than by its spikes."""
    spikes = set(graph.out.spikes)
    hidden = {
        b for r, one in enumerate(graph.relations) if graph.layer_of(r) is not None
        for b in one.reach
    }  # fmt: skip
    found: dict[Any, set[int]] = {}
    for eqn in graph.state_eqns:
        r = graph.relation_of(eqn)
        used = variables(eqn.invars) if r is None else [p.var for p in graph.relations[r].blocks]
        reached: set[int] = set().union(*(found.get(v, set()) for v in used))
        for v in eqn.outvars:
            mine = {b for b in hidden if graph.new_vars[b] is v}
            found[v] = set() if v in spikes else mine | reached
    ends = variables(jax.tree.leaves(graph.out.readout))
    return min(set().union(*(found.get(v, set()) for v in ends)), default=None)
