"""D-RTRL with an update at every step: traces that are written once in several steps.

What a step does to the traces ``e`` is known without touching them: with ``t0`` the step of the
last writing, ``P_t = D_t ... D_{t0+1}`` and ``F_{t,s} = D_t ... D_{s+1} f_s``,

    e_t = P_t e_{t0} + sum_{s = t0+1 .. t} x_s F_{t,s} ,

so the gradient of step t, ``d_t . e_t = (d_t . P_t) e_{t0} + sum_s x_s (d_t . F_{t,s})``, reads
them once, and ``x_s``, ``F_{t,s}``, ``P_t`` (vectors of neurons) wait until they are written after
``WAITING`` steps. None of these depends on weights of later steps: the gradient is that of D-RTRL
with any schedule of updates, to rounding. In place of one reading and one writing of the
traces, a step costs one reading and ``1 / WAITING`` writings, of the rows whose input was active
before: the others are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from snnlab.learners.base import at_rest
from snnlab.learners.graph.derivatives import Blocks, ByState
from snnlab.learners.graph.evaluate import ByBlock, ByRelation, Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input
from snnlab.learners.stores import dynamics
from snnlab.learners.stores.dynamics import Dynamics, total
from snnlab.learners.stores.kernels import traces as kernels
from snnlab.learners.stores.traces import TraceKey, Traces, pass_in_one

#: Steps after which traces are written: more save little and cost more products.
WAITING = 4


class Waiting(NamedTuple):
    """What waits.

    Attributes:
        x: inputs by block, ``(WAITING, B, i)``.
        live: by block ``(B, i)``, 0 where a row of the traces is zero.
        f: by (state, relation), ``(WAITING, B, n)``.
        p: by (new, old) state, ``(B, n)``.
        steps: how many.
    """

    x: ByBlock
    live: ByBlock
    f: Blocks
    p: Blocks
    steps: jax.Array


def worth_it(graph: StepGraph, shapes: dict[TraceKey, tuple[int, ...]]) -> list[int]:
    """Relations whose traces are large enough, by their size alone: the same on every device."""
    if graph.dtype != jnp.float32:
        return []
    large = {r for (r, _, _), shape in shapes.items() if kernels.large(shape)}
    return sorted(r for r in large if graph.relations[r].dense)


def nothing(
    graph: StepGraph, reach: dict[int, tuple[int, ...]], pairs: list[tuple[int, int]]
) -> Waiting:
    """No step waits: shapes of zeros, and arrays. ``pairs`` of states as in :class:`Dynamics`."""

    first = graph.relations[next(iter(reach))].shape if reach else ()
    shapes = {
        (r, k): (first[0], block.size)
        for r in reach for k, block in enumerate(graph.relations[r].blocks) if block.size
    }  # fmt: skip
    size = {b: graph.relations[r].shape for r, states in reach.items() for b in states}
    return Waiting(
        {key: at_rest((WAITING, *shape)) for key, shape in shapes.items()},
        {key: at_rest(shape) for key, shape in shapes.items()},
        {(b, r): at_rest((WAITING, *size[b])) for r, states in reach.items() for b in states},
        {(b, a): jnp.full(size[b], float(a == b)) for b, a in pairs if b in size and a in size},
        at_rest((), jnp.int32),
    )


def step(
    graph: StepGraph, traces: Traces, waiting: Waiting, inputs: Inputs, d: ByState, of: Dynamics
) -> tuple[Traces, Waiting, ByRelation]:
    """One step.

    Args:
        graph: the cut step.
        traces: ``e_{t0}``.
        waiting: the steps before.
        inputs: of the maps, ``(1, B, i)``.
        d: learning signal by state, ``(1, B, n)``.
        of: its Jacobians, ``(1, B, n)``, or ``(B, n)`` where they are constant.

    Returns:
        traces, what waits now, and the gradients.
    """
    now, drives = (
        {k: v[0] if v.ndim == 3 else v for k, v in t.items()}
        for t in (of.state_jacobian, of.drive_jacobian)
    )
    of = Dynamics(of.reach, now, drives, of.shapes)
    d = {b: value[0] for b, value in d.items() if any(b == key[0] for key in waiting.p)}
    at = waiting.steps
    p = {key: of.times(of.state_jacobian, waiting.p, key, like=old)
         for key, old in waiting.p.items()}  # fmt: skip
    moved: Blocks = {}
    for key, old in waiting.f.items():
        new_one = of.drive_jacobian.get(key, jnp.zeros_like(old[0]))
        moved[key] = of.times(of.state_jacobian, waiting.f, key, like=old).at[at].set(new_one)
    x = {key: old.at[at].set(inputs[key].array[0]) for key, old in waiting.x.items()}
    c = {a: total([d[b] * p[b, a] for b in d if (b, a) in p], like=d[a]) for a in d}
    mine = Dynamics({r: of.reach[r] for _, r in moved}, {}, moved, of.shapes)
    y_bar = dynamics.through_drives(mine, d)
    write = at + 1 == WAITING
    traces, gradients = pass_in_one(
        graph,
        traces,
        c,
        (p, moved),
        {key: Input(value) for key, value in x.items()},
        y_bar,
        advance=write,
        steps=at + 1,
        live=waiting.live,
    )
    live = {
        key: jnp.where(write, jnp.maximum(value, jnp.any(x[key] != 0, axis=0)), value)
        for key, value in waiting.live.items()
    }
    identity = of.identity()
    new = Waiting(
        x,
        live,
        {key: jnp.where(write, 0.0, value) for key, value in moved.items()},
        {key: jnp.where(write, identity[key], value) for key, value in p.items()},
        jnp.where(write, 0, at + 1),
    )
    return traces, new, gradients
