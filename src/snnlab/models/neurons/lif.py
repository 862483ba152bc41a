"""The leaky integrate-and-fire neuron, in steps.

    u = a (u - reset) + (1-a) drive  with a = exp(-1/tau), reset from the last spikes s
    s = 1 where u > theta

``reset``: ``one`` subtracts s; ``none`` nothing; ``voltage`` s u; ``threshold`` s theta. Time is in
steps, potentials and drives in units of the threshold of an unbalanced layer.

Source: Bittar & Garner 2022 (Front. Neurosci. 16:865897), eqs. 1-6; resets beside ``one``:
Stadtmann, Paessens & Gemmeke 2024. Departure: the initial state is zero and not random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from snnlab.lazy import lazy
from snnlab.models.neuron import Named, Neuron, Value, decay

if TYPE_CHECKING:
    import jax
    import numpy as np
else:
    np = lazy("numpy")

Reset = Literal["one", "none", "voltage", "threshold"]
#: Range of time constants, steps.
TAU = (5.0, 25.0)


class LIF(Neuron):
    """See the module.

    Args:
        tau: range of the time constants, steps, in which the decays a are drawn and stay.
        reset: what a spike subtracts.
    """

    states: ClassVar[tuple[str, ...]] = ("u",)

    def __init__(self, tau: tuple[float, float] = TAU, reset: Reset = "one") -> None:
        self.tau, self.reset = tau, reset

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        alpha = Value.uniform(rng, decay(self.tau[0]), decay(self.tau[1]), n)
        return {"alpha": alpha, "theta": Value(np.ones(n, np.float32))}

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        u, s, a = state["u"], spikes, value["alpha"]
        kept = {
            "one": lambda: u - s, "none": lambda: u, "voltage": lambda: u - s * u,
            "threshold": lambda: u - s * value["theta"],
        }[self.reset]()  # fmt: skip
        return {"u": a * kept + (1 - a) * drive}

    def excess(self, state: Named, value: Named) -> jax.Array:
        return state["u"] - value["theta"]
