"""Costs against sums over recorded spikes, and against the package neurobench on the same ones."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import brainpy.state
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.data.stream import EventStream, Stream
from snnlab.learners import PureNetwork, PureSequence, get_params, tuning
from snnlab.learners.counting.base import total, whole
from snnlab.models import LayeredNetwork, ModelConfig, Network, StepOutput, build_network
from snnlab.models.baselines import BaselineLayer
from snnlab.models.config import BalancedConfig
from snnlab.models.maps import DenseMap, SparseMap
from snnlab.models.pathways import Pathway, PathwayLayer
from snnlab.models.readouts import leaky_readout
from snnlab.models.spiking import SpikingLayer
from snnlab.training.costs import PJ_AC, PJ_MAC, Costs, over_seeds
from snnlab.training.programs import Programs
from zoo import N_IN, N_OUT, ArrayStream, make_stream, make_targets, objective

needs_neurobench = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("neurobench", "snntorch", "torch")),
    reason="neurobench (extra `neurobench`) is not installed",
)
N, BATCH, STEPS = 7, 3, 11
LIF = {"ff_scale": 10.0, "n_rec": N, "n_layer": 1}
#: A network, and the size of its inputs: 1 is spikes, 2 counts up to 2.
CASES: dict[str, tuple[Any, int]] = {
    "lif-delta": (ModelConfig(model="lif-delta", **{**LIF, "n_layer": 2}), 1),
    "sparse": (ModelConfig(model="lif-delta", connectivity=0.4, **{**LIF, "n_layer": 2}), 2),
    "depression": (ModelConfig(model="lif-std-exp-cu", **{**LIF, "ff_scale": 20.0}), 1),
    "membrane read": (ModelConfig(model="alif-delta", reads="membrane", **LIF), 1),
    "ei": (
        ModelConfig(
            model="ei", sparsity=0.5, **{**LIF, "ff_scale": 2.0}, tau_mem=10.0, tau_syn=5.0
        ), 1,
    ),
    "conductances": (ModelConfig(model="lif-exp-co", rec_scale=0.5, **{**LIF, "ff_scale": 2.0}), 1),
    "RLIF": (
        BalancedConfig(
            model="RLIF", n_rec=N, w_in_init="uniform", slow_dynamics=True, fix_w_in=True
        ), 1500,
    ),
    "batchnorm, both ways": (
        BalancedConfig(
            model="RadLIF", n_rec=N, n_layer=2, normalization="batchnorm", bidirectional=True
        ), 2,
    ),
    "GRU": (ModelConfig(model="GRU", n_rec=N, n_layer=1), 1),
    "LiGRU": (ModelConfig(model="LiGRU", n_rec=N, n_layer=2), 2),
    "MLP": (ModelConfig(model="MLP", n_rec=N, n_layer=1), 2),
}  # fmt: skip
QUICK = ("sparse", "batchnorm, both ways", "GRU")
ALL = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
MASK = np.array([1.0, 0.0, 1.0], np.float32)


class Seen(NamedTuple):
    """What was evaluated: costs, and what the network was given and did, ``(T, B, ...)``."""

    network: Any
    facts: dict[str, Any]
    xs: np.ndarray
    out: StepOutput
    spiking: bool


def evaluated(
    network: Network, xs: np.ndarray, spiking: bool = True, stream: Stream | None = None
) -> Seen:
    """Two batches of the same samples, one of which is padding."""
    whole = network.layerwise
    pure: Any = PureSequence(network, jnp.ones(BATCH)) if whole else PureNetwork(network, BATCH)
    layers = len(network.layers) if isinstance(network, LayeredNetwork) else 1
    learner: Any = None
    programs = Programs(learner, optax.sgd(0.0), objective(layers), pure, len(xs))
    programs.spiking = spiking
    params = get_params(network)
    stream = ArrayStream(jnp.asarray(xs)) if stream is None else stream
    targets = make_targets(batch=BATCH)._replace(mask=jnp.asarray(MASK))
    costs = Costs()
    for _ in range(2):
        numbers, counts = programs.evaluate_and_count(params, stream, targets)
        costs.add(counts)
    assert programs.n_compiled == 1
    again = programs.evaluate(params, stream, targets)  # the same program, without counts
    assert programs.n_compiled == 1
    assert float(again["loss"]) == float(numbers["loss"])
    _, out = programs.record(params, stream, np.arange(BATCH, dtype=np.int32))
    return Seen(network, programs.cost_facts(params, costs), xs, jax.device_get(out), spiking)


@functools.cache
def seen(name: str) -> Seen:
    config, size = CASES[name]
    network = build_network(config, N_IN, N_OUT, "plain", 0, accumulate=False)
    xs = np.asarray(make_stream(steps=STEPS, batch=BATCH, rate=0.3).xs)
    if size == 2:  # counts in some steps of some samples
        xs = xs * (1 + (np.random.default_rng(1).random(xs.shape) < 0.02)).astype(np.float32)
    elif size > 2:
        xs = xs * np.float32(size)
    return evaluated(network, xs, config.is_spiking)


# ------------------------------------------------------------------ by hand, from the modules


def before(y: np.ndarray) -> np.ndarray:
    """Of each step what the one before has made."""
    return np.concatenate([np.zeros_like(y[:1]), y[:-1]])


def weight(map_: Any) -> np.ndarray:
    return np.asarray(
        map_.dense_weight() if isinstance(map_, SparseMap) else map_.effective_weight()
    )


def connections(s: Seen) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs ``(T, B, i)`` and weights ``(i, n)`` of all connections; ``2T`` both ways."""
    net, below = s.network, s.xs
    for layer, y in zip(net.layers, s.out.spikes, strict=True):
        x, own = below, before(y)
        if net.bidirectional:  # the same weights a second time, backwards
            half = y.shape[-1] // 2
            x = np.concatenate([x, x[::-1]])
            own = np.concatenate([own[..., :half], before(y[::-1, :, half:])])
        yield from of_layer(layer, x, own)
        below = y
    if net.reads == "membrane":
        above = s.out.membrane[-1] - np.asarray(net.layers[-1].threshold)
        below = np.asarray(jax.nn.standardize(jnp.asarray(above), axis=-1))
    yield below, weight(net.readout.map)


