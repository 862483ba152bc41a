"""Descriptions of neurons in a layer of the tests' own, and a network of one such layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.models.base import Network, StepOutput
from snnlab.models.maps import DenseMap
from snnlab.models.neuron import Neuron
from snnlab.models.trained import NeuronValue
from zoo import BATCH, N_IN, N_OUT, make_stream, make_targets, objective

N = 12


def run(neuron: Neuron, drives: np.ndarray, seed: int = 0, **fixed: Any) -> dict[str, np.ndarray]:
    """A neuron in float64 under ``drives (T, n)``: ``spikes (T, n)``, states after each step.

    ``fixed`` are values that replace those drawn.
    """
    n = drives.shape[1]
    drawn = neuron.values(n, np.random.default_rng(seed))
    with jax.enable_x64(True):
        value = {k: jnp.asarray(v.start, jnp.float64) for k, v in drawn.items()}
        value |= {k: jnp.full(n, v, jnp.float64) for k, v in fixed.items()}

        def step(state: Any, drive: Any) -> Any:
            state = neuron.step(state, (neuron.excess(state, value) > 0) * 1.0, drive, value)
            return state, {"spikes": (neuron.excess(state, value) > 0) * 1.0, **state}

        rest = {name: jnp.zeros(n, jnp.float64) for name in neuron.states}
        found = jax.lax.scan(step, rest, jnp.asarray(drives, jnp.float64))[1]
        return {k: np.asarray(v) for k, v in found.items()}


@jax.custom_jvp
def spike(excess: jax.Array) -> jax.Array:
    """1 above 0, with the derivative ``exp(-2 |excess|)``."""
    return (excess > 0).astype(excess.dtype)


@spike.defjvp
def _spike_jvp(primals: Any, tangents: Any) -> Any:
    (excess,) = primals
    return spike(excess), jnp.exp(-2.0 * jnp.abs(excess)) * tangents[0]


class Population(brainstate.nn.Module):
    """``n`` neurons of one description, with a map of the input and one of their own spikes.

    ``trained`` values are parameters, clipped to their limits in use.
    """

    def __init__(
        self, neuron: Neuron, w: DenseMap, v: DenseMap | None, trained: Iterable[str], seed: int
    ) -> None:
        super().__init__()
        self.neuron, self.w, self.v, self.n = neuron, w, v, w.out_size[0]
        values = neuron.values(self.n, np.random.default_rng(seed))
        self.limits = {name: value.limits for name, value in values.items()}
        self.fixed = {name: jnp.asarray(value.start) for name, value in values.items()}
        self.trained = {name: NeuronValue(self.fixed.pop(name)) for name in trained}

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.state = {
            name: brainstate.HiddenState(jnp.zeros((*lead, self.n), jnp.float32))
            for name in self.neuron.states
        }

    def now(self, made: dict[str, jax.Array] | None = None) -> dict[str, jax.Array]:
        """The states that are stored; ``made`` are those of which the last step kept copies."""
        return {name: held.value for name, held in self.state.items()}

    def update(self, x: jax.Array) -> jax.Array:
        trained = {k: jnp.clip(p.value, *self.limits[k]) for k, p in self.trained.items()}
        value, state = {**self.fixed, **trained}, self.now()
        spikes = spike(self.neuron.excess(state, value))
        drive = self.w(x) if self.v is None else self.w(x) + self.v(spikes)
        new = self.neuron.step(state, spikes, drive, value)
        # States drive each other within a step: copies are stored, and read (docs/architecture.md).
        for name, held in self.state.items():
            held.value = new[name] * 1.0
        return spike(self.neuron.excess(self.now(new), value))


class Readout(brainstate.nn.Module):
    """``r = decay r + s W``."""

    def __init__(self, dense: DenseMap, decay: float) -> None:
        super().__init__()
        self.map, self.decay = dense, decay

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        self.r = brainstate.HiddenState(jnp.zeros((*lead, *self.map.out_size), jnp.float32))

    def update(self, s: jax.Array) -> jax.Array:
        self.r.value = self.decay * self.r.value + self.map(s)
        return self.r.value


class PopulationNetwork(Network):
    """One :class:`Population` below a :class:`Readout`.

    Args:
        neuron: description.
        operator: of the maps.
        scale: standard deviation of the drive of an input spike, times ``sqrt(N_IN)``.
        recurrent: the same of the population's own spikes, 0 for none.
        decay: of the readout.
        trained: values that are.
    """

    def __init__(
        self, neuron: Neuron, operator: Any, *, scale: float, recurrent: float = 0.0,
        decay: float = 0.0, trained: Iterable[str] = (), seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(N_IN, N_OUT, 1.0)
        rng = np.random.default_rng(seed)

        def dense(n_in: int, n_out: int, scale: float) -> DenseMap:
            weight = rng.normal(0.0, scale / np.sqrt(n_in), (n_in, n_out))
            return DenseMap(jnp.asarray(weight, jnp.float32), operator)

        w, out, v = dense(N_IN, N, scale), dense(N, N_OUT, 1.5), dense(N, N, recurrent)
        self.layer = Population(neuron, w, v if recurrent else None, trained, seed)
        self.readout = Readout(out, decay)

    def step(self, x: jax.Array) -> StepOutput:
        spikes = self.layer(x)
        state = self.layer.state[self.layer.neuron.states[0]]
        return StepOutput(self.readout(spikes), (spikes,), (state.value,))


def gradients(
    neuron: Neuron, steps: int, learner: dict[str, Any], **network: Any
) -> tuple[dict[str, np.ndarray], Any]:
    """``(gradients by name, metrics)`` of a learner on one batch of random spikes."""

    def make(operator: Any) -> PopulationNetwork:
        return PopulationNetwork(neuron, operator, **network)

    made = make_learner(LearnerConfig(**learner), make, BATCH, objective(1))
    params = {**get_params(make("plain")), **made.parameters()}
    stream, targets = make_stream(steps=steps), make_targets()
    segment = jax.jit(lambda p: made.segment(p, made.fresh(), stream, targets, 0, steps))(params)
    return {k: np.asarray(v) for k, v in segment.gradients.items()}, segment.metrics
