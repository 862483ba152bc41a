"""The readout: from what the last layer shows to the prediction.

    r = a r + drive  or  a r + (1-a) drive,  drive = norm(s W) + bias    (r = drive without a leak)
    o = o + r        or  o + softmax(r) - 1/C  in the steps from ``t_crop`` on     (if it is summed)

The sum of softmaxes is that of Bittar & Garner 2022. Its 1/C, of which no cross-entropy depends,
keeps o small: after thousands of steps float32 would lose the differences between classes
(departure: the source's o has none). In the sum of r itself every unit depends on this unit alone,
which is what an online learner can follow; for small r it is the sum of softmaxes up to a factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Literal

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.maps import DenseMap, FixedMap
from snnlab.models.normalization import BatchNorm, LayerNorm
from snnlab.models.trained import Positive, zero_bias

Sum = Literal["", "linear", "softmax"]


class Readout(brainstate.nn.Module):
    """Leaky linear units, or a sum over time of them; ``update(s (B, n)) -> (B, n_out)``.

    Args:
        dense: the map ``W (n, n_out)``.
        decay: a module that gives a, a number or ``(n_out,)``; ``None`` for ``r = drive``.
        scaled: whether the drive is multiplied by ``1-a``.
        summed: what is summed, r (linear) or its softmax; empty: nothing, r is the output.
        t_crop: first step that is summed.
        norm: normalisation of ``s W``, or ``None``.
        bias: whether a trained bias is added.
    """

    def __init__(
        self,
        dense: DenseMap | FixedMap,
        decay: Callable[[], Any] | None,
        *,
        scaled: bool = False,
        summed: Sum = "",
        t_crop: int = 0,
        norm: LayerNorm | BatchNorm | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.map, self.norm = dense, norm
        self.decay = decay
        self.scaled, self.summed, self.t_crop = scaled, summed, t_crop
        self.bias = zero_bias(dense.out_size[0]) if bias else None

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        zero = jnp.zeros((*lead, *self.map.out_size), jnp.float32)
        if self.decay is not None:
            self.r = brainstate.HiddenState(zero)
        if self.summed:
            self.o = brainstate.HiddenState(zero)
            self.t = brainstate.ShortTermState(jnp.int32(0))

    def drive(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        """``norm(s W)`` of a step or of a sequence; see :class:`snnlab.models.layer.Layer`."""
        drive = self.map(x)
        return drive if self.norm is None else self.norm(drive, weight)

    def advance(self, drive: jax.Array) -> jax.Array:
        """One step with its drive ``(B, n_out)``."""
        r = drive if self.bias is None else drive + self.bias.value
        if self.decay is not None:
            a = self.decay()
            r = a * self.r.value + ((1 - a) * r if self.scaled else r)
            # A copy where r drives o within the step (docs/architecture.md).
            self.r.value = r * 1.0 if self.summed else r
        if not self.summed:
            return r
        counts = self.t.value >= self.t_crop
        more = r if self.summed == "linear" else jax.nn.softmax(r, axis=-1) - 1.0 / r.shape[-1]
        self.o.value = self.o.value + jnp.where(counts, more, 0.0)
        self.t.value = self.t.value + 1
        return self.o.value

    def update(self, s: jax.Array) -> jax.Array:
        return self.advance(self.drive(s))


class Leak(brainstate.nn.Module):
    """``a = exp(-dt / tau)``: a number, ``(n,)`` where tau is trained.

    Args:
        tau_ms: time constant; 0 gives ``a = 0``, no memory.
        dt_ms: length of a step.
        n: units.
        trained: whether each has a time constant of its own that is trained.
    """

    def __init__(self, tau_ms: float, dt_ms: float, n: int, trained: bool) -> None:
        super().__init__()
        self.dt_ms = dt_ms
        self._fixed = math.exp(-dt_ms / tau_ms) if tau_ms > 0 else 0.0
        self.tau = Positive(tau_ms, (n,)) if trained else None

    def update(self) -> Any:
        return self._fixed if self.tau is None else jnp.exp(-self.dt_ms / self.tau())


def leaky_readout(
    dense: DenseMap | FixedMap,
    tau_ms: float,
    dt_ms: float,
    trained: Collection[str] = (),
    norm: LayerNorm | BatchNorm | None = None,
) -> Readout:
    """Leaky linear integrators ``r = a r + s W``; of ``tau_o`` and ``bias`` those in ``trained``
    are trained."""
    leak = Leak(tau_ms, dt_ms, dense.out_size[0], "tau_o" in trained)
    return Readout(dense, leak, norm=norm, bias="bias" in trained)
