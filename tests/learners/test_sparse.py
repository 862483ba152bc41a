"""Learners of sparse maps against the same learners of dense maps with a mask."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner, tuning
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.expsm_diag import ESDRTRL
from snnlab.learners.stores.kernels import sparse as kernels
from snnlab.models import Network, build_network
from snnlab.models.maps import DenseMap, SparseMap
from zoo import drtrl

N, SHARE, T = 30, 0.2, zoo.STEPS
CONFIG = zoo.model_config("lif-delta", n_rec=N, ff_scale=30.0, connectivity=SHARE)


def make(operator: Any) -> Network:
    return build_network(CONFIG, zoo.N_IN, zoo.N_OUT, operator, 0)


def make_masked(operator: Any) -> Network:
    """The same network with dense maps."""
    network: Any = make("plain")
    for layer in network.layers:
        (pathway,) = layer.pathways
        weight = pathway.map.dense_weight()
        pathway.map = DenseMap(weight, operator, mask=np.asarray(weight != 0))
    weight = network.readout.map.weight.value["weight"]
    network.readout.map = DenseMap(weight, operator)
    return network


def posts() -> dict[str, np.ndarray]:
    found = make("plain").nodes(SparseMap)
    assert len(found) == 2
    return {".".join(map(str, (*path, "weight"))): np.asarray(m.post) for path, m in found.items()}


def gradients(network: Any, segments: tuple[int, ...] = (T,), **options: Any) -> Any:
    stream, targets = zoo.make_stream(), zoo.make_targets()
    goal = zoo.objective(2, spk_reg_factor=0.1)
    learner = make_learner(LearnerConfig(**options), network, zoo.BATCH, goal)

    @jax.jit
    def program(params: Any) -> Any:
        carry, total, start = learner.fresh(), None, 0
        for length in segments:
            part = learner.segment(params, carry, stream, targets, start, length)
            carry, start = part.carry, start + length
            now = part.gradients, part.metrics
            total = now if total is None else jax.tree.map(jnp.add, total, now)
        return total

    found, metrics = program(get_params(network("plain")))
    return {name: np.asarray(value) for name, value in found.items()}, metrics


@functools.cache
def reference(**options: Any) -> dict[str, np.ndarray]:
    """Gradients of the masked dense network at the existing synapses."""
    found, metrics = gradients(make_masked, **options)
    zoo.assert_live(found, metrics)
    for name, post in posts().items():
        found[name] = found[name][np.arange(len(post))[:, None], post]
    return found


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert zoo.relative_error(found[name], value) < 1e-4, name


SLOW = pytest.mark.slow


@pytest.mark.parametrize("backend", ["snnlab", pytest.param("plain", marks=SLOW)])
def test_bptt(backend: Any) -> None:
    same(gradients(make, backend=backend)[0], reference(backend="plain"))


@pytest.mark.parametrize(
    ("method", "chunk"),
    [
        c if c == ("diag", 3) else pytest.param(*c, marks=SLOW)
        for c in itertools.product(("diag", "expsm_diag"), (1, 3, 7, T))
    ],
)
def test_online(method: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tuning, "CPU", dataclasses.replace(tuning.CPU, block_bytes=1)
    )  # traces sample by sample
    fast = (method, chunk) == ("diag", 3)  # the dense learner is itself compared with braintrace
    wanted = reference(method=method, backend="snnlab" if fast else "braintrace")
    same(gradients(make, method=method, chunk_size=chunk, backend="snnlab")[0], wanted)
    exact = reference(backend="plain")
    assert max(zoo.relative_error(wanted[k], exact[k]) for k in wanted) > 1e-2


LOOPS: dict[str, dict[str, Any]] = {
    "d-rtrl": {"method": "diag", "chunk_size": 3},
    "d-rtrl, one chunk": {"method": "diag"},
    "windows": {"method": "diag", "vjp_method": "multi-step", "chunk_size": 5},
    "es-d-rtrl": {"method": "expsm_diag", "chunk_size": 3},
    "bptt": {"method": "bptt"},
}


@pytest.mark.parametrize(
    "name", [n if n == "d-rtrl" else pytest.param(n, marks=SLOW) for n in LOOPS]
)
def test_our_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same gradients as of dense maps with a mask."""
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    options = LOOPS[name]
    exact = {k: v for k, v in options.items() if k != "chunk_size" or name == "windows"}
    same(gradients(make, backend="snnlab", **options)[0], reference(backend="snnlab", **exact))


