"""What a rule needs to know of each step of a chunk, for all its steps at once.

``h (K, B, n)`` below are states *before* the steps, ``ys (K, B, n)`` the maps' outputs in them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Objective, sum_over_steps
from snnlab.learners.chunked.evaluate import (
    Arrays,
    ByPiece,
    Frame,
    forward_product,
    given_product,
    inputs_of_chunk,
    project_inputs,
    run,
    run_perturbed,
)
from snnlab.learners.chunked.graph import StepGraph

#: Blocks of a Jacobian by (new state, old state); of ``dh/dy`` by (new state, cut).
Blocks = dict[tuple[int, int], jax.Array]


@dataclasses.dataclass
class Steps:
    """The forward pass of a chunk.

    Attributes:
        ts: ``(K,)`` time steps.
        h: state leaves before each step, ``(K, B, n)``.
        ys: outputs of all cuts, ``(K, B, n)``.
        extra: step inputs beside the maps' inputs.
        known: pieces of map inputs that do not evolve, ``(K, B, i)``.
    """

    ts: jax.Array
    h: Arrays
    ys: Arrays
    extra: Arrays
    known: ByPiece


jax.tree_util.register_dataclass(Steps)


def forward(frame: Frame, h: Arrays, xs: jax.Array, ts: jax.Array) -> tuple[Arrays, Steps]:
    """Advance by the steps of a chunk with input ``xs (K, B, n_in)``."""
    known, extra = inputs_of_chunk(frame, xs)
    outside = project_inputs(frame, known)

    def body(h, inputs):
        outside, extra = inputs
        ys: list[Any] = [None] * len(frame.graph.cuts)
        forward = forward_product(frame, outside)

        def product(r, cut, evolving):
            ys[r] = forward(r, cut, evolving)
            return ys[r]

        new, _, _ = run(frame, h, extra, product)
        return new, (h, ys)

    end, (before, ys) = jax.lax.scan(body, h, (outside, extra))
    return end, Steps(ts, before, ys, extra, known)


@dataclasses.dataclass
class Signal:
    """Learning signal of each step.

    Attributes:
        d: ``dL_t/dh_t`` by state, ``(K, B, n)``: everything that happens inside the step.
        taps: ``dL_t/dy_t`` by cut, other than through states.
        pieces: all pieces of the maps' inputs, ``(K, B, i)``.
        metrics: summed over the steps.
    """

    d: dict[int, jax.Array]
    taps: dict[int, jax.Array]
    pieces: ByPiece
    metrics: Any


def signal(frame: Frame, steps: Steps, objective: Objective, batch: Any) -> Signal:
    """The learning signal, by reverse mode through single steps."""
    graph = frame.graph
    zeros = {b: jnp.zeros_like(steps.h[b][0]) for b in graph.trace_states}
    taps = {
        r: jnp.zeros_like(steps.ys[r][0])
        for r, cut in enumerate(graph.cuts) if cut.direct and cut.trained
    }  # fmt: skip

    def one(t, h, ys, extra):
        def loss_of(eps, taps):
            out, pieces = run_perturbed(frame, h, extra, ys, eps, taps)
            loss, metrics = objective.step(out, t, batch)
            return loss, (metrics, pieces)

        (d, dy), (metrics, pieces) = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(zeros, taps)
        return d, dy, pieces, metrics

    d, dy, pieces, metrics = jax.vmap(one)(steps.ts, steps.h, steps.ys, steps.extra)
    return Signal(d, dy, {**steps.known, **pieces}, sum_over_steps(metrics))


def observe(frame: Frame, steps: Steps, objective: Objective, batch: Any) -> tuple[ByPiece, Any]:
    """Pieces of the maps' inputs ``(K, B, i)``, and the metrics summed over the steps."""

    def one(t, h, ys, extra):
        _, out, pieces = run(frame, h, extra, lambda r, cut, evolving: ys[r])
        return pieces, objective.step(out, t, batch)[1]

    pieces, metrics = jax.vmap(one)(steps.ts, steps.h, steps.ys, steps.extra)
    return {**steps.known, **pieces}, sum_over_steps(metrics)


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


def jacobians(frame: Frame, steps: Steps) -> tuple[Blocks, Blocks]:
    """Neuron-local ``D_t = dh_t/dh_{t-1}`` and ``f_t = dh_t/dy_t`` at fixed map inputs.

    Elementwise dynamics: a tangent of ones for one old state gives a column of blocks, for all
    neurons and for all groups of connected states at once.

    Returns:
        blocks ``(K, B, n)`` by (new state, old state), and by (new state, cut).
    """
    graph = frame.graph
    colours = graph.colours()

    def one(h, ys, extra):
        def local(h_traced, ys):
            full = list(h)
            for b, value in zip(graph.trace_states, h_traced, strict=True):
                full[b] = value
            new, _, _ = run(frame, full, extra, lambda r, cut, evolving: ys[r])
            return [new[b] for b in graph.trace_states]

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

    return jax.vmap(one)(steps.h, steps.ys, steps.extra)
