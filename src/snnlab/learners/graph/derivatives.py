"""What a rule needs to know of each step of a chunk, for all its steps at once.

``h (K, B, n)`` below are states *before* the steps, ``ys (K, B, n)`` the drives in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Objective, sum_over_steps
from snnlab.learners.graph import in_stages
from snnlab.learners.graph.evaluate import (
    Arrays,
    ByRelation,
    Frame,
    Inputs,
    Perturbed,
    forward_product,
    given_product,
    inputs_of_chunk,
    project_inputs,
    run,
    run_given,
    run_perturbed,
)
from snnlab.learners.graph.jaxprs import Env, depends, evaluate, leading_to, read
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input

#: By state, ``(K, B, n)`` or ``(B, n)``.
ByState = dict[int, jax.Array]
#: Blocks of a Jacobian by (new state, old state); of ``dh/dy`` by (new state, relation): ``(K, B,
#: n)``, or ``(B, n)`` where they are the same at every step.
Blocks = dict[tuple[int, int], jax.Array]


@dataclasses.dataclass
class Steps:
    """The forward pass of a chunk.

    Attributes:
        ts: ``(K,)`` time steps.
        h: state leaves before each step, ``(K, B, n)``.
        ys: drives of all maps, ``(K, B, n)``; ``None`` of other relations.
        extra: step inputs beside the maps' inputs.
        inputs: of the maps, ``(K, B, i)``: those that do not evolve, and the others too if the
            forward pass was asked to keep them.
    """

    ts: jax.Array
    h: Arrays
    ys: list[jax.Array | None]
    extra: Arrays
    inputs: Inputs

    @property
    def each(self) -> tuple[jax.Array, Arrays, Any, Arrays]:
        """What differs from step to step, without the maps' inputs."""
        return self.ts, self.h, self.ys, self.extra


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
    graph = frame.graph
    if frame.stages:
        end, before, every, blocks = in_stages.forward(frame, h, outside, extra, ts.shape[0])
        made = {key: Input(x) for key, x in blocks.items()} if keep else {}
        return end, Steps(ts, before, every, extra, {**known, **made})

    def body(h: Any, given: Any) -> Any:
        outside, extra = given
        ys: list[Any] = [None] * len(graph.relations)
        forward = forward_product(frame, outside)

        def product(r: Any, one: Any, evolving: Any) -> Any:
            ys[r] = forward(r, one, evolving)
            return ys[r]

        new, _, blocks = run(frame, h, extra, product)
        return graph.stored(new), (h, ys, blocks if keep else {})

    end, (before, ys, blocks) = jax.lax.scan(body, graph.stored(h), (outside, extra))
    made = {key: Input(x) for key, x in blocks.items()}
    return graph.computed(end), Steps(ts, before, ys, extra, {**known, **made})


@dataclasses.dataclass
class StepSignal:
    """How the loss of each step depends on what the step has made.

    Attributes:
        states: ``dL_t/dh_t`` by state, ``(K, B, n)``: everything that happens inside the step.
        direct_adjoint: ``dL_t/dy_t`` by relation, other than through states.
        spikes: ``dL_t/ds_t`` by layer where it was asked for, and then not in ``states``.
        metrics: summed over the steps.
        kept: what the loss returned beside them, of all steps.
    """

    states: ByState
    direct_adjoint: ByRelation
    spikes: list[jax.Array] | None
    metrics: Any
    kept: Any


def step_signal(
    frame: Frame, steps: Steps, loss: Callable[..., Any], *, through_maps: bool, spikes: bool
) -> StepSignal:
    """The learning signal, by reverse mode through single steps.

    Args:
        frame, steps: the chunk.
        loss: of ``(StepOutput, spikes as maps see them, t)``; beside it metrics, and what is kept.
        through_maps: whether it passes the maps of layers above.
        spikes: whether the signal at spikes is wanted, apart from that at states.
    """
    graph = frame.graph
    zeros = Perturbed(
        {b: jnp.zeros_like(steps.h[b][0], jnp.float32) for b in graph.trace_states},
        {
            r: jnp.zeros(one.shape, jnp.float32)
            for r, one in enumerate(graph.relations) if one.direct and one.trained
        },
        [jnp.zeros(v.aval.shape, jnp.float32) for v in graph.out.spikes] if spikes else None,
    )  # fmt: skip

    def one_step(t: Any, h: Any, ys: Any, extra: Any) -> Any:
        def loss_of(by: Any) -> Any:
            drives = frame.drives(ys)
            out, seen = run_perturbed(frame, h, extra, drives, by, through_maps=through_maps)
            return loss(out, seen, t)

        return jax.grad(loss_of, has_aux=True)(zeros)

    found, (metrics, kept) = jax.vmap(one_step)(*steps.each)
    return StepSignal(found.new, found.drives, found.spikes, sum_over_steps(metrics), kept)


