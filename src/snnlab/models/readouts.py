"""Readouts: from the last layer's spikes to the prediction."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.maps import DenseMap
from snnlab.models.trained import Positive, zero_bias


class LeakyReadout(brainstate.nn.Module):
    """Leaky linear integrators ``r_t = a r_{t-1} + s_t W`` with ``a = exp(-dt / tau)``.

    Args:
        dense: the map ``W (n, n_out)``.
        tau_ms: time constant; 0 gives ``a = 0``, a readout without memory.
        dt_ms: length of a step.
        trained: of ``tau_o`` (a time constant of each unit) and ``bias`` (``b`` of each unit,
            added to ``s_t W``) those that are trained.
    """

    def __init__(
        self, dense: DenseMap, tau_ms: float, dt_ms: float, trained: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.map = dense
        self.dt_ms = dt_ms
        self._decay = math.exp(-dt_ms / tau_ms) if tau_ms > 0 else 0.0
        self.tau = Positive(tau_ms, dense.out_size) if "tau_o" in trained else None
        self.bias = zero_bias(dense.out_size[0]) if "bias" in trained else None

    @property
    def decay(self) -> float | jax.Array:
        """``a``: a number, ``(n_out,)`` where it is trained."""
        return self._decay if self.tau is None else jnp.exp(-self.dt_ms / self.tau())

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.r = brainstate.HiddenState(jnp.zeros((*lead, *self.map.out_size), jnp.float32))

    def update(self, x: jax.Array) -> jax.Array:
        drive = self.map(x) if self.bias is None else self.map(x) + self.bias.value
        self.r.value = self.decay * self.r.value + drive
        return self.r.value
