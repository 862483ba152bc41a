"""UORO: an unbiased estimate of the exact gradient, with one pair of vectors for a sample.

    s_t = r0 (dh_t/dh_{t-1}) s_{t-1} + r1 v ,    theta_t = theta_{t-1} / r0 + v (dh_t/dtheta) / r1 ,
    dL_t/dtheta = ((dL_t/dh_{t-1}) s_{t-1}) theta_{t-1} + direct

with signs ``v`` drawn anew in every step, and r0, r1 that make both terms of a pair equally large.
Its mean over draws is RTRL's gradient, of the whole network; its variance grows with the sequence.

Memory: B (parameters + states) numbers.

Source: Tallec & Ollivier 2018 (ICLR), "Unbiased online recurrent optimization".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.learners.base import Learner, add, at_rest
from snnlab.learners.functional import Params
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.whole_step import ForwardMode, NewH, WholeStep

#: Keeps ratios of norms finite.
TINY = 1e-12


class Pair(NamedTuple):
    """``s (B, N)``, ``theta (B, *parameter)`` by parameter, and a random key by its name."""

    s: jax.Array
    theta: Params
    key: dict[str, jax.Array]


def norm(tree: Any) -> jax.Array:
    """Of each sample, over all other axes of all leaves: ``(B,)``."""
    return jnp.sqrt(sum(jnp.sum(v.reshape(v.shape[0], -1) ** 2, 1) for v in jax.tree.leaves(tree)))


def scaled(tree: Any, by: jax.Array) -> Any:
    """Each sample times its number ``by (B,)``."""
    return jax.tree.map(lambda v: v * by.reshape(-1, *[1] * (v.ndim - 1)), tree)


class UORO(ForwardMode):
    """The rank-one estimate; its key comes from that of the batch."""

    def __init__(self, of: Request) -> None:
        shape = WholeStep(of.net).start.shape
        theta = {n: at_rest((shape[0], *p.shape)) for n, p in of.net.params().items()}
        key = {"random.signs": jax.random.key_data(jax.random.key(of.seed))}
        super().__init__(of, Pair(at_rest(shape), theta, key))

    def through(self, memory: Pair, h_bar: jax.Array) -> Params:
        along = jnp.sum(h_bar * memory.s, 1)
        return {n: jnp.einsum("b,b...->...", along, v) for n, v in memory.theta.items()}

    def advance(
        self, memory: Pair, new_h: NewH, params: Params, h: jax.Array, x: jax.Array
    ) -> Pair:
        key, draw = jax.random.split(jax.random.wrap_key_data(memory.key["random.signs"]))
        v = sharding.rows(lambda shape: jax.random.rademacher(draw, shape, h.dtype), h.shape)

        def one(h: jax.Array, s: jax.Array, v: jax.Array, x: jax.Array) -> Any:
            moved = jax.jvp(lambda h: new_h(params, h, x), (h,), (s,))[1]
            return moved, jax.vjp(lambda p: new_h(p, h, x), params)[1](v)[0]

        moved, back = jax.vmap(one)(h, memory.s, v, x)
        r0 = jnp.sqrt((norm(memory.theta) + TINY) / (norm(moved) + TINY))
        r1 = jnp.sqrt((norm(back) + TINY) / (norm(v) + TINY))
        s = scaled(moved, r0) + scaled(v, r1)
        theta = add(scaled(memory.theta, 1 / r0), scaled(back, 1 / r1))
        return Pair(s, theta, {"random.signs": jax.random.key_data(key)})


def make(of: Request) -> Learner:
    return UORO(of)
