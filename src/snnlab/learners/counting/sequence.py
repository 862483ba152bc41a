"""Counts of a network that runs whole sequences, layer after layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnlab.learners.counting.base import (
    Activity,
    Connection,
    Counts,
    connecting,
    counts,
    fan_out,
    of_layers,
    operations,
    total,
    zeros,
)
from snnlab.learners.graph import jaxprs


def counted_sequence(
    fun: Callable[[Any, jax.Array], Any], fixed: Any, xs: jax.Array, real: jax.Array,
    wanted: jax.Array,
) -> tuple[Any, Counts, tuple[str, ...]]:  # fmt: skip
    """A function of a whole sequence, and what it took.

    The function is evaluated equation by equation; beside each product with a weight its inputs
    are counted, in a loop over steps in every step.

    Args:
        fun: of what does not evolve (parameters) and the input, to a StepOutput ``(T, B, n)``.
        fixed, xs: its arguments, ``xs (T, B, n_in)``.
        real: ``(B,)``, 0 for padding, else 1.
        wanted: whether to count; otherwise the counts are 0.

    Returns:
        What the function returns, the counts, and names of operations that connect neurons in a
        form that is not known here.
    """
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(fixed, xs)
    args = jax.tree.leaves((fixed, xs))
    taps = _Taps(real, wanted)
    flat, _, tapped = taps.through(
        closed.jaxpr, closed.consts, args, [False] * (len(args) - 1) + [True]
    )
    out = jax.tree.unflatten(jax.tree.structure(shape), flat)
    rest = tuple(jnp.full(v.shape[1:], jnp.nan, v.dtype) for v in out.membrane)

    def layers() -> list[jax.Array]:
        return [total(rows, real) for rows in of_layers(out.spikes, out.membrane, rest)]

    of_maps = [jnp.stack([t.parts[:, k] for t in tapped], axis=1) for k in (0, 1)]
    made = tuple(Connection(t.fan_out, jnp.int32(t.n_out), jnp.int32(t.times)) for t in tapped)
    found = counts(made, Activity(*of_maps, *taps.if_wanted(layers)), out.spikes, real)
    return out, found, tuple(dict.fromkeys(taps.unknown))


class _Tapped(NamedTuple):
    """What a connection did in a program; ``parts (4, 2)``: ACs and MACs."""

    parts: jax.Array
    fan_out: jax.Array
    n_out: int
    times: int


class _Taps:
    """Evaluates programs with counts at their connections."""

    def __init__(self, real: jax.Array, wanted: jax.Array) -> None:
        self.real, self.wanted = real, wanted
        self.unknown: list[str] = []

    def if_wanted(self, fun: Callable[[], Any]) -> Any:
        return jax.lax.cond(self.wanted, fun, lambda: zeros(fun))

    def through(
        self, jaxpr: Any, consts: Any, args: Any, moving: list[bool]
    ) -> tuple[list[Any], list[bool], list[_Tapped]]:
        """Results of a program, which of them evolve, and what its connections did."""
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        evolves = {v for v, mark in zip(jaxpr.invars, moving, strict=True) if mark}
        tapped: list[_Tapped] = []
        for eqn in jaxpr.eqns:
            values = [jaxprs.read(env, v) for v in eqn.invars]
            marks = [not jaxprs.is_literal(v) and v in evolves for v in eqn.invars]
            body = eqn.params.get(jaxprs.CALLS.get(eqn.primitive.name, ""))
            ends = [any(marks)] * len(eqn.outvars)
            if body is not None:
                inner, held = getattr(body, "jaxpr", body), getattr(body, "consts", ())
                out, ends, more = self.through(inner, held, values, marks)
            elif eqn.primitive.name == "scan" and connecting(eqn):
                out, ends, more = self._scan(eqn, values, marks)
            else:
                out, more = jaxprs.bind(eqn, values), []
                if any(marks) and connecting(eqn):
                    if _is_connection(eqn, marks):
                        more = [self._tap(*values)]
                    else:
                        self.unknown += connecting(eqn)
            tapped += more
            env.update(zip(eqn.outvars, out, strict=True))
            evolves |= {v for v, mark in zip(eqn.outvars, ends, strict=True) if mark}
        ends = [not jaxprs.is_literal(v) and v in evolves for v in jaxpr.outvars]
        return [jaxprs.read(env, v) for v in jaxpr.outvars], ends, tapped

    def _tap(self, x: jax.Array, w: jax.Array) -> _Tapped:
        copies = x.shape[-2] // self.real.shape[0]  # two, of a bidirectional layer
        real = jnp.tile(self.real, copies)

        def count() -> Any:
            fan = fan_out(w)
            return total(operations(x, fan), real), fan

        parts, fan = self.if_wanted(count)
        return _Tapped(parts, fan, w.shape[1], copies * math.prod(x.shape[:-2]))

    def _scan(self, eqn: Any, values: list[Any], marks: list[bool]) -> Any:
        """A loop over steps, with counts beside what it makes. What it carries evolves."""
        p, steps = eqn.params, eqn.params["length"]
        first, behind = p["num_consts"], p["num_consts"] + p["num_carry"]
        moving = [*marks[:first], *[True] * (len(values) - first)]
        kept: list[_Tapped] = []

        def body(carry: Any, each: Any) -> Any:
            args = [*values[:first], *carry, *each]
            out, _, kept[:] = self.through(p["jaxpr"].jaxpr, p["jaxpr"].consts, args, moving)
            n = behind - first
            return out[:n], (out[n:], [(t.parts, t.fan_out) for t in kept])

        end, (made, counted) = jax.lax.scan(
            body, values[first:behind], values[behind:], length=steps, reverse=p["reverse"]
        )
        tapped = [
            _Tapped(parts.sum(0), fan[0], t.n_out, t.times * steps)
            for (parts, fan), t in zip(counted, kept, strict=True)
        ]
        return [*end, *made], [True] * len(eqn.outvars), tapped


def _is_connection(eqn: Any, marks: list[bool]) -> bool:
    """Whether an equation is ``x (..., B, i) @ w (i, n)`` with a ``w`` that does not evolve."""
    if eqn.primitive.name != jaxprs.PRODUCT or marks != [True, False]:
        return False
    x, w = eqn.invars
    contract, batched = eqn.params["dimension_numbers"]
    last = x.aval.ndim - 1
    return (
        last >= 1 and w.aval.ndim == 2 and not batched[0] and not batched[1]
        and tuple(map(tuple, contract)) == ((last,), (0,))
    )  # fmt: skip
