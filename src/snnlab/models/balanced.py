"""Layers of balanced networks: LIF, adLIF, RLIF and RadLIF are one layer with parts left out.

One step, in this order, from the membrane ``u``, the adaptation ``w`` and the last spikes ``s``:

    drive = norm(x W) + s V + r V_slow          (parts that a model has)
    w     = b w + A u + B s ;  drive = drive - w                      (adLIF, RadLIF)
    u     = a (u - reset) + (1-a) drive          with a = exp(-1/tau), reset from s
    s     = 1 where u > theta                    (single spike: the largest u only)
    r     = a r + s                                                   (slow dynamics)

Time is in steps, potentials and currents in units of the threshold of an unbalanced layer.
``reset``: ``default`` subtracts s, and nothing where V is fixed, whose diagonal then resets;
``voltage`` subtracts s u, ``threshold`` s theta. V has no diagonal where it is trained, and in
RadLIF. The surrogate derivative of a spike is 1 for theta - 0.5 < u <= theta + 0.5, else 0.

Ranges, to which trained values are clipped in use: tau in [5, 25] (LIF, adLIF, RadLIF), [1900 R,
2100 R] (RLIF; R = repetitions of a step), tau_w in [30, 120], A in [-1, 1], B in [0, 2]. Trained on
demand, beyond the sources: theta, which stays positive (:class:`snnlab.models.trained.Positive`),
and a bias, added to the drive of a layer after its normalisation, and to that of the readout.

Sources: Bittar & Garner 2022 (Front. Neurosci. 16:865897), eqs. 1-13; Stadtmann, Paessens &
Gemmeke 2024. Departures from their code: the initial state is zero and not random; the surrogate
of a single spike is taken of the membrane (their program evaluates it on the 0/1 spikes that had
overwritten the membrane).

Spikes are recomputed from u at the start of a step rather than kept, so that (u) or (u, w) or
(u, r) is all that evolves: an online learner has one trace for each.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.base import Network, StepOutput
from snnlab.models.dropout import Dropout
from snnlab.models.maps import DenseMap, Operator
from snnlab.models.normalization import BatchNorm, LayerNorm
from snnlab.models.trained import NeuronValue, Positive, zero_bias

HALF_WIDTH = 0.5
Reset = Literal["one", "none", "voltage", "threshold"]


@jax.custom_jvp
def boxcar(x: jax.Array, hard: jax.Array) -> jax.Array:  # noqa: ARG001 (of the derivative)
    """``hard``, with the derivative 1 for -0.5 < x <= 0.5, else 0, with respect to ``x``."""
    return hard


@boxcar.defjvp
def _boxcar_jvp(primals: Any, tangents: Any) -> Any:
    x, hard = primals
    inside = (x > -HALF_WIDTH) & (x <= HALF_WIDTH)
    return hard, jnp.where(inside, tangents[0], 0.0)


def spike(u: jax.Array, theta: jax.Array, single: bool) -> jax.Array:
    """``(B, n)`` spikes of the membrane ``u (B, n)``; ``single``: of the largest u at most."""
    above = u > theta
    if single:
        largest = jnp.argmax(u, axis=-1, keepdims=True)
        above &= jnp.arange(u.shape[-1]) == largest
    return boxcar(u - theta, jax.lax.stop_gradient(above.astype(u.dtype)))


class Held(brainstate.nn.Module):
    """An array that no gradient changes.

    With ``renewed`` it is a parameter all the same, so that a refit may replace it between
    epochs and a checkpoint holds it; otherwise a constant of the program.
    """

    def __init__(self, value: jax.Array, renewed: bool = False) -> None:
        super().__init__()
        self._constant = None if renewed else value
        if renewed:
            self.weight = brainstate.ParamState({"weight": value})

    def update(self) -> jax.Array:
        if self._constant is not None:
            return self._constant
        return jax.lax.stop_gradient(self.weight.value["weight"])


class FixedMap(brainstate.nn.Module):
    """``y = x @ W`` with a W (n_in, n_out) that is not trained; see :class:`Held`."""

    def __init__(self, weight: jax.Array, renewed: bool = False) -> None:
        super().__init__()
        self.in_size, self.out_size = (weight.shape[0],), (weight.shape[1],)
        self.held = Held(weight, renewed)

    def effective_weight(self) -> jax.Array:
        return self.held()

    def update(self, x: jax.Array) -> jax.Array:
        return x @ self.held()


class VectorParam(brainstate.nn.Module):
    """A value for each neuron, ``(n,)``; trained ones are clipped to ``limits`` in use."""

    def __init__(
        self, value: jax.Array, limits: tuple[float, float], operator: Operator, fixed: bool
    ) -> None:
        super().__init__()
        self.limits = limits
        self.operator = operator
        self.fixed = value if fixed else None
        if not fixed:
            self.weight = NeuronValue({"weight": value})

    def update(self) -> jax.Array:
        if self.fixed is not None:
            return self.fixed
        value = self.weight.value["weight"]
        return clip(value, *self.limits)


@jax.custom_jvp
def clip(x: jax.Array, low: Any, high: Any) -> jax.Array:
    """Clip; the derivative at the limits themselves is 1."""
    return jnp.clip(x, low, high)


@clip.defjvp
def _clip_jvp(primals: Any, tangents: Any) -> Any:
    x, low, high = primals
    return jnp.clip(x, low, high), jnp.where((x >= low) & (x <= high), tangents[0], 0.0)


class Adaptation(brainstate.nn.Module):
    """``w = b w + A u + B s``, the second variable of adLIF and RadLIF."""

    def __init__(self, beta: VectorParam, a: VectorParam, b: VectorParam) -> None:
        super().__init__()
        self.beta, self.a, self.b = beta, a, b

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        n = self._size()
        lead = () if batch_size is None else (batch_size,)
        self.w = brainstate.HiddenState(jnp.zeros((*lead, n), jnp.float32))

    def _size(self) -> int:
        value = self.beta.fixed if self.beta.fixed is not None else self.beta.weight.value["weight"]
        return value.shape[0]

    def update(self, u: jax.Array, s: jax.Array) -> jax.Array:
        w = self.beta() * self.w.value + self.a() * u + self.b() * s
        self.w.value = w * 1.0  # a copy: w drives u within the step (docs/architecture.md)
        return w


class SpikingLayer(brainstate.nn.Module):
    """``n`` spiking neurons; ``update(x (B, n_in)) -> spikes (B, n)``. See the module.

    Args:
        w: input map (n_in, n).
        alpha: membrane decay a.
        theta: ``(n,)`` thresholds.
        v: recurrent map (n, n), or ``None``.
        v_slow: ``(n, n)`` slow recurrent weights, or ``None``.
        adaptation: or ``None``.
        norm: normalisation of the feed-forward drive, or ``None``.
        reset: what a spike subtracts.
        single: at most one spike per sample and step.
        adc: function of the drive (quantisation), or ``None``.
        renewed: whether a refit replaces the thresholds between epochs.
        trained: of ``theta`` and ``bias`` those that are.
    """

    def __init__(
        self,
        w: DenseMap | FixedMap,
        alpha: VectorParam,
        theta: jax.Array,
        *,
        v: DenseMap | FixedMap | None = None,
        v_slow: jax.Array | None = None,
        adaptation: Adaptation | None = None,
        norm: LayerNorm | BatchNorm | None = None,
        reset: Reset = "one",
        single: bool = False,
        adc: Any = None,
        renewed: bool = False,
        trained: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.w, self.v, self.alpha = w, v, alpha
        self.adaptation, self.norm = adaptation, norm
        self.reset, self.single, self.adc = reset, single, adc
        self.n = w.out_size[0]
        self._v_slow = v_slow
        theta = jnp.asarray(theta, jnp.float32)
        self.theta = Positive(theta, theta.shape) if "theta" in trained else Held(theta, renewed)
        self.bias = zero_bias(self.n) if "bias" in trained else None

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.u = brainstate.HiddenState(jnp.zeros((*lead, self.n), jnp.float32))
        if self._v_slow is not None:
            self.r = brainstate.HiddenState(jnp.zeros((*lead, self.n), jnp.float32))

    def spikes(self) -> jax.Array:
        """``(B, n)`` spikes of the last step."""
        return spike(self.u.value, self.theta(), self.single)

    def update(self, x: jax.Array) -> jax.Array:
        drive = self.w(x)
        return self.advance(drive if self.norm is None else self.norm(drive))

    def drive(self, xs: jax.Array, weight: jax.Array) -> jax.Array:
        """Feed-forward drive of ``xs (T, B, n_in)``; samples of ``weight (B,)`` 0 do not count."""
        drive = self.w(xs)
        return drive if self.norm is None else self.norm.sequence(drive, weight)

    def advance(self, drive: jax.Array) -> jax.Array:
        """One step with its feed-forward drive ``(B, n)``."""
        u, s, theta = self.u.value, self.spikes(), self.theta()
        if self.bias is not None:
            drive = drive + self.bias.value
        if self.v is not None:
            drive = drive + self.v(s)
        if self._v_slow is not None:
            drive = drive + self.r.value @ self._v_slow
        if self.adc is not None:
            drive = self.adc(drive)
        if self.adaptation is not None:
            drive = drive - self.adaptation(u, s)
        a = self.alpha()
        kept = {
            "one": lambda: u - s, "none": lambda: u, "voltage": lambda: u - s * u,
            "threshold": lambda: u - s * theta,
        }[self.reset]()  # fmt: skip
        self.u.value = a * kept + (1 - a) * drive
        new = self.spikes()
        if self._v_slow is not None:
            self.r.value = a * self.r.value + new
        return new

    def currents(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Excitation and inhibition ``(B, n)`` of the step just made with input ``x``.

        The parts of x W, s V and r V_slow from positive and from negative weights, where s and r
        are those that the step has made (they arrive in the next one). Inputs, spikes and r are
        not negative. Departure: the source takes s for r, which is not what is injected.
        """
        pairs = [(x, self.w.effective_weight())]
        if self.v is not None:
            pairs.append((self.spikes(), self.v.effective_weight()))
        if self._v_slow is not None:
            pairs.append((self.r.value, self._v_slow))
        exc = inh = jnp.zeros_like(self.u.value)
        for y, m in pairs:
            exc += y @ jnp.maximum(m, 0.0)
            inh += y @ jnp.minimum(m, 0.0)
        return exc, inh

    @property
    def membrane(self) -> jax.Array:
        return self.u.value

    @property
    def all_norms(self) -> list[Any]:
        return [] if self.norm is None else [self.norm]


