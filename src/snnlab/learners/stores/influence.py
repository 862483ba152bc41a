"""The influence of every parameter on every state of its layer: for small networks.

    J_t = M . (A_t J_{t-1} + x_t f_t) ,    A_t = dh_t/dh_{t-1} of the layer, through its own maps

``J (B, *block, S, n)`` for a block of a relation whose layer has S states of n neurons; ``M`` says
which entries are kept. Memory and time grow with the parameters times the neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.functional import get_params
from snnlab.learners.graph.derivatives import Steps
from snnlab.learners.graph.evaluate import Arrays, Frame, make_frame, run
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import Elementwise, Relation, Sparse
from snnlab.learners.relations.inputs import Input

#: Random states at which the recurrence is looked at, and their sizes.
DRAWS, SIZES = 24, (0.1, 1.0, 10.0)


def layers(graph: StepGraph) -> list[list[int]]:
    """The traced states of each layer and of each readout: those that relations share."""
    groups: list[set[int]] = []
    for one in graph.relations:
        mine = set(one.reach)
        touched = [g for g in groups if g & mine]
        groups = [g for g in groups if not g & mine] + ([mine.union(*touched)] if mine else [])
    return [sorted(g) for g in groups]


def recurrence(frame: Frame, h: Arrays, ys: Arrays, extra: Arrays, group: list[int]) -> jax.Array:
    """``A (B, S, n, S, n)`` by (new state, neuron, old state, neuron), own maps included."""
    first = h[group[0]]
    size, n = len(group), first.shape[1]

    def through(r: int, one: Relation, evolving: list[jax.Array]) -> jax.Array:
        mine = [k for k, p in enumerate(one.blocks) if p.evolves]
        y = ys[r]
        for k, x in zip(mine, evolving, strict=True):
            change = x - jax.lax.stop_gradient(x)
            y = y + one.times(Input(change), frame.rows[r][k])
        return y

    def step(states: jax.Array) -> jax.Array:
        full = list(h)
        for s, b in enumerate(group):
            full[b] = states[s]
        new, _, _ = run(frame, full, extra, through, ys)
        return jnp.stack([new[b] for b in group])

    def column(one_hot: jax.Array) -> jax.Array:
        direction = jnp.broadcast_to(one_hot[:, None], (size, *first.shape))
        return jax.jvp(step, (jnp.stack([h[b] for b in group]),), (direction,))[1]

    eye = jnp.eye(size * n, dtype=first.dtype).reshape(size * n, size, n)
    columns = jax.vmap(column)(eye)  # (old, new state, B, n)
    batch = first.shape[0]
    return jnp.moveaxis(columns, 0, -1).reshape(size, batch, n, size, n).swapaxes(0, 1)


def targets(one: Relation, k: int) -> jax.Array:
    """One-hot ``(*block, n)``: the neuron that each element of a block acts on."""
    n = one.shape[1]
    if isinstance(one, Sparse):
        return jax.nn.one_hot(one.targets(k).astype(jnp.int32), n)
    eye = jnp.eye(n)
    if isinstance(one, Elementwise):
        return eye
    return jnp.broadcast_to(eye, (one.blocks[k].size, n, n))


def advance(
    old: jax.Array, a: jax.Array, one: Relation, k: int, x: Input | None, f: Sequence[Any],
    keep: jax.Array | None,
) -> jax.Array:  # fmt: skip
    """The next influence of a block with the step's input ``x (1, B, i)`` and ``f (B, n)``.

    ``keep (n, n)``: the neurons whose entries are kept, by the neuron that a parameter acts on.
    """
    moved = jnp.einsum("bsnqp,b...qp->b...sn", a, old)
    hot = targets(one, k)
    entered = [
        jnp.zeros(old.shape[:-2]) if v is None
        else one.outer_by_sample(x, v[None], k, jnp.float32) for v in f
    ]  # fmt: skip
    new = moved + jnp.stack(entered, axis=-1)[..., None] * hot[..., None, :]
    return new if keep is None else new * (hot @ keep)[..., None, :]


def neighbours(graph: StepGraph, group: list[int]) -> np.ndarray:
    """``(n, n)`` of 0 and 1: the neurons that each neuron acts on within one more step.

    Found by derivatives at random states; a neuron that never shows one counts as acting on all.
    """
    params, rng = get_params(graph.net.network), np.random.default_rng(0)
    start = jax.tree.leaves(graph.net.initial)
    n = graph.state_vars[group[0]].aval.shape[1]
    found = np.eye(n, dtype=bool)

    @jax.jit
    def look(params: Any, h: Arrays, extra: Arrays) -> jax.Array:
        frame = make_frame(graph, params, 1)
        ys = [
            value if isinstance(one, Elementwise) else jnp.zeros(one.shape)
            for one, value in zip(graph.relations, frame.whole, strict=True)
        ]
        return jnp.any(recurrence(frame, h, ys, extra, group) != 0, axis=(0, 1, 3))

    for draw in range(DRAWS):
        size = SIZES[draw % len(SIZES)]
        h = [
            np.asarray(v + size * rng.standard_normal(v.shape), v.dtype)
            if i in graph.float_states else v for i, v in enumerate(start)
        ]  # fmt: skip
        extra = [
            np.asarray(rng.random(v.aval.shape) < 0.5, v.aval.dtype) for v in graph.step_inputs
        ]
        found |= np.asarray(look(params, h, extra)).T
    silent = found.sum(1) <= 1
    found[silent] = silent.any() and n > 0
    return found


def of_steps(frame: Frame, steps: Steps, t: Any) -> tuple[Arrays, Arrays, Arrays]:
    """States, drives and step inputs of step ``t`` of a chunk."""
    graph = frame.graph
    h, ys, extra = jax.tree.map(lambda v: v[t], (steps.h, steps.ys, steps.extra))
    return graph.computed(h), frame.drives(ys), extra
