"""The influence of every parameter on every state of its layer: for small networks.

    J_t = M . (A_t J_{t-1} + x_t f_t) ,    A_t = dh_t/dh_{t-1} of the layer, through its own maps

A parameter of a neuron may act through the layer's own maps too, as a threshold does by the spikes
that a step begins with: in the place of ``x_t f_t`` it has ``dh_t/dtheta``, of all neurons.
``J (B, *block, S, n)`` for a block of a relation whose layer has S states of n neurons; ``M`` says
which entries are kept. Memory and time grow with the parameters times the neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def acts_on(graph: StepGraph, r: int, group: list[int]) -> bool:
    """Whether relation ``r`` acts on the states of a layer, at once or by its spikes alone."""
    through = [r, *graph.own_blocks(r)]
    return not set(group).isdisjoint(b for k in through for b in graph.relations[k].reach)


def recurrence(frame: Frame, h: Arrays, ys: Arrays, extra: Arrays, group: list[int]) -> jax.Array:
    """``A (B, S, n, S, n)`` by (new state, neuron, old state, neuron), own maps included."""
    first = h[group[0]]
    size, n = len(group), first.shape[1]

    def step(states: jax.Array) -> list[jax.Array]:
        full = list(h)
        for s, b in enumerate(group):
            full[b] = states[s]
        return _with_own_maps(frame, full, ys, ys, extra, group)

    eye = jnp.eye(size * n, dtype=first.dtype).reshape(size * n, size, 1, n)
    columns = _columns(step, jnp.stack([h[b] for b in group]), eye)  # (old, B, new state, n)
    found = columns.reshape(size, n, *columns.shape[1:])
    return jnp.moveaxis(found, (0, 1), (-2, -1))


def entering(
    frame: Frame, h: Arrays, ys: Arrays, extra: Arrays, group: list[int], r: int
) -> jax.Array:
    """``dh_t/dtheta (B, n, S, n)`` by (neuron of the parameter, new state, neuron)."""

    def step(theta: jax.Array) -> list[jax.Array]:
        moved = [theta if k == r else y for k, y in enumerate(ys)]
        return _with_own_maps(frame, h, moved, ys, extra, group)

    eye = jnp.eye(ys[r].shape[1], dtype=ys[r].dtype)[:, None]
    return jnp.moveaxis(_columns(step, ys[r], eye), 0, 1)


def _columns(step: Callable[[jax.Array], list[jax.Array]], at: jax.Array, ways: Any) -> jax.Array:
    """Derivatives of new states along each of ``ways``: ``(way, B, S, n)``."""

    def column(way: jax.Array) -> jax.Array:
        return jnp.stack(jax.jvp(step, (at,), (jnp.broadcast_to(way, at.shape),))[1], axis=1)

    return jax.vmap(column)(ways)


def _with_own_maps(
    frame: Frame, h: Arrays, ys: Arrays, known: Arrays, extra: Arrays, group: list[int]
) -> list[jax.Array]:
    """New states of a layer; ``known`` drives of maps change with what the maps see."""

    def through(r: int, one: Relation, evolving: list[jax.Array]) -> jax.Array:
        mine = [k for k, p in enumerate(one.blocks) if p.evolves]
        y = known[r]
        for k, x in zip(mine, evolving, strict=True):
            change = x - jax.lax.stop_gradient(x)
            y = y + one.times(Input(change), frame.rows[r][k])
        return y

    new, _, _ = run(frame, h, extra, through, ys)
    return [new[b] for b in group]


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
    old: jax.Array, a: jax.Array, one: Relation, k: int, x: Input | None,
    f: Sequence[Any] | jax.Array, keep: jax.Array | None,
) -> jax.Array:  # fmt: skip
    """The next influence of a block.

    Args:
        old, a: the one before, and the step's recurrence.
        one, k: the block.
        x: its input ``(1, B, i)``.
        f: ``dh/dy (B, n)`` by state of the layer; of a neuron's parameter :func:`entering`.
        keep: ``(n, n)``, the neurons whose entries are kept, by the parameter's neuron.
    """
    moved = jnp.einsum("bsnqp,b...qp->b...sn", a, old)
    hot = targets(one, k)
    if isinstance(f, jax.Array):
        new = moved + f
    else:
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
    params = graph.net.params()
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


def own_inputs(
    frame: Frame, h: Arrays, ys: Arrays, extra: Arrays, moved: Arrays, thetas: Arrays
) -> ByBlock:
    """How the inputs of maps ``(B, i)`` change if traced states and drives are ``moved``."""
    graph = frame.graph

    def inputs(states: Arrays, ys: Arrays) -> ByBlock:
        full = list(h)
        for b, value in zip(graph.trace_states, states, strict=True):
            full[b] = value
        return run_given(frame, full, extra, ys)[2]

    at = [h[b] for b in graph.trace_states], ys
    return jax.jvp(inputs, at, (moved, thetas))[1]


def sources(graph: StepGraph) -> Sources:
    """Where the rows of blocks come from that see the layer's own states before the step."""
    params = graph.net.params()
    found: Sources = {}

    @jax.jit
    def look(h: Arrays, extra: Arrays) -> tuple[ByBlock, ByBlock]:
        frame = make_frame(graph, params, 1)
        ones = [jnp.ones_like(h[b]) for b in graph.trace_states]
        number = [jnp.broadcast_to(jnp.arange(1.0, v.shape[1] + 1), v.shape) for v in ones]
        ys = resting_drives(frame)
        still = [jnp.zeros_like(y) for y in ys]
        plain = own_inputs(frame, h, ys, extra, ones, still)
        return plain, own_inputs(frame, h, ys, extra, number, still)

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


