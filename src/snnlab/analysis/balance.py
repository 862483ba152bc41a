"""How tightly excitation and inhibition cancel: minus Pearson's correlation of the two currents.

    balance = - mean over neurons and samples of corr_t(F I_exc, F I_inh)

with ``I_exc >= 0`` and ``I_inh <= 0`` the parts of a neuron's input, and a filter F over time:

- ``lowpass``: 4th-order Butterworth, cut-off 0.05 of Nyquist for T >= 1000 steps, else 0.5, run
  forwards and backwards (zero phase), the ends extended oddly by 15 steps: scipy's ``filtfilt``;
- ``median``: of 5 steps, zeros beyond the ends: scipy's ``medfilt``;
- ``raw``: none.

1 is tight balance, 0 none. Source: Stadtmann, Paessens & Gemmeke 2024 (code of BSNN). Departure:
a neuron with a constant current has no correlation; it is left out and counted, while the source
scores it 0. Multiply by ``n_scored / (n_scored + n_constant)`` for the source's number.

:func:`balance` is exact and takes whole traces. :class:`BalanceTracker` sees one step at a time
and keeps a few numbers per neuron, whatever T is: ``raw`` and ``median`` give what
:func:`balance` gives; ``lowpass`` filters forwards twice, which shifts both currents by the same
phase and so leaves their correlation as it is, but for the two ends of the recording.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from snnlab.analysis.config import Metric

ORDER = 4
PAD = 3 * (ORDER + 1)  # steps added at each end, scipy's default


class Balance(NamedTuple):
    """``value`` over ``n_scored`` neurons x samples; ``n_constant`` had no correlation.

    ``value`` is NaN if none was scored.
    """

    value: jax.Array
    n_scored: jax.Array
    n_constant: jax.Array


def cutoff(n_steps: int) -> float:
    """Cut-off of the low-pass as a fraction of the Nyquist frequency."""
    return 0.05 if n_steps >= 1000 else 0.5


def _sections(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Second-order sections ``(2, 6)`` and their states at a constant input of 1, ``(2, 2)``.

    Sections, as float32 cannot carry the 4th-order polynomial at a cut-off of 0.05.
    """
    sos = scipy.signal.butter(ORDER, cutoff(n_steps), output="sos")
    return sos, scipy.signal.sosfilt_zi(sos)


