"""Programs made of the equations of a cut step: pure functions of arrays.

Shapes: B samples, K steps of a chunk; a state leaf ``(B, n)``; ``ys`` is one drive ``(B, n)`` for
each relation. Functions of one step are mapped over the steps of a chunk by ``jax.vmap``, so that
whatever does not depend on the step before runs as one product for the chunk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.functional import Params
from snnlab.learners.graph.jaxprs import Env, bind, evaluate, read
from snnlab.learners.graph.stages import Stage, gains, stages
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import Elementwise, Relation
from snnlab.learners.relations.inputs import Events, Input
from snnlab.learners.tuning import current
from snnlab.models.base import StepOutput

Arrays = list[jax.Array]
#: By (relation, block).
ByBlock = dict[tuple[int, int], jax.Array]
#: By relation.
ByRelation = dict[int, jax.Array]
#: Inputs of maps by (relation, block).
Inputs = dict[tuple[int, int], Input]


@dataclasses.dataclass
class Frame:
    """What is constant during a segment.

    Attributes:
        graph: the cut step.
        static: values of the static variables.
        whole: ``whole[r]``, the values of relation ``r``: a map's weight, or the drive itself.
        rows: ``rows[r][k]``, what block ``k`` of them multiplies with.
        apart: whether blocks have products of their own, so that those of own spikes need not
            wait for the layer below. In a segment of few steps copying the rows costs more.
        turned: of blocks that evolve, what :meth:`Relation.back` takes.
        stages: of a chunk that goes layer after layer; none: step after step.
        blocks: by the states of a recurrence, its programs for a kernel, once they are made.
    """

    graph: StepGraph
    static: Env
    whole: Arrays
    rows: list[tuple[Any, ...]]
    turned: dict[tuple[int, int], Any]
    apart: bool
    stages: list[Stage]
    blocks: dict[tuple[int, ...], Any] = dataclasses.field(default_factory=dict)

    def drives(self, ys: Sequence[jax.Array | None]) -> Arrays:
        """Those of all relations: of maps as given, of others the value of their parameter."""
        return [w if y is None else y for w, y in zip(self.whole, ys, strict=True)]


def static_values(graph: StepGraph, params: Params) -> Env:
    """Values of the variables that depend on parameters and constants alone."""
    env: Env = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    env.update({v: params[name] for name, v in graph.param_vars.items()})
    evaluate(graph.static_eqns, env)
    return env


def weights(graph: StepGraph, params: Params) -> Arrays:
    """Values of every trained relation: what the parameters act through."""
    env = static_values(graph, params)
    return [env[one.w] for one in graph.relations if one.trained]


def make_frame(graph: StepGraph, params: Params, steps: int) -> Frame:
    """The frame of a segment of ``steps`` steps."""
    env = static_values(graph, params)
    stepwise = graph.scope != "sequence"

    def whole_of(one: Relation) -> jax.Array:
        if isinstance(one, Elementwise):
            return one.value(env[one.w]) if stepwise else env[one.w]
        return env[one.w].astype(graph.dtype)

    whole = [whole_of(one) for one in graph.relations]
    rows = [
        tuple(one.rows(values, k) for k in range(len(one.blocks)))
        for one, values in zip(graph.relations, whole, strict=True)
    ]
    many = steps >= current().turn_from
    turned = {
        (r, k): one.turned(rows[r][k], many)
        for r, one in enumerate(graph.relations) for k, p in enumerate(one.blocks) if p.evolves
    }  # fmt: skip
    found = stages(graph) if many and current().layer_after_layer else []
    staged = gains(found) or graph.kernels.recurrence
    return Frame(graph, env, whole, rows, turned, many, found if staged else [])


# ---------------------------------------------------------------------- input


def inputs_of_chunk(frame: Frame, xs: Input) -> tuple[Inputs, Arrays]:
    """From the input ``xs (K, B, n_in)``: blocks that do not evolve, and other step inputs."""
    graph = frame.graph
    known = {
        (r, k): p
        for r, one in enumerate(graph.relations) if one.is_map
        for k, p in enumerate(one.blocks) if not p.evolves
    }  # fmt: skip

    def one_step(x: jax.Array) -> tuple[ByBlock, Arrays]:
        env = {**frame.static, graph.input_var: x}
        evaluate(graph.input_eqns, env)
        return {key: env[p.var] for key, p in known.items()}, [env[v] for v in graph.step_inputs]

    arrays, extra = jax.vmap(one_step)(xs.array)
    found = {
        key: xs if known[key].var is graph.input_var else Input(x) for key, x in arrays.items()
    }
    return found, extra


def project_inputs(frame: Frame, known: Inputs) -> ByRelation:
    """The part of each ``y (K, B, n)`` that is known before the chunk runs."""
    outside: ByRelation = {}
    for (r, k), x in known.items():
        one, rows = frame.graph.relations[r], frame.rows[r][k]
        if isinstance(x, Events) and one.blocks[k].start == 0 and one.dense:
            rows = frame.whole[r]  # a list of events meets its first rows without a copy of them
        y = one.times(x, rows)
        outside[r] = outside[r] + y if r in outside else y
    return outside


# ---------------------------------------------------------------------- one step

#: The drive of a map from its blocks that evolve.
Product = Callable[[int, Relation, list[jax.Array]], jax.Array]


def _env(
    frame: Frame, h: Sequence[jax.Array], extra: Sequence[jax.Array], ys: Sequence[Any]
) -> Env:
    """Variables of a step; ``h`` may be stored in fewer bits than it is computed with."""
    graph = frame.graph
    env = dict(frame.static)
    env.update(zip(graph.step_inputs, extra, strict=True))
    env.update(zip(graph.state_vars, graph.computed(h), strict=True))
    env.update({graph.relations[r].y: ys[r] for r in graph.elementwise})
    return env


def run(
    frame: Frame,
    h: Sequence[jax.Array],
    extra: Sequence[jax.Array],
    product: Product,
    ys: Sequence[jax.Array] | None = None,
) -> tuple[Arrays, StepOutput, ByBlock]:
    """One step with ``product(relation, blocks that evolve)`` in the place of each map.

    Args:
        frame, h, extra, product: the segment, states before the step, its inputs, its maps.
        ys: drives of the relations that are no maps; their values if not given.

    Returns:
        new state leaves, StepOutput, and the blocks that evolve.
    """
    graph = frame.graph
    env = _env(frame, h, extra, frame.whole if ys is None else ys)
    blocks: ByBlock = {}
    for eqn in graph.state_eqns:
        r = graph.relation_of(eqn)
        if r is None:
            evaluate([eqn], env)
            continue
        one = graph.relations[r]
        mine = {(r, k): env[p.var] for k, p in enumerate(one.blocks) if p.evolves}
        blocks.update(mine)
        env[one.y] = product(r, one, list(mine.values()))
    new = [read(env, v) for v in graph.new_vars]
    out = jax.tree.unflatten(graph.out_tree, [read(env, v) for v in graph.out_vars])
    return new, StepOutput(*out), blocks


def run_given(
    frame: Frame, h: Sequence[jax.Array], extra: Sequence[jax.Array], ys: Sequence[jax.Array]
) -> tuple[Arrays, StepOutput, ByBlock]:
    """One step of which all drives are known."""
    return run(frame, h, extra, lambda r, _one, _evolving: ys[r], ys)


def forward_product(frame: Frame, outside: ByRelation) -> Product:
    """The map itself: evolving blocks times their rows, plus what is known already."""

    def product(r: int, one: Relation, evolving: list[jax.Array]) -> jax.Array:
        y = outside.get(r)
        if y is None and not frame.apart and one.dense:
            return one.times(Input(jnp.concatenate(evolving, axis=-1)), frame.whole[r])
        mine = [rows for rows, p in zip(frame.rows[r], one.blocks) if p.evolves]
        for x, rows in zip(evolving, mine, strict=True):
            new = one.times(Input(x), rows)
            y = new if y is None else y + new
        assert y is not None
        return y

    return product


def given(one: Relation, y: jax.Array, xs: list[jax.Array], turned: list[Any]) -> jax.Array:
    """``y``, known to be the sum of ``x @ w`` and a constant: backward only."""

    @jax.custom_vjp
    def known(y: jax.Array, _xs: list[jax.Array], _turned: list[Any]) -> jax.Array:
        return y

    def backward(turned: list[Any], y_bar: jax.Array) -> Any:
        return y_bar, [one.back(y_bar, w) for w in turned], None

    known.defvjp(lambda y, _xs, turned: (y, turned), backward)
    return known(y, xs, turned)


def given_product(frame: Frame, ys: Sequence[jax.Array]) -> Product:
    """Known outputs, through which reverse mode passes as through the map.

    The adjoint of ``ys[r]`` is then that of the map's output.
    """

    def product(r: int, one: Relation, evolving: list[jax.Array]) -> jax.Array:
        turned = [frame.turned[r, k] for k, p in enumerate(one.blocks) if p.evolves]
        return given(one, ys[r], evolving, turned) if evolving else ys[r]

    return product


@dataclasses.dataclass
class Perturbed:
    """What is added to a step, to ask for derivatives by it.

    Attributes:
        new: by state, to its new value, for everything that reads it: outputs, and inputs of maps
            above, whose drives then change the states that they enter. It is NOT added where one
            new state is computed from another at fixed drives (a membrane from the new synaptic
            current): that path is part of the trace already.
        drives: by relation, to its drive, for everything but new states.
        spikes: by layer, to its spikes as outputs and maps see them. These are then cut off from
            the states that they are read from.
    """

    new: dict[int, jax.Array]
    drives: ByRelation = dataclasses.field(default_factory=dict)
    spikes: list[jax.Array] | None = None


jax.tree_util.register_dataclass(Perturbed, ["new", "drives", "spikes"], [])


def run_perturbed(
    frame: Frame,
    h: Sequence[jax.Array],
    extra: Sequence[jax.Array],
    ys: Sequence[jax.Array],
    by: Perturbed,
    *,
    through_maps: bool = True,
) -> tuple[StepOutput, list[jax.Array]]:
    """One step whose new states are independent variables: the learning signal's program.

    Args:
        frame, h, extra, ys: the segment, states before the step, its inputs, its drives.
        by: what is added.
        through_maps: whether what is added reaches other neurons through maps.

    Returns:
        StepOutput (its spikes with what is added to states), and the spikes by layer as maps see
        them.
    """
    graph = frame.graph
    local = _env(frame, h, extra, ys)  # functions of h and ys alone
    seen: Env = {}  # what differs from it for those who see what is added
    shown: dict[Any, jax.Array] = {}  # spikes with what is added to states
    new_of: dict[Any, list[int]] = {}
    for b in by.new:
        new_of.setdefault(graph.new_vars[b], []).append(b)
    layer_of = {} if by.spikes is None else {v: k for k, v in enumerate(graph.out.spikes)}
    for k in graph.elementwise:
        if k in by.drives:
            seen[graph.relations[k].y] = ys[k] + by.drives[k]

    def look(v: Any) -> Any:
        return seen[v] if not hasattr(v, "val") and v in seen else read(local, v)

    for eqn in graph.state_eqns:
        r = graph.relation_of(eqn)
        if r is not None:
            one = graph.relations[r]
            live = [
                (look(p.var), frame.turned[r, k])
                for k, p in enumerate(one.blocks) if p.live and through_maps
            ]  # fmt: skip
            y = ys[r]
            if live:
                y = given(one, y, [x for x, _ in live], [w for _, w in live])
            local[one.y] = y
            if r in by.drives:
                seen[one.y] = y + by.drives[r]
        else:
            evaluate([eqn], local)
            if any(not hasattr(v, "val") and v in seen for v in eqn.invars):
                out = bind(eqn, [look(v) for v in eqn.invars])
                seen.update(zip(eqn.outvars, out, strict=True))
        for v in eqn.outvars:
            if v in new_of:
                base = local[v]
                for b in new_of[v]:
                    base = base + by.new[b]
                seen[v] = base
            if v in layer_of:
                assert by.spikes is not None
                shown[v] = look(v)
                seen[v] = local[v] + by.spikes[layer_of[v]]
    shape = jax.tree.unflatten(graph.out_tree, [look(v) for v in graph.out_vars])
    output = StepOutput(*shape)
    spikes = [look(v) for v in graph.out.spikes]
    if by.spikes is not None:
        output = output._replace(spikes=tuple(shown.get(v, look(v)) for v in graph.out.spikes))
    return output, spikes
