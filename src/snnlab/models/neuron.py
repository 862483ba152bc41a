"""A neuron as a description: named states, values of each neuron, one pure step.

What is alike in all neurons is not here: maps of input and spikes, normalisation, states of a
batch and training belong to the layer that a neuron is put into.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax

#: State or value by name, ``(B, n)`` or ``(n,)``.
Named = Mapping[str, "jax.Array"]


class Value(NamedTuple):
    """A value of each neuron, such as a decay or a threshold.

    Attributes:
        start: ``(n,) float32``, where it starts.
        limits: to which it is clipped in use while it is trained.
    """

    start: np.ndarray
    limits: tuple[float, float] = (-np.inf, np.inf)


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
        """The values of ``n`` neurons, drawn in a fixed order."""

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
