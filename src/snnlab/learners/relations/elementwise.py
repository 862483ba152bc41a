"""A parameter of each neuron: bias, time constant, threshold, strength of adaptation, gain.

It enters the step by itself, through elementwise operations: the drive is its value, the same for
all samples, and what it does to the states of its neuron is followed exactly. A trace is ``(B,
n)``, cheaper than that of any map: ES-D-RTRL and OTTT, which approximate those, keep it as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.relations.base import Relation
from snnlab.learners.relations.inputs import Input


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Relation):
    """``y = theta``: one number for all neurons, or one for each, as ``(1, n)`` or ``(B, n)``.

    Attributes:
        through: the first operation that takes it.
        several: whether it takes part in operations of different shapes.
    """

    through: str = ""
    several: bool = False

    @property
    def is_local(self) -> bool:
        """Whether there is a value for each neuron ``(B, n)``."""
        if self.several or len(self.shape) != 2 or self.w.aval.ndim > 2:
            return False
        wide = self.w.aval.shape
        return all(k in (1, n) for k, n in zip(wide[::-1], self.shape[::-1], strict=False))

    def value(self, theta: jax.Array) -> jax.Array:
        """The drive ``(B, n)``."""
        return jnp.broadcast_to(theta, self.shape)

    def trace_shape(self, k: int) -> tuple[int, ...]:
        return self.shape

    def rows(self, values: jax.Array, k: int) -> jax.Array:
        return values

    def times(self, x: Input, rows: Any) -> jax.Array:
        raise TypeError("an elementwise relation multiplies nothing")

    def turned(self, rows: jax.Array, once: bool) -> jax.Array:
        return rows

    def back(self, g: jax.Array, turned: Any) -> jax.Array:
        raise TypeError("an elementwise relation multiplies nothing")

    def outer(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        return self.over_samples(g.sum(0))

    def outer_by_sample(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        return g.sum(0)

    def spread(self, v: jax.Array, k: int) -> jax.Array:
        return v

    def over_samples(self, share: jax.Array) -> jax.Array:
        # theta has a row for each sample already, one row for all, or one number
        if share.shape == self.w.aval.shape:
            return share
        wide = (1,) * (2 - self.w.aval.ndim) + self.w.aval.shape
        axes = tuple(k for k, size in enumerate(wide) if size != self.shape[k])
        return share.sum(axes, keepdims=True).reshape(self.w.aval.shape)

    def join(self, parts: dict[int, jax.Array]) -> jax.Array:
        return parts[0]
