"""Neurons: brainpy.state's, and the two that it lacks.

Every neuron is a ``brainpy.state.Neuron``: ``neuron(I)`` advances one step of ``dt`` with the
current ``I`` (mA) after its delta inputs (mV) were added, and returns spikes. The order of a
step is brainpy's: the spike of the *previous* step resets the membrane, then the leak is
integrated by exponential Euler, then delta inputs are added, then the new spike is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainpy.state
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np


class PerfectIF(brainpy.state.IF):
    """Integrate and fire without a leak: ``tau dV/dt = R I``; on a spike ``V -= V_th``.

    Departure from brainpy.state: its ``IF`` integrates ``tau dV/dt = -V + R I``, which is a LIF
    neuron with rest 0. Source: Lapicque 1907; Gerstner et al. 2014, Neuronal Dynamics, sec. 1.3
    without the leak.
    """

    def update(self, x: Any = 0.0 * u.mA) -> Any:
        last_v = self.V.value
        spike = self.get_spike(last_v)
        jump = self.V_th if self.spk_reset == "soft" else jax.lax.stop_gradient(last_v)
        v = last_v - jump * spike
        v = v + brainstate.environ.get_dt() / self.tau * self.R * self.sum_current_inputs(x, v)
        self.V.value = self.sum_delta_inputs(v)
        return self.get_spike(self.V.value)


class GIF(brainpy.state.Neuron):
    """Generalised integrate and fire; states ``(V, I2)``, and on demand ``I1`` and ``theta``.

    On a spike ``V -= V_th + theta - V_rest``, ``I2 -= A2``, ``I1 += A1`` and ``theta += Ath``;
    then ``dI/dt = -I / tau_I`` for both currents, ``dtheta/dt = -theta / tau_th`` and
    ``tau dV/dt = -V + V_rest + R (I1 + I2 + I)``, all by exponential Euler (V with the new
    currents). A spike is ``V >= V_th + theta``; no gradient flows through theta there. Source:
    Mihalas & Niebur 2009 (Neural Comput. 21:704), eq. 2.1, without its coupling of threshold and
    membrane, in the form of Wang et al. 2026 (Nature Communications 17:1745).

    ``brainpy.state.Gif`` is the same kind of neuron with all four states always there; here
    ``A1 = 0`` leaves out I1 and ``Ath = 0`` the moving threshold, since every state lengthens
    the eligibility traces.

    Args:
        in_size: number of neurons.
        tau, tau_I2, tau_I1, tau_th: time constants, ms.
        A2, A1: jumps of the after-spike currents, mA.
        Ath: jump of the threshold, mV.
        R: membrane resistance, ohm.
        V_th, V_rest: mV.
        V_init: mV, where sequences start; V_rest if it is ``None``.
        th_step: ``"exponential"`` Euler of theta, or plain ``"euler"``, as in that form.
        whole_theta: if not, theta acts on the spike alone: it is not subtracted, divides nothing,
            and gradients flow through it.
        spk_fun: spike function of ``(V - V_th - theta) / (V_th + theta - V_rest)``.
        spk_reset: ``"soft"`` (subtract) or ``"hard"`` (to V_rest).
    """

    def __init__(
        self,
        in_size: int,
        tau: Any = 20.0 * u.ms,
        tau_I2: Any = 100.0 * u.ms,
        A2: Any = 0.0 * u.mA,
        R: Any = 1.0 * u.ohm,
        V_th: Any = 1.0 * u.mV,
        V_rest: Any = 0.0 * u.mV,
        spk_fun: Callable | None = None,
        spk_reset: str = "soft",
        tau_I1: Any = 10.0 * u.ms,
        A1: Any = 0.0 * u.mA,
        tau_th: Any = 100.0 * u.ms,
        Ath: Any = 0.0 * u.mV,
        V_init: Any = None,
        whole_theta: bool = True,
        th_step: str = "exponential",
    ) -> None:
        super().__init__(
            in_size, spk_fun=spk_fun or braintools.surrogate.ReluGrad(), spk_reset=spk_reset
        )
        self.has_I1 = bool(np.any(u.get_magnitude(A1) != 0))
        self.has_theta = bool(np.any(u.get_magnitude(Ath) != 0))
        self.tau = braintools.init.param(tau, self.varshape)
        self.tau_I2 = braintools.init.param(tau_I2, self.varshape)
        self.A2 = braintools.init.param(A2, self.varshape)
        self.tau_I1 = braintools.init.param(tau_I1, self.varshape)
        self.A1 = braintools.init.param(A1, self.varshape)
        self.tau_th = braintools.init.param(tau_th, self.varshape)
        self.Ath = braintools.init.param(Ath, self.varshape)
        self.R = braintools.init.param(R, self.varshape)
        self.V_th = braintools.init.param(V_th, self.varshape)
        self.V_rest = braintools.init.param(V_rest, self.varshape)
        self.V_init = self.V_rest if V_init is None else V_init
        self.th_step = th_step
        self.whole_theta = whole_theta and self.has_theta

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        def zero(unit: Any) -> Any:
            start = braintools.init.Constant(0.0 * unit)
            return braintools.init.param(start, self.varshape, batch_size)

        self.V = brainstate.HiddenState(zero(u.mV) + self.V_init)
        self.I2 = brainstate.HiddenState(zero(u.mA))
        if self.has_I1:
            self.I1 = brainstate.HiddenState(zero(u.mA))
        if self.has_theta:
            self.theta = brainstate.HiddenState(zero(u.mV))

    def get_spike(self, V: Any = None) -> Any:
        v = self.V.value if V is None else V
        if self.whole_theta:
            return self.spk_fun(self.above(v))
        top = self.V_th + self.theta.value if self.has_theta else self.V_th
        return self.spk_fun((v - top) / (self.V_th - self.V_rest))

    def above(self, V: Any) -> Any:
        """``(V - V_th - theta) / (V_th + theta - V_rest)``, without gradients through theta."""
        top = self.V_th + jax.lax.stop_gradient(self.theta.value)
        return (V - top) / jax.lax.stop_gradient(top - self.V_rest)

    def update(self, x: Any = 0.0 * u.mA) -> Any:
        last_v, last_i2 = self.V.value, self.I2.value
        spike = self.get_spike(last_v)
        top = self.V_th + self.theta.value if self.whole_theta else self.V_th
        top = top if self.spk_reset == "soft" else jax.lax.stop_gradient(last_v)
        v = last_v - (top - self.V_rest) * spike
        # Currents are stored as copies, apart from the values that drive V (layers.settle).
        after = _decayed(last_i2 - self.A2 * spike, self.tau_I2)
        self.I2.value = after * 1.0
        if self.has_I1:
            first = _decayed(self.I1.value + self.A1 * spike, self.tau_I1)
            self.I1.value = first * 1.0
            after = after + first
        if self.has_theta:
            theta = self.theta.value + self.Ath * spike
            if self.th_step == "euler":
                self.theta.value = theta * (1 - brainstate.environ.get_dt() / self.tau_th)
            else:
                self.theta.value = _decayed(theta, self.tau_th)

        def dv(v: Any) -> Any:
            current = self.sum_current_inputs(x, v) + after
            return (-v + self.V_rest + self.R * current) / self.tau

        v = self.sum_delta_inputs(brainstate.nn.exp_euler_step(dv, v))
        self.V.value = v
        return self.get_spike(v)


def _decayed(value: Any, tau: Any) -> Any:
    """One step of ``dy/dt = -y / tau``."""
    return brainstate.nn.exp_euler_step(lambda y: -y / tau, value)


def detach_reset(neuron_type: type) -> type:
    """A neuron type whose reset (and after-spike jumps) carries no gradient.

    The spike that a step starts with is read first in brainpy's ``update``; only that reading
    loses its gradient. The spikes that leave the neuron keep theirs.
    """

    class Detached(neuron_type):
        _readings: int | None = None

        def update(self, *args: Any, **kwargs: Any) -> Any:
            self._readings = 0
            try:
                return super().update(*args, **kwargs)
            finally:
                self._readings = None

        def get_spike(self, *args: Any, **kwargs: Any) -> Any:
            spike = super().get_spike(*args, **kwargs)
            if self._readings is None:
                return spike
            self._readings += 1
            return jax.lax.stop_gradient(spike) if self._readings == 1 else spike

    Detached.__name__ = f"{neuron_type.__name__}DetachedReset"
    return Detached


def membrane_taus(n: int, mean_ms: float, sigma_ms: float, floor_ms: float = 1.0) -> Any:
    """``(n,)`` membrane time constants from N(mean, sigma), at least ``floor_ms``."""
    draw = mean_ms + sigma_ms * np.asarray(brainstate.random.randn(n))
    return jnp.asarray(np.maximum(draw, floor_ms), dtype=jnp.float32) * u.ms
