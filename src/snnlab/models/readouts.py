"""Readouts: from the last layer's spikes to the prediction."""

from __future__ import annotations

import math

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.maps import DenseMap


class LeakyReadout(brainstate.nn.Module):
    """Leaky linear integrators ``r_t = a r_{t-1} + s_t W`` with ``a = exp(-dt / tau)``.

    Args:
        dense: the map ``W (n, n_out)``.
        tau_ms: time constant; 0 gives ``a = 0``, a readout without memory.
        dt_ms: length of a step.
    """

    def __init__(self, dense: DenseMap, tau_ms: float, dt_ms: float) -> None:
        super().__init__()
        self.map = dense
        self.decay = math.exp(-dt_ms / tau_ms) if tau_ms > 0 else 0.0

    def init_state(self, batch_size: int | None = None, **kwargs) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.r = brainstate.HiddenState(jnp.zeros((*lead, *self.map.out_size), jnp.float32))

    def update(self, x: jax.Array) -> jax.Array:
        self.r.value = self.decay * self.r.value + self.map(x)
        return self.r.value
