"""Fewer bits: fixed-point numbers, and even levels from the smallest to the largest value.

Rounding has the derivative of the identity here ("straight through", Bengio et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.models.options import FixedPoint


def straight_through(x: jax.Array, changed: jax.Array) -> jax.Array:
    """``changed``, with the derivative 1 with respect to ``x``."""
    return x + jax.lax.stop_gradient(changed - x)


def fixed_point(kind: FixedPoint) -> Callable[[jax.Array], jax.Array]:
    """Rounding to a fixed-point format."""
    low, high = kind.limits

    def quantize(x: jax.Array) -> jax.Array:
        return straight_through(x, jnp.clip(jnp.round(x / kind.step) * kind.step, low, high))

    return quantize


def to_levels(x: jax.Array, low: jax.Array, high: jax.Array, bits: int) -> jax.Array:
    """``x``, any shape, at the nearest of ``2**bits`` even levels from ``low`` to ``high``.

    0 is one of them: the range is widened to hold it, and shifted by less than a level. The
    numbers are those of torch's ``MinMaxObserver`` and per-tensor affine quantisation.
    """
    low, high, top = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0), 2.0**bits - 1
    scale = jnp.maximum((high - low) / top, jnp.finfo(jnp.float32).eps)
    zero = jnp.clip(-jnp.round(low / scale), 0, top)
    return (jnp.clip(jnp.round(x / scale + zero), 0, top) - zero) * scale


def affine(bits: int) -> Callable[[jax.Array], jax.Array]:
    """Rounding of an array to levels between its own smallest and largest value."""

    def quantize(x: jax.Array) -> jax.Array:
        still = jax.lax.stop_gradient(x)
        return straight_through(x, to_levels(still, still.min(), still.max(), bits))

    return quantize


class DriveLevels(brainstate.nn.Module):
    """The drive of a batch's sequences at levels between its smallest and largest value.

    Samples that do not count (padding) do not widen the range; on several devices the batch is
    that of all of them.

    Args:
        bits: the levels are ``2**bits``.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def update(self, xs: jax.Array, weight: jax.Array | None) -> jax.Array:
        """``(T, B, n)``; ``weight (B,)`` is 1, or 0 for samples that do not count."""
        if weight is None:
            raise ValueError("levels between the extremes of a batch need whole sequences")
        still = jax.lax.stop_gradient(jnp.where(weight[:, None] > 0, xs, 0.0))
        low = -sharding.largest((-still).max())
        high = sharding.largest(still.max())
        return straight_through(xs, to_levels(jax.lax.stop_gradient(xs), low, high, self.bits))
