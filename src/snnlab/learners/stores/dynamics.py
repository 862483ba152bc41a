"""The recursion of eligibility traces within a chunk, and the learning signal against it.

Notation of the chunk ``t0+1 .. t0+K``: old state ``a``, new state ``b``, relation ``r``;
``D[b, a]``, ``f[b, r]``, ``d[b]`` are ``(K, B, n)``. Per neuron a sum over states is a product of
small matrices, written out over the blocks that are not zero by structure.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.graph.derivatives import Blocks, ByState
from snnlab.learners.graph.evaluate import ByRelation
from snnlab.learners.graph.step import StepGraph


@dataclasses.dataclass
class Dynamics:
    """``e_t = D_t e_{t-1} + x_t f_t``: what a rule takes for the states' own dynamics.

    Attributes:
        reach: by relation, the states that have a trace of it.
        state_jacobian: D by (new, old) state, ``(K, B, n)`` or ``(B, n)``.
        drive_jacobian: f by (state, relation).
        shapes: of the states, ``(B, n)``.
    """

    reach: dict[int, tuple[int, ...]]
    state_jacobian: Blocks
    drive_jacobian: Blocks
    shapes: dict[int, tuple[int, ...]]

    @property
    def states(self) -> list[int]:
        return list(self.shapes)

    def pairs(self) -> list[tuple[int, int]]:
        """``(b, a)``: state ``a`` enters ``b``, at once or later (or is it)."""
        return pairs(self.states, self.state_jacobian)

    def times(self, p: Blocks, q: Blocks, key: tuple[int, int], like: jax.Array) -> jax.Array:
        """Block ``key`` of the product of two matrices of each neuron."""
        b, a = key
        terms = [p[b, c] * q[c, a] for c in self.states if (b, c) in p and (c, a) in q]
        return total(terms, like)

    def identity(self) -> Blocks:
        return {(b, a): jnp.full(self.shapes[b], float(a == b)) for b, a in self.pairs()}


def of_step(graph: StepGraph, state_jacobian: Blocks, drive_jacobian: Blocks) -> Dynamics:
    """The network's own: blocks of states that have a trace."""
    return Dynamics(
        {r: one.reach for r, one in enumerate(graph.relations) if one.reach},
        {(b, a): v for (b, a), v in state_jacobian.items() if a in graph.trace_states},
        drive_jacobian,
        {b: graph.state_vars[b].aval.shape for b in graph.trace_states},
    )


def filtered(
    of: Dynamics, graph: StepGraph, observations: tuple[Blocks, Blocks], kappa: jax.Array | float
) -> Dynamics:
    """``of`` with a state more for each layer, its filtered spikes: ``z_t = kappa z_{t-1} + s_t``.

    Args:
        of: the recursion of the states.
        graph: the cut step; a layer's filter is numbered behind its states.
        observations: ``ds/dh`` by (layer, state), and ``ds/dy`` past states by (layer, relation).
        kappa: decay of the filter.
    """
    first = len(graph.states)
    state_jacobian, drive_jacobian = dict(of.state_jacobian), dict(of.drive_jacobian)
    reach, shapes = dict(of.reach), dict(of.shapes)
    for layer, spikes in enumerate(graph.out.spikes):
        z = first + layer
        seen, past = ({i: v for (k, i), v in one.items() if k == layer} for one in observations)
        if not seen and not past:
            continue
        shapes[z] = spikes.aval.shape
        state_jacobian[z, z] = jnp.full(shapes[z], kappa, jnp.float32)
        for source, target in (
            (of.state_jacobian, state_jacobian), (of.drive_jacobian, drive_jacobian),
        ):  # fmt: skip
            for a in {a for b, a in source if b in seen}:
                terms = [v * source[b, a] for b, v in seen.items() if (b, a) in source]
                target[z, a] = functools.reduce(jnp.add, terms)
        for r, value in past.items():
            known = drive_jacobian.get((z, r))
            drive_jacobian[z, r] = value if known is None else known + value
        mine = [r for r in {*reach, *past} if graph.layer_of(r) == layer]
        reach.update({r: (*reach.get(r, ()), z) for r in mine})
    return Dynamics(reach, state_jacobian, drive_jacobian, shapes)


