"""Balanced networks and their baselines, built from a :class:`BalancedConfig`.

A balanced RLIF layer has, with ``a0 = exp(-1 / (2000 R))`` and R repetitions of a step,

    theta = (nu + mu + diag(W W^T)) / 2 ,   V = -V_scale (W W^T + mu I) / (1 - a0)

and all its time constants at 2000 R. Source: Boerlin, Machens & Deneve 2013 with the input
weights as decoders; Stadtmann, Paessens & Gemmeke 2024. Weights here are ``(n_in, n)``, the
transpose of W above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.devices import require_memory
from snnlab.models.balanced import (
    Adaptation,
    BalancedNetwork,
    FixedMap,
    Reset,
    SoftmaxReadout,
    SpikingLayer,
    VectorParam,
    decay,
)
from snnlab.models.balanced_config import BalancedConfig, FixedPoint
from snnlab.models.baselines import BaselineLayer
from snnlab.models.maps import DenseMap, Operator
from snnlab.models.normalization import BatchNorm, LayerNorm

TAU_BALANCED = 2000.0
TAU_RLIF, TAU_LIF, TAU_OUT = (1900.0, 2100.0), (5.0, 25.0), (5.0, 25.0)
TAU_OUT_BALANCED = 15.0
TAU_W, A_RANGE, B_RANGE = (30.0, 120.0), (-1.0, 1.0), (0.0, 2.0)
INPUT_SCALE, INPUT_SHARE = 0.001, 0.7


def balanced_threshold(w: jax.Array, mu: float, nu: float) -> jax.Array:
    """``(n,)`` thresholds for the input weights ``w (n_in, n)``."""
    return 0.5 * (nu + mu + (w * w).sum(0))


def balanced_recurrence(w: jax.Array, mu: float, scale: float, repeat: int) -> jax.Array:
    """``(n, n)`` recurrent weights for the input weights ``w (n_in, n)``."""
    gram = w.T @ w + mu * jnp.eye(w.shape[1])
    return -scale * gram / (1 - decay(TAU_BALANCED * repeat))


def quantizer(kind: FixedPoint) -> Callable[[jax.Array], jax.Array]:
    """Rounding to a fixed-point format; the gradient passes as if it were not there."""
    low, high = kind.limits

    def quantize(x: jax.Array) -> jax.Array:
        rounded = jnp.clip(jnp.round(x / kind.step) * kind.step, low, high)
        return x + jax.lax.stop_gradient(rounded - x)

    return quantize


class _Builder:
    """Draws the parts of a network in a fixed order, whatever is fixed or traced.

    Args:
        config: the network.
        operator: how maps are traced.
        repeat: R.
        seed: of all draws.
    """

    def __init__(self, config: BalancedConfig, operator: Operator, repeat: int, seed: int) -> None:
        self.config, self.operator, self.repeat = config, operator, repeat
        self.rng = np.random.default_rng([seed, 0xBA1])

    def uniform(self, low: float, high: float, *shape: int) -> jax.Array:
        require_memory(8.0 * math.prod(shape), f"an array of {' x '.join(map(str, shape))}")
        return jnp.asarray(self.rng.uniform(low, high, shape), jnp.float32)

    def orthogonal(self, n: int) -> jax.Array:
        """A random orthogonal matrix (Haar; Mezzadri 2007)."""
        require_memory(3 * 8.0 * n * n, f"a recurrent map of {n:,} neurons")
        q, r = np.linalg.qr(self.rng.standard_normal((n, n)))
        return jnp.asarray(q * np.sign(np.diag(r)), jnp.float32)

    def map(
        self, weight: jax.Array, fixed: bool, mask: Any = None, renewed: bool = False
    ) -> DenseMap | FixedMap:
        """A map with the config's errors and quantisation of weights."""
        change = self._change(weight.shape)
        if fixed:
            return FixedMap(weight if change is None else change(weight), renewed)
        return DenseMap(weight, self.operator, mask=mask, transform=change)

    def _change(self, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array] | None:
        c = self.config
        kind = c.format_of("quantize")
        quantize = quantizer(kind) if kind else None
        if not c.gauss:
            return quantize
        error = jnp.asarray(c.gauss * self.rng.standard_normal(shape), jnp.float32)

        def change(w: jax.Array) -> jax.Array:
            wrong = w * (1 + error) if c.gauss_mul else w + error
            return wrong if quantize is None else quantize(wrong)

        return change

    def vector(
        self, limits: tuple[float, float], n: int, fixed: bool, value: float | None = None
    ) -> VectorParam:
        drawn = self.uniform(*limits, n)
        return VectorParam(
            drawn if value is None else jnp.full(n, value, jnp.float32), limits, self.operator,
            fixed,
        )  # fmt: skip

    def taus(
        self, taus: tuple[float, float], n: int, fixed: bool, tau: float | None = None
    ) -> VectorParam:
        """Decays, uniform between those of the limits, or all at that of ``tau``."""
        limits = (decay(taus[0]), decay(taus[1]))
        return self.vector(limits, n, fixed, None if tau is None else decay(tau))

    def norm(self, n: int) -> LayerNorm | BatchNorm | None:
        kinds = {"layernorm": LayerNorm, "batchnorm": BatchNorm}
        kind = kinds.get(self.config.normalization)
        return None if kind is None else kind(n)

    # -- layers

    def layer(self, n_in: int) -> Any:
        c = self.config
        if c.model in ("MLP", "RNN", "LiGRU", "GRU"):
            return self.baseline(n_in)
        return self.rlif(n_in) if c.model == "RLIF" else self.lif(n_in)

    def lif(self, n_in: int) -> SpikingLayer:
        """LIF, adLIF, RadLIF."""
        c, n = self.config, self.config.neurons
        bound = n_in**-0.5
        w = self.map(self.uniform(-bound, bound, n_in, n), c.fix_w_in)
        alpha = self.taus(TAU_LIF, n, c.fix_tau_rec)
        adaptation = v = None
        if c.model != "LIF":
            adaptation = Adaptation(
                self.taus(TAU_W, n, c.fix_tau_rec), self.vector(A_RANGE, n, c.fix_tau_rec),
                self.vector(B_RANGE, n, c.fix_tau_rec),
            )  # fmt: skip
        if c.model == "RadLIF":
            no_self = 1.0 - np.eye(n)
            v = self.map(self.orthogonal(n) * no_self, c.fix_w_rec, mask=no_self)
        return SpikingLayer(
            w, alpha, jnp.ones(n), v=v, adaptation=adaptation, norm=self.norm(n),
            single=c.single_spike, adc=self.adc(), trained=c.trained,
        )  # fmt: skip

    def rlif(self, n_in: int) -> SpikingLayer:
        c, n, r = self.config, self.config.neurons, self.repeat
        if c.w_in_init == "bernoulli":
            bound = (1 - decay(TAU_BALANCED * r)) / INPUT_SCALE
            kept = jnp.asarray(self.rng.random((n_in, n)) < INPUT_SHARE, jnp.float32)
            weight = kept * self.uniform(-bound, bound, n_in, n)
        else:
            weight = self.uniform(-((2 / n_in) ** 0.5), (2 / n_in) ** 0.5, n_in, n)
        recurrent = self.orthogonal(n)
        slow = self.orthogonal(n) * (c.V_slow_scale * (1 - np.eye(n)))
        theta = jnp.ones(n)
        if c.balance:
            theta = balanced_threshold(weight, c.mu, c.nu)
            recurrent = balanced_recurrence(weight, c.mu, c.V_scale, r)
        limits = (TAU_RLIF[0] * r, TAU_RLIF[1] * r)
        alpha = self.taus(limits, n, c.fix_tau_rec, TAU_BALANCED * r if c.balance else None)
        resets: dict[str, Reset] = {
            "default": "none" if c.fix_w_rec else "one", "voltage": "voltage",
            "threshold": "threshold",
        }  # fmt: skip
        mask = None if c.fix_w_rec else 1.0 - np.eye(n)
        return SpikingLayer(
            self.map(weight, c.fix_w_in), alpha, theta,
            v=self.map(recurrent, c.fix_w_rec, mask, c.balance_refit),
            v_slow=slow if c.slow_dynamics else None, norm=self.norm(n), reset=resets[c.reset],
            single=c.single_spike, adc=self.adc(), renewed=c.balance_refit,
            trained=c.trained,
        )  # fmt: skip

    def adc(self) -> Callable[[jax.Array], jax.Array] | None:
        kind = self.config.format_of("quantize_adc")
        return quantizer(kind) if kind else None

    def baseline(self, n_in: int) -> BaselineLayer:
        c, n = self.config, self.config.neurons
        gates = {"MLP": 1, "RNN": 1, "LiGRU": 2, "GRU": 3}[c.model]
        bound = n_in**-0.5
        w = [self.map(self.uniform(-bound, bound, n_in, n), c.fix_w_in) for _ in range(gates)]
        v = [] if c.model == "MLP" else [
            self.map(self.orthogonal(n), c.fix_w_rec) for _ in range(gates)
        ]  # fmt: skip
        norms = [] if c.normalization == "none" else [self.norm(n) for _ in range(gates)]
        return BaselineLayer(c.model, w, v, norms)

    def readout(
        self, n_out: int, t_crop: int, accumulate: bool, layer: Any, linear: bool
    ) -> SoftmaxReadout:
        c, r = self.config, self.repeat
        bound = c.outputs**-0.5
        weight = self.uniform(-bound, bound, c.outputs, n_out)
        if c.auto_encoder:
            weight = layer.w.effective_weight().T
        limits = (TAU_OUT[0] * r, TAU_OUT[1] * r)
        alpha = None
        if c.model not in ("MLP", "RNN", "LiGRU", "GRU"):
            alpha = self.taus(limits, n_out, c.fix_tau_out, TAU_OUT_BALANCED * r if c.balance
                              else None)  # fmt: skip
        return SoftmaxReadout(
            self.map(weight, c.fix_w_out),
            alpha,
            t_crop,
            accumulate,
            self.norm(n_out),
            linear,
            "bias" in c.trained,
        )