@SLOW
def test_segments_continue_in_our_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    options = {"method": "diag", "backend": "snnlab", "chunk_size": 3, "update_every": 1}
    same(gradients(make, (7, T - 7), **options)[0], reference(method="diag", backend="snnlab"))


@SLOW
@pytest.mark.parametrize("method", ["diag", "expsm_diag"])
def test_windows(method: Any) -> None:
    options = {"method": method, "vjp_method": "multi-step", "chunk_size": 5, "backend": "snnlab"}
    same(gradients(make, **options)[0], reference(**options))


@SLOW
def test_segments_continue() -> None:
    options = {"method": "diag", "backend": "snnlab", "chunk_size": 3, "update_every": 1}
    same(gradients(make, (7, T - 7), **options)[0], reference(method="diag", backend="braintrace"))


@SLOW
@pytest.mark.parametrize("chunk", [3, T])
def test_signs_are_kept(chunk: int) -> None:
    """Sign-constrained maps, conductances: a population split over two sparse maps."""
    config = zoo.model_config("lif-exp-co", n_rec=N, n_layer=1, connectivity=SHARE)

    def signed(operator: Any) -> Network:
        return build_network(config, zoo.N_IN, zoo.N_OUT, operator, 0)

    def masked(operator: Any) -> Network:
        network: Any = signed("plain")
        for pathway in network.layers[0].pathways:
            weight = pathway.map.dense_weight()
            kept = np.asarray(weight != 0)
            pathway.map = DenseMap(weight, operator, sign=np.ones(len(kept)), mask=kept)
        return network

    goal = zoo.objective(1)
    found = []
    for network in (signed, masked):
        learner = drtrl(network("plain"), zoo.BATCH, goal, chunk)
        params = get_params(network("plain"))
        params = {name: -value for name, value in params.items()}  # |W| decides, not W
        run = jax.jit(
            lambda p, learner=learner: learner.segment(
                p, learner.fresh(), zoo.make_stream(), zoo.make_targets(), 0, T
            )
        )
        part = run(params)
        found.append(part.gradients)
        assert 0.01 < float(part.metrics.spikes[0]) / T < 0.5
    for path, m in signed("plain").nodes(SparseMap).items():
        name = ".".join(map(str, (*path, "weight")))
        wanted = np.asarray(found[1][name])[np.arange(len(m.post))[:, None], np.asarray(m.post)]
        assert zoo.relative_error(np.asarray(found[0][name]), wanted) < 1e-4


def test_traces_of_existing_synapses_only() -> None:
    learner = drtrl(make("plain"), zoo.BATCH, zoo.objective(2), 3)
    synapses = sum(post.size for post in posts().values()) + N * zoo.N_OUT
    assert learner.trace_bytes == 4 * zoo.BATCH * synapses


@pytest.mark.parametrize("method", ["diag", "expsm_diag"])
def test_refused_where_traces_are_dense(method: Any) -> None:
    config = LearnerConfig(method=method, backend="braintrace")
    with pytest.raises(UsageError, match="use --backend snnlab"):
        make_learner(config, make, zoo.BATCH, zoo.objective(2))


def test_layer_after_layer_is_bptt() -> None:
    found, wanted = (gradients(make, backend=b)[0] for b in ("layerwise", "plain"))
    for name, value in wanted.items():
        assert zoo.relative_error(found[name], value) < 1e-5


def test_hybrid_counts_existing_synapses() -> None:
    """One target for each input: 24 + 12 weights are fewer than 36 inputs + 12 outputs."""
    config = zoo.model_config("lif-delta", n_rec=12, n_layer=1, connectivity=0.05)

    def one(operator: Any) -> Network:
        return build_network(config, zoo.N_IN, zoo.N_OUT, operator, 0)

    learner: Any = make_learner(LearnerConfig(method="hybrid"), one, zoo.BATCH, zoo.objective(1))
    trained = {
        type(rule): {learner.graph.relations[r].trained for r in rule.mine}
        for rule in learner.rules
    }
    assert trained[DRTRL] == {("layers.0.pathways.0.map.weight",)}
    assert trained[ESDRTRL] == {("readout.map.weight",)}