def of_layer(layer: Any, x: np.ndarray, own: np.ndarray) -> Iterator[tuple[Any, Any]]:
    if isinstance(layer, PathwayLayer):
        for path in layer.pathways:
            w, mine = weight(path.map), own[..., path.own]
            if path.plasticity is not None:  # depressed by earlier spikes: a share of a spike
                mine = mine * np.where(np.cumsum(mine, 0) > 1, np.float32(0.3), 1)
            if path.takes_input:
                yield x, w[: x.shape[-1]]
                w = w[x.shape[-1] :]
            if len(w):
                yield mine, w
    elif isinstance(layer, SpikingLayer):
        yield x, weight(layer.w)
        if layer.v is not None:
            yield own, weight(layer.v)
        if layer._v_slow is not None:
            a, r, rs = np.asarray(layer.value["alpha"]()), np.zeros_like(own[0]), []
            for s in own:
                r = a * r + s
                rs.append(r)
            yield np.stack(rs), np.asarray(layer._v_slow)
    else:
        assert isinstance(layer, BaselineLayer)
        for w in layer.w:
            yield x, weight(w)
        gates = [own] * len(layer.v)
        if layer.kind == "GRU":
            w, v = weight(layer.w[2]), weight(layer.v[1])
            r = 1 / (1 + np.exp(-(x @ w + own @ v)))
            gates[0] = r * own
        for y, map_ in zip(gates, layer.v, strict=True):
            yield y, weight(map_)


@pytest.mark.parametrize("name", ALL)
def test_costs_are_sums_over_recorded_spikes(name: str) -> None:
    s = seen(name)
    found = s.facts
    acs = macs = dense = 0.0
    zero = weights = 0
    for x, w in connections(s):
        x = x[:, MASK > 0]
        graded = ~np.isin(x, (-1, 0, 1)).all(-1)
        each = (x != 0) @ (w != 0).sum(1)
        acs, macs = acs + each[~graded].sum() / 2, macs + each[graded].sum() / 2
        dense += len(x) * w.size
        zero, weights = zero + (w == 0).sum(), weights + w.size
    assert found["synaptic_operations_effective_acs"] == acs
    assert found["synaptic_operations_effective_macs"] == macs
    assert found["synaptic_operations_dense"] == dense
    assert acs + macs > 0
    assert found["connection_sparsity"] == zero / weights
    on = [float((y[:, MASK > 0] != 0).mean()) for y in s.out.spikes]
    assert found["activation_sparsity_by_layer"] == pytest.approx([1 - k for k in on])
    assert found["activation_sparsity"] == pytest.approx(1 - np.mean(on))
    assert found["samples"] == 4
    assert found["steps"] == STEPS
    estimate = (PJ_AC * acs + PJ_MAC * macs) / 1000
    assert found["energy_estimate_nj"] == pytest.approx(estimate)
    updates = [
        (v[1:] != v[:-1])[:, MASK > 0].sum() + 2 * v.shape[-1] for v in s.out.membrane
    ]  # fmt: skip
    wanted = sum(map(int, updates)) / 2 if s.spiking else None
    assert found["membrane_updates"] == wanted
    assert found["reasons"] == {} or not s.spiking
    if s.spiking:
        assert 0 < found["activation_sparsity"] < 1
    if name == "lif-delta":
        assert macs == 0
    if name == "ei":
        assert 0.3 < found["connection_sparsity"] < 0.6
    for kind in ("dense", "effective_acs", "effective_macs"):
        total = found[f"synaptic_operations_{kind}"]
        assert found[f"synaptic_operations_{kind}_per_step"] == total / STEPS


