"""The network's step, cut at its maps.

A step is traced once into a flat jaxpr. Its *cuts* are the products ``y = x @ W``, dense or
sparse, of something that evolves with a weight that does not. With the outputs ``y`` of all cuts
given, a step is a function ``h_t = F(h_{t-1}, y_t)``, and a neuron model is elementwise in it:
neuron ``n`` of the new state depends on neuron ``n`` of the old state and on ``y[:, n]``. That is
all an eligibility trace needs to know, so no neuron, synapse or layer has to say anything about
itself (:mod:`snnlab.learners.graph.locality` proves it).

Every variable of the step is one of: *static* (of parameters and constants only: evaluated once
per segment), *input* (of the step's input: evaluated for a chunk of steps at once), *state*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from snnlab.errors import UsageError
from snnlab.learners.config import Precision
from snnlab.learners.functional import PureNetwork, get_params
from snnlab.models.sparse import PRODUCT

#: Calls that are replaced by their body.
INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}

Env = dict[Any, jax.Array]


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Evaluate one equation."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)  # tuple: jax < 0.9
    out = eqn.primitive.bind(*subfuns, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def inline(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Evaluate a jaxpr with the calls in it opened."""
    env: Env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for eqn in jaxpr.eqns:
        values = [read(env, v) for v in eqn.invars]
        body = eqn.params.get(INLINED.get(eqn.primitive.name, ""))
        if body is None or _is_sparse(eqn):
            out = bind(eqn, values)
        elif hasattr(body, "consts"):
            out = inline(body.jaxpr, body.consts, *values)
        else:
            out = inline(body, (), *values)
        env.update(zip(eqn.outvars, out, strict=True))
    return [read(env, v) for v in jaxpr.outvars]


