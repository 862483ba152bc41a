"""The adaptive LIF neuron: a LIF neuron whose drive is less by an adaptation w.

    w = b w + A u + B s ;  drive = drive - w   with b = exp(-1/tau_w), of the last u and s

then as :mod:`snnlab.models.neurons.lif`. Ranges, in which values are drawn and stay: tau_w in
[30, 120] steps, A in [-1, 1], B in [0, 2].

Source: Bittar & Garner 2022 (Front. Neurosci. 16:865897), eqs. 7-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnlab.lazy import lazy
from snnlab.models.neuron import Named, Value, decay
from snnlab.models.neurons.lif import LIF

if TYPE_CHECKING:
    import jax
    import numpy as np
else:
    np = lazy("numpy")

TAU_W, A_RANGE, B_RANGE = (30.0, 120.0), (-1.0, 1.0), (0.0, 2.0)


class AdLIF(LIF):
    """See the module; values ``beta`` (b), ``a`` (A) and ``b`` (B) beside those of LIF."""

    states = ("u", "w")

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        return {
            **super().values(n, rng),
            "beta": Value.uniform(rng, decay(TAU_W[0]), decay(TAU_W[1]), n),
            "a": Value.uniform(rng, *A_RANGE, n),
            "b": Value.uniform(rng, *B_RANGE, n),
        }

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        w = value["beta"] * state["w"] + value["a"] * state["u"] + value["b"] * spikes
        return {**super().step(state, spikes, drive - w, value), "w": w}
