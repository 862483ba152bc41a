"""The network's step, cut at its relations.

A step is traced once into a flat jaxpr. Parameters enter it by *relations*
(:mod:`snnlab.learners.relations`): products ``y = x @ W``, dense or sparse, of something that
evolves with a weight that does not, and values of each neuron that take part in elementwise
operations. With the drives ``y`` of all relations given, a step is a function ``h_t = F(h_{t-1},
y_t)``, and a neuron model is elementwise in it: neuron ``n`` of the new state depends on neuron
``n`` of the old state and on ``y[:, n]``. That is all an eligibility trace needs to know, so no
neuron, synapse or layer has to say anything about itself (:mod:`snnlab.learners.graph.locality`
proves it).

Every variable of the step is one of: *static* (of parameters and constants only: evaluated once
per segment), *input* (of the step's input: evaluated for a chunk of steps at once), *state*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.learners.functional import PureStep
from snnlab.learners.graph import jaxprs
from snnlab.learners.graph.jaxprs import inline, is_literal, variables
from snnlab.learners.relations import Elementwise, InputBlock, MatMul, Relation, Sparse
from snnlab.learners.tuning import current

if TYPE_CHECKING:
    from snnlab.learners.config import Precision


#: What a variable comes from: ``("h", old state)``, ``("new", new state)``, ``("y", relation)``,
#: ``("through", source of a map's input)``.
Sources = set[tuple[str, Any]]


class StepGraph:
    """A step, cut at its relations.

    Args:
        net: the step.
        scope: how far the loss is followed: within the ``step``, so that of the states that a
            relation reaches only those are of use that the loss of the same step depends on, and
            those that lead there; within a ``window`` of steps, or through the ``sequence``
            (backpropagation), where every state is. In the last, a parameter may enter in any way.
        precision: of the factors of products and of traces.

    Attributes:
        kernels: what kernels of our own run, where there is one (:mod:`snnlab.learners.tuning`).
        relations: in the order of the step.
        states: names of the leaves of the carry (``"layers.0.neuron.V"``).
        edges: ``edges[b]`` are the states ``a`` with ``dh_t[b] / dh_{t-1}[a]`` at fixed ``y``.
        enters: ``enters[b]`` are the relations ``r`` with ``dh_t[b] / dy_t[r]``.
        trace_states: states with an eligibility trace for some relation.
        observed: by layer, the states that its spikes are read from.
        observed_drives: by layer, the trained relations that its spikes are read from past these
            (a threshold's).
    """

    def __init__(
        self,
        net: PureStep,
        scope: Literal["step", "window", "sequence"] = "step",
        precision: Precision = "float32",
    ) -> None:
        jaxprs.verify()
        self.net = net
        low = jnp.dtype(jnp.bfloat16)
        #: Of the factors of maps' products and of traces.
        self.dtype = jnp.dtype(jnp.float32) if precision == "float32" else low
        #: Of floating states that are stored between steps; ``None``: as they are.
        self.state_dtype = low if precision == "bfloat16" else None
        self.scope = scope
        self.kernels = current().kernels
        params = net.params()
        self.param_names = list(params)
        example = jnp.zeros((net.batch_size, net.n_in), jnp.float32)
        closed, out_shape = jax.make_jaxpr(net.step, return_shape=True)(
            params, net.initial, example
        )
        leaves = jax.tree.leaves((params, net.initial, example))
        flat = jax.make_jaxpr(lambda *a: inline(closed.jaxpr, closed.consts, *a))(*leaves)
        self.jaxpr, self.consts = flat.jaxpr, flat.consts
        paths = jax.tree_util.tree_leaves_with_path(net.initial)
        self.states = [str(path[0].key) for path, _ in paths]
        self.carry_tree = jax.tree.structure(net.initial)
        self.out_tree = jax.tree.structure(out_shape[1])
        n_params, n_states = len(self.param_names), len(self.states)
        names = sorted(self.param_names)  # the order of a dict's leaves
        self.param_vars = dict(zip(names, self.jaxpr.invars[:n_params], strict=True))
        self.state_vars = list(self.jaxpr.invars[n_params : n_params + n_states])
        self.input_var = self.jaxpr.invars[-1]
        self.new_vars = list(self.jaxpr.outvars[:n_states])
        self.out_vars = list(self.jaxpr.outvars[n_states:])
        self.float_states = [
            i for i, v in enumerate(self.state_vars) if jnp.issubdtype(v.aval.dtype, jnp.floating)
        ]
        self._classify()
        self.out = jax.tree.unflatten(self.out_tree, self.out_vars)
        self._connect()

    # ------------------------------------------------------------------ static, input, state

    def _classify(self) -> None:
        """Split the equations and find the relations."""
        trained: dict[Any, frozenset[str]] = {v: frozenset([n]) for n, v in self.param_vars.items()}
        evolves = set(self.state_vars)
        from_input = {self.input_var}
        made_by: dict[Any, Any] = {}
        self.static_eqns, self.input_eqns, self.state_eqns = [], [], []
        self.relations: list[Relation] = []
        self._relation_of: dict[int, int] = {}
        entered: dict[Any, int] = {}

        def blocks_of(v: Any, start: int) -> list[InputBlock]:
            parts = jaxprs.joined(made_by.get(v))
            if parts is None:
                return [InputBlock(v, start, v.aval.shape[1], v in evolves)]
            found = []
            for part in parts:
                found += blocks_of(part, start)
                start += part.aval.shape[1]
            return found

        def enter(v: Any, shape: tuple[int, ...], name: str) -> None:
            """A value of parameters takes part in operation ``name`` with a result of ``shape``."""
            if v in entered:
                found = self.relations[entered[v]]
                assert isinstance(found, Elementwise)
                if found.shape != shape:
                    self.relations[entered[v]] = dataclasses.replace(found, several=True)
                return
            entered[v] = len(self.relations)
            names = tuple(sorted(trained[v]))
            block = (InputBlock(None, 0, 1, False),)
            self.relations.append(Elementwise(v, v, block, names, shape, through=name))

        static = [*self.param_vars.values(), *self.jaxpr.constvars]
        equations, instead = jaxprs.merged(self.jaxpr.eqns, static)
        for outs in (self.new_vars, self.out_vars):
            outs[:] = [v if is_literal(v) else instead.get(v, v) for v in outs]
        for eqn in equations:
            used = variables(eqn.invars)
            moving = {v for v in used if v in evolves or v in from_input}
            fixed = [v for v in used if v not in moving and v in trained]
            if moving and jaxprs.is_product(eqn, moving.__contains__):
                x, w, *table = eqn.invars
                names = trained.get(w, frozenset())
                if names or x in evolves:
                    y = eqn.outvars[0]
                    parts = w, y, tuple(blocks_of(x, 0)), tuple(sorted(names)), y.aval.shape
                    made = (
                        Sparse(*parts, post=self._constant(table[0])) if table else MatMul(*parts)
                    )
                    self._relation_of[id(eqn)] = len(self.relations)
                    self.relations.append(made)
                    evolves.add(y)
                    self.state_eqns.append(eqn)
                    continue
            if moving:
                for v in fixed:
                    enter(v, eqn.outvars[0].aval.shape, eqn.primitive.name)
            names = frozenset().union(*(trained[v] for v in fixed))
            if eqn.primitive.name == jaxprs.BLOCK:
                names = frozenset()
            for v in eqn.outvars:
                made_by[v] = eqn
                if moving & evolves or (moving and fixed):
                    evolves.add(v)
                elif moving:
                    from_input.add(v)
                elif names:
                    trained[v] = names
            if not moving:
                self.static_eqns.append(eqn)
            elif moving & evolves or fixed:
                self.state_eqns.append(eqn)
            else:
                self.input_eqns.append(eqn)
        for v in variables([*self.new_vars, *self.out_vars]):
            if v in trained:
                enter(v, v.aval.shape, "the outputs of the step")
        #: Relations whose drive is a value of parameters itself.
        self.elementwise = [r for r, one in enumerate(self.relations) if not one.is_map]
        self._drop_joins()
        needed = [v for eqn in self.state_eqns if self.relation_of(eqn) is None for v in eqn.invars]
        used_later = set(variables([*needed, *self.new_vars, *self.out_vars]))
        #: Input variables that a step needs beside the inputs of its maps.
        self.step_inputs = [v for v in from_input if v in used_later]

    def _constant(self, v: Any) -> jax.Array:
        return dict(zip(self.jaxpr.constvars, self.consts, strict=True))[v]

    def _drop_joins(self) -> None:
        """Forget concatenations that only feed maps: their blocks are used instead."""
        kept = set(variables([*self.new_vars, *self.out_vars]))
        state_eqns: list[Any] = []
        for eqn in reversed(self.state_eqns):
            if jaxprs.joined(eqn) is not None and eqn.outvars[0] not in kept:
                continue
            state_eqns.append(eqn)
            r = self.relation_of(eqn)
            if r is None:
                kept |= set(variables(eqn.invars))
            else:
                kept |= {block.var for block in self.relations[r].blocks}
        self.state_eqns = state_eqns[::-1]

    # ------------------------------------------------------------------ what depends on what

    def _connect(self) -> None:
        """Edges between states and relations at fixed drives; reach; liveness."""
        floats = set(self.float_states)
        local: dict[Any, Sources] = {self.state_vars[i]: {("h", i)} for i in floats}
        live: dict[Any, Sources] = {}  # of this step's new states and of drives past states
        for r in self.elementwise:
            local[self.relations[r].y] = {("y", r)}
            live[self.relations[r].y] = {("y", r)}
        new_of: dict[Any, list[int]] = {}
        for i in floats:
            if not is_literal(self.new_vars[i]):
                new_of.setdefault(self.new_vars[i], []).append(i)
        for eqn in self.state_eqns:
            at = self.relation_of(eqn)
            if at is not None:
                y = self._see_map(at, live)
                local[y] = {("y", at)}
            else:
                for table in (local, live):
                    found: Sources = set()
                    if eqn.primitive.name != jaxprs.BLOCK:
                        found = set().union(*(table.get(v, set()) for v in variables(eqn.invars)))
                    table.update(dict.fromkeys(eqn.outvars, found))
            for v in eqn.outvars:
                if v in new_of:
                    live[v] = {("new", i) for i in new_of[v]} | {
                        ("through", s) for kind, r in local[v] if kind == "y"
                        for s in live[self.relations[r].y]
                    }  # fmt: skip
        self.local, self.live = local, live

        def sources(v: Any, table: dict[Any, Sources]) -> Sources:
            return set() if is_literal(v) else table.get(v, set())

        n = len(self.states)
        from_state = [sources(v, local) if i in floats else set()
                      for i, v in enumerate(self.new_vars)]  # fmt: skip
        self.edges = [sorted(k for kind, k in s if kind == "h") for s in from_state]
        self.enters = [sorted(k for kind, k in s if kind == "y") for s in from_state]
        seen = set().union(*(sources(v, live) for v in self.out_vars))
        useful = {k for kind, k in map(_origin, seen) if kind == "new"}
        useful = jaxprs.closure(useful, lambda b: self.edges[b])
        onward = {s for one in self.relations for p in one.blocks if p.live
                  for s in sources(p.var, live)} | seen  # fmt: skip
        #: Trained relations that act on each state, whether or not it is of use after the step.
        self.acting: dict[int, list[int]] = {}
        targets: list[list[int]] = [[] for _ in range(n)]
        for b in range(n):
            for a in self.edges[b]:
                targets[a].append(b)
        for r, one in enumerate(self.relations):
            if one.trained:
                first = {b for b in range(n) if r in self.enters[b]}
                reach = jaxprs.closure(first, lambda a: targets[a])
                for b in reach:
                    self.acting.setdefault(b, []).append(r)
                reach = reach & useful if self.scope == "step" else reach
                self.relations[r] = dataclasses.replace(
                    one, reach=tuple(sorted(reach)), direct=("y", r) in onward
                )
        self.trace_states = sorted({b for one in self.relations for b in one.reach})
        self.observed = [
            sorted(k for kind, k in sources(v, live) if kind == "new") for v in self.out.spikes
        ]
        self.observed_drives = [
            sorted(r for kind, r in sources(v, live) if kind == "y" and self.relations[r].trained)
            for v in self.out.spikes
        ]

    def _see_map(self, r: int, live: dict[Any, Sources]) -> Any:
        """Which of a map's blocks are live; what its drive comes from. Returns the drive.

        A parameter of a neuron alone does not make a block live: what it does to the spikes that
        the step begins with belongs to the recurrence.
        """
        one = self.relations[r]

        def is_live(block: InputBlock) -> bool:
            return any(
                kind != "y" or self.relations[k].is_map for kind, k in live.get(block.var, ())
            )

        blocks = tuple(dataclasses.replace(p, live=is_live(p)) for p in one.blocks)
        self.relations[r] = dataclasses.replace(one, blocks=blocks)
        passed = set().union(*(live[p.var] for p in blocks if p.live))
        live[one.y] = {("y", r)} | {("through", s) for s in passed}
        return one.y

    # ------------------------------------------------------------------ for rules

    def trained_blocks(self, chosen: Iterable[int] | None = None) -> list[tuple[int, int]]:
        """``(relation, block)`` of the trained relations, or of the chosen ones."""
        which = range(len(self.relations)) if chosen is None else chosen
        return [
            (r, k) for r in which if self.relations[r].trained
            for k in range(len(self.relations[r].blocks))
        ]  # fmt: skip

    def stored(self, h: Sequence[jax.Array]) -> list[jax.Array]:
        """State leaves as they are kept between steps."""
        if self.state_dtype is None:
            return list(h)
        floating = set(self.float_states)
        return [v.astype(self.state_dtype) if i in floating else v for i, v in enumerate(h)]

    def computed(self, h: Sequence[jax.Array]) -> list[jax.Array]:
        """State leaves as a step computes with them."""
        return [v.astype(var.aval.dtype) for v, var in zip(h, self.state_vars, strict=True)]

    def colours(self) -> list[tuple[set[int], set[int]]]:
        """Sets of (old states, relations) of which no two enter the same new state.

        One tangent of ones for a whole set gives the Jacobian blocks of all its members.
        """
        sources: list[tuple[str, int, set[int]]] = []
        for a in self.trace_states:
            sources.append(("h", a, {b for b in self.trace_states if a in self.edges[b]}))
        for r, one in enumerate(self.relations):
            if one.reach:
                sources.append(("y", r, {b for b in self.trace_states if r in self.enters[b]}))
        sets: list[tuple[set[int], set[int], set[int]]] = []
        for kind, k, into in sources:
            free = next((s for s in sets if not s[2] & into), None)
            if free is None:
                free = (set(), set(), set())
                sets.append(free)
            free[0 if kind == "h" else 1].add(k)
            free[2].update(into)
        return [(states, drives) for states, drives, _ in sets]

    def own_blocks(self, r: int) -> list[int]:
        """Maps that relation ``r`` enters by the spikes that the step begins with."""
        return [
            k for k, one in enumerate(self.relations)
            if any(not p.live and ("y", r) in self.live.get(p.var, ()) for p in one.blocks)
        ]  # fmt: skip

    def layer_of(self, r: int) -> int | None:
        """The layer whose spikes relation ``r`` acts on neuron by neuron; ``None``: a readout.

        Raises:
            UsageError: the step does not say what spikes.
        """
        if not self.out.spikes:
            raise UsageError(
                "this rule tells spiking layers from the readout: the step must say what spikes"
            )
        reach = set(self.relations[r].reach)
        both = enumerate(zip(self.observed, self.observed_drives, strict=True))
        return next((k for k, (seen, drives) in both if reach & set(seen) or r in drives), None)

    def readouts(self) -> list[str]:
        """Parameters of maps onto the readout."""
        return [
            name for r, one in enumerate(self.relations)
            if one.is_map and self.layer_of(r) is None for name in one.trained
        ]  # fmt: skip

    def relation_of(self, eqn: Any) -> int | None:
        return self._relation_of.get(id(eqn))


def _origin(source: tuple) -> tuple:
    while source[0] == "through":
        source = source[1]
    return source
