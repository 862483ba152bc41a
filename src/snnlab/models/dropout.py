"""Dropout of a layer's outputs."""

from __future__ import annotations

import brainstate
import jax
import jax.numpy as jnp

from snnlab import sharding


class RandomKey(brainstate.ShortTermState):
    """Key data (uint32) that a learner replaces for every sequence; see ``Learner.fresh``.

    In a network for one of several shards the number of the shard stands behind it.
    """


class Dropout(brainstate.nn.Module):
    """``y m / (1 - p)`` with ``m`` from Bernoulli(1 - p), while training (Srivastava et al. 2014).

    Every step, sample and neuron has a mask of its own, as ``torch.nn.Dropout`` on a whole
    sequence. It is a function of the key, the layer and the step, hence the same whether steps
    or layers are run one after another. A shard of a batch draws for all samples and takes its own.

    Args:
        rate: p, in (0, 1).
        layer: number of the layer.
    """

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        self.rate, self.layer = rate, layer

    def init_state(self, batch_size: int | None = None, **kwargs: object) -> None:
        self.key = RandomKey(jnp.zeros(2 if sharding.shards() == 1 else 3, jnp.uint32))
        self.t = brainstate.ShortTermState(jnp.int32(0))

    def _mask(self, t: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        key, shard = self.key.value, None
        if key.shape[0] > 2:
            key, shard = key[:2], key[2]
        own = jax.random.fold_in(jax.random.wrap_key_data(key), self.layer + 1)
        of_step = jax.random.fold_in(own, t)

        def draw(shape: tuple[int, ...]) -> jax.Array:
            return jax.random.bernoulli(of_step, 1 - self.rate, shape)

        kept = sharding.rows(draw, shape, shard)
        return kept.astype(jnp.float32) / (1 - self.rate)

    def update(self, y: jax.Array) -> jax.Array:
        """One step, ``(B, n)``."""
        if not brainstate.environ.get("fit", False):
            return y
        mask = self._mask(self.t.value, y.shape)
        self.t.value = self.t.value + 1
        return y * mask

    def sequence(self, ys: jax.Array) -> jax.Array:
        """All steps from the first on, ``(T, B, n)``."""
        if not brainstate.environ.get("fit", False):
            return ys
        steps = jnp.arange(ys.shape[0])
        return ys * jax.vmap(lambda t: self._mask(t, ys.shape[1:]))(steps)