def read(env: Env, v: Any) -> Any:
    return v.val if isinstance(v, Literal) else env[v]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Rows ``start .. start + size`` of a cut's weight, and the variable that they multiply.

    Attributes:
        var: variable ``(B, size)``.
        evolves: whether it depends on the state; otherwise it is known before the chunk runs.
        live: whether it depends on what this very step computes (an upper layer's input), so
            that the learning signal of the step passes through it.
    """

    var: Any
    start: int
    size: int
    evolves: bool
    live: bool = False


@dataclasses.dataclass(frozen=True)
class Cut:
    """``y (B, n) = concat(pieces) @ w``.

    Attributes:
        w, y: variables; of a sparse map, ``w`` holds the values of existing synapses ``(i, k)``.
        pieces: of the input.
        trained: names of the parameters in ``w``; none for a fixed map.
        reach: indices of the states that ``y`` enters, at once or later, neuron by neuron, and
            that the loss depends on.
        direct: whether the loss depends on ``y`` other than through a state.
        post: targets ``(i, k)`` of a sparse map; ``None`` for a dense one.
    """

    w: Any
    y: Any
    pieces: tuple[Piece, ...]
    trained: tuple[str, ...]
    reach: tuple[int, ...] = ()
    direct: bool = False
    post: jax.Array | None = None

    @property
    def n_out(self) -> int:
        return self.y.aval.shape[1]


class StepGraph:
    """The cut step of a network.

    Args:
        net: the network as a pure step.
        windowed: whether the loss of later steps counts (backpropagation inside windows), so
            that every state that a map reaches is of use; otherwise only those are that the
            loss of the same step depends on, and the states that lead there.

    Attributes:
        cuts: maps, in the order of the step.
        states: names of the leaves of the carry (``"layers.0.neuron.V"``).
        edges: ``edges[b]`` are the states ``a`` with ``dh_t[b] / dh_{t-1}[a]`` at fixed ``y``.
        enters: ``enters[b]`` are the cuts ``r`` with ``dh_t[b] / dy_t[r]``.
        trace_states: states with an eligibility trace for some map.

    Raises:
        UsageError: a parameter outside maps, or one that no state and no output depends on.
    """

    def __init__(
        self, net: PureNetwork, windowed: bool = False, precision: Precision = "float32"
    ) -> None:
        self.net = net
        low = jnp.dtype(jnp.bfloat16)
        #: Of the factors of maps' products and of traces.
        self.dtype = jnp.dtype(jnp.float32) if precision == "float32" else low
        #: Of floating states that are stored between steps; ``None``: as they are.
        self.state_dtype = low if precision == "bfloat16" else None
        self.windowed = windowed
        params = get_params(net.network)
        self.param_names = list(params)
        example = jnp.zeros((net.batch_size, net.network.n_in), jnp.float32)
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
        self._classify()
        self._connect()
        self._posts: dict[tuple[int, tuple[int, ...]], jax.Array] = {}

    # ------------------------------------------------------------------ static, input, state

    def _classify(self) -> None:
        """Split the equations and find the cuts."""
        trained: dict[Any, frozenset[str]] = {v: frozenset([n]) for n, v in self.param_vars.items()}
        evolves = set(self.state_vars)
        from_input = {self.input_var}
        made_by: dict[Any, Any] = {}
        self.static_eqns, self.input_eqns, self.state_eqns = [], [], []
        cuts: dict[int, Cut] = {}

        def pieces_of(v: Any, start: int) -> list[Piece]:
            eqn = made_by.get(v)
            if eqn is None or eqn.primitive.name != "concatenate" or eqn.params["dimension"] != 1:
                return [Piece(v, start, v.aval.shape[1], v in evolves)]
            found = []
            for part in eqn.invars:
                if isinstance(part, Literal):
                    return [Piece(v, start, v.aval.shape[1], v in evolves)]
                found += pieces_of(part, start)
                start += part.aval.shape[1]
            return found

        for eqn in self.jaxpr.eqns:
            used = [v for v in eqn.invars if not isinstance(v, Literal)]
            params = frozenset().union(*(trained.get(v, frozenset()) for v in used))
            dynamic = any(v in evolves or v in from_input for v in used)
            if _is_map(eqn, lambda v: v in evolves or v in from_input):
                x, w, *table = eqn.invars
                names = trained.get(w, frozenset())
                if x not in trained and (names or x in evolves):
                    cut = Cut(
                        w, eqn.outvars[0], tuple(pieces_of(x, 0)), tuple(sorted(names)),
                        post=self._constant(table[0]) if table else None,
                    )  # fmt: skip
                    cuts[id(eqn)] = cut
                    evolves.add(cut.y)
                    self.state_eqns.append(eqn)
                    continue
            if params and dynamic:
                raise UsageError(
                    f"--backend snnlab cannot train parameter {min(params)}: it enters the step "
                    f"through '{eqn.primitive.name}', not through a map y = x @ W; make it a "
                    "DenseMap or use --method bptt --backend plain"
                )
            for v in eqn.outvars:
                made_by[v] = eqn
                if params:
                    trained[v] = params
                if any(u in evolves for u in used):
                    evolves.add(v)
                elif dynamic:
                    from_input.add(v)
            if any(u in evolves for u in used):
                self.state_eqns.append(eqn)
            elif dynamic:
                self.input_eqns.append(eqn)
            else:
                self.static_eqns.append(eqn)
        for v in (*self.new_vars, *self.out_vars):
            if not isinstance(v, Literal) and v in trained:
                raise UsageError(
                    f"--backend snnlab cannot train parameter {min(trained[v])}: the step returns "
                    "it; use --method bptt --backend plain"
                )
        self.cuts = list(cuts.values())
        self._cut_of = {key: i for i, key in enumerate(cuts)}
        self._evolves = evolves
        self._drop_joins(cuts)
        needed = [v for eqn in self.state_eqns if id(eqn) not in cuts for v in eqn.invars]
        used_later = {v for v in (*needed, *self.new_vars, *self.out_vars)
                      if not isinstance(v, Literal)}  # fmt: skip
        #: Input variables that a step needs beside the inputs of its maps.
        self.step_inputs = [v for v in from_input if v in used_later]

    def _constant(self, v: Any) -> jax.Array:
        return dict(zip(self.jaxpr.constvars, self.consts, strict=True))[v]

    def _drop_joins(self, cuts: dict[int, Cut]) -> None:
        """Forget concatenations that only feed cuts: their pieces are used instead."""
        kept = {v for v in (*self.new_vars, *self.out_vars) if not isinstance(v, Literal)}
        state_eqns: list[Any] = []
        for eqn in reversed(self.state_eqns):
            if eqn.primitive.name == "concatenate" and eqn.outvars[0] not in kept:
                continue
            state_eqns.append(eqn)
            if id(eqn) in cuts:
                kept |= {p.var for p in cuts[id(eqn)].pieces}
            else:
                kept |= {v for v in eqn.invars if not isinstance(v, Literal)}
        self.state_eqns = state_eqns[::-1]

    # ------------------------------------------------------------------ what depends on what

    def _connect(self) -> None:
        """Edges between states and maps at fixed map outputs; reach; liveness; checks."""
        floats = {
            i for i, v in enumerate(self.state_vars) if jnp.issubdtype(v.aval.dtype, jnp.floating)
        }
        local: dict[Any, set] = {self.state_vars[i]: {("h", i)} for i in floats}
        live: dict[Any, set] = {}  # of this step's new states and of map outputs past states
        new_of: dict[Any, list[int]] = {}
        for i in floats:
            if not isinstance(self.new_vars[i], Literal):
                new_of.setdefault(self.new_vars[i], []).append(i)
        cuts = []
        for eqn in self.state_eqns:
            if id(eqn) in self._cut_of:
                r = self._cut_of[id(eqn)]
                cut = self.cuts[r]
                pieces = tuple(
                    dataclasses.replace(p, live=bool(live.get(p.var))) for p in cut.pieces
                )
                cuts.append(dataclasses.replace(cut, pieces=pieces))
                local[cut.y] = {("y", r)}
                passed = set().union(*(live.get(p.var, set()) for p in pieces))
                live[cut.y] = {("y", r)} | {("through", s) for s in passed}
                outs = [cut.y]
            else:
                for table in (local, live):
                    found = set()
                    if eqn.primitive.name != "stop_gradient":
                        found = set().union(
                            *(table.get(v, set()) for v in eqn.invars if not isinstance(v, Literal))
                        )
                    for v in eqn.outvars:
                        table[v] = found
                outs = eqn.outvars
            for v in outs:
                if v in new_of:
                    live[v] = {("new", i) for i in new_of[v]} | {
                        ("through", s) for kind, r in local[v] if kind == "y"
                        for s in live[self.cuts[r].y]
                    }  # fmt: skip
        self.cuts = cuts

        def sources(v: Any, table: dict[Any, set]) -> set:
            return set() if isinstance(v, Literal) else table.get(v, set())

        n = len(self.states)
        from_state = [sources(v, local) if i in floats else set()
                      for i, v in enumerate(self.new_vars)]  # fmt: skip
        self.edges = [sorted(k for kind, k in s if kind == "h") for s in from_state]
        self.enters = [sorted(k for kind, k in s if kind == "y") for s in from_state]
        seen = set().union(*(sources(v, live) for v in self.out_vars))
        seen_of = {_origin(s) for s in seen}
        useful = {k for kind, k in seen_of if kind == "new"}
        useful = _closure(useful, lambda b: self.edges[b])
        onward = {("y", r) for c in cuts for p in c.pieces
                  for kind, r in sources(p.var, live) if kind == "y"}  # fmt: skip
        onward |= {s for s in seen if s[0] == "y"}
        targets: list[list[int]] = [[] for _ in range(n)]
        for b in range(n):
            for a in self.edges[b]:
                targets[a].append(b)
        finished = []
        for r, cut in enumerate(cuts):
            if not cut.trained:
                finished.append(cut)
                continue
            first = {b for b in range(n) if r in self.enters[b]}
            reach = _closure(first, lambda a: targets[a])
            reach = reach if self.windowed else reach & useful
            direct = ("y", r) in onward
            if not reach and not direct:
                raise UsageError(
                    f"--backend snnlab cannot train parameter {cut.trained[0]}: nothing that its "
                    "map drives reaches the output within a step; use --method bptt --backend plain"
                )
            finished.append(dataclasses.replace(cut, reach=tuple(sorted(reach)), direct=direct))
        self.cuts = finished
        unused = set(self.param_names) - {name for cut in finished for name in cut.trained}
        if unused:
            raise UsageError(
                f"--backend snnlab cannot train parameter {min(unused)}: the step does not use it"
            )
        self.trace_states = sorted({b for cut in finished for b in cut.reach})
        self.float_states = sorted(floats)
        self._local = local

    def trained_pieces(self) -> list[tuple[int, int]]:
        """``(cut, piece)`` of the trained cuts."""
        return [
            (r, k) for r, cut in enumerate(self.cuts) if cut.trained
            for k in range(len(cut.pieces))
        ]  # fmt: skip

    def post(self, r: int, *pieces: int) -> jax.Array | None:
        """Targets ``(i, k)`` of the rows of some pieces of a cut; ``None`` for a dense map.

        The same array every time, so that a program holds it once.
        """
        cut = self.cuts[r]
        if cut.post is None:
            return None
        if (r, pieces) not in self._posts:
            chosen = [cut.pieces[k] for k in pieces]
            rows = np.concatenate([np.arange(p.start, p.start + p.size) for p in chosen])
            with jax.ensure_compile_time_eval():
                self._posts[r, pieces] = jnp.asarray(np.asarray(cut.post)[rows])
        return self._posts[r, pieces]

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
        """Sets of (old states, cuts) of which no two enter the same new state.

        One tangent of ones for a whole set gives the Jacobian blocks of all its members.
        """
        sources: list[tuple[str, int, set[int]]] = []
        for a in self.trace_states:
            sources.append(("h", a, {b for b in self.trace_states if a in self.edges[b]}))
        for r, cut in enumerate(self.cuts):
            if cut.reach:
                sources.append(("y", r, {b for b in self.trace_states if r in self.enters[b]}))
        sets: list[tuple[set[int], set[int], set[int]]] = []
        for kind, k, into in sources:
            free = next((s for s in sets if not s[2] & into), None)
            if free is None:
                free = (set(), set(), set())
                sets.append(free)
            free[0 if kind == "h" else 1].add(k)
            free[2].update(into)
        return [(states, cuts) for states, cuts, _ in sets]

    def reaches(self) -> list[tuple[int, int]]:
        """Pairs ``(b, a)`` of traced states: ``a`` enters ``b``, at once or later (or is it)."""
        pairs = []
        for a in self.trace_states:
            after = _closure({a}, lambda c: [b for b in self.trace_states if c in self.edges[b]])
            pairs += [(b, a) for b in sorted(after)]
        return pairs

    def cut_index(self, eqn: Any) -> int | None:
        return self._cut_of.get(id(eqn))


def _is_sparse(eqn: Any) -> bool:
    return eqn.params.get("name") == PRODUCT


def _is_map(eqn: Any, is_dynamic: Callable[[Any], bool]) -> bool:
    """``x (B, i) @ w (i, n)``, dense or sparse, with ``x`` dynamic and ``w`` not."""
    if _is_sparse(eqn):
        x, *fixed = eqn.invars
        return is_dynamic(x) and not any(is_dynamic(v) for v in fixed)
    if eqn.primitive.name != "dot_general" or any(isinstance(v, Literal) for v in eqn.invars):
        return False
    x, w = eqn.invars
    (contract, batched) = eqn.params["dimension_numbers"]
    return (
        x.aval.ndim == 2 and w.aval.ndim == 2 and is_dynamic(x) and not is_dynamic(w)
        and tuple(map(tuple, contract)) == ((1,), (0,)) and not batched[0] and not batched[1]
        and np.issubdtype(eqn.outvars[0].aval.dtype, np.floating)
    )  # fmt: skip


def _closure(start: set[int], following: Callable[[int], Iterable[int]]) -> set[int]:
    found, todo = set(start), list(start)
    while todo:
        for k in following(todo.pop()):
            if k not in found:
                found.add(k)
                todo.append(k)
    return found


def _origin(source: tuple) -> tuple:
    while source[0] == "through":
        source = source[1]
    return source
