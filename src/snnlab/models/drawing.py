"""Drawing the parts that layers and readouts are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.devices import require_memory
from snnlab.models.maps import DenseMap, FixedMap, Held, Operator
from snnlab.models.neuron import Value
from snnlab.models.normalization import BatchNorm, LayerNorm
from snnlab.models.options import FixedPoint
from snnlab.models.trained import Bounded, Positive


@dataclasses.dataclass(frozen=True)
class Draw:
    """What a builder of a layer or a readout is given.

    Builders draw from ``rng``, or from brainstate's random numbers, which are seeded while they
    run; always the same numbers in the same order, whatever is fixed, trained or traced.

    Attributes:
        config: the section of the model.
        operator: how maps are traced (see :mod:`snnlab.models.maps`).
        dt_ms: length of a step.
        repeat: R, steps of each input step.
        rng: of the seed.
    """

    config: Any
    operator: Operator
    dt_ms: float
    repeat: int
    rng: np.random.Generator

    def uniform(self, low: float, high: float, *shape: int) -> jax.Array:
        require_memory(8.0 * math.prod(shape), f"an array of {' x '.join(map(str, shape))}")
        return jnp.asarray(self.rng.uniform(low, high, shape), jnp.float32)

    def orthogonal(self, n: int) -> jax.Array:
        """A random orthogonal matrix (Haar; Mezzadri 2007)."""
        require_memory(3 * 8.0 * n * n, f"a recurrent map of {n:,} neurons")
        q, r = np.linalg.qr(self.rng.standard_normal((n, n)))
        return jnp.asarray(q * np.sign(np.diag(r)), jnp.float32)

    def map(
        self, weight: jax.Array, fixed: bool = False, mask: Any = None, renewed: bool = False
    ) -> DenseMap | FixedMap:
        """A map with the config's errors and quantisation of weights."""
        change = self._change(weight.shape)
        if fixed:
            return FixedMap(weight if change is None else change(weight), renewed)
        return DenseMap(weight, self.operator, mask=mask, transform=change)

    def _change(self, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array] | None:
        c = self.config
        kind = c.format_of("quantize")
        quantize = quantizer(kind) if kind else None
        if not c.gauss:
            return quantize
        error = jnp.asarray(c.gauss * self.rng.standard_normal(shape), jnp.float32)

        def change(w: jax.Array) -> jax.Array:
            wrong = w * (1 + error) if c.gauss_mul else w + error
            return wrong if quantize is None else quantize(wrong)

        return change

    def norm(self, n: int) -> LayerNorm | BatchNorm | None:
        kinds = {"layernorm": LayerNorm, "batchnorm": BatchNorm}
        kind = kinds.get(self.config.normalization)
        return None if kind is None else kind(n)

    def adc(self) -> Callable[[jax.Array], jax.Array] | None:
        """Quantisation of the drive."""
        kind = self.config.format_of("quantize_adc")
        return quantizer(kind) if kind else None

    def values(
        self, drawn: Mapping[str, Value], fixed: bool, renewed: bool = False
    ) -> dict[str, Any]:
        """Modules of a neuron's values; ``renewed``: a refit replaces ``theta`` between epochs."""
        made: dict[str, Any] = {}
        for name, value in drawn.items():
            start = jnp.asarray(value.start)
            if name == "theta":
                trained = "V_th" in self.config.trained
                made[name] = Positive(start, start.shape) if trained else Held(start, renewed)
            else:
                made[name] = Held(start) if fixed else Bounded(start, value.limits)
        return made


def quantizer(kind: FixedPoint) -> Callable[[jax.Array], jax.Array]:
    """Rounding to a fixed-point format; the gradient passes as if it were not there."""
    low, high = kind.limits

    def quantize(x: jax.Array) -> jax.Array:
        rounded = jnp.clip(jnp.round(x / kind.step) * kind.step, low, high)
        return x + jax.lax.stop_gradient(rounded - x)

    return quantize
