"""Networks for tests of NIR, what they do in 1,000 steps, and the readers of other packages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from snnlab.learners.forward import response
from snnlab.models import LayeredNetwork, ModelConfig, StepOutput, build_network
from snnlab.models.maps import DenseMap, Held
from snnlab.models.neuron import Neuron
from snnlab.models.neurons.cuba_lif import CuBaLIF
from snnlab.models.neurons.lif import LIF
from snnlab.models.readouts import leaky_readout
from snnlab.models.spiking import SpikingLayer

N_IN, N, N_OUT, STEPS = 20, 16, 4, 1000
XS = (np.random.default_rng(0).random((STEPS, 2, N_IN)) < 0.1).astype(np.float32)


def of_model(model: str, seed: int = 3, **options: Any) -> LayeredNetwork:
    config = ModelConfig(**{"model": model, "n_rec": N, "n_layer": 2, **options})
    return build_network(config, N_IN, N_OUT, "plain", seed)


def feed_forward(neuron: Neuron, scale: float = 30.0) -> LayeredNetwork:
    """Two layers without recurrence, made by hand."""
    rng, layers, n_in = np.random.default_rng(1), [], N_IN
    for _ in range(2):
        w = rng.normal(0, scale * n_in**-0.5, (n_in, N)).astype(np.float32)
        value = {k: Held(jnp.asarray(v.start)) for k, v in neuron.values(N, rng).items()}
        layers.append(SpikingLayer(neuron, DenseMap(jnp.asarray(w)), value))
        n_in = N
    w = rng.normal(0, 1, (N, N_OUT)).astype(np.float32)
    return LayeredNetwork(layers, leaky_readout(DenseMap(jnp.asarray(w)), 10.0, 1.0), N_IN)


#: Networks that NIR says exactly, by name; all neurons of a layer have one time constant.
EXACT: dict[str, Callable[[], LayeredNetwork]] = {
    "lif": functools.partial(of_model, "lif-delta", spk_reset="hard", tau_mem_sigma=0.0),
    "cuba": functools.partial(
        of_model, "lif-exp-cu", spk_reset="hard", tau_mem_sigma=0.0, ff_scale=30.0
    ),
    "if": functools.partial(of_model, "if-delta", spk_reset="hard", ff_scale=2.0),
    "lif-feed-forward": lambda: feed_forward(LIF((10.0, 10.0), "voltage")),
    "cuba-feed-forward": lambda: feed_forward(CuBaLIF(), 60.0),
}
#: Networks whose spikes subtract the threshold, which NIR has no word for and some readers do.
SOFT: dict[str, Callable[[], LayeredNetwork]] = {
    "soft": functools.partial(of_model, "lif-delta"),
    "soft-cuba": functools.partial(of_model, "lif-exp-cu", ff_scale=30.0),
    "soft-feed-forward": lambda: feed_forward(LIF((5.0, 25.0), "one")),
}


@functools.cache
def answer(name: str) -> tuple[LayeredNetwork, StepOutput]:
    """A network of these tables, and what it does with :data:`XS`; its layers are alive."""
    network = {**EXACT, **SOFT}[name]()
    out = response(network, XS)
    assert all(0.01 < s.mean() < 0.5 for s in out.spikes)
    return network, out


def first_difference(a: Any, b: Any) -> int | None:
    """The first step in which spikes ``(T, B, n)`` differ."""
    differ = (np.asarray(a) != np.asarray(b)).reshape(len(a), -1).any(1)
    return int(differ.argmax()) if differ.any() else None
