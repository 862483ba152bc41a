"""SE-adLIF: a LIF neuron with adaptation, discretised by the symplectic Euler method.

    tau_u du/dt = -u + I - w ,    tau_w dw/dt = -w + q (a u + b z)

with spikes z where u > theta, after which u = 0. One step of the source, from (u, w):

    v = alpha u + (1 - alpha) (I - w)             alpha = exp(-dt / tau_u)
    z = 1 where v > theta
    u = v (1 - z)                                 no gradient passes z here
    w = beta w + (1 - beta) q (a u + b z)         beta = exp(-dt / tau_w), u of this step

Euler forwards would take u and z of the step before in the last line; with it, oscillations that
decay in the ODE may grow.

States are v, the membrane before its reset, and w. A step here is the source's last two lines, on
the state that the step before has left, then its first one: the same numbers in the same order,
with w one step late (a record of w shows the source's w of the step before).

Trained in the source, one number for each neuron, clipped to its range: where tau_u and tau_w lie
between their shortest and longest value (0 to 1, drawn uniformly), ``a`` in [0, 1] and ``b`` in [0,
2] (uniform). Not trained there: q, 120 on speech and ECG, 228 on oscillators, and ``theta``, 1, the
unit of potentials and currents. The source's surrogate derivative is
c alpha / 2 exp(-alpha |v - theta|), alpha = 5, c = 0.4 (ECG: 0.2).

Source: Baronig, Ferrand, Sabathiel & Legenstein 2025, "Advancing spatio-temporal processing through
adaptation in spiking neural networks", Nat. Commun. 16:5776 (arXiv 2408.07517), and the authors'
program (github.com/IGITUGraz/SE-adlif, models/alif.py, module/tau_trainers.py), which has the order
of a step, the ranges and the reset without a gradient. No departures in a step; in the source the
optimiser's values themselves are clipped after each update, here they are in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from snnlab.errors import UsageError
from snnlab.models.neuron import Named, Neuron, Value

if TYPE_CHECKING:
    import jax

Range = tuple[float, float]


class SEAdLIF(Neuron):
    """States ``u`` (the membrane before its reset) and ``w`` (adaptation). See the module.

    Args:
        dt: length of a step.
        tau_u, tau_w: shortest and longest time constants, in the unit of ``dt``.
        q: scale of ``a`` and ``b``.
        theta: threshold.

    Raises:
        UsageError: a time that is not positive, or a range that ends before it begins.
    """

    states: ClassVar[tuple[str, ...]] = ("u", "w")

    def __init__(
        self,
        dt: float = 1.0,
        tau_u: Range = (5.0, 25.0),
        tau_w: Range = (60.0, 300.0),
        q: float = 120.0,
        theta: float = 1.0,
    ) -> None:
        for name, (low, high) in {"tau_u": tau_u, "tau_w": tau_w}.items():
            if not (dt > 0 and 0 < low <= high < np.inf):
                raise UsageError(
                    f"{name} from {low:g} to {high:g} in steps of dt = {dt:g}: dt must be above 0 "
                    "and the range positive, the shorter time first"
                )
        self.dt, self.tau_u, self.tau_w, self.q, self.theta = dt, tau_u, tau_w, q, theta

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        """``tau_u_share``, ``tau_w_share`` (0: shortest, 1: longest), ``a``, ``b``; ``theta``."""
        ends = {"tau_u_share": 1.0, "tau_w_share": 1.0, "a": 1.0, "b": 2.0}
        drawn = {
            name: Value(rng.uniform(0.0, end, n).astype(np.float32), (0.0, end))
            for name, end in ends.items()
        }
        return {**drawn, "theta": Value(np.full(n, self.theta, np.float32))}

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        import jax

        alpha = self._decay(value["tau_u_share"], self.tau_u)
        beta = self._decay(value["tau_w_share"], self.tau_w)
        u = state["u"] * (1.0 - jax.lax.stop_gradient(spikes))
        w = beta * state["w"] + (1.0 - beta) * self.q * (value["a"] * u + value["b"] * spikes)
        return {"u": alpha * u + (1.0 - alpha) * (drive - w), "w": w}

    def excess(self, state: Named, value: Named) -> jax.Array:
        return state["u"] - value["theta"]

    def _decay(self, share: jax.Array, tau: Range) -> jax.Array:
        """``exp(-dt / tau)``, ``(n,)``, for times that lie ``share`` of the way through ``tau``."""
        import jax.numpy as jnp

        return jnp.exp(-self.dt / (share * tau[1] + (1.0 - share) * tau[0]))
