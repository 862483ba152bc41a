"""A layer of neurons that are described as :class:`snnlab.models.neuron.Neuron`.

One step, in this order (parts that a layer has):

    drive = norm(levels(noise(x W))) + bias + s V + r V_slow ;  drive = adc(drive)
    state = neuron.step(state, s, drive) ;  s = 1 where neuron.excess(state) > 0
    r     = a r + s                                                   (slow dynamics)

``single``: only the neuron of a sample whose membrane is the largest may spike. The surrogate
derivative of a spike is 1 for -0.5 < excess <= 0.5, else 0 (Bittar & Garner 2022). Of a single
spike the program of Stadtmann et al. 2024 evaluates it where 0/1 spikes have overwritten the
membrane, which is ``surrogate_of="spikes"``.

Spikes are recomputed from the state at the start of a step rather than kept, so that an online
learner has one trace for each state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.dropout import DriveNoise
from snnlab.models.layer import Layer
from snnlab.models.maps import DenseMap, FixedMap
from snnlab.models.neuron import Named, Neuron
from snnlab.models.normalization import BatchNorm, LayerNorm
from snnlab.models.quantization import DriveLevels
from snnlab.models.trained import zero_bias

HALF_WIDTH = 0.5


SurrogateOf = Literal["membrane", "spikes"]


@jax.custom_jvp
def boxcar(x: jax.Array, at: jax.Array, hard: jax.Array) -> jax.Array:  # noqa: ARG001 (derivative)
    """``hard``, with the derivative 1 for -0.5 < ``at`` <= 0.5, else 0, with respect to ``x``."""
    return hard


@boxcar.defjvp
def _boxcar_jvp(primals: Any, tangents: Any) -> Any:
    _, at, hard = primals
    inside = (at > -HALF_WIDTH) & (at <= HALF_WIDTH)
    return hard, jnp.where(inside, tangents[0], 0.0)


def spike(
    excess: jax.Array, membrane: jax.Array, single: bool, surrogate_of: SurrogateOf = "membrane"
) -> jax.Array:
    """``(B, n)`` spikes: ``excess`` above 0; ``single``: of the largest membrane at most.

    Args:
        excess: ``(B, n)``, the membrane above its threshold.
        membrane: ``(B, n)``.
        single: see above.
        surrogate_of: where the derivative is taken: at the excess, or at what it would be were
            the spike, 0 or 1, the membrane.
    """
    above = excess > 0
    if single:
        largest = jnp.argmax(membrane, axis=-1, keepdims=True)
        above &= jnp.arange(membrane.shape[-1]) == largest
    hard = jax.lax.stop_gradient(above.astype(excess.dtype))
    at = excess if surrogate_of == "membrane" else hard - (membrane - excess)
    return boxcar(excess, jax.lax.stop_gradient(at), hard)


class SpikingLayer(Layer):
    """``n`` spiking neurons; ``update(x (B, n_in)) -> spikes (B, n)``. See the module.

    Args:
        neuron: the equations.
        w: input map (n_in, n).
        value: the neuron's values by name, each a module that gives ``(n,)``.
        v: recurrent map (n, n), or ``None``.
        v_slow: ``(n, n)`` slow recurrent weights, or ``None``; their a is the value ``alpha``.
        norm: normalisation of the feed-forward drive, or ``None``.
        single: at most one spike per sample and step.
        surrogate_of: see :func:`spike`.
        noise: of the feed-forward drive, or ``None``.
        levels: quantisation of the feed-forward drive, or ``None``.
        adc: function of the drive (quantisation), or ``None``.
        bias: whether a trained bias is added to the drive.
        detach_reset: whether the spikes that ``neuron.step`` is given are constants to gradients;
            those that the recurrent map and the layer above see are not.
    """

    def __init__(
        self,
        neuron: Neuron,
        w: DenseMap | FixedMap,
        value: Mapping[str, Callable[[], jax.Array]],
        *,
        v: DenseMap | FixedMap | None = None,
        v_slow: jax.Array | None = None,
        norm: LayerNorm | BatchNorm | None = None,
        single: bool = False,
        surrogate_of: SurrogateOf = "membrane",
        noise: DriveNoise | None = None,
        levels: DriveLevels | None = None,
        adc: Callable[[jax.Array], jax.Array] | None = None,
        bias: bool = False,
        detach_reset: bool = False,
    ) -> None:
        super().__init__()
        self.neuron, self.w, self.v, self.norm = neuron, w, v, norm
        self.value = dict(value)
        self.noise, self.levels = noise, levels
        self.single, self.surrogate_of = single, surrogate_of
        self.adc, self.detach_reset = adc, detach_reset
        self.n = w.out_size[0]
        self._v_slow = v_slow
        self.bias = zero_bias(self.n) if bias else None

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        zero = jnp.zeros((*lead, self.n), jnp.float32)
        self.state = {name: brainstate.HiddenState(zero) for name in self.neuron.states}
        if self._v_slow is not None:
            self.r = brainstate.HiddenState(zero)

    def _states(self) -> Named:
        return {name: state.value for name, state in self.state.items()}

    def _values(self) -> Named:
        return {name: value() for name, value in self.value.items()}

    def _spikes(self, value: Named) -> jax.Array:
        excess = self.neuron.excess(self._states(), value)
        return spike(excess, self.membrane, self.single, self.surrogate_of)

    def spikes(self) -> jax.Array:
        """``(B, n)`` spikes of the last step."""
        return self._spikes(self._values())

    def drive(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        drive = self.w(x)
        if self.noise is not None:
            drive = self.noise(drive) if weight is None else self.noise.sequence(drive)
        if self.levels is not None:
            drive = self.levels(drive, weight)
        return drive if self.norm is None else self.norm(drive, weight)

    def advance(self, drive: jax.Array) -> jax.Array:
        value = self._values()
        s = self._spikes(value)
        if self.bias is not None:
            drive = drive + self.bias.value
        if self.v is not None:
            drive = drive + self.v(s)
        if self._v_slow is not None:
            drive = drive + self.r.value @ self._v_slow
        if self.adc is not None:
            drive = self.adc(drive)
        own = jax.lax.stop_gradient(s) if self.detach_reset else s
        new = self.neuron.step(self._states(), own, drive, value)
        for name, state in self.state.items():
            # Copies, where one state may drive another within the step (docs/architecture.md).
            state.value = new[name] * 1.0 if len(self.state) > 1 else new[name]
        s = self._spikes(value)
        if self._v_slow is not None:
            self.r.value = value["alpha"] * self.r.value + s
        return s

    def currents(self, x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The parts of x W, s V and r V_slow from positive and from negative weights.

        s and r are those that the step has made (they arrive in the next one). Inputs, spikes and
        r are not negative. Departure: the source takes s for r, which is not what is injected.
        """
        pairs = [(x, self.w.effective_weight())]
        if self.v is not None:
            pairs.append((self.spikes(), self.v.effective_weight()))
        if self._v_slow is not None:
            pairs.append((self.r.value, self._v_slow))
        exc = inh = jnp.zeros_like(self.membrane)
        for y, m in pairs:
            exc += y @ jnp.maximum(m, 0.0)
            inh += y @ jnp.minimum(m, 0.0)
        return exc, inh

    @property
    def membrane(self) -> jax.Array:
        return self.state[self.neuron.states[0]].value

    @property
    def threshold(self) -> jax.Array | None:
        """``(n,)``, the value ``theta`` of the neuron; ``None`` if it has none of that name."""
        return self.value["theta"]() if "theta" in self.value else None