def test_what_the_cases_are_for() -> None:
    mixed = seen("sparse").facts
    assert mixed["synaptic_operations_effective_acs"] > 0
    assert mixed["synaptic_operations_effective_macs"] > 0
    assert 0.4 < mixed["connection_sparsity"] < 0.7
    gru = seen("GRU").facts
    assert gru["membrane_updates"] is None
    assert "no membrane" in gru["reasons"]["membrane_updates"]
    assert gru["synaptic_operations_effective_acs"] > 0  # spikes onto the layer
    assert gru["synaptic_operations_effective_macs"] > 0  # its outputs onto itself


def test_footprint() -> None:
    """Of 32 bits: weights of synapses that exist, their targets, and time constants."""
    facts, k = seen("sparse").facts, round(0.4 * N)
    synapses = (N_IN + N) * k + 2 * N * k
    assert facts["parameter_bytes"] == 4 * (synapses + N * N_OUT)
    assert facts["buffer_bytes"] == 4 * (synapses + 2 * N)
    assert facts["footprint_bytes"] == facts["parameter_bytes"] + facts["buffer_bytes"]


def events_of(xs: np.ndarray) -> EventStream:
    """Ones of ``xs (T, B, i)`` as events, each of them twice."""
    step, cell = np.nonzero(xs.reshape(len(xs), -1))
    step, cell = np.repeat(step, 2), np.repeat(cell, 2).astype(np.int32)
    bounds = np.searchsorted(step, np.arange(len(xs) + 1)).astype(np.int32)
    cell = np.concatenate([cell, np.zeros(9, np.int32)])
    return EventStream(cell, bounds, batch_size=BATCH, n_in=N_IN, binary=True, block=8)


