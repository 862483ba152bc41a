"""The influence of every parameter on every state of its layer: for small networks.

    J_t = M . (A_t J_{t-1} + x_t f_t) ,    A_t = dh_t/dh_{t-1} of the layer, through its own maps

``J (B, *block, S, n)`` for a block of a relation whose layer has S states of n neurons; ``M`` says
which entries are kept. Memory and time grow with the parameters times the neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.functional import get_params
from snnlab.learners.graph.derivatives import Blocks, Steps
from snnlab.learners.graph.evaluate import Arrays, ByBlock, Frame, make_frame, run, run_given
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


def near_states(graph: StepGraph, draws: int = DRAWS) -> Iterator[tuple[Arrays, Arrays]]:
    """Random states and step inputs, of several sizes, to see what depends on what."""
    rng, start = np.random.default_rng(0), jax.tree.leaves(graph.net.initial)
    for draw in range(draws):
        size = SIZES[draw % len(SIZES)]
        h = [
            jnp.asarray(v + size * rng.standard_normal(v.shape), v.dtype)
            if i in graph.float_states else jnp.asarray(v) for i, v in enumerate(start)
        ]  # fmt: skip
        extra = [
            jnp.asarray(rng.random(v.aval.shape) < 0.5, v.aval.dtype) for v in graph.step_inputs
        ]
        yield h, extra


def resting_drives(frame: Frame) -> Arrays:
    """Drives of a step without input."""
    return [
        value if isinstance(one, Elementwise) else jnp.zeros(one.shape)
        for one, value in zip(frame.graph.relations, frame.whole, strict=True)
    ]


def neighbours(graph: StepGraph, group: list[int]) -> np.ndarray:
    """``(n, n)`` of 0 and 1: the neurons that each neuron acts on within one more step.

    Found by derivatives at random states; a neuron that never shows one counts as acting on all.
    """
    params = get_params(graph.net.network)
    found = np.eye(graph.state_vars[group[0]].aval.shape[1], dtype=bool)

    @jax.jit
    def look(h: Arrays, extra: Arrays) -> jax.Array:
        frame = make_frame(graph, params, 1)
        a = recurrence(frame, h, resting_drives(frame), extra, group)
        return jnp.any(a != 0, axis=(0, 1, 3))

    for h, extra in near_states(graph):
        found |= np.asarray(look(h, extra)).T
    found[found.sum(1) <= 1] = True
    return found


# ---------------------------------------------------------------------- a neuron's own synapse

#: The neuron that each row of a block comes from, by (relation, block).
Sources = dict[tuple[int, int], np.ndarray]


def own_inputs(frame: Frame, h: Arrays, ys: Arrays, extra: Arrays, moved: Arrays) -> ByBlock:
    """How the inputs of maps ``(B, i)`` change if the states before the step are ``moved``."""
    graph = frame.graph

    def inputs(states: Arrays) -> ByBlock:
        full = list(h)
        for b, value in zip(graph.trace_states, states, strict=True):
            full[b] = value
        return run_given(frame, full, extra, ys)[2]

    return jax.jvp(inputs, ([h[b] for b in graph.trace_states],), (moved,))[1]


def sources(graph: StepGraph) -> Sources:
    """Where the rows of blocks come from that see the layer's own states before the step."""
    params = get_params(graph.net.network)
    found: Sources = {}

    @jax.jit
    def look(h: Arrays, extra: Arrays) -> tuple[ByBlock, ByBlock]:
        frame = make_frame(graph, params, 1)
        ones = [jnp.ones_like(h[b]) for b in graph.trace_states]
        number = [jnp.broadcast_to(jnp.arange(1.0, v.shape[1] + 1), v.shape) for v in ones]
        ys = resting_drives(frame)
        return own_inputs(frame, h, ys, extra, ones), own_inputs(frame, h, ys, extra, number)

    for h, extra in near_states(graph):
        plain, numbered = look(h, extra)
        for (r, k), value in plain.items():
            one = graph.relations[r]
            if one.blocks[k].live or not one.reach:
                continue
            old = found.setdefault((r, k), np.full(one.blocks[k].size, -1))
            a, b = np.asarray(value), np.asarray(numbered[r, k])
            seen = (a != 0) & np.isfinite(a) & np.isfinite(b)
            which = np.round(np.divide(b, a, out=np.zeros_like(a), where=seen)).astype(int) - 1
            np.maximum(old, np.where(seen, which, -1).max(0, initial=-1), out=old)
    return found


def own_synapses(frame: Frame, steps: Steps, of: Sources) -> Blocks:
    """What a neuron's synapse onto itself adds to ``dy_t/dh_{t-1}``, by (relation, old state)."""
    graph, states = frame.graph, frame.graph.trace_states
    weights = {
        key: graph.relations[key[0]].onto(frame.rows[key[0]][key[1]], jnp.maximum(rows, 0))
        for key, rows in of.items()
    }

    def one_step(h: Arrays, ys: Any, extra: Arrays) -> Blocks:
        found: Blocks = {}
        h, drives = graph.computed(h), frame.drives(ys)
        for a in states:
            moved = [jnp.ones_like(h[b]) if a == b else jnp.zeros_like(h[b]) for b in states]
            inputs = own_inputs(frame, h, drives, extra, moved)
            for (r, k), rows in of.items():
                if a in graph.relations[r].reach:
                    share = jnp.where(rows >= 0, weights[r, k] * inputs[r, k], 0.0)
                    onto = jnp.zeros_like(h[a]).at[:, jnp.maximum(rows, 0)].add(share)
                    found[r, a] = found[r, a] + onto if (r, a) in found else onto
        return found

    return jax.vmap(one_step)(steps.h, steps.ys, steps.extra)


def of_steps(frame: Frame, steps: Steps, t: Any) -> tuple[Arrays, Arrays, Arrays]:
    """States, drives and step inputs of step ``t`` of a chunk."""
    graph = frame.graph
    h, ys, extra = jax.tree.map(lambda v: v[t], (steps.h, steps.ys, steps.extra))
    return graph.computed(h), frame.drives(ys), extra