def pairs(states: list[int], edges: Any) -> list[tuple[int, int]]:
    """``(b, a)`` for every state ``b`` that ``a`` leads to along ``edges``, itself included."""
    found = []
    for a in states:
        after, todo = {a}, [a]
        while todo:
            c = todo.pop()
            new = [b for b in states if (b, c) in edges and b not in after]
            after.update(new)
            todo += new
        found += [(b, a) for b in sorted(after)]
    return found


def total(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    """Sum of arrays; for none, zeros like ``like``."""
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)


def over_steps(
    body: Callable[..., tuple[Any, Any]],
    carry: Any,
    length: int,
    blocks: tuple[Blocks, ...],
    signals: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """``jax.lax.scan`` over the steps of a chunk.

    Args:
        body: (carry, signals of the step, blocks of the step ...) -> (carry, result).
        carry: at its start.
        length: K.
        blocks: those that are the same at every step are not scanned over.
        signals: arrays ``(K, B, n)``.
        reverse: from the last step to the first.
    """
    moving = tuple({k: v for k, v in b.items() if v.ndim == 3} for b in blocks)

    def step(carry: Any, xs: Any) -> Any:
        signals, now = xs
        return body(carry, signals, *({**b, **m} for b, m in zip(blocks, now, strict=True)))

    return jax.lax.scan(step, carry, (signals, moving), length=length, reverse=reverse)


def plus(a: ByRelation, b: ByRelation) -> ByRelation:
    """The sum, relation by relation, where one may be in one of them only."""
    both = {r: a[r] + b[r] for r in a if r in b}
    return {**a, **b, **both}


def backward(of: Dynamics, d: ByState) -> tuple[ByState, ByRelation]:
    """Learning signals carried back through the chunk along the diagonal.

    ``l_t = d_t + D_{t+1}^T l_{t+1}``; returns ``c = D_{t0+1}^T l_{t0+1}`` by state ``(B, n)``
    and ``dL/dy_t = f_t . l_t`` by relation ``(K, B, n)``.
    """

    def body(carried: Any, d: Any, jacobian: Any) -> Any:
        signal = {b: d[b] + carried[b] for b in d}
        carried = {
            a: total([jacobian[b, a] * signal[b] for b in d if (b, a) in jacobian], like=signal[a])
            for a in d
        }
        return carried, signal

    nothing = {b: jnp.zeros_like(value[0]) for b, value in d.items()}
    length = next(iter(d.values())).shape[0]
    blocks = (of.state_jacobian,)
    carried, signal = over_steps(body, nothing, length, blocks, d, reverse=True)
    return carried, through_drives(of, signal)


def through_drives(of: Dynamics, signal: ByState, f: Blocks | None = None) -> ByRelation:
    """``f_t . l_t``: the adjoint of each drive; ``f`` in the place of the drives' Jacobian."""
    blocks = of.drive_jacobian if f is None else f
    found = {
        r: [blocks[b, r] * signal[b] for b in of.states if b in signal and (b, r) in blocks]
        for r in of.reach
    }
    return {r: functools.reduce(jnp.add, terms) for r, terms in found.items() if terms}


def propagators(of: Dynamics, length: int) -> tuple[Blocks, Blocks]:
    """What a chunk of ``length`` steps does to traces.

    ``P_s = D_{t0+K} ... D_{s+1}``; returns ``P_{t0}`` by (new, old) state ``(B, n)`` and
    ``P_s f_s`` by (state, relation) ``(K, B, n)``.
    """
    entries = [(b, r) for r, reach in of.reach.items() for b in reach]

    def body(p: Any, _: Any, jacobian: Any, f: Any) -> Any:
        enter = {(b, r): of.times(p, f, (b, r), like=p[b, b]) for b, r in entries}
        return {key: of.times(p, jacobian, key, like=p[key]) for key in p}, enter

    blocks = of.state_jacobian, of.drive_jacobian
    return over_steps(body, of.identity(), length, blocks, reverse=True)
