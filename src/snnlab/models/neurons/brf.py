"""BRF: the balanced resonate-and-fire neuron, a damped oscillator with a refractory period.

    d(u + i v)/dt = (b + i omega) (u + i v) + I ,    b = p(omega) - |b'| - q

with spikes z where u > theta + q. One step of the source, by Euler forwards, from (u, v, q):

    b = p(omega) - |b'| - q                  smooth reset: a spike dampens what follows
    u = u + dt (b u - omega v + I)           both from u and v of the step before
    v = v + dt (omega u + b v)
    z = 1 where u > theta + q                q of the step before
    q = gamma q + z                          refractory period

The step multiplies an oscillation by |1 + dt (b + i omega)|, which is 1 for the largest b at which
it does not grow, the divergence boundary

    p(omega) = (-1 + sqrt(1 - (dt omega)^2)) / dt .

|b'| and q only ever take away from it: without input the neuron decays, whatever omega is (if not
b' or q is about 1 / dt or more, where a step overshoots).

States are u, v and the q of the step before. A step here is the source's last line, on the state
that the step before has left, then its first three: the same numbers in the same order, with q
one step late (a record of q shows the source's q of the step before).

Times are in the unit of ``dt``: omega in radians per unit, b' and q in 1 per unit; q is added to
theta as a pure number. ``gamma`` is a factor for each step. The source has dt = 0.01, gamma = 0.9,
theta = 1, and trains, with a number for each neuron, ``omega`` and ``b_offset`` (b'), drawn
uniformly: from (5, 10) and (2, 3) on SHD, (15, 85) and (0.1, 1) on sequential MNIST, (3, 5) and
(0.1, 1) on ECG. They enter by their absolute values. Its surrogate derivative is
0.5 (1.15 N(x; 0, 0.5) - 0.3 N(x; 0, 3)) of x = u - theta - q, with N(x; mean, standard deviation).

Source: Higuchi, Kairat, Bohte & Otte 2024, "Balanced resonate-and-fire neurons", ICML (arXiv
2402.14603), and the authors' program (github.com/AdaptiveAILab/brf-neurons, snn/modules/rf.py,
experiments/), which has the order of a step and the ranges. Departure: omega is clipped in use to
0.99 / dt, since p has no derivative at 1 / dt and no value above it. The harmonic variants (HRF,
BHRF) are not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from snnlab.errors import UsageError
from snnlab.models.neuron import Named, Neuron, Value

if TYPE_CHECKING:
    import jax

Range = tuple[float, float]
#: Largest ``dt |omega|``.
FASTEST = 0.99


class BRF(Neuron):
    """States ``u``, ``v`` (real and imaginary part), ``q`` (refractory). See the module.

    Args:
        dt: length of a step.
        omega: least and greatest angular frequency at the start, radians per unit of ``dt``.
        b_offset: least and greatest damping beyond the boundary at the start, 1 per unit.
        gamma: what a step leaves of ``q``.
        theta: threshold at rest.

    Raises:
        UsageError: a range that ends before it begins, or that a step of ``dt`` is too long for.
    """

    states: ClassVar[tuple[str, ...]] = ("u", "v", "q")

    def __init__(
        self,
        dt: float = 0.01,
        omega: Range = (5.0, 10.0),
        b_offset: Range = (2.0, 3.0),
        gamma: float = 0.9,
        theta: float = 1.0,
    ) -> None:
        if not (dt > 0 and 0 <= omega[0] <= omega[1] <= FASTEST / dt):
            raise UsageError(
                f"omega from {omega[0]:g} to {omega[1]:g} in steps of dt = {dt:g}: dt must be "
                f"above 0 and omega between 0 and {FASTEST} / dt"
            )
        if not 0 <= b_offset[0] <= b_offset[1] < np.inf:
            raise UsageError(
                f"b_offset from {b_offset[0]:g} to {b_offset[1]:g}: it must be a range from 0 on"
            )
        if not 0 <= gamma < 1:
            raise UsageError(f"gamma = {gamma:g}: it must be at least 0 and below 1")
        self.dt, self.omega, self.b_offset = dt, omega, b_offset
        self.gamma, self.theta = gamma, theta

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        """``omega`` (radians per unit of ``dt``), ``b_offset`` (1 per unit) and ``theta``."""
        fastest = FASTEST / self.dt
        return {
            "omega": Value(rng.uniform(*self.omega, n).astype(np.float32), (-fastest, fastest)),
            "b_offset": Value(rng.uniform(*self.b_offset, n).astype(np.float32)),
            "theta": Value(np.full(n, self.theta, np.float32)),
        }

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        import jax.numpy as jnp

        dt, u, v, omega = self.dt, state["u"], state["v"], jnp.abs(value["omega"])
        q = self.gamma * state["q"] + spikes
        boundary = (jnp.sqrt(1.0 - (dt * omega) ** 2) - 1.0) / dt
        b = boundary - jnp.abs(value["b_offset"]) - q
        return {
            "u": u + dt * (b * u - omega * v + drive),
            "v": v + dt * (omega * u + b * v),
            "q": q,
        }

    def excess(self, state: Named, value: Named) -> jax.Array:
        return state["u"] - value["theta"] - state["q"]
