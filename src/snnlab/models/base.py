"""What a network is to the rest of the suite: a module that advances one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax

#: Names of the readout's parameters start with this: it is a network's attribute ``readout``.
READOUT_PREFIX = "readout."


class StepOutput(NamedTuple):
    """What one step of a network shows to the outside.

    Attributes:
        readout: ``(B, n_out)``, dimensionless.
        spikes: one ``(B, n)`` array of 0 and 1 for each recurrent layer.
        membrane: one ``(B, n)`` array in mV for each recurrent layer.
    """

    readout: jax.Array
    spikes: tuple[jax.Array, ...]
    membrane: tuple[jax.Array, ...]


class Network(brainstate.nn.Module):
    """Base class of networks.

    A subclass defines ``step(x)`` with ``x (B, n_in)``, which advances every
    ``brainstate.HiddenState`` by ``dt_ms`` and returns a :class:`StepOutput`. Everything that is
    trained is a ``brainstate.ParamState`` inside a :class:`snnlab.models.maps.DenseMap` (or its
    subclass ``SparseMap``), or a :class:`snnlab.models.trained.NeuronValue`.

    Attributes:
        n_in, n_out: numbers of inputs and of readout units.
        dt_ms: length of a step in ms.
        thresholds: firing threshold of each recurrent layer in mV, for figures: a number, or
            ``(n,)``.
        layerwise: whether the network runs layer after layer over whole sequences only.
    """

    layerwise: bool = False
    thresholds: tuple[Any, ...] = ()

    def __init__(self, n_in: int, n_out: int, dt_ms: float) -> None:
        super().__init__()
        self.n_in = n_in
        self.n_out = n_out
        self.dt_ms = float(dt_ms)

    def step(self, x: jax.Array) -> StepOutput:
        raise NotImplementedError

    def sequence(self, xs: jax.Array, weight: jax.Array) -> StepOutput:
        """All steps of ``xs (T, B, n_in)`` from rest, layer after layer.

        Args:
            xs: input.
            weight: ``(B,)``, 0 for samples that do not count (padding), else 1.

        Returns:
            Outputs with a leading axis T.
        """
        raise NotImplementedError

    def update(self, x: jax.Array) -> StepOutput:
        """Advance one step of ``dt_ms`` with input ``x (B, n_in)``."""
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            return self.step(x)

    def init_states(self, batch_size: int | None) -> None:
        """Set every hidden state to rest, with batch axis ``batch_size`` (none if ``None``)."""
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            brainstate.nn.init_all_states(self, batch_size=batch_size)