@pytest.mark.parametrize("events", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_chunks_and_lists_of_events_cost_the_same(events: bool) -> None:
    """11 steps in three chunks; what a membrane was before a chunk is not forgotten.

    In six steps nothing comes in, and membranes stay at rest: the first one updates all the same.
    """
    config = BalancedConfig(model="LIF", n_rec=N, n_layer=1)
    xs = np.array(make_stream(steps=STEPS, batch=BATCH, rate=0.5).xs)
    xs[:6] = 0
    made, found = build_network(config, N_IN, N_OUT, "plain", 0), []
    for size in (50, 4):
        plan = dataclasses.replace(tuning.CPU, bptt_block=size, least_events=1)
        with tuning.planned_for(plan):
            stream = events_of(xs) if events and size == 4 else None
            found.append(evaluated(made, xs, stream=stream).facts)
    assert found[0] == found[1]
    assert found[0]["membrane_updates"] == (STEPS - 5) * N
    assert found[0]["synaptic_operations_effective_acs"] > 0


def test_sums_beyond_32_bits() -> None:
    rows = [jnp.full((3, 4), 2**31 - 1, jnp.int32), jnp.full((3, 4), 258, jnp.int32)]
    parts = total(rows, jnp.asarray([1.0, 0.0, 1.0, 1.0]))
    assert whole(parts).tolist() == [9 * (2**31 - 1), 9 * 258]
    assert whole(total([], jnp.ones(4))).tolist() == []


# ------------------------------------------------------------------ what cannot be said


class Attending(Network):
    """A network that multiplies its spikes with a weight that its input makes."""

    def __init__(self) -> None:
        super().__init__(N_IN, N_OUT, 1.0)
        rng = np.random.default_rng(0)

        def dense(n_in: int, n_out: int) -> DenseMap:
            return DenseMap(jnp.asarray(rng.normal(0, 2.0, (n_in, n_out)), jnp.float32))

        neuron = brainpy.state.LIF(N, tau=10.0 * u.ms, V_th=1.0 * u.mV)
        self.layer = PathwayLayer(neuron, [Pathway(dense(N_IN + N, N))])
        self.readout = leaky_readout(dense(N, N_OUT), 10.0, 1.0)

    def step(self, x: jax.Array) -> StepOutput:
        s = self.layer(x)
        made = jnp.einsum("bi,bn->in", x[:, :N], s)  # of the batch: no weight
        return StepOutput(self.readout(s + 0.01 * (s @ made)), (s,), (self.layer.membrane,))


def test_a_connection_that_is_not_known_is_said() -> None:
    xs = np.asarray(make_stream(steps=4, batch=BATCH, rate=0.3).xs)
    facts = evaluated(Attending(), xs).facts
    assert facts["synaptic_operations_effective_acs"] is None
    assert facts["energy_estimate_nj"] is None
    assert "dot_general" in facts["reasons"]["synaptic_operations_dense"]
    assert facts["membrane_updates"] > 0
    assert 0 < facts["activation_sparsity"] < 1


def test_nothing_counted() -> None:
    facts = Costs().facts([np.zeros(3, np.float32)], [], 5, True)
    assert facts["footprint_bytes"] == 12
    assert facts["synaptic_operations_dense"] is None
    assert facts["reasons"]["membrane_updates"] == "no sample was counted"


def test_the_costs_of_several_seeds_are_means() -> None:
    one = {"samples": 4, "a": 1.0, "by": [1.0, 2.0], "b": None, "text": "x", "reasons": {"b": "y"}}
    both = over_seeds([one, {**one, "a": 2.0, "by": [3.0, 2.0], "b": 7.0}])
    assert both == {**one, "a": 1.5, "by": [2.0, 2.0]}
    assert isinstance(both["samples"], int)
    assert over_seeds([{**one, "b": 7.0}, one])["b"] is None
    assert over_seeds([]) == {}


# ------------------------------------------------------------------ the package


def of_neurobench(s: Seen) -> dict[str, Any]:
    """What neurobench finds of a torch network that has the weights and plays the spikes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and snntorch, as they are imported
        import snntorch
        import torch
        from neurobench.metrics import static, workload
        from neurobench.models import SNNTorchModel

    class Played(snntorch.SpikingNeuron):
        """Spikes and membranes of a layer, ``(T, n)``."""

        mem: Any

        def play(self, spikes: np.ndarray, mem: np.ndarray) -> None:
            self.spikes, self.mems = torch.tensor(spikes), torch.tensor(mem)
            self.mem = torch.zeros_like(self.mems[0])

        def forward(self, t: int) -> Any:
            self.mem = self.mems[t][None]
            return self.spikes[t][None], self.mem

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pairs = list(connections(s))
            self.maps = torch.nn.ModuleList()
            for _, w in self.pairs:
                linear = torch.nn.Linear(*w.shape, bias=False)
                linear.weight.data = torch.tensor(w.T.copy())
                self.maps.append(linear)
            self.layers = torch.nn.ModuleList([Played() for _ in s.out.spikes])

        def play(self, sample: int) -> None:
            self.inputs = [torch.tensor(x[:, sample]) for x, _ in self.pairs]
            for layer, y, v in zip(self.layers, s.out.spikes, s.out.membrane, strict=True):
                layer.play(y[:, sample], v[:, sample])
            self.t = -1

        def reset(self) -> None:
            pass

        def forward(self, x: Any) -> Any:
            self.t += 1
            for linear, mine in zip(self.maps, self.inputs, strict=True):
                for step in mine[self.t :: len(s.xs)]:
                    made = linear(step[None])
            for layer in self.layers:
                layer(self.t)
            return made, made

    net = Net()
    model = SNNTorchModel(net)
    made = {"connection_sparsity": static.ConnectionSparsity()(model)}
    made["parameters"] = sum(p.numel() for p in net.maps.parameters())
    model.register_hooks()
    sums = workload.SynapticOperations(), workload.MembraneUpdates()
    sparsity = []
    for sample in np.flatnonzero(MASK):
        net.play(int(sample))
        data = torch.tensor(s.xs[:, sample])[None], torch.zeros(1)
        model.reset_hooks()
        with torch.no_grad():
            preds = model(data[0])
        for metric in sums:
            metric(model, preds, data)
        sparsity.append(workload.ActivationSparsity()(model, preds, data))
    model.cleanup_hooks()
    operations, updates = (metric.compute() for metric in sums)
    return {
        **made, "activation_sparsity": np.mean(sparsity), "membrane_updates": updates,
        "synaptic_operations_dense": operations["Dense"],
        "synaptic_operations_effective_acs": operations["Effective_ACs"],
        "synaptic_operations_effective_macs": operations["Effective_MACs"],
    }  # fmt: skip


@needs_neurobench
@pytest.mark.parametrize("name", ALL)
def test_costs_are_those_of_neurobench(name: str) -> None:
    s = seen(name)
    wanted = of_neurobench(s)
    for what in ("dense", "effective_acs", "effective_macs"):
        key = f"synaptic_operations_{what}"
        assert s.facts[key] == wanted[key], key
    assert s.facts["activation_sparsity"] == pytest.approx(wanted["activation_sparsity"], abs=1e-12)
    # The package rounds to four digits.
    assert s.facts["connection_sparsity"] == pytest.approx(wanted["connection_sparsity"], abs=5e-5)
    if s.spiking:
        assert s.facts["membrane_updates"] == wanted["membrane_updates"]
    if name == "lif-delta":
        assert s.facts["parameter_bytes"] == 4 * wanted["parameters"]
