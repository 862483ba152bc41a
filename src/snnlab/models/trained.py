"""Values of neurons that may be trained: time constants, thresholds, strengths, biases.

All that is positive by its meaning is trained as its logarithm, ``value = exp(l)``, one ``l`` for
each neuron. So it stays positive whatever the optimiser does, a step of the optimiser is a
relative change (with adam about ``lr`` of the value, be it 10 ms or 1500 ms), and training starts
at the value of the fixed setting, up to rounding. ``l`` is clipped in use to a factor of
:data:`RANGE` up and down from its start, so that nothing becomes 0 or infinite; these limits are so
far away that no gradient is lost at them in a run that learns. Such a parameter is called
``<where>.tau.log``. Biases are trained as they are, from 0.
"""

from __future__ import annotations

import math
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

#: How far a positive value may move from its start: a factor, up and down.
RANGE = 1000.0


class NeuronValue(brainstate.ParamState):
    """A trained value of each neuron, no weight: penalties of weights and weight decay leave it
    alone. They would pull a logarithm towards the value 1, a decay and a gain towards 0.
    """


class Positive(brainstate.nn.Module):
    """``update() -> (n,)``, a trained value of each neuron that keeps its sign.

    Args:
        value: where it starts: a number, an array or a quantity, whose unit it keeps.
        shape: ``(n,)``.
    """

    def __init__(self, value: Any, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unit = value.unit if isinstance(value, u.Quantity) else None
        start = np.broadcast_to(np.asarray(u.get_magnitude(value), np.float32), shape)
        size = np.log(np.maximum(np.abs(start), np.finfo(np.float32).tiny))
        self.limits = size - math.log(RANGE), size + math.log(RANGE)
        self.sign = (
            np.where(start < 0, np.float32(-1), np.float32(1)) if (start < 0).any() else None
        )
        self.log = NeuronValue(jnp.asarray(size))

    def update(self) -> Any:
        value: Any = jnp.exp(jnp.clip(self.log.value, *self.limits))
        value = value if self.sign is None else self.sign * value
        return value if self.unit is None else value * self.unit


class Bounded(brainstate.nn.Module):
    """``update() -> (n,)``, a trained value of each neuron, clipped to ``limits`` in use."""

    def __init__(self, value: Any, limits: tuple[float, float]) -> None:
        super().__init__()
        self.limits = limits
        self.weight = NeuronValue({"weight": jnp.asarray(value)})

    def update(self) -> jax.Array:
        return clip(self.weight.value["weight"], *self.limits)


@jax.custom_jvp
def clip(x: jax.Array, low: Any, high: Any) -> jax.Array:
    """Clip; the derivative at the limits themselves is 1."""
    return jnp.clip(x, low, high)


@clip.defjvp
def _clip_jvp(primals: Any, tangents: Any) -> Any:
    x, low, high = primals
    return jnp.clip(x, low, high), jnp.where((x >= low) & (x <= high), tangents[0], 0.0)


class _Attribute:
    """An attribute whose value is that of the :class:`Positive` of the same name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, kind: type | None = None) -> Any:
        return self if module is None else vars(module)[self.name]()

    def __set__(self, module: Any, value: Any) -> None:
        vars(module)[self.name] = Positive(value, module.varshape)


def training(kind: type, *names: str) -> type:
    """A neuron or synapse type whose attributes ``names`` are trained, a value for each neuron.

    What its ``__init__`` sets them to is where they start; its equations read them as before.
    """
    return type(kind.__name__, (kind,), {n: _Attribute(n) for n in names}) if names else kind


def zero_bias(n: int) -> NeuronValue:
    """``(n,)`` biases, 0 at the start."""
    return NeuronValue(jnp.zeros(n, jnp.float32))