def own_synapses(frame: Frame, steps: Steps, of: Sources) -> tuple[Blocks, Blocks]:
    """What a neuron's synapse onto itself adds to the change of a map's drive.

    Returns:
        By (relation, old state), and by (relation, relation of a neuron's parameter).
    """
    graph, states = frame.graph, frame.graph.trace_states
    weights = {
        key: graph.relations[key[0]].onto(frame.rows[key[0]][key[1]], jnp.maximum(rows, 0))
        for key, rows in of.items()
    }
    movers = [("h", a) for a in states]
    movers += [("y", r) for r in graph.elementwise if graph.relations[r].trained]

    def one_step(h: Arrays, ys: Any, extra: Arrays) -> tuple[Blocks, Blocks]:
        found: tuple[Blocks, Blocks] = {}, {}
        h, drives = graph.computed(h), frame.drives(ys)

        def ones(kind: str, numbers: Any, values: Arrays, chosen: Any) -> Arrays:
            pairs = zip(numbers, values, strict=True)
            return [jnp.full_like(v, float((kind, i) == chosen)) for i, v in pairs]

        for chosen in movers:
            moved = ones("h", states, [h[b] for b in states], chosen)
            thetas = ones("y", range(len(drives)), drives, chosen)
            inputs = own_inputs(frame, h, drives, extra, moved, thetas)
            table, i = found[chosen[0] == "y"], chosen[1]
            for (r, k), rows in of.items():
                one = graph.relations[r]
                if chosen[0] == "h" and i not in one.reach:
                    continue
                share = jnp.where(rows >= 0, weights[r, k] * inputs[r, k], 0.0)
                nothing = jnp.zeros(one.shape)
                onto = nothing.at[:, jnp.maximum(rows, 0)].add(share)
                table[r, i] = table[r, i] + onto if (r, i) in table else onto
        return found

    return jax.vmap(one_step)(steps.h, steps.ys, steps.extra)


def of_steps(frame: Frame, steps: Steps, t: Any) -> tuple[Arrays, Arrays, Arrays]:
    """States, drives and step inputs of step ``t`` of a chunk."""
    graph = frame.graph
    h, ys, extra = jax.tree.map(lambda v: v[t], (steps.h, steps.ys, steps.extra))
    return graph.computed(h), frame.drives(ys), extra
