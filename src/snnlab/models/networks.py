"""The network: layers, then a readout."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.models.base import Network, StepOutput
from snnlab.models.drawing import Draw
from snnlab.models.dropout import Dropout
from snnlab.models.kinds.described import layer_of
from snnlab.models.layer import Layer
from snnlab.models.maps import Operator
from snnlab.models.neuron import Neuron
from snnlab.models.normalization import BatchNorm
from snnlab.models.quantization import DriveLevels
from snnlab.models.readouts import Readout
from snnlab.models.registry import READOUTS
from snnlab.registry import load

Currents = tuple[tuple[jax.Array, jax.Array], ...]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The arguments of :func:`build_network`, without the operator."""

    config: Any
    n_in: int
    n_out: int
    seed: int
    dt_ms: float
    repeat: int
    t_crop: int
    accumulate: bool
    linear: bool


class LayeredNetwork(Network):
    """Layers, then a readout.

    Args:
        layers, readout: of the network.
        n_in: inputs.
        dt_ms: length of a step.
        dropout: share of the layers' outputs that is set to 0 while training.
        bidirectional: every layer reads its input forwards and backwards with the same
            parameters; its output is both, ``2n`` (backwards in the order of time again).
        reads: what the readout sees of the last layer: its spikes, or its membrane less the
            threshold, standardised over the neurons of a sample to mean 0 and variance 1 (the
            pattern and not the common drive).

    Attributes:
        recipe: what it was made of, where :func:`build_network` has made it.
    """

    recipe: Recipe | None = None

    def __init__(
        self,
        layers: Sequence[Layer],
        readout: Readout,
        n_in: int,
        dt_ms: float = 1.0,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reads: Literal["spikes", "membrane"] = "spikes",
    ) -> None:
        super().__init__(n_in, readout.map.out_size[0], dt_ms)
        self.layers = list(layers)
        self.readout = readout
        self.bidirectional, self.reads = bidirectional, reads
        self.dropout = [Dropout(dropout, k) for k in range(len(layers))] if dropout else []
        whole = any(isinstance(part, BatchNorm | DriveLevels) for part in self.nodes().values())
        self.layerwise = bidirectional or whole

    @property
    def thresholds(self) -> tuple[Any, ...]:  # type: ignore[override]
        found = [layer for layer in self.layers if layer.threshold is not None]
        return tuple(self._threshold(layer) for layer in found)

    @property
    def populations(self) -> tuple[tuple[tuple[str, int], ...], ...]:  # type: ignore[override]
        copies = 2 if self.bidirectional else 1
        return tuple(copies * layer.populations for layer in self.layers)

    def _threshold(self, layer: Layer) -> Any:
        """Threshold of a layer's outputs: of both copies where there are two."""
        top = layer.threshold
        return jnp.tile(jnp.broadcast_to(top, (layer.n,)), 2) if self.bidirectional else top

    def init_states(self, batch_size: int | None) -> None:
        super().init_states(batch_size)
        if self.bidirectional and batch_size is not None:
            with brainstate.environ.context(dt=self.dt_ms * u.ms):
                for layer in self.layers:
                    brainstate.nn.init_all_states(layer, batch_size=2 * batch_size)

    def step(self, x: jax.Array) -> StepOutput:
        return self._step(x, None)

    def step_with_currents(self, x: jax.Array) -> tuple[StepOutput, Currents]:
        """:meth:`update`, and the currents that each layer received: ``((exc, inh), ...)``."""
        currents: list[tuple[jax.Array, jax.Array]] = []
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            return self._step(x, currents), tuple(currents)

    def _step(self, x: jax.Array, currents: list[Any] | None) -> StepOutput:
        if self.layerwise:
            raise ValueError("a part of this network needs whole sequences")
        outs = []
        for k, layer in enumerate(self.layers):
            before = layer.membrane
            y = layer(x)
            if currents is not None:
                currents.append(layer.currents(x, before))
            outs.append(y)
            x = jax.nn.standardize(layer.above, axis=-1) if self._reads(k) else y
            x = self.dropout[k](x) if self.dropout else x
        membrane = tuple(layer.membrane for layer in self.layers)
        return StepOutput(self.readout(x), tuple(outs), membrane)

    def _reads(self, k: int) -> bool:
        """Whether what comes after layer ``k`` sees its membrane, and not its spikes."""
        return self.reads == "membrane" and k == len(self.layers) - 1

    def sequence(self, xs: jax.Array, weight: jax.Array) -> StepOutput:
        outs, membrane = [], []
        with brainstate.environ.context(dt=self.dt_ms * u.ms):
            for k, layer in enumerate(self.layers):
                ys, us, above = self._through(layer, xs, weight, self._reads(k))
                outs.append(ys)
                membrane.append(us)
                xs = ys if above is None else jax.nn.standardize(above, axis=-1)
                xs = self.dropout[k].sequence(xs) if self.dropout else xs
            drive = self.readout.drive(xs, weight)
            readout = brainstate.transform.for_loop(self.readout.advance, drive)
        return StepOutput(readout, tuple(outs), tuple(membrane))

    def _through(
        self, layer: Layer, xs: jax.Array, weight: jax.Array, reads: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Outputs and membranes ``(T, B, n)`` of a layer, of both copies ``(T, B, 2n)``; if the
        readout reads it, the membranes above the threshold too."""
        if self.bidirectional:
            xs = jnp.concatenate([xs, xs[::-1]], axis=1)
            weight = jnp.concatenate([weight, weight])

        def step(drive: Any) -> tuple[jax.Array, jax.Array, jax.Array | None]:
            return layer.advance(drive), layer.membrane, layer.above if reads else None

        found = brainstate.transform.for_loop(step, layer.drive(xs, weight))
        return jax.tree.map(self._join, found) if self.bidirectional else found

    @staticmethod
    def _join(ys: jax.Array) -> jax.Array:
        forwards, backwards = jnp.split(ys, 2, axis=1)
        return jnp.concatenate([forwards, backwards[::-1]], axis=2)


def build_network(
    config: Any,
    n_in: int,
    n_out: int,
    operator: Operator,
    seed: int,
    *,
    dt_ms: float | None = None,
    repeat: int = 1,
    t_crop: int = 0,
    accumulate: bool = True,
    linear: bool = False,
) -> LayeredNetwork:
    """A network with freshly drawn parameters, a pure function of ``seed``.

    Args:
        config: a section of models (:func:`snnlab.models.section.model_section`).
        n_in: inputs.
        n_out: readout units.
        operator: how maps are traced (see :mod:`snnlab.models.maps`).
        seed: of weights and values of neurons; the same for every operator.
        dt_ms: length of a step; that of the config by default.
        repeat: steps of each input step, for time constants that are given in steps.
        t_crop: first step of a readout that is summed (:mod:`snnlab.models.readouts`).
        accumulate: whether it is summed.
        linear: whether the sum is that of the units themselves.
    """
    config = config.in_force()
    dt_ms = config.dt if dt_ms is None else dt_ms
    if config.kind.network:
        whole: LayeredNetwork = load(config.kind.network)(config).build(
            n_in, n_out, operator, dt_ms
        )
        return whole
    draw = Draw(config, operator, dt_ms, repeat, np.random.default_rng([seed, 0xBA1]))
    with (
        brainstate.random.seed_context(seed),
        brainstate.environ.context(dt=dt_ms * u.ms, precision=32),
    ):
        build = load(config.kind.build)
        if isinstance(build, type) and issubclass(build, Neuron):
            build = functools.partial(layer_of, neuron=build())
        layers = [
            build(dataclasses.replace(draw, layer=k), n_in if k == 0 else config.outputs)
            for k in range(config.n_layer)
        ]
        make = load(READOUTS[config.readout].build)
        summed = "" if not accumulate else "linear" if linear else "softmax"
        readout = make(draw, layers, n_in, n_out, summed, t_crop)
    network = LayeredNetwork(
        layers, readout, n_in, dt_ms, dropout=config.dropout, bidirectional=config.bidirectional,
        reads=config.reads,
    )  # fmt: skip
    network.recipe = Recipe(config, n_in, n_out, seed, dt_ms, repeat, t_crop, accumulate, linear)
    return network
