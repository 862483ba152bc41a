"""What a network draws while it runs: dropout of a layer's outputs, noise of its drive."""

from __future__ import annotations

import brainstate
import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.models.quantization import straight_through

#: Where the streams of random numbers of drives begin; those of dropout are below.
DRIVES = 1 << 16


class RandomKey(brainstate.ShortTermState):
    """Key data (uint32) that a learner replaces for every sequence; see ``Learner.fresh``.

    In a network for one of several shards the number of the shard stands behind it.
    """


class Drawn(brainstate.nn.Module):
    """A function of a step's ``(B, n)`` and of random numbers.

    Every step, sample and neuron has numbers of its own. They are a function of the key, the
    stream and the step, hence the same whether steps or layers are run one after another. A shard
    of a batch draws for all samples and takes its own.

    Args:
        stream: number of its stream of random numbers.
    """

    def __init__(self, stream: int) -> None:
        super().__init__()
        self.stream = stream

    def init_state(self, batch_size: int | None = None, **kwargs: object) -> None:
        self.key = RandomKey(jnp.zeros(2 if sharding.shards() == 1 else 3, jnp.uint32))
        self.t = brainstate.ShortTermState(jnp.int32(0))

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The numbers of a step."""
        raise NotImplementedError

    def apply(self, y: jax.Array, drawn: jax.Array) -> jax.Array:
        """What becomes of a step, or of several."""
        raise NotImplementedError

    @property
    def acts(self) -> bool:
        """Whether anything is drawn."""
        return True

    def _drawn(self, t: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        key, shard = self.key.value, None
        if key.shape[0] > 2:
            key, shard = key[:2], key[2]
        own = jax.random.fold_in(jax.random.wrap_key_data(key), self.stream)
        of_step = jax.random.fold_in(own, t)
        return sharding.rows(lambda shape: self.draw(of_step, shape), shape, shard)

    def update(self, y: jax.Array) -> jax.Array:
        """One step, ``(B, n)``."""
        if not self.acts:
            return y
        drawn = self._drawn(self.t.value, y.shape)
        self.t.value = self.t.value + 1
        return self.apply(y, drawn)

    def sequence(self, ys: jax.Array) -> jax.Array:
        """All steps from the first on, ``(T, B, n)``."""
        if not self.acts:
            return ys
        steps = jnp.arange(ys.shape[0])
        return self.apply(ys, jax.vmap(lambda t: self._drawn(t, ys.shape[1:]))(steps))


class Dropout(Drawn):
    """``y m / (1 - p)`` with ``m`` from Bernoulli(1 - p), while training (Srivastava et al. 2014).

    As ``torch.nn.Dropout`` on a whole sequence.

    Args:
        rate: p, in (0, 1).
        layer: number of the layer.
    """

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__(layer + 1)
        self.rate = rate

    @property
    def acts(self) -> bool:
        return bool(brainstate.environ.get("fit", False))

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        kept = jax.random.bernoulli(key, 1 - self.rate, shape)
        return kept.astype(jnp.float32) / (1 - self.rate)

    def apply(self, y: jax.Array, drawn: jax.Array) -> jax.Array:
        return y * drawn


class DriveNoise(Drawn):
    """``y + s N(0, 1)``, or ``y s N(0, 1)``, whose derivative is that of ``y``.

    In evaluation too, where every batch has the same noise, so that a figure can be had again.
    Source: the program of Stadtmann et al. 2025 (noise of a memristor's output).

    Args:
        sigma: s.
        times: whether the noise multiplies.
        layer: number of the layer.
    """

    def __init__(self, sigma: float, times: bool, layer: int) -> None:
        super().__init__(DRIVES + layer)
        self.sigma, self.times = sigma, times

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.sigma * jax.random.normal(key, shape)

    def apply(self, y: jax.Array, drawn: jax.Array) -> jax.Array:
        return straight_through(y, y * drawn if self.times else y + drawn)
