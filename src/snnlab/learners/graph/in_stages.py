"""A chunk in the stages of :mod:`snnlab.learners.graph.stages`: forward, and its adjoint.

What the forward pass leaves (states before each step, drives) is what a scan over whole steps
leaves, so everything else of a learner is the same for both. The adjoint runs the stages on these
known values and leaves their order to reverse mode: a layer's recursion runs back through all
steps of the chunk, then one product with the transposed weights leads to the layer below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Objective
from snnlab.learners.graph.evaluate import Arrays, ByBlock, ByRelation, Frame, given
from snnlab.learners.graph.jaxprs import Env, evaluate, is_literal, read, variables
from snnlab.learners.graph.stages import Delay, Local, Product, Recurrence
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input
from snnlab.models.base import StepOutput

if TYPE_CHECKING:
    from snnlab.learners.graph.derivatives import Steps
    from snnlab.learners.graph.launches import Launch

#: By variable, in all steps: ``(K, ...)``.
Values = dict[Any, jax.Array]
#: By state.
ByState = dict[int, jax.Array]
#: The drive of a map in a step, from the variables made before it.
Multiply = Callable[[int, Env], Any]


def forward(
    frame: Frame, h: Arrays, outside: ByRelation, extra: Arrays, length: int
) -> tuple[Arrays, Arrays, list[jax.Array | None], ByBlock]:
    """Advance by the ``length`` steps of a chunk.

    Args:
        frame, h: the segment, and states before it.
        outside: ``(K, B, n)`` what of the maps' drives the input alone decides.
        extra: step inputs beside.

    Returns:
        states after the chunk; states before each step; drives by relation; evolving blocks of
        maps.
    """
    graph = frame.graph
    values: Values = dict(zip(graph.step_inputs, extra, strict=True))
    end, before = list(h), list(h)
    ys: list[jax.Array | None] = [None] * len(graph.relations)
    blocks: ByBlock = {}

    def known(r: int, evolving: Sequence[int]) -> ByRelation:
        """What is known of a drive in all steps, from the blocks of other stages too."""
        one = graph.relations[r]
        xs = {k: values[one.blocks[k].var] for k in evolving}
        blocks.update({(r, k): x for k, x in xs.items()})
        y = _add(outside.get(r), (one.times(Input(x), frame.rows[r][k]) for k, x in xs.items()))
        return {} if y is None else {r: y}

    for stage in frame.stages:
        match stage:
            case Local():
                values |= _local(frame, stage, values, frame.whole)
            case Product(r):
                ys[r] = values[graph.relations[r].y] = known(r, _evolving(graph, r))[r]
            case Delay(i):
                new = _everywhere(frame, graph.new_vars[i], values, frame.whole, length)
                made = _stored(graph, i, jnp.concatenate([h[i][None], new]))
                before[i], end[i] = made[:-1], _computed(graph, i, made[-1])
                values[graph.state_vars[i]] = _computed(graph, i, before[i])
            case Recurrence():
                outer = {r: y for r, ks in stage.outer.items() for y in known(r, ks).values()}
                reads = [values[v] for v in stage.reads]
                last, every, drives, inner = recur(frame, stage, h, reads, outer, length)
                blocks |= inner
                for i, states, final in zip(stage.states, every, last, strict=True):
                    before[i], end[i] = states, _computed(graph, i, final)
                    if i in stage.before:
                        values[graph.state_vars[i]] = _computed(graph, i, states)
                    if i in stage.after:
                        values[graph.new_vars[i]] = jnp.concatenate([states[1:], final[None]])
                for r, y in drives.items():
                    ys[r] = values[graph.relations[r].y] = y
    return end, before, ys, blocks


def recur(
    frame: Frame, of: Recurrence, h: Arrays, reads: Arrays, outer: ByRelation, length: int
) -> tuple[Arrays, Arrays, ByRelation, ByBlock]:
    """A recurrence, ``length`` steps after each other.

    Args:
        frame, of, h: the segment, the recurrence, all states before the chunk.
        reads, outer: ``(K, ...)`` what it reads, and what is known of its maps' drives.

    Returns:
        its states after the chunk; ``(K, ...)`` before each step; its drives; the blocks of its
        maps that it makes.
    """
    graph = frame.graph
    if (made := in_one_launch(frame, of)) is not None:
        return made.forward(h, reads, outer, length)

    def body(h: Arrays, step: Any) -> Any:
        reads, outer = step
        blocks: ByBlock = {}

        def multiply(r: int, env: Env) -> Any:
            one = graph.relations[r]
            blocks.update({(r, k): env[one.blocks[k].var] for k in of.inner[r]})
            parts = (one.times(Input(blocks[r, k]), frame.rows[r][k]) for k in of.inner[r])
            return _add(outer.get(r), parts)

        env = _step(frame, of, h, reads, frame.whole, multiply)
        new = [_stored(graph, i, read(env, graph.new_vars[i])) for i in of.states]
        return new, (h, {r: env[graph.relations[r].y] for r in of.inner}, blocks)

    start = [_stored(graph, i, h[i]) for i in of.states]
    last, (before, drives, blocks) = jax.lax.scan(body, start, (reads, outer), length)
    return last, before, drives, blocks


def adjoint(
    frame: Frame, steps: Steps, objective: Objective, batch: Any, h_bar: Arrays
) -> tuple[Arrays, ByRelation]:
    """See :func:`snnlab.learners.graph.derivatives.adjoint`."""
    graph, length = frame.graph, steps.ts.shape[0]

    def whole(start: ByState, ys: ByRelation, others: ByRelation) -> tuple[Arrays, jax.Array]:
        drives = [others.get(r, w) for r, w in enumerate(frame.whole)]
        values: Values = dict(zip(graph.step_inputs, steps.extra, strict=True))
        end: ByState = {}

        def known(r: int, evolving: Sequence[int]) -> jax.Array:
            one = graph.relations[r]
            xs = [values[one.blocks[k].var] for k in evolving]
            return given(one, ys[r], xs, [frame.turned[r, k] for k in evolving]) if xs else ys[r]

        for stage in frame.stages:
            match stage:
                case Local():
                    values |= _local(frame, stage, values, drives)
                case Product(r):
                    values[graph.relations[r].y] = known(r, _evolving(graph, r))
                case Delay(i):
                    before = _computed(graph, i, steps.h[i])
                    if i in start:
                        new = _everywhere(frame, graph.new_vars[i], values, drives, length)
                        before, end[i] = _delayed(before, start[i], new), new[-1]
                    values[graph.state_vars[i]] = before
                case Recurrence():
                    taken = {r: known(r, ks) for r, ks in stage.outer.items()}
                    reads = [values[v] for v in stage.reads]
                    own = {r: drives[r] for r in stage.values}
                    mine = {i: start[i] for i in stage.states if i in start}
                    seen, last = _recurred(frame, stage, steps, mine, reads, taken, own)
                    values |= seen
                    end |= last
        loss = _loss(frame, steps.ts, values, drives, objective, batch)
        return [end[i] for i in graph.float_states], loss

    start = {i: jnp.zeros_like(_computed(graph, i, steps.h[i][0])) for i in graph.float_states}
    maps = {r: y for r, y in enumerate(steps.ys) if y is not None}
    others = {r: frame.whole[r] for r in graph.elementwise}
    (_, loss), pull = jax.vjp(whole, start, maps, others)
    before, y_bar, total = pull((h_bar, jnp.ones_like(loss)))
    trained = {r: g for r, g in y_bar.items() if graph.relations[r].trained}
    return list(before.values()), {**trained, **{r: g[None] for r, g in total.items()}}


def _recurred(
    frame: Frame, of: Recurrence, steps: Steps, start: ByState, reads: Arrays, ys: ByRelation,
    own: ByRelation,
) -> tuple[Values, ByState]:  # fmt: skip
    """A recurrence whose states and drives are known: backward only.

    Args:
        frame, of, steps: the segment, the recurrence, the forward pass.
        start: of floating states before the chunk, for their adjoints.
        reads: ``(K, ...)`` what it reads.
        ys: ``(K, B, n)`` drives of its maps; their adjoints are those of the maps' output.
        own: drives that are the same in all steps.

    Returns:
        what other stages see, and (in shape alone) floating states after the chunk.
    """
    graph = frame.graph
    h = [steps.h[i] for i in of.states]
    before = {i: _computed(graph, i, steps.h[i]) for i in of.before}
    fixed = {i: v for i, v in before.items() if i not in start}

    def after(reads: Arrays, ys: ByRelation, own: ByRelation) -> ByState:
        if not of.after:
            return {}
        h_last, reads_last, ys_last = jax.tree.map(lambda a: a[-1], (h, reads, ys))
        final, _ = given_step(frame, of, h_last, reads_last, ys_last, own)
        return {i: jnp.concatenate([steps.h[i][1:], final[i][None]]) for i in of.after}

    @jax.custom_vjp
    def known(start: ByState, reads: Arrays, ys: ByRelation, own: ByRelation) -> Any:
        end = {i: jnp.zeros_like(v) for i, v in start.items()}
        drives = {r: ys[r] for r in of.drives}
        return (_chosen(before, start), _chosen(after(reads, ys, own), start), drives), end

    def forwards(start: ByState, reads: Arrays, ys: ByRelation, own: ByRelation) -> Any:
        return known(start, reads, ys, own), (reads, ys, own)

    def backward(kept: Any, bars: Any) -> Any:
        return recur_back(frame, of, h, *kept, *bars)

    known.defvjp(forwards, backward)
    (seen, left, drives), end = known(start, reads, ys, own)
    if any(i not in start for i in of.after):
        left = {**after(*jax.lax.stop_gradient((reads, ys, own))), **left}
    values = {graph.state_vars[i]: v for i, v in {**fixed, **seen}.items()}
    values |= {graph.new_vars[i]: v for i, v in left.items()}
    return {**values, **{graph.relations[r].y: y for r, y in drives.items()}}, end


def recur_back(
    frame: Frame, of: Recurrence, h: Arrays, reads: Arrays, ys: ByRelation, own: ByRelation,
    seen_bar: tuple[ByState, ByState, ByRelation], h_bar: ByState,
) -> tuple[ByState, list[jax.Array | None], ByRelation, ByRelation]:  # fmt: skip
    """The adjoint of a recurrence, from the last step to the first.

    Args:
        frame, of: the segment, the recurrence.
        h, reads, ys: ``(K, ...)`` states before each step, what it reads, drives.
        own: drives that are the same in all steps.
        seen_bar: ``(K, B, n)`` adjoints of what other stages see: states before and after each
            step, drives.
        h_bar: adjoint of the floating states after the chunk.

    Returns:
        adjoints of the states before the chunk, of what it reads (``None`` of what is no floating
        number), of drives; of ``own``, summed over steps.
    """
    if (made := in_one_launch(frame, of)) is not None:
        return made.backward(h, reads, ys, own, seen_bar, h_bar)
    is_float = [jnp.issubdtype(v.dtype, jnp.floating) for v in reads]

    def body(carry: Any, step: Any) -> Any:
        h_bar, total = carry
        h, reads, ys, (before_bar, after_bar, drive_bar) = step
        h = [_computed(frame.graph, i, v) for i, v in zip(of.states, h, strict=True)]

        def local(h_float: ByState, floating: Arrays, ys: ByRelation, own: ByRelation) -> Any:
            left = iter(floating)
            merged = [next(left) if f else v for f, v in zip(is_float, reads, strict=True)]
            full = [h_float.get(i, v) for i, v in zip(of.states, h, strict=True)]
            new, drives = given_step(frame, of, full, merged, ys, own)
            return _chosen(new, h_float), drives

        h_float = {i: v for i, v in zip(of.states, h, strict=True) if i in h_bar}
        floating = [v for f, v in zip(is_float, reads, strict=True) if f]
        _, pull = jax.vjp(local, h_float, floating, ys, own)
        h_bar = {i: v + after_bar[i] if i in after_bar else v for i, v in h_bar.items()}
        h_bar, reads_bar, y_bar, own_bar = pull((h_bar, drive_bar))
        h_bar = {i: v + before_bar[i] if i in before_bar else v for i, v in h_bar.items()}
        return (h_bar, {r: total[r] + own_bar[r] for r in total}), (reads_bar, y_bar)

    nothing = {r: jnp.zeros_like(v) for r, v in own.items()}
    varying = (h, reads, ys, seen_bar)
    carry, (reads_bar, y_bar) = jax.lax.scan(body, (h_bar, nothing), varying, reverse=True)
    left = iter(reads_bar)
    return carry[0], [next(left) if f else None for f in is_float], y_bar, carry[1]


def given_step(
    frame: Frame, of: Recurrence, h: Arrays, reads: Arrays, ys: ByRelation, own: ByRelation
) -> tuple[ByState, ByRelation]:
    """A step of a recurrence with its drives given: new states, and the drives that are seen."""
    graph = frame.graph

    def multiply(r: int, env: Env) -> jax.Array:
        one, inner = graph.relations[r], of.inner[r]
        xs = [env[one.blocks[k].var] for k in inner]
        return given(one, ys[r], xs, [frame.turned[r, k] for k in inner]) if xs else ys[r]

    drives = [own.get(r, w) for r, w in enumerate(frame.whole)]
    env = _step(frame, of, h, reads, drives, multiply)
    new = {i: read(env, graph.new_vars[i]) for i in of.states}
    return new, {r: env[graph.relations[r].y] for r in of.drives}


def in_one_launch(frame: Frame, of: Recurrence) -> Launch | None:
    """A recurrence as a kernel of ours, where one is wanted and there is one for it."""
    if not frame.graph.kernels.recurrence:
        return None
    from snnlab.learners.graph import launches  # takes a while, and only kernels need it

    return launches.find(frame, of)


# ---------------------------------------------------------------------- parts


def _step(
    frame: Frame, of: Recurrence, h: Arrays, reads: Arrays, drives: Arrays, multiply: Multiply
) -> Env:
    """The variables of a step of a recurrence."""
    graph, env = frame.graph, _same(frame, drives)
    env |= {graph.state_vars[i]: _computed(graph, i, v) for i, v in zip(of.states, h, strict=True)}
    env |= dict(zip(of.reads, reads, strict=True))
    for eqn in of.eqns:
        r = graph.relation_of(eqn)
        if r is None:
            evaluate([eqn], env)
        else:
            env[graph.relations[r].y] = multiply(r, env)
    return env


def _local(frame: Frame, stage: Local, values: Values, drives: Arrays) -> Values:
    """What the equations of a stage make, in all steps."""

    def one_step(*reads: jax.Array) -> Arrays:
        env = {**_same(frame, drives), **dict(zip(stage.reads, reads, strict=True))}
        evaluate(stage.eqns, env)
        return [env[v] for v in stage.makes]

    made = jax.vmap(one_step)(*(values[v] for v in stage.reads))
    return dict(zip(stage.makes, made, strict=True))


def _loss(
    frame: Frame, ts: jax.Array, values: Values, drives: Arrays, objective: Objective, batch: Any
) -> jax.Array:
    """The loss of the chunk."""
    graph = frame.graph
    names = [v for v in dict.fromkeys(variables(graph.out_vars)) if v in values]

    def one_step(t: jax.Array, *shown: jax.Array) -> jax.Array:
        env = {**_same(frame, drives), **dict(zip(names, shown, strict=True))}
        out = jax.tree.unflatten(graph.out_tree, [read(env, v) for v in graph.out_vars])
        loss: jax.Array = objective.step(StepOutput(*out), t, batch)[0]
        return loss

    return jax.vmap(one_step)(ts, *(values[v] for v in names)).sum()


def _same(frame: Frame, drives: Sequence[Any]) -> Env:
    """Variables that are the same in all steps."""
    graph = frame.graph
    return {**frame.static, **{graph.relations[r].y: drives[r] for r in graph.elementwise}}


def _everywhere(frame: Frame, v: Any, values: Values, drives: Arrays, length: int) -> jax.Array:
    """A variable in all steps, ``(length, ...)``, though it may be the same in all."""
    if not is_literal(v) and v in values:
        return values[v]
    same = jnp.asarray(read(_same(frame, drives), v))
    return jnp.broadcast_to(same, (length, *same.shape))


@jax.custom_vjp
def _delayed(before: jax.Array, start: jax.Array, new: jax.Array) -> jax.Array:  # noqa: ARG001
    """``before``, known to be ``start`` and all of ``new`` but the last: backward only."""
    return before


_delayed.defvjp(
    lambda before, start, new: (before, None),  # noqa: ARG005
    lambda _, g: (None, g[0], jnp.concatenate([g[1:], jnp.zeros_like(g[:1])])),
)


def _evolving(graph: StepGraph, r: int) -> list[int]:
    return [k for k, p in enumerate(graph.relations[r].blocks) if p.evolves]


def _add(first: jax.Array | None, others: Iterable[jax.Array]) -> jax.Array | None:
    for v in others:
        first = v if first is None else first + v
    return first


def _chosen(found: ByState, which: ByState) -> ByState:
    return {i: v for i, v in found.items() if i in which}


def _stored(graph: StepGraph, i: int, v: jax.Array) -> jax.Array:
    """A state as it is kept between steps."""
    low = graph.state_dtype is not None and i in graph.float_states
    return v.astype(graph.state_dtype) if low else v


def _computed(graph: StepGraph, i: int, v: jax.Array) -> jax.Array:
    """A state as a step computes with it."""
    return v.astype(graph.state_vars[i].aval.dtype)
