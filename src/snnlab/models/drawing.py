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
from snnlab.models.dropout import DriveNoise
from snnlab.models.maps import DenseMap, FixedMap, Held, Operator
from snnlab.models.neuron import Value
from snnlab.models.normalization import BatchNorm, LayerNorm
from snnlab.models.quantization import DriveLevels, affine, fixed_point
from snnlab.models.trained import Bounded, Positive

#: What is made of a weight before it is used.
Change = Callable[[jax.Array], jax.Array]


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
        layer: number of the layer that is built.
    """

    config: Any
    operator: Operator
    dt_ms: float
    repeat: int
    rng: np.random.Generator
    layer: int = 0

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
        return self._map(weight, self._change(weight.shape), fixed, mask, renewed)

    def input_map(self, weight: jax.Array, fixed: bool = False) -> DenseMap | FixedMap:
        """That of what a spiking layer receives from below, whose weights may be kept rounded."""
        kind = self.config.format_of("quantize")
        if kind is None or self.config.quantize_as != "affine":
            return self.map(weight, fixed)
        change, rounded = self._change(weight.shape), affine(kind.bits)
        both = rounded if change is None else lambda w: change(rounded(w))
        return self._map(weight, both, fixed, rounded=rounded)

    def _map(
        self, weight: jax.Array, change: Change | None, fixed: bool, mask: Any = None,
        renewed: bool = False, rounded: Change | None = None,
    ) -> DenseMap | FixedMap:  # fmt: skip
        if fixed:
            return FixedMap(weight if change is None else change(weight), renewed)
        return DenseMap(weight, self.operator, mask=mask, transform=change, rounded=rounded)

    def _change(self, shape: tuple[int, ...]) -> Change | None:
        c = self.config
        kind = c.format_of("quantize") if c.quantize_as == "fixed-point" else None
        quantize = fixed_point(kind) if kind else None
        if not c.gauss or c.gauss_on == "drive":
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

    def noise(self) -> DriveNoise | None:
        """Noise of the feed-forward drive of a spiking layer."""
        c = self.config
        noisy = c.gauss and c.gauss_on == "drive"
        return DriveNoise(c.gauss, c.gauss_mul, self.layer) if noisy else None

    def levels(self) -> DriveLevels | None:
        """Quantisation of the feed-forward drive, between its extremes in a batch."""
        c = self.config
        kind = c.format_of("quantize_adc") if c.quantize_as == "affine" else None
        return DriveLevels(kind.bits) if kind else None

    def adc(self) -> Change | None:
        """Quantisation of the whole drive, in fixed point."""
        c = self.config
        kind = c.format_of("quantize_adc") if c.quantize_as == "fixed-point" else None
        return fixed_point(kind) if kind else None

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