def observe(frame: Frame, steps: Steps, objective: Objective, batch: Any) -> tuple[Inputs, Any]:
    """The maps' inputs ``(K, B, i)``, and the metrics summed over the steps."""

    def one_step(t: Any, h: Any, ys: Any, extra: Any) -> Any:
        _, out, blocks = run_given(frame, h, extra, frame.drives(ys))
        return blocks, objective.step(out, t, batch)[1]

    blocks, metrics = jax.vmap(one_step)(*steps.each)
    made = {key: Input(x) for key, x in blocks.items()}
    return {**steps.inputs, **made}, sum_over_steps(metrics)


def adjoint(
    frame: Frame, steps: Steps, objective: Objective, batch: Any, h_bar: Arrays
) -> tuple[Arrays, ByRelation]:
    """Backpropagation through the steps of a chunk.

    Args:
        frame, steps, objective, batch: the chunk and its loss.
        h_bar: adjoint of the state after it, of the loss of later steps.

    Returns:
        adjoint of the state before it (floating leaves; ``None`` for others), and of the drives
        of the trained relations: ``(K, B, n)`` of a map; of others, which are the same in all
        steps, the sum ``(1, B, n)``.
    """
    graph = frame.graph
    if frame.stages:
        return in_stages.adjoint(frame, steps, objective, batch, h_bar)
    maps = [r for r, one in enumerate(graph.relations) if one.trained and one.is_map]
    others = {r: jnp.zeros_like(frame.whole[r]) for r in graph.elementwise}

    def body(carry: Any, step: Any) -> Any:
        h_bar, total = carry
        t, h, ys, extra = step
        h = graph.computed(h)

        def loss_of(h_float: Any, ys: Any) -> Any:
            product = given_product(frame, ys)
            new, out, _ = run(frame, merge(graph, h_float, h), extra, product, ys)
            return floats(graph, new), objective.step(out, t, batch)[0]

        (_, loss), pull = jax.vjp(loss_of, floats(graph, h), frame.drives(ys))
        h_bar, y_bar = pull((h_bar, jnp.ones_like(loss)))
        return (h_bar, {r: total[r] + y_bar[r] for r in total}), {r: y_bar[r] for r in maps}

    (h_bar, total), y_bar = jax.lax.scan(body, (h_bar, others), steps.each, reverse=True)
    return h_bar, {**y_bar, **{r: value[None] for r, value in total.items()}}


@dataclasses.dataclass
class Windows:
    """Adjoints of the windows of a chunk, in each of which the loss is that of its own steps.

    Attributes:
        before: by floating state, of the state before the chunk, from the first window.
        behind: of the states after each step ``(K, B, n)``, from the window that begins there; 0
            where none does. Empty if there is but one window.
        drives: by relation, of the drives, ``(K, B, n)`` of a map, otherwise ``(1, B, n)``.
    """

    before: ByState
    behind: ByState
    drives: ByRelation

    def joined(self, along: ByRelation, relations: Sequence[int]) -> ByRelation:
        """The drives' adjoints of ``relations``, with those of what is ``behind`` a step."""
        found = {r: self.drives[r] for r in relations}
        for r, value in along.items():
            same = found[r].shape[0] == value.shape[0]
            found[r] = found[r] + (value if same else value.sum(0, keepdims=True))
        return found


def windows(frame: Frame, steps: Steps, objective: Objective, batch: Any, size: int) -> Windows:
    """Backpropagation inside windows of ``size`` steps, all of them at once.

    Args:
        frame, steps, objective, batch: the chunk, of whole windows or a shorter one, and its loss.
        size: steps of a window.
    """
    graph, length = frame.graph, steps.ts.shape[0]
    size = min(size, length)
    nothing = [jnp.zeros_like(h[0], jnp.float32) for h in floats(graph, steps.h)]

    def cut(a: jax.Array) -> jax.Array:
        return a.reshape(-1, size, *a.shape[1:])

    def one_window(each: Any) -> tuple[Arrays, ByRelation]:
        ts, h, ys, extra = each
        return adjoint(frame, Steps(ts, h, ys, extra, {}), objective, batch, nothing)

    h_bar, y_bar = jax.vmap(one_window)(jax.tree.map(cut, steps.each))
    before = {i: v[0] for i, v in zip(graph.float_states, h_bar, strict=True)}
    drives = {
        r: v.reshape(length, *v.shape[2:]) if graph.relations[r].is_map else v.sum(0)
        for r, v in y_bar.items()
    }
    behind: ByState = {}
    if size < length:
        for i, v in zip(graph.float_states, h_bar, strict=True):
            later = jnp.concatenate([v[1:], jnp.zeros_like(v[:1])])[:, None]
            quiet = jnp.zeros((len(v), size - 1, *v.shape[1:]), v.dtype)
            behind[i] = jnp.concatenate([quiet, later], 1).reshape(length, *v.shape[1:])
    return Windows(before, behind, drives)


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
        new, _, _ = run_given(frame, full, extra, ys)
        return [new[b] for b in graph.trace_states]

    return local


