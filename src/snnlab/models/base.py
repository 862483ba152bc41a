"""What a network is to the rest of the suite: a module that advances one step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

#: Names of the readout's parameters start with this: it is a network's attribute ``readout``.
READOUT_PREFIX = "readout."


#: What parameters were called in earlier versions, and what they are called today.
EARLIER = (
    (r"layer\.(?=neuron|pathways|bias)", "layers.0."),
    (r"(layers\.\d+)\.(alpha|theta)\.", r"\1.value.\2."),
    (r"(layers\.\d+)\.adaptation\.", r"\1.value."),
    (r"readout\.w\.", "readout.map."),
    (r"readout\.tau\.", "readout.decay.tau."),
    (r"readout\.alpha\.", "readout.decay."),
)


def todays_name(name: str) -> str:
    """The name of a parameter that a checkpoint of any version has."""
    for pattern, today in EARLIER:
        if re.match(pattern, name):
            return re.sub(pattern, today, name, count=1)
    return name


def path_name(path: tuple) -> str:
    """``("layers", 0, "map", "weight")`` -> ``"layers.0.map.weight"``."""
    return ".".join(str(part) for part in path)


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
        populations: of each recurrent layer the names and sizes of its populations, for figures;
            empty: none has any.
        layerwise: whether the network runs layer after layer over whole sequences only.
    """

    layerwise: bool = False
    thresholds: tuple[Any, ...] = ()
    populations: tuple[tuple[tuple[str, int], ...], ...] = ()
    _summed_from: int | None = None

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

    def kept(self, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Parameters by name as they are kept after an update: rounded, where maps say so."""
        rounded = {
            path_name((*path, "weight")): part.rounded
            for path, part in self.nodes().items()
            if getattr(part, "rounded", None) is not None
        }
        return {n: rounded[n](p) if n in rounded else p for n, p in params.items()}

    def sum_readout(self, first: int) -> None:
        """From now on, let :meth:`update` return the readout summed over the steps from ``first``.

        Each unit's sum depends on this unit alone, which is what an online learner can follow.
        """
        self._summed_from = first

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        if self._summed_from is not None:
            lead = () if batch_size is None else (batch_size,)
            self.summed = brainstate.HiddenState(jnp.zeros((*lead, self.n_out), jnp.float32))
            self.n_done = brainstate.ShortTermState(jnp.int32(0))

    def update(self, x: jax.Array) -> StepOutput:
        """Advance one step of ``dt_ms`` with input ``x (B, n_in)``."""
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            out = self.step(x)
        if self._summed_from is None:
            return out
        counts = self.n_done.value >= self._summed_from
        self.summed.value = self.summed.value + jnp.where(counts, out.readout, 0.0)
        self.n_done.value = self.n_done.value + 1
        return out._replace(readout=self.summed.value)

    def init_states(self, batch_size: int | None) -> None:
        """Set every hidden state to rest, with batch axis ``batch_size`` (none if ``None``)."""
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            brainstate.nn.init_all_states(self, batch_size=batch_size)
