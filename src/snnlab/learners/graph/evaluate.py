"""Programs made of the equations of a cut step: pure functions of arrays.

Shapes: B samples, K steps of a chunk; a state leaf ``(B, n)``; ``ys`` is one ``(B, n)`` for each
cut. Functions of one step are mapped over the steps of a chunk by ``jax.vmap``, so that whatever
does not depend on the step before runs as one product for the chunk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.functional import Params
from snnlab.learners.graph.step import Cut, Env, StepGraph, bind, read
from snnlab.learners.relations import products
from snnlab.learners.tuning import current

Arrays = list[jax.Array]
#: By (cut, piece).
ByPiece = dict[tuple[int, int], jax.Array]
#: Inputs of maps by (cut, piece).
Inputs = dict[tuple[int, int], products.Input]


@dataclasses.dataclass
class Frame:
    """What is constant during a segment.

    Attributes:
        graph: the cut step.
        static: values of the static variables.
        whole: ``whole[r]``, the values of cut ``r``'s weight, ``(i, n)`` if it is dense.
        blocks: ``blocks[r][k] (size, n)``, its rows that piece ``k`` meets.
        apart: whether pieces have products of their own, so that those of own spikes need not
            wait for the layer below. In a segment of few steps copying the rows costs more.
        turned: of pieces that evolve, what :func:`products.back` takes.
    """

    graph: StepGraph
    static: Env
    whole: Arrays
    blocks: list[tuple[products.Weight, ...]]
    turned: dict[tuple[int, int], products.Weight]
    apart: bool


def static_values(graph: StepGraph, params: Params) -> Env:
    """Values of the variables that depend on parameters and constants alone."""
    env: Env = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    env.update({v: params[name] for name, v in graph.param_vars.items()})
    for eqn in graph.static_eqns:
        env.update(zip(eqn.outvars, bind(eqn, [read(env, v) for v in eqn.invars]), strict=True))
    return env


def weights(graph: StepGraph, params: Params) -> Arrays:
    """Effective weight of every trained cut (values): what the parameters act through."""
    env = static_values(graph, params)
    return [env[cut.w] for cut in graph.cuts if cut.trained]


def make_frame(graph: StepGraph, params: Params, steps: int) -> Frame:
    """The frame of a segment of ``steps`` steps."""
    env = static_values(graph, params)

    whole = [env[cut.w].astype(graph.dtype) for cut in graph.cuts]

    def rows(r: int, k: int) -> products.Weight:
        cut = graph.cuts[r]
        piece = cut.pieces[k]
        values = whole[r][piece.start : piece.start + piece.size]
        return products.weight_of(values, graph.post(r, k), cut.n_out)

    blocks = [tuple(rows(r, k) for k in range(len(c.pieces))) for r, c in enumerate(graph.cuts)]
    many = steps >= current().turn_from
    turned = {
        (r, k): products.turned(blocks[r][k], many)
        for r, cut in enumerate(graph.cuts) for k, p in enumerate(cut.pieces) if p.evolves
    }  # fmt: skip
    return Frame(graph, env, whole, blocks, turned, apart=many)


# ---------------------------------------------------------------------- input


def inputs_of_chunk(frame: Frame, xs: products.Input) -> tuple[Inputs, Arrays]:
    """From the input ``xs (K, B, n_in)``: pieces that do not evolve, and other step inputs."""
    graph = frame.graph

    def one(x: jax.Array) -> tuple[ByPiece, Arrays]:
        env = {**frame.static, graph.input_var: x}
        for eqn in graph.input_eqns:
            env.update(zip(eqn.outvars, bind(eqn, [read(env, v) for v in eqn.invars]), strict=True))
        pieces = {
            (r, k): env[p.var]
            for r, cut in enumerate(graph.cuts)
            for k, p in enumerate(cut.pieces)
            if not p.evolves
        }
        return pieces, [env[v] for v in graph.step_inputs]

    pieces, extra = jax.vmap(one)(products.dense(xs))
    itself = {
        (r, k): xs
        for r, cut in enumerate(graph.cuts)
        for k, p in enumerate(cut.pieces)
        if p.var is graph.input_var
    }
    return {**pieces, **itself}, extra


def project_inputs(frame: Frame, known: Inputs) -> dict[int, jax.Array]:
    """The part of each ``y (K, B, n)`` that is known before the chunk runs."""
    outside: dict[int, jax.Array] = {}
    for (r, k), x in known.items():
        w = frame.blocks[r][k]
        if isinstance(x, products.Events) and frame.graph.cuts[r].pieces[k].start == 0:
            w = frame.whole[r]  # a list of events meets its first rows without a copy of them
        y = products.times(x, w)
        outside[r] = outside[r] + y if r in outside else y
    return outside


# ---------------------------------------------------------------------- one step

Product = Callable[[int, Cut, list[jax.Array]], jax.Array]


def _env(frame: Frame, h: Sequence[jax.Array], extra: Sequence[jax.Array]) -> Env:
    """Variables of a step; ``h`` may be stored in fewer bits than it is computed with."""
    env = dict(frame.static)
    env.update(zip(frame.graph.step_inputs, extra, strict=True))
    env.update(zip(frame.graph.state_vars, frame.graph.computed(h), strict=True))
    return env


def run(
    frame: Frame, h: Sequence[jax.Array], extra: Sequence[jax.Array], product: Product
) -> tuple[Arrays, Any, ByPiece]:
    """One step with ``product(cut, pieces that evolve)`` in the place of each map.

    Returns:
        new state leaves, StepOutput, and the pieces that evolve.
    """
    graph = frame.graph
    env = _env(frame, h, extra)
    pieces: ByPiece = {}
    for eqn in graph.state_eqns:
        r = graph.cut_index(eqn)
        if r is None:
            out = bind(eqn, [read(env, v) for v in eqn.invars])
            env.update(zip(eqn.outvars, out, strict=True))
            continue
        cut = graph.cuts[r]
        mine = {(r, k): env[p.var] for k, p in enumerate(cut.pieces) if p.evolves}
        pieces.update(mine)
        env[cut.y] = product(r, cut, list(mine.values()))
    new = [read(env, v) for v in graph.new_vars]
    out = jax.tree.unflatten(graph.out_tree, [read(env, v) for v in graph.out_vars])
    return new, out, pieces


def forward_product(frame: Frame, outside: dict[int, jax.Array]) -> Product:
    """The map itself: evolving pieces times their rows, plus what is known already."""

    def product(r: int, cut: Cut, evolving: list[jax.Array]) -> jax.Array:
        y = outside.get(r)
        if y is None and not frame.apart and cut.post is None:
            return products.times(jnp.concatenate(evolving, axis=-1), frame.whole[r])
        blocks = [b for b, p in zip(frame.blocks[r], cut.pieces) if p.evolves]
        for x, block in zip(evolving, blocks, strict=True):
            new = products.times(x, block)
            y = new if y is None else y + new
        assert y is not None
        return y

    return product


@jax.custom_vjp
def _given(y: jax.Array, xs: list[jax.Array], turned: list[products.Weight]) -> jax.Array:
    """``y``, known to be the sum of ``x @ w`` and a constant: backward only."""
    return y


def _given_fwd(y, xs, turned):
    return y, turned


def _given_bwd(turned, y_bar):
    return y_bar, [products.back(y_bar, w) for w in turned], None


_given.defvjp(_given_fwd, _given_bwd)


def given_product(frame: Frame, ys: Sequence[jax.Array]) -> Product:
    """Known outputs, through which reverse mode passes as through the map.

    The adjoint of ``ys[r]`` is then that of the map's output.
    """

    def product(r: int, cut: Cut, evolving: list[jax.Array]) -> jax.Array:
        turned = [frame.turned[r, k] for k, p in enumerate(cut.pieces) if p.evolves]
        return _given(ys[r], evolving, turned) if evolving else ys[r]

    return product


def run_perturbed(
    frame: Frame,
    h: Sequence[jax.Array],
    extra: Sequence[jax.Array],
    ys: Sequence[jax.Array],
    eps: dict[int, jax.Array],
    taps: dict[int, jax.Array],
) -> Any:
    """One step whose new states are independent variables: the learning signal's program.

    ``eps[b]`` is added to new state ``b`` for everything that reads it: outputs, and inputs of
    maps above, whose outputs then change the states that they drive. It is NOT added where one
    new state is computed from another at fixed map outputs (a membrane from the new synaptic
    current): that path is part of the trace already. ``taps[r]`` is added to ``y_r`` for
    everything but new states.

    Returns:
        StepOutput.
    """
    graph = frame.graph
    local = _env(frame, h, extra)  # functions of h and ys alone
    seen: Env = {}  # what differs from it for those who see eps and taps
    new_of: dict[Any, list[int]] = {}
    for b in eps:
        new_of.setdefault(graph.new_vars[b], []).append(b)

    def look(v: Any) -> Any:
        return seen[v] if not hasattr(v, "val") and v in seen else read(local, v)

    for eqn in graph.state_eqns:
        r = graph.cut_index(eqn)
        if r is not None:
            cut = graph.cuts[r]
            live = [(look(p.var), frame.turned[r, k]) for k, p in enumerate(cut.pieces) if p.live]
            y = ys[r]
            if live:
                y = _given(y, [x for x, _ in live], [w for _, w in live])
            local[cut.y] = y
            if r in taps:
                seen[cut.y] = y + taps[r]
        else:
            out = bind(eqn, [read(local, v) for v in eqn.invars])
            local.update(zip(eqn.outvars, out, strict=True))
            if any(not hasattr(v, "val") and v in seen for v in eqn.invars):
                out = bind(eqn, [look(v) for v in eqn.invars])
                seen.update(zip(eqn.outvars, out, strict=True))
        for v in eqn.outvars:
            if v in new_of:
                base = local[v]
                for b in new_of[v]:
                    base = base + eps[b]
                seen[v] = base
    return jax.tree.unflatten(graph.out_tree, [look(v) for v in graph.out_vars])
