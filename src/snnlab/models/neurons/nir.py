"""A neuron of a NIR file: LIF, CubaLIF or IF with the decays that a step of the file's time has.

    v = v (1 - s) + v_reset s                       reset by the spikes of the step before
        (or v - theta s, as some readers of NIR have it)
    i = alpha i + gain_in I                         (without a synapse: i = I)
    v = beta v + (1 - beta) v_leak + gain i
    s = 1 where v > theta

States are v before its reset, and i where there is a synapse. The surrogate's argument is
(v - theta) / (theta - v_reset), which is 1 below where a spike leaves the membrane.

Source: Pedersen et al. 2024 (Nat. Commun. 15:8122), the nodes LIF, CubaLIF and IF of the package
``nir``. NIR is in continuous time: the decays are of whoever makes steps of it
(:mod:`snnlab.exchange`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from snnlab.models.neuron import Named, Neuron, Value

if TYPE_CHECKING:
    import jax

Reset = Literal["value", "subtract"]


class NIRNeuron(Neuron):
    """See the module; arrays are ``(n,)``.

    Args:
        beta, gain: decay of the membrane, and what it takes of a current.
        theta, v_leak, v_reset: potentials of the threshold, at rest, after a spike.
        reset: what a spike does: ``value`` sets v to v_reset, ``subtract`` subtracts theta.
        alpha, gain_in: decay of the synaptic current and what it takes of the drive; ``None``: no
            synapse.
    """

    def __init__(
        self,
        beta: np.ndarray,
        gain: np.ndarray,
        theta: np.ndarray,
        v_leak: np.ndarray,
        v_reset: np.ndarray,
        alpha: np.ndarray | None = None,
        gain_in: np.ndarray | None = None,
        reset: Reset = "value",
    ) -> None:
        self.beta, self.gain, self.theta = beta, gain, theta
        self.v_leak, self.v_reset = v_leak, v_reset
        self.alpha, self.gain_in, self.reset = alpha, gain_in, reset
        distance = theta - v_reset
        self._scale = np.float32(1) / np.where(distance > 0, distance, 1).astype(np.float32)

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v",) if self.alpha is None else ("v", "i")

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        return {"theta": Value(np.broadcast_to(self.theta.astype(np.float32), (n,)))}

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        f = np.float32
        if self.reset == "subtract":
            v = state["v"] - value["theta"] * spikes
        else:
            v = state["v"] * (1.0 - spikes) + self.v_reset.astype(f) * spikes
        rest = ((1 - self.beta) * self.v_leak).astype(f)
        if self.alpha is None or self.gain_in is None:
            return {"v": self.beta.astype(f) * v + rest + self.gain.astype(f) * drive}
        i = self.alpha.astype(f) * state["i"] + self.gain_in.astype(f) * drive
        return {"v": self.beta.astype(f) * v + rest + self.gain.astype(f) * i, "i": i}

    def excess(self, state: Named, value: Named) -> jax.Array:
        return (state["v"] - value["theta"]) * self._scale
