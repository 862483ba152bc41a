"""RTRL: the exact gradient, forward in time. For small networks: the oracle of all rules.

    J_t = (dh_t/dh_{t-1}) J_{t-1} + dh_t/dtheta ,    dL_t/dtheta = (dL_t/dh_{t-1}) J_{t-1} + direct

with all states ``h`` of the network. Updates at every step use the influence of older parameters.

Memory: B numbers for every parameter and state of the network.

Source: Williams & Zipser 1989 (Neural Comput. 1:270).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.devices import require_memory
from snnlab.learners.base import Learner, add, at_rest
from snnlab.learners.functional import Params
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.whole_step import ForwardMode, NewH, WholeStep


class RTRL(ForwardMode):
    """Remembers J by parameter, ``(B, N, *parameter)``."""

    def __init__(self, of: Request) -> None:
        shape = WholeStep(of.net).start.shape
        params = of.net.params()
        size = 4.0 * shape[0] * shape[1] * sum(p.size for p in params.values())
        require_memory(size, "the influence of all parameters on all states (--method rtrl)")
        super().__init__(of, {name: at_rest((*shape, *p.shape)) for name, p in params.items()})

    def through(self, memory: Params, h_bar: jax.Array) -> Params:
        return {n: jnp.einsum("bm,bm...->...", h_bar, j) for n, j in memory.items()}

    def advance(self, memory: Any, new_h: NewH, params: Params, h: jax.Array, x: jax.Array) -> Any:
        by_params, by_h = jax.vmap(jax.jacrev(new_h, (0, 1)), (None, 0, 0))(params, h, x)
        return add(
            {n: jnp.einsum("bmk,bk...->bm...", by_h, j) for n, j in memory.items()}, by_params
        )


def make(of: Request) -> Learner:
    return RTRL(of)
