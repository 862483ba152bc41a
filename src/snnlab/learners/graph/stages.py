"""A step's equations in the order of a chunk: layer after layer instead of step after step.

A scan over steps needs what feeds back: a layer's states and its own spikes. Whatever lies between
two layers can be done for all steps of a chunk at once, above all the products with the weights
onto the next layer. What feeds back is found in the cut step: equations and states are nodes, a
state follows the equation of its new value, and nodes that reach each other are one *recurrence*
(a strongly connected component). Recurrences that act on each other past no map (a synapse's
current, and the membrane that it drives) are joined. Where everything feeds back there is one, and
nothing is gained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from snnlab.learners.graph.jaxprs import closure, variables
from snnlab.learners.graph.step import StepGraph


@dataclasses.dataclass(frozen=True)
class Local:
    """Equations without a map, of all steps at once.

    Attributes:
        eqns: in the order of the step.
        reads: variables of other stages and inputs of the step that they take.
        makes: what other stages need of them.
    """

    eqns: tuple[Any, ...]
    reads: tuple[Any, ...]
    makes: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Product:
    """A map whose input does not depend on its output, for all steps at once."""

    relation: int


@dataclasses.dataclass(frozen=True)
class Delay:
    """A state whose new value does not depend on it."""

    state: int


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """States that depend on themselves, step after step.

    Attributes:
        states: by number.
        eqns: of the step, maps included.
        inner: of each map among them, the blocks that the recurrence makes itself.
        outer: of each, the evolving blocks that other stages have made.
        reads: variables of other stages and inputs of the step that equations take, without
            blocks of maps.
        values: relations that are no maps, and enter.
        before, after: states that other stages see as they are before a step, and after it.
        drives: maps whose drive other stages see.
    """

    states: tuple[int, ...]
    eqns: tuple[Any, ...]
    inner: dict[int, tuple[int, ...]]
    outer: dict[int, tuple[int, ...]]
    reads: tuple[Any, ...]
    values: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    drives: tuple[int, ...]


Stage = Local | Product | Delay | Recurrence


def stages(graph: StepGraph) -> list[Stage]:
    """The stages of a step, each after those that it needs."""
    return _Nodes(graph).stages()


def gains(found: list[Stage]) -> bool:
    """Whether a product can be made for all steps at once."""
    outer = any(ks for s in found if isinstance(s, Recurrence) for ks in s.outer.values())
    return outer or any(isinstance(s, Product) for s in found)


class _Nodes:
    """Equations ``0 .. E - 1`` of a step and its states ``E .. E + S - 1``.

    Attributes:
        made_by: the node of a variable (of an old state: the state's).
        sources: nodes that a node takes something from.
        group: of each node its recurrence, a number; -1: it is in none.
    """

    def __init__(self, graph: StepGraph) -> None:
        self.graph, self.eqns = graph, graph.state_eqns
        self.first = len(self.eqns)
        self.count = self.first + len(graph.states)
        self.made_by = {v: k for k, eqn in enumerate(self.eqns) for v in eqn.outvars}
        self.made_by |= {v: self.first + i for i, v in enumerate(graph.state_vars)}
        self.varying = {*self.made_by, *graph.step_inputs}
        self.sources = [
            {self.made_by[v] for v in self.used(k) if v in self.made_by} for k in range(self.count)
        ]
        self.group = self._grouped()
        self.members: dict[int, list[int]] = {}
        for k, g in enumerate(self.group):
            self.members.setdefault(g, []).append(k)

    def relation(self, node: int) -> int | None:
        return self.graph.relation_of(self.eqns[node]) if node < self.first else None

    def used(self, node: int) -> list[Any]:
        """Variables that a node takes; of a map, blocks that evolve."""
        if node >= self.first:
            return variables([self.graph.new_vars[node - self.first]])
        r = self.relation(node)
        if r is None:
            return variables(self.eqns[node].invars)
        return [p.var for p in self.graph.relations[r].blocks if p.evolves]

    # ------------------------------------------------------------------ recurrences

    def _grouped(self) -> list[int]:
        pairs = [(a, b) for b in range(self.count) for a in self.sources[b]]
        part = self._components(pairs, "strong")
        sizes = np.bincount(part)
        cyclic = {k for k in range(self.count) if sizes[part[k]] > 1 or k in self.sources[k]}
        level = self._levels(pairs, part)
        near = [
            (a, b) for a, b in pairs
            if part[a] == part[b] or (level[a] == level[b] and self.relation(b) is None)
        ]  # fmt: skip
        from_: dict[int, list[int]] = {}
        to: dict[int, list[int]] = {}
        for a, b in near:
            from_.setdefault(b, []).append(a)
            to.setdefault(a, []).append(b)
        inside = closure(cyclic, lambda k: to.get(k, ()))
        inside &= closure(cyclic, lambda k: from_.get(k, ()))
        joined = self._components([p for p in near if inside.issuperset(p)], "weak")
        return [int(joined[k]) if k in inside else -1 for k in range(self.count)]

    def _components(self, pairs: list[tuple[int, int]], connection: str) -> np.ndarray:
        ends = np.asarray(pairs, int).reshape(-1, 2).T
        there = coo_array((np.ones(len(pairs)), (*ends,)), shape=(self.count, self.count))
        found: np.ndarray = connected_components(there, connection=connection)[1]
        return found

    def _levels(self, pairs: list[tuple[int, int]], part: np.ndarray) -> np.ndarray:
        """By node, the largest number of maps on a way to it, without those of recurrences."""
        level = np.zeros(self.count, int)
        between = [(a, b, self.relation(b) is not None) for a, b in pairs if part[a] != part[b]]
        while True:
            raised = level.copy()
            for a, b, is_map in between:
                raised[b] = max(raised[b], raised[a] + is_map)
            highest = np.zeros(self.count, int)
            np.maximum.at(highest, part, raised)
            if np.array_equal(highest[part], level):
                return level
            level = highest[part]

    # ------------------------------------------------------------------ their order

    def stages(self) -> list[Stage]:
        self._see()
        found: list[Stage] = []
        done: set[int] = set()

        def ready(node: int) -> bool:
            return node not in done and self.sources[node] <= done

        alone, groups = self.members.get(-1, []), dict(self.members)
        groups.pop(-1, None)
        while len(done) < self.count:
            some = []
            for k in alone:  # in the order of the step
                if ready(k) and k < self.first and self.relation(k) is None:
                    some.append(k)
                    done.add(k)
            if some:
                found += self._local([self.eqns[k] for k in some])
                continue
            if some := [k for k in alone if ready(k)]:
                for k in some:
                    r = self.relation(k)
                    found.append(Delay(k - self.first) if r is None else Product(r))
                done.update(some)
                continue
            for g, nodes in list(groups.items()):
                if set().union(*(self.sources[k] for k in nodes)) <= done.union(nodes):
                    found += [self._recurrence(g), *self._local(self.again[g])]
                    done.update(groups.pop(g))
        needed = self._needed(found)
        return [
            dataclasses.replace(s, makes=tuple(v for v in s.makes if v in needed))
            if isinstance(s, Local) else s for s in found
        ]  # fmt: skip

    def _needed(self, found: list[Stage]) -> set[Any]:
        """Variables that a stage takes of another, or the outside."""
        needed = set(variables(self.graph.out_vars))
        for stage in found:
            match stage:
                case Local() | Recurrence():
                    needed.update(stage.reads)
                case Delay(i):
                    needed.update(self.used(self.first + i))
        blocks = [p for one in self.graph.relations for p in one.blocks if p.evolves]
        return needed | {p.var for p in blocks}

    def _see(self) -> None:
        """``self.seen``: variables that another stage, or the outside, sees; ``self.again``: of
        each recurrence the equations that are repeated after it to make them, from its states
        and drives."""
        self.seen = set(variables(self.graph.out_vars))
        for k in range(self.count):
            g = self.group[k]
            there = {v: self.group[self.made_by[v]] for v in self.used(k) if v in self.made_by}
            self.seen.update(v for v, of in there.items() if g < 0 or of != g)
        self.again: dict[int, list[Any]] = {}
        for g in self.members.keys() - {-1}:

            def unknown(used: Iterable[Any], g: int = g) -> set[int]:
                there = {v for v in used if v in self.made_by and not self._known(v)}
                return {self.made_by[v] for v in there if self.group[self.made_by[v]] == g}

            def before(k: int, find: Callable[..., set[int]] = unknown) -> set[int]:
                return find(self.used(k))

            nodes = closure(unknown(self.seen), before)
            self.again[g] = [self.eqns[k] for k in sorted(nodes)]
            self.seen.update(v for k in nodes for v in self.used(k))

    def _known(self, v: Any) -> bool:
        """Whether a recurrence leaves a variable of its own behind: old states, drives, and new
        states unless they are rounded."""
        node = self.made_by[v]
        if node >= self.first or self.relation(node) is not None:
            return True
        news = enumerate(self.graph.new_vars)
        kept = any(v is new and self.group[self.first + i] == self.group[node] for i, new in news)
        return kept and self.graph.state_dtype is None

    def _local(self, eqns: list[Any]) -> list[Local]:
        made = {v for eqn in eqns for v in eqn.outvars}
        reads = {v: None for eqn in eqns for v in variables(eqn.invars) if v in self.varying - made}
        makes = tuple(v for eqn in eqns for v in eqn.outvars if v in self.seen)
        return [Local(tuple(eqns), tuple(reads), makes)] if makes else []

    def _recurrence(self, g: int) -> Recurrence:
        graph, nodes = self.graph, self.members[g]
        states = [k - self.first for k in nodes if k >= self.first]
        eqns = [self.eqns[k] for k in nodes if k < self.first]
        maps = [r for k in nodes if (r := self.relation(k)) is not None]
        taken = [v for k in nodes if self.relation(k) is None for v in self.used(k)]
        own = {*(v for eqn in eqns for v in eqn.outvars), *(graph.state_vars[i] for i in states)}

        def blocks(r: int, mine: bool) -> tuple[int, ...]:
            every = enumerate(graph.relations[r].blocks)
            return tuple(k for k, p in every if p.evolves and (p.var in own) == mine)

        return Recurrence(
            tuple(states), tuple(eqns),
            {r: blocks(r, True) for r in maps}, {r: blocks(r, False) for r in maps},
            reads=tuple(dict.fromkeys(v for v in taken if v in self.varying - own)),
            values=tuple(r for r in graph.elementwise if graph.relations[r].y in taken),
            before=tuple(i for i in states if graph.state_vars[i] in self.seen),
            after=tuple(i for i in states if self._shown(graph.new_vars[i])),
            drives=tuple(r for r in maps if graph.relations[r].y in self.seen),
        )  # fmt: skip

    def _shown(self, new: Any) -> bool:
        return self.graph.state_dtype is None and not hasattr(new, "val") and new in self.seen
