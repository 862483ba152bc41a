"""CuBaLIF: a LIF neuron with a synaptic current, as NIR defines it.

    tau_syn di/dt = -i + w_in I ,    tau_mem dv/dt = v_leak - v + r i

with spikes z where v > v_threshold, after which v = v_reset. NIR leaves the discretisation to the
simulator. Here both equations decay exponentially, the current first, and its new value drives the
membrane:

    v = v (1 - z) + v_reset z                          reset by the spikes of the step before
    i = alpha i + (1 - alpha) w_in I                   alpha = exp(-dt / tau_syn)
    v = beta v + (1 - beta) (v_leak + r i)             beta = exp(-dt / tau_mem)
    z = 1 where v > v_threshold

i is exact for input that is constant during a step, v for a current that is. States are v before
its reset, and i.

NIR has no ranges, and defaults of none but v_reset = 0 and w_in = 1; it trains nothing. The time
constants that are the defaults here are this suite's. Values of neurons, which may be trained, are
the logarithms of both times, within a factor of 1000 of where they start, and ``theta``
(v_threshold). r and w_in are factors of the weights, v_leak is a bias: they stay as they are given.

Source: Pedersen et al. 2024, "Neuromorphic intermediate representation: a unified instruction set
for interoperable brain-inspired computing", Nat. Commun. 15:8122, and the node ``CubaLIF``
(github.com/neuromorphs/NIR, nir/ir/neuron.py). Departures of others from the equations above: NIR's
own reference program steps by Euler forwards, drives v by the current of the step before, and
subtracts the threshold at a spike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from snnlab.errors import UsageError
from snnlab.models.neuron import Named, Neuron, Value

if TYPE_CHECKING:
    import jax

#: A number for all neurons, or ``(n,)``.
Given = float | np.ndarray
#: Times are trained within this factor.
FACTOR = 1000.0


class CuBaLIF(Neuron):
    """States ``v`` (the membrane before its reset) and ``i`` (synaptic current). See the module.

    Args:
        dt: length of a step.
        tau_mem, tau_syn: time constants, in the unit of ``dt``.
        r: resistance.
        v_leak, v_threshold, v_reset: potentials at rest, of the threshold, after a spike.
        w_in: weight of the input current.

    Raises:
        UsageError: a time that is not positive, or (from ``values``) an array of another length.
    """

    states: ClassVar[tuple[str, ...]] = ("v", "i")

    def __init__(
        self,
        dt: float = 1.0,
        tau_mem: Given = 20.0,
        tau_syn: Given = 10.0,
        r: Given = 1.0,
        v_leak: Given = 0.0,
        v_threshold: Given = 1.0,
        v_reset: Given = 0.0,
        w_in: Given = 1.0,
    ) -> None:
        for name, time in {"dt": dt, "tau_mem": tau_mem, "tau_syn": tau_syn}.items():
            if not np.all(np.asarray(time) > 0):
                raise UsageError(f"{name} = {np.min(time):g}: it must be above 0")
        self.dt, self.tau_mem, self.tau_syn, self.r, self.w_in = dt, tau_mem, tau_syn, r, w_in
        self.v_leak, self.v_threshold, self.v_reset = v_leak, v_threshold, v_reset

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        """``log_tau_mem`` and ``log_tau_syn`` (of times in the unit of ``dt``), ``theta``."""
        for name, given in vars(self).items():
            if np.shape(given) not in ((), (n,)):
                raise UsageError(f"{name} has shape {np.shape(given)}: valid is a number or ({n},)")
        made = {"theta": Value(np.broadcast_to(np.float32(self.v_threshold), n))}
        for name, time in {"log_tau_mem": self.tau_mem, "log_tau_syn": self.tau_syn}.items():
            start = np.broadcast_to(np.log(time, dtype=np.float32), n)
            reach = np.log(FACTOR)
            made[name] = Value(start, (float(start.min() - reach), float(start.max() + reach)))
        return made

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        import jax.numpy as jnp

        alpha, beta = (
            jnp.exp(-self.dt / jnp.exp(value[name])) for name in ("log_tau_syn", "log_tau_mem")
        )
        v = state["v"] * (1.0 - spikes) + self.v_reset * spikes
        i = alpha * state["i"] + (1.0 - alpha) * self.w_in * drive
        return {"v": beta * v + (1.0 - beta) * (self.v_leak + self.r * i), "i": i}

    def excess(self, state: Named, value: Named) -> jax.Array:
        return state["v"] - value["theta"]
