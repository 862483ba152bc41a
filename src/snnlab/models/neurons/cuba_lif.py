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

All seven parameters are values of neurons: numbers, or arrays ``(n,)``. NIR trains nothing: it has
no ranges, and defaults of none but v_reset = 0 and w_in = 1. The time constants that are the
defaults here are this suite's. Where times are trained they are clipped in use to at least a tenth
of a step (or to where they start, if that is shorter), of which nothing is left after one.

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

Values = float | np.ndarray


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
    #: Values that the source trains.
    trained: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        dt: float = 1.0,
        tau_mem: Values = 20.0,
        tau_syn: Values = 10.0,
        r: Values = 1.0,
        v_leak: Values = 0.0,
        v_threshold: Values = 1.0,
        v_reset: Values = 0.0,
        w_in: Values = 1.0,
    ) -> None:
        for name, time in {"dt": dt, "tau_mem": tau_mem, "tau_syn": tau_syn}.items():
            if not np.all(np.asarray(time) > 0):
                raise UsageError(f"{name} = {np.min(time):g}: it must be above 0")
        self.dt = dt
        self._given = {
            "tau_mem": tau_mem, "tau_syn": tau_syn, "r": r, "v_leak": v_leak,
            "v_threshold": v_threshold, "v_reset": v_reset, "w_in": w_in,
        }  # fmt: skip

    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        """All parameters by NIR's names; none is drawn."""
        made = {}
        for name, given in self._given.items():
            start = np.asarray(given, np.float32)
            if start.shape not in ((), (1,), (n,)):
                raise UsageError(f"{name} has shape {start.shape}: valid is a number or ({n},)")
            least = min(0.1 * self.dt, float(start.min())) if name.startswith("tau") else -np.inf
            made[name] = Value(np.broadcast_to(start, (n,)), (least, np.inf))
        return made

    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        import jax.numpy as jnp

        alpha, beta = (jnp.exp(-self.dt / value[name]) for name in ("tau_syn", "tau_mem"))
        v = state["v"] * (1.0 - spikes) + value["v_reset"] * spikes
        i = alpha * state["i"] + (1.0 - alpha) * value["w_in"] * drive
        return {"v": beta * v + (1.0 - beta) * (value["v_leak"] + value["r"] * i), "i": i}

    def excess(self, state: Named, value: Named) -> jax.Array:
        return state["v"] - value["v_threshold"]
