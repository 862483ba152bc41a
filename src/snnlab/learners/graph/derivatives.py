"""What a rule needs to know of each step of a chunk, for all its steps at once.

``h (K, B, n)`` below are states *before* the steps, ``ys (K, B, n)`` the maps' outputs in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Objective, sum_over_steps
from snnlab.learners.graph.evaluate import (
    Arrays,
    Frame,
    Inputs,
    forward_product,
    given_product,
    inputs_of_chunk,
    project_inputs,
    run,
    run_perturbed,
)
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.products import Input

#: Blocks of a Jacobian by (new state, old state); of ``dh/dy`` by (new state, cut): ``(K, B, n)``,
#: or ``(B, n)`` where they are the same at every step.
Blocks = dict[tuple[int, int], jax.Array]


@dataclasses.dataclass
class Steps:
    """The forward pass of a chunk.

    Attributes:
        ts: ``(K,)`` time steps.
        h: state leaves before each step, ``(K, B, n)``.
        ys: outputs of all cuts, ``(K, B, n)``.
        extra: step inputs beside the maps' inputs.
        pieces: of the maps' inputs, ``(K, B, i)``: those that do not evolve, and the others too
            if the forward pass was asked to keep them.
    """

    ts: jax.Array
    h: Arrays
    ys: Arrays
    extra: Arrays
    pieces: Inputs


jax.tree_util.register_dataclass(Steps)


def forward(
    frame: Frame, h: Arrays, xs: Input, ts: jax.Array, *, keep: bool = False
) -> tuple[Arrays, Steps]:
    """Advance by the steps of a chunk with input ``xs (K, B, n_in)``.

    Args:
        frame, h, xs, ts: the segment, states before it, input and numbers of the steps.
        keep: store what the maps see (it can be had from the states, at the price of running
            the step's equations again).
    """
    known, extra = inputs_of_chunk(frame, xs)
    outside = project_inputs(frame, known)

    def body(h, inputs):
        outside, extra = inputs
        ys: list[Any] = [None] * len(frame.graph.cuts)
        forward = forward_product(frame, outside)

        def product(r, cut, evolving):
            ys[r] = forward(r, cut, evolving)
            return ys[r]

        new, _, pieces = run(frame, h, extra, product)
        return graph.stored(new), (h, ys, pieces if keep else {})

    graph = frame.graph
    end, (before, ys, pieces) = jax.lax.scan(body, graph.stored(h), (outside, extra))
    return graph.computed(end), Steps(ts, before, ys, extra, {**known, **pieces})


@dataclasses.dataclass
class Signal:
    """Learning signal of each step.

    Attributes:
        d: ``dL_t/dh_t`` by state, ``(K, B, n)``: everything that happens inside the step.
        taps: ``dL_t/dy_t`` by cut, other than through states.
        metrics: summed over the steps.
    """

    d: dict[int, jax.Array]
    taps: dict[int, jax.Array]
    metrics: Any


def signal(frame: Frame, steps: Steps, objective: Objective, batch: Any) -> Signal:
    """The learning signal, by reverse mode through single steps."""
    graph = frame.graph
    zeros = {b: jnp.zeros_like(steps.h[b][0], jnp.float32) for b in graph.trace_states}
    taps = {
        r: jnp.zeros_like(steps.ys[r][0])
        for r, cut in enumerate(graph.cuts) if cut.direct and cut.trained
    }  # fmt: skip

    def one(t, h, ys, extra):
        def loss_of(eps, taps):
            out = run_perturbed(frame, h, extra, ys, eps, taps)
            return objective.step(out, t, batch)

        (d, dy), metrics = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(zeros, taps)
        return d, dy, metrics

    d, dy, metrics = jax.vmap(one)(steps.ts, steps.h, steps.ys, steps.extra)
    return Signal(d, dy, sum_over_steps(metrics))


def observe(frame: Frame, steps: Steps, objective: Objective, batch: Any) -> tuple[Inputs, Any]:
    """Pieces of the maps' inputs ``(K, B, i)``, and the metrics summed over the steps."""

    def one(t, h, ys, extra):
        _, out, pieces = run(frame, h, extra, lambda r, cut, evolving: ys[r])
        return pieces, objective.step(out, t, batch)[1]

    pieces, metrics = jax.vmap(one)(steps.ts, steps.h, steps.ys, steps.extra)
    return {**steps.pieces, **pieces}, sum_over_steps(metrics)


def adjoint(
    frame: Frame, steps: Steps, objective: Objective, batch: Any, h_bar: Arrays
) -> tuple[Arrays, dict[int, jax.Array]]:
    """Backpropagation through the steps of a chunk.

    Args:
        frame, steps, objective, batch: the chunk and its loss.
        h_bar: adjoint of the state after it, of the loss of later steps.

    Returns:
        adjoint of the state before it (floating leaves; ``None`` for others), and of the outputs
        ``y`` of the trained cuts, ``(K, B, n)``.
    """
    graph = frame.graph
    trained = [r for r, cut in enumerate(graph.cuts) if cut.trained]

    def body(h_bar, step):
        t, h, ys, extra = step
        h = graph.computed(h)

        def loss_of(h_float, ys):
            new, out, _ = run(frame, merge(graph, h_float, h), extra, given_product(frame, ys))
            return floats(graph, new), objective.step(out, t, batch)[0]

        (_, loss), pull = jax.vjp(loss_of, floats(graph, h), ys)
        h_bar, ys_bar = pull((h_bar, jnp.ones_like(loss)))
        return h_bar, {r: ys_bar[r] for r in trained}

    return jax.lax.scan(body, h_bar, (steps.ts, steps.h, steps.ys, steps.extra), reverse=True)


def floats(graph: StepGraph, h: Arrays) -> Arrays:
    """The floating leaves of a state: those that have an adjoint."""
    return [h[i] for i in graph.float_states]


def merge(graph: StepGraph, h_float: Arrays, h: Arrays) -> Arrays:
    """``h`` with its floating leaves replaced."""
    merged = list(h)
    for i, value in zip(graph.float_states, h_float, strict=True):
        merged[i] = value
    return merged


def local_step(frame: Frame, h: Arrays, extra: Arrays) -> Callable[[Arrays, Arrays], Arrays]:
    """``F(traced states before the step, ys)``: traced states after it, from all states ``h``."""
    graph = frame.graph

    def local(h_traced: Arrays, ys: Arrays) -> Arrays:
        full = list(h)
        for b, value in zip(graph.trace_states, h_traced, strict=True):
            full[b] = value
        new, _, _ = run(frame, full, extra, lambda r, cut, evolving: ys[r])
        return [new[b] for b in graph.trace_states]

    return local


def jacobians(frame: Frame, steps: Steps) -> tuple[Blocks, Blocks]:
    """Neuron-local ``D_t = dh_t/dh_{t-1}`` and ``f_t = dh_t/dy_t`` at fixed map inputs.

    Elementwise dynamics: a tangent of ones for one old state gives a column of blocks, for all
    neurons and for all groups of connected states at once.

    Returns:
        blocks by (new state, old state), and by (new state, cut). Those that depend on no state
        and no input (a membrane that decays by a constant) come once, not for every step.
    """
    graph = frame.graph
    colours = graph.colours()

    def one(h, ys, extra):
        h = graph.computed(h)
        local = local_step(frame, h, extra)
        primal = ([h[b] for b in graph.trace_states], list(ys))
        d: Blocks = {}
        f: Blocks = {}
        for states, cuts in colours:
            tangent = (
                [jnp.ones_like(h[b]) if b in states else jnp.zeros_like(h[b])
                 for b in graph.trace_states],
                [jnp.ones_like(y) if r in cuts else jnp.zeros_like(y) for r, y in enumerate(ys)],
            )  # fmt: skip
            _, columns = jax.jvp(local, primal, tangent)
            for b, column in zip(graph.trace_states, columns, strict=True):
                d.update({(b, a): column for a in graph.edges[b] if a in states})
                f.update({(b, r): column for r in graph.enters[b] if r in cuts})
        return d, f

    varying = (steps.h, steps.ys, steps.extra)
    first = jax.tree.map(lambda a: a[0], varying)
    traced, shapes = jax.make_jaxpr(one, return_shape=True)(*first)
    moves = jax.tree.unflatten(
        jax.tree.structure(shapes),
        depends(traced.jaxpr, [True] * len(traced.jaxpr.invars)),
    )
    return jax.tree.map(
        lambda m, each, once: each if m else once, moves, jax.vmap(one)(*varying), one(*first)
    )


def depends(jaxpr: Any, given: list[bool]) -> list[bool]:
    """Which results of a jaxpr depend on the arguments marked in ``given``.

    A call that is no plain jaxpr counts as a whole: all its results depend if an argument does.
    """
    marked = {v for v, mark in zip(jaxpr.invars, given, strict=True) if mark}

    def is_marked(v: Any) -> bool:
        return not hasattr(v, "val") and v in marked

    for eqn in jaxpr.eqns:
        marks = [is_marked(v) for v in eqn.invars]
        inner = eqn.params.get("jaxpr")
        if any(marks) and hasattr(inner, "jaxpr") and len(inner.jaxpr.invars) == len(marks):
            found = depends(inner.jaxpr, marks)
            if len(found) == len(eqn.outvars):
                marked.update(v for v, mark in zip(eqn.outvars, found) if mark)
                continue
        if any(marks):
            marked.update(eqn.outvars)
    return [is_marked(v) for v in jaxpr.outvars]
