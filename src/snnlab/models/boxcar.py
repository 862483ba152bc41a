"""The boxcar surrogate."""

from __future__ import annotations

import brainstate
import braintools
import jax
import jax.numpy as jnp


class Boxcar(braintools.surrogate.Surrogate):
    """Derivative 1 for -0.5 < x <= 0.5, else 0 (Bittar & Garner 2022, eq. 6: half-width 0.5)."""

    def surrogate_fun(self, x: jax.Array) -> jax.Array:
        return jnp.clip(x + 0.5, 0.0, 1.0)

    def surrogate_grad(self, x: jax.Array) -> jax.Array:
        inside = jnp.logical_and(x > -0.5, x <= 0.5)
        return inside.astype(brainstate.environ.dftype())
