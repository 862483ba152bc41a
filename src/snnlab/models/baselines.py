"""Baselines without spikes: MLP, RNN, LiGRU, GRU; steps ``update(x (B, n_in)) -> y (B, n)``.

    MLP    y = relu(x W)
    RNN    y = tanh(x W + y V)
    LiGRU  z = sigmoid(x W_z + y V_z) ;  y = z y + (1-z) relu(x W + y V)
    GRU    z = sigmoid(x W_z + y V_z) ;  r = sigmoid(x W_r + y V_r) ;
           y = z y + (1-z) tanh(x W + (r y) V)

with the normalisation of the layer on every x W. Sources: Ravanelli et al. 2018 (LiGRU, IEEE
Trans. Emerg. Top. Comput. Intell. 2:92); Cho et al. 2014 (GRU); as in Bittar & Garner 2022,
without biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.layer import Layer
from snnlab.models.maps import DenseMap, FixedMap


class BaselineLayer(Layer):
    """One layer of a baseline; its membrane is its output.

    Args:
        kind: MLP, RNN, LiGRU or GRU.
        w: input maps: candidate, then z and r where the kind has gates.
        v: recurrent maps in the same order (none for MLP).
        norms: normalisations in the same order, or empty.
    """

    def __init__(
        self,
        kind: str,
        w: Sequence[DenseMap | FixedMap],
        v: Sequence[DenseMap | FixedMap],
        norms: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.kind, self.w, self.v, self.norms = kind, list(w), list(v), list(norms)
        self.n = w[0].out_size[0]

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.y = brainstate.HiddenState(jnp.zeros((*lead, self.n), jnp.float32))

    def drive(self, x: jax.Array, weight: jax.Array | None = None) -> list[jax.Array]:
        """Normalised ``x W``, in the order of the maps."""
        drives = [w(x) for w in self.w]
        pairs = zip(self.norms, drives, strict=True) if self.norms else ()
        return [norm(drive, weight) for norm, drive in pairs] or drives

    def advance(self, drives: list[jax.Array]) -> jax.Array:
        y, x = self.y.value, drives[0]
        if self.kind == "MLP":
            new = jax.nn.relu(x)
        elif self.kind == "RNN":
            new = jnp.tanh(x + self.v[0](y))
        else:
            z = jax.nn.sigmoid(drives[1] + self.v[1](y))
            if self.kind == "LiGRU":
                candidate = jax.nn.relu(x + self.v[0](y))
            else:
                r = jax.nn.sigmoid(drives[2] + self.v[2](y))
                candidate = jnp.tanh(x + self.v[0](r * y))
            new = z * y + (1 - z) * candidate
        self.y.value = new
        return new

    @property
    def membrane(self) -> jax.Array:
        return self.y.value