class SoftmaxReadout(brainstate.nn.Module):
    """Leaky units, read by a softmax that is summed over time.

        u = a u + (1-a) norm(s W) ;   o = o + softmax(u) - 1/C in the steps from ``t_crop`` on

    The 1/C, of which no cross-entropy depends, keeps o small: after thousands of steps float32
    would lose the differences between classes. Departure: the source's o has no 1/C.

    With ``linear``, o sums u itself: every unit's sum depends on this unit alone, which is what an
    online learner can follow, and for small u it is the sum of softmaxes up to a factor.

    Args:
        w: map (n, C).
        alpha: decay a, or ``None`` for ``u = s W``.
        t_crop: first step that counts.
        accumulate: return ``o``; otherwise ``u``.
        norm: normalisation of ``s W``, or ``None``.
        linear: see above.
        bias: whether a trained bias is added to ``norm(s W)``.
    """

    def __init__(
        self,
        w: DenseMap | FixedMap,
        alpha: VectorParam | None,
        t_crop: int,
        accumulate: bool,
        norm: LayerNorm | BatchNorm | None = None,
        linear: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.w, self.alpha, self.norm = w, alpha, norm
        self.bias = zero_bias(w.out_size[0]) if bias else None
        self.t_crop, self.accumulate, self.linear = t_crop, accumulate, linear

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        zero = jnp.zeros((*lead, *self.w.out_size), jnp.float32)
        if self.alpha is not None:
            self.u = brainstate.HiddenState(zero)
        if self.accumulate:
            self.o = brainstate.HiddenState(zero)
            self.t = brainstate.ShortTermState(jnp.int32(0))

    def update(self, s: jax.Array) -> jax.Array:
        u = self.w(s)
        return self.advance(u if self.norm is None else self.norm(u))

    def drive(self, xs: jax.Array, weight: jax.Array) -> jax.Array:
        """``norm(s W)`` of a whole sequence ``(T, B, n)``."""
        drive = self.w(xs)
        return drive if self.norm is None else self.norm.sequence(drive, weight)

    def advance(self, u: jax.Array) -> jax.Array:
        """One step with its drive ``(B, C)``."""
        if self.bias is not None:
            u = u + self.bias.value
        if self.alpha is not None:
            a = self.alpha()
            u = a * self.u.value + (1 - a) * u
            self.u.value = u * 1.0  # a copy: u drives o within the step (docs/architecture.md)
        if not self.accumulate:
            return u
        counts = self.t.value >= self.t_crop
        more = u if self.linear else jax.nn.softmax(u, axis=-1) - 1.0 / u.shape[-1]
        self.o.value = self.o.value + jnp.where(counts, more, 0.0)
        self.t.value = self.t.value + 1
        return self.o.value


class BalancedNetwork(Network):
    """Hidden layers, then a readout. Layers are spiking ones or those of the baselines.

    Args:
        layers, readout: of the network.
        n_in: inputs.
        dt_ms: length of a step.
        dropout: share of the hidden layers' outputs that is set to 0 while training.
        bidirectional: every hidden layer reads its input forwards and backwards with the same
            parameters; its output is both, ``2n`` (backwards in the order of time again).
    """

    def __init__(
        self,
        layers: list[Any],
        readout: SoftmaxReadout,
        n_in: int,
        dt_ms: float = 1.0,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(n_in, readout.w.out_size[0], dt_ms)
        self.layers = layers
        self.readout = readout
        self.bidirectional = bidirectional
        self.dropout = [Dropout(dropout, k) for k in range(len(layers))] if dropout else []
        norms = [readout.norm, *(norm for layer in layers for norm in layer.all_norms)]
        self.layerwise = bidirectional or any(isinstance(norm, BatchNorm) for norm in norms)

    @property
    def thresholds(self) -> tuple[Any, ...]:  # type: ignore[override]
        spiking = [layer for layer in self.layers if isinstance(layer, SpikingLayer)]
        return tuple(jnp.tile(layer.theta(), 1 + self.bidirectional) for layer in spiking)

    def init_states(self, batch_size: int | None) -> None:
        super().init_states(batch_size)
        if self.bidirectional and batch_size is not None:
            for layer in self.layers:
                brainstate.nn.init_all_states(layer, batch_size=2 * batch_size)

    def step(self, x: jax.Array) -> StepOutput:
        return self._step(x, None)

    def step_with_currents(
        self, x: jax.Array
    ) -> tuple[StepOutput, tuple[tuple[jax.Array, jax.Array], ...]]:
        """:meth:`update`, and the currents that each layer received: ``((exc, inh), ...)``."""
        currents: list[tuple[jax.Array, jax.Array]] = []
        return self._step(x, currents), tuple(currents)

    def _step(self, x: jax.Array, currents: list[Any] | None) -> StepOutput:
        if self.layerwise:
            raise ValueError("batch normalisation and bidirectional layers need whole sequences")
        outs = []
        for k, layer in enumerate(self.layers):
            y = layer(x)
            if currents is not None:
                currents.append(layer.currents(x))
            outs.append(y)
            x = self.dropout[k](y) if self.dropout else y
        membrane = tuple(layer.membrane for layer in self.layers)
        return StepOutput(self.readout(x), tuple(outs), membrane)

    def sequence(self, xs: jax.Array, weight: jax.Array) -> StepOutput:
        outs, membrane = [], []
        for k, layer in enumerate(self.layers):
            ys, us = self._through(layer, xs, weight)
            outs.append(ys)
            membrane.append(us)
            xs = self.dropout[k].sequence(ys) if self.dropout else ys
        drive = self.readout.drive(xs, weight)
        readout = brainstate.transform.for_loop(self.readout.advance, drive)
        return StepOutput(readout, tuple(outs), tuple(membrane))

    def _through(self, layer: Any, xs: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Outputs and membranes ``(T, B, n)`` of a layer, of both copies ``(T, B, 2n)``."""
        if self.bidirectional:
            xs = jnp.concatenate([xs, xs[::-1]], axis=1)
            weight = jnp.concatenate([weight, weight])
        drive = layer.drive(xs, weight)

        def step(drive: Any) -> tuple[jax.Array, jax.Array]:
            return layer.advance(drive), layer.membrane

        found = brainstate.transform.for_loop(step, drive)
        return jax.tree.map(self._join, found) if self.bidirectional else found

    @staticmethod
    def _join(ys: jax.Array) -> jax.Array:
        forwards, backwards = jnp.split(ys, 2, axis=1)
        return jnp.concatenate([forwards, backwards[::-1]], axis=2)


def decay(tau: float) -> float:
    """``exp(-1 / tau)`` for a time constant in steps."""
    return math.exp(-1.0 / tau)