def build_balanced_network(
    config: BalancedConfig,
    n_in: int,
    n_out: int,
    operator: Operator,
    seed: int,
    *,
    repeat: int = 1,
    t_crop: int = 0,
    accumulate: bool = True,
    linear: bool = False,
    dt_ms: float = 1.0,
) -> BalancedNetwork:
    """A network with freshly drawn parameters, a pure function of ``seed``.

    Args:
        config: layers, sizes, options.
        n_in: inputs; n_out: classes (the auto-encoder has as many as inputs).
        operator: how maps are traced (see :mod:`snnlab.models.maps`).
        seed: of all parameters; the same for every operator.
        repeat: R, repetitions of each input step.
        t_crop, accumulate, linear: see :class:`SoftmaxReadout`.
        dt_ms: length of a step, for rates in Hz.
    """
    builder = _Builder(config, operator, repeat, seed)
    with brainstate.environ.context(precision=32):
        layers = [builder.layer(n_in if k == 0 else config.outputs) for k in range(config.n_layer)]
        outputs = n_in if config.auto_encoder else n_out
        readout = builder.readout(outputs, t_crop, accumulate, layers[-1], linear)
    return BalancedNetwork(
        layers, readout, n_in, dt_ms, dropout=config.dropout, bidirectional=config.bidirectional
    )


def refit_program(
    config: BalancedConfig, repeat: int
) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]]:
    """Parameters -> parameters with thresholds and recurrent weights refitted.

    The thresholds, and V where the input weights are trained, are those of the current input
    weights; a V that is trained too is half refitted: ``V = (V_balanced + V) / 2``, both in the
    units of V. Departure: the source mixes V in these units with ``W W^T + mu I`` itself, without
    sign and scale, which turns inhibition into excitation.
    """

    def refit(params: dict[str, jax.Array]) -> dict[str, jax.Array]:
        new = dict(params)
        for k in range(config.n_layer):
            name = f"layers.{k}.w.weight"
            if name not in params:
                continue
            w = params[name]
            wanted = balanced_recurrence(w, config.mu, config.V_scale, repeat)
            new[f"layers.{k}.theta.weight"] = balanced_threshold(w, config.mu, config.nu)
            if config.fix_w_rec:
                new[f"layers.{k}.v.held.weight"] = wanted
            else:
                name = f"layers.{k}.v.weight"
                mixed = 0.5 * (wanted + params[name])
                new[name] = mixed * (1 - jnp.eye(mixed.shape[0], dtype=mixed.dtype))
        return new

    return jax.jit(refit)
