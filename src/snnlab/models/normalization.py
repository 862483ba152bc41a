"""Normalisation of a layer's feed-forward drive: over neurons, or over the sequences of a batch."""

from __future__ import annotations

import brainstate
import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.models.trained import NeuronValue

EPSILON = 1e-5


class RunningStatistic(brainstate.ParamState):
    """A number that training renews without a gradient; saved with the parameters."""


class LayerNorm(brainstate.nn.Module):
    """``g (x - mean) / sqrt(var + 1e-5) + h`` over the neurons of a step (Ba et al. 2016)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.gain = NeuronValue({"weight": jnp.ones(n, jnp.float32)})
        self.shift = NeuronValue({"weight": jnp.zeros(n, jnp.float32)})

    def update(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        """``x (..., n)``; ``weight`` is not needed."""
        centred = x - x.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return self.gain.value["weight"] * centred * scale + self.shift.value["weight"]


class BatchNorm(brainstate.nn.Module):
    """``g (x - mean) / sqrt(var + 1e-5) + h`` for each neuron (Ioffe & Szegedy 2015).

    While training, mean and variance are those over all steps and samples of the batch, and the
    running ones move towards them by ``momentum`` (the running variance towards the unbiased one);
    otherwise they are the running ones. As torch's ``BatchNorm1d`` on ``(B T, n)``; on several
    devices the batch is that of all of them.

    Args:
        n: neurons.
        momentum: 0.05 in Bittar & Garner 2022.
    """

    def __init__(self, n: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.gain = NeuronValue({"weight": jnp.ones(n, jnp.float32)})
        self.shift = NeuronValue({"weight": jnp.zeros(n, jnp.float32)})
        self.mean = RunningStatistic({"running": jnp.zeros(n, jnp.float32)})
        self.var = RunningStatistic({"running": jnp.ones(n, jnp.float32)})

    def update(self, xs: jax.Array, weight: jax.Array | None) -> jax.Array:
        """``(T, B, n)``; ``weight (B,)`` is 1, or 0 for samples that do not count."""
        if weight is None:
            raise ValueError("batch normalisation needs whole sequences")
        mean, var = self.mean.value["running"], self.var.value["running"]
        if brainstate.environ.get("fit", False):
            share = weight[:, None]
            count = jnp.maximum(xs.shape[0] * sharding.total(weight.sum()), 1.0)
            running = mean, var
            mean = sharding.total((share * xs).sum((0, 1))) / count
            var = sharding.total((share * (xs - mean) ** 2).sum((0, 1))) / count
            measured = mean, var * count / jnp.maximum(count - 1, 1.0)
            for state, old, new in zip((self.mean, self.var), running, measured, strict=True):
                moved = (1 - self.momentum) * old + self.momentum * new
                state.value = {"running": jax.lax.stop_gradient(moved)}
        else:
            mean, var = jax.lax.stop_gradient((mean, var))
        scale = self.gain.value["weight"] * jax.lax.rsqrt(var + EPSILON)
        return (xs - mean) * scale + self.shift.value["weight"]
