"""A neuron as a description: named states, values of each neuron, one pure step.

What is alike in all neurons is not here: maps of input and spikes, normalisation, states of a
batch and training belong to the layer that a neuron is put into
(:class:`snnlab.models.spiking.SpikingLayer`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from snnlab.lazy import lazy

if TYPE_CHECKING:
    import jax
    import numpy as np
else:
    np = lazy("numpy")

#: State or value by name, ``(B, n)`` or ``(n,)``.
Named = Mapping[str, "jax.Array"]


class Value(NamedTuple):
    """A value of each neuron, such as a decay or a threshold.

    Attributes:
        start: ``(n,) float32``, where it starts.
        limits: to which it is clipped in use while it is trained.
    """

    start: np.ndarray
    limits: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def uniform(cls, rng: np.random.Generator, low: float, high: float, n: int) -> Value:
        """Drawn uniformly from its limits."""
        return cls(np.asarray(rng.uniform(low, high, n), np.float32), (low, high))


class Neuron(abc.ABC):
    """Equations of one neuron model.

    A layer calls, in every step, ``step`` with the spikes ``excess(state) > 0`` of the state that
    the step before has left; so states are all that evolves, and an online learner has one trace
    for each of them. All arrays are float32.
    """

    #: Names of what evolves, from 0; the first one is the membrane.
    states: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def values(self, n: int, rng: np.random.Generator) -> dict[str, Value]:
        """The values of ``n`` neurons, drawn in a fixed order.

        They are trained unless ``--fix_tau_rec`` is given. One that is called ``theta`` is the
        threshold: it is fixed unless ``--trainable`` names it, and stays positive then.
        """

    @abc.abstractmethod
    def step(
        self, state: Named, spikes: jax.Array, drive: jax.Array, value: Named
    ) -> dict[str, jax.Array]:
        """The next state.

        Args:
            state: ``(B, n)`` each.
            spikes: ``(B, n)``, those of ``state``.
            drive: ``(B, n)``, all that the neuron receives in this step.
            value: ``(n,)`` each.
        """

    @abc.abstractmethod
    def excess(self, state: Named, value: Named) -> jax.Array:
        """``(B, n)``: a neuron spikes where this is above 0; the surrogate's argument."""


def decay(tau: float) -> float:
    """``exp(-1 / tau)`` for a time constant in steps."""
    return math.exp(-1.0 / tau)