def _filter_step(sos: np.ndarray, state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """One step of cascaded sections (direct form II transposed); ``state`` is a list of pairs."""
    new = []
    for (b0, b1, b2, _, a1, a2), (z1, z2) in zip(sos.tolist(), state):
        y = b0 * x + z1
        new.append((b1 * x - a1 * y + z2, b2 * x - a2 * y))
        x = y
    return new, x


def _settled(zi: np.ndarray, x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """The state of the sections after a long constant input ``x``."""
    return [(z1 * x, z2 * x) for z1, z2 in zi.tolist()]


def lowpass(x: jax.Array) -> jax.Array:
    """``(T, ...)`` low-passed without phase shift; T must exceed 15.

    Raises:
        ValueError: too few steps.
    """
    n_steps = x.shape[0]
    if n_steps <= PAD:
        raise ValueError(f"the low-pass needs more than {PAD} steps, not {n_steps}")
    sos, zi = _sections(n_steps)
    before = 2 * x[:1] - x[PAD:0:-1]
    after = 2 * x[-1:] - x[-2 : -(PAD + 2) : -1]
    y = jnp.concatenate([before, x, after])
    for _ in range(2):  # forwards, then backwards
        _, y = jax.lax.scan(lambda s, v: _filter_step(sos, s, v), _settled(zi, y[0]), y)
        y = y[::-1]
    return y[PAD:-PAD]


def _median5(a: Any, b: Any, c: Any, d: Any, e: Any) -> jax.Array:
    """Element-wise median of five arrays."""
    low = jnp.maximum(jnp.minimum(a, b), jnp.minimum(c, d))
    high = jnp.minimum(jnp.maximum(a, b), jnp.maximum(c, d))
    return jnp.maximum(jnp.minimum(low, high), jnp.minimum(e, jnp.maximum(low, high)))


def median(x: jax.Array) -> jax.Array:
    """``(T, ...)`` running median of 5 steps, zeros beyond the ends."""
    padded = jnp.pad(x, [(2, 2)] + [(0, 0)] * (x.ndim - 1))
    return _median5(*(padded[k : k + x.shape[0]] for k in range(5)))


def balance(exc: jax.Array, inh: jax.Array, metric: Metric = "lowpass") -> Balance:
    """Balance of whole traces.

    Args:
        exc, inh: ``(T, ...)``; every trailing index is one neuron of one sample.
        metric: filter.
    """
    seen = exc, inh
    if metric == "lowpass":
        exc, inh = lowpass(exc), lowpass(inh)
    elif metric == "median":
        exc, inh = seen = median(exc), median(inh)
    varies = jnp.any(seen[0] != seen[0][0], axis=0) & jnp.any(seen[1] != seen[1][0], axis=0)
    x, y = exc - exc.mean(0), inh - inh.mean(0)
    return _balance((x * x).sum(0), (y * y).sum(0), (x * y).sum(0), varies)


def _balance(xx: jax.Array, yy: jax.Array, xy: jax.Array, varies: jax.Array) -> Balance:
    norm = jnp.where(varies, jnp.sqrt(xx) * jnp.sqrt(yy), 1.0)
    n = varies.sum()
    total = jnp.sum(jnp.where(varies, xy / norm, 0.0))
    value = jnp.where(n > 0, -total / jnp.maximum(n, 1), jnp.nan)
    return Balance(value, n, varies.size - n)


class BalanceTracker:
    """The balance of a running network, step by step, in memory that does not grow with T.

    ``state = init(exc, inh)`` with the currents of the first step, ``update`` with those of each
    further step, then ``result``.

    Args:
        metric: filter.
        n_steps: T, which the cut-off depends on.
    """

    def __init__(self, metric: Metric, n_steps: int) -> None:
        self.metric = metric
        sos, zi = _sections(n_steps)
        self._sos, self._zi = np.concatenate([sos, sos]), np.concatenate([zi, zi])

    def init(self, exc: jax.Array, inh: jax.Array) -> Any:
        """State after the first step; ``exc``, ``inh``: ``(...)`` of one step."""
        x = jnp.stack([exc, inh])
        zero, zeros = jnp.zeros_like(exc), jnp.zeros_like(x)
        state = {
            "n": jnp.float32(0), "mean": zeros, "square": zeros, "product": zero,
            "first": x, "varies": jnp.zeros(x.shape, bool),
        }  # fmt: skip
        if self.metric == "lowpass":
            state["filter"] = _settled(self._zi, x)
        elif self.metric == "median":
            state["window"] = [zeros] * 4 + [x]
            state["pushed"] = jnp.int32(1)
            return state
        return self._add(state, x, x, True)

    def update(self, state: Any, exc: jax.Array, inh: jax.Array) -> Any:
        """State after a further step."""
        x = jnp.stack([exc, inh])
        if self.metric == "lowpass":
            filters, y = _filter_step(self._sos, state["filter"], x)
            return self._add({**state, "filter": filters}, y, x, True)
        if self.metric == "median":
            return self._push(state, x)
        return self._add(state, x, x, True)

    def _push(self, state: Any, x: jax.Array) -> Any:
        window = [*state["window"][1:], x]
        pushed = state["pushed"] + 1
        y = _median5(*window)
        state = {**state, "window": window, "pushed": pushed}
        state["first"] = jnp.where(pushed == 3, y, state["first"])
        return self._add(state, y, y, pushed >= 3)

    def _add(self, state: Any, y: jax.Array, seen: jax.Array, counts: Any) -> Any:
        """Welford's update of means and (co)moments with the filtered currents ``y (2, ...)``."""
        weight = jnp.asarray(counts, jnp.float32)
        n = state["n"] + weight
        delta = (y - state["mean"]) * weight
        mean = state["mean"] + delta / jnp.maximum(n, 1.0)
        after = y - mean
        return {
            **state,
            "n": n,
            "mean": mean,
            "square": state["square"] + delta * after,
            "product": state["product"] + delta[0] * after[1],
            "varies": state["varies"] | (jnp.asarray(counts) & (seen != state["first"])),
        }

    def result(self, state: Any) -> Balance:
        """The balance of the steps seen."""
        if self.metric == "median":
            zero = jnp.zeros_like(state["first"])
            state = self._push(self._push(state, zero), zero)
        varies = state["varies"][0] & state["varies"][1]
        return _balance(state["square"][0], state["square"][1], state["product"], varies)