def jacobians(frame: Frame, steps: Steps) -> tuple[Blocks, Blocks]:
    """Neuron-local ``dh_t/dh_{t-1}`` and ``dh_t/dy_t`` at fixed map inputs.

    Elementwise dynamics: a tangent of ones for one old state gives a column of blocks, for all
    neurons and for all groups of connected states at once.

    Returns:
        blocks by (new state, old state), and by (new state, relation). Those that depend on no
        state and no input (a membrane that decays by a constant) come once, not for every step.
    """
    graph = frame.graph
    colours = graph.colours()

    def one_step(h: Any, ys: Any, extra: Any) -> Any:
        h = graph.computed(h)
        local = local_step(frame, h, extra)
        drives = frame.drives(ys)
        primal = ([h[b] for b in graph.trace_states], drives)
        state_jacobian: Blocks = {}
        drive_jacobian: Blocks = {}
        for states, relations in colours:
            tangent = (
                [jnp.ones_like(h[b]) if b in states else jnp.zeros_like(h[b])
                 for b in graph.trace_states],
                [jnp.ones_like(y) if r in relations else jnp.zeros_like(y)
                 for r, y in enumerate(drives)],
            )  # fmt: skip
            _, columns = jax.jvp(local, primal, tangent)
            for b, column in zip(graph.trace_states, columns, strict=True):
                state_jacobian.update({(b, a): column for a in graph.edges[b] if a in states})
                drive_jacobian.update({(b, r): column for r in graph.enters[b] if r in relations})
        return state_jacobian, drive_jacobian

    return _constant_once(one_step, (steps.h, steps.ys, steps.extra))


def observations(frame: Frame, steps: Steps) -> tuple[Blocks, Blocks]:
    """``ds_t/dh_t`` of a layer's spikes by its states after the step, by (layer, state); and
    ``ds_t/dy_t`` past them (a threshold), by (layer, relation)."""
    graph = frame.graph
    sources = [
        [("new", b) for b in seen if b in graph.trace_states] + [("y", r) for r in drives]
        for seen, drives in zip(graph.observed, graph.observed_drives, strict=True)
    ]

    def one_step(h: Any, ys: Any, extra: Any) -> Any:
        found: tuple[Blocks, Blocks] = {}, {}
        drives = frame.drives(ys)
        zeros = Perturbed(
            {b: jnp.zeros_like(h[b], jnp.float32) for b in graph.trace_states},
            {r: jnp.zeros(graph.relations[r].shape)
             for drives in graph.observed_drives for r in drives},
        )  # fmt: skip

        def spikes(by: Any) -> Any:
            return run_perturbed(frame, h, extra, drives, by, through_maps=False)[1]

        for k in range(max(map(len, sources), default=0)):  # the k-th source of every layer at once
            chosen = {one[k] for one in sources if k < len(one)}
            tangent = Perturbed(
                {b: jnp.ones_like(v) if ("new", b) in chosen else v for b, v in zeros.new.items()},
                {r: jnp.ones_like(v) if ("y", r) in chosen else v for r, v in zeros.drives.items()},
            )
            _, columns = jax.jvp(spikes, (zeros,), (tangent,))
            for layer, one in enumerate(sources):
                if k < len(one):
                    kind, i = one[k]
                    found[kind == "y"][layer, i] = columns[layer]
        return found

    return _constant_once(one_step, (steps.h, steps.ys, steps.extra))


def _constant_once(one_step: Callable[..., Any], varying: Any) -> Any:
    """``one_step`` of all steps ``(K, ...)``; results that are the same in all come once."""
    first, arrays = jax.tree.map(lambda a: a[0], varying), jax.tree.leaves(varying)
    traced, shapes = jax.make_jaxpr(one_step, return_shape=True)(*first)
    jaxpr = traced.jaxpr
    moves = depends(jaxpr, [True] * len(arrays))

    def part(moving: bool) -> Callable[..., Arrays]:
        """The results that move or those that do not: ``one_step`` is traced once for both."""
        mine = [v for v, m in zip(jaxpr.outvars, moves, strict=True) if m == moving]
        eqns = leading_to(jaxpr, mine)

        def step(*args: jax.Array) -> Arrays:
            env: Env = dict(zip(jaxpr.constvars, traced.consts, strict=True))
            env.update(zip(jaxpr.invars, args, strict=True))
            evaluate(eqns, env)
            return [read(env, v) for v in mine]

        return step

    each = iter(jax.vmap(part(True))(*arrays))
    once = iter(part(False)(*jax.tree.leaves(first)))
    found = [next(each if m else once) for m in moves]
    return jax.tree.unflatten(jax.tree.structure(shapes), found)
