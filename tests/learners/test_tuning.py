"""The policies of an accelerator, on a CPU: the same gradients, programs that others can run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import zoo
from snnlab.learners import LearnerConfig, get_params, make_learner, tuning

LEARNERS: dict[str, dict[str, Any]] = {
    "bptt": {"method": "bptt"},
    "d-rtrl": {"method": "diag"},
    "d-rtrl, traces": {"method": "diag", "chunk_size": 3},
    "d-rtrl, every step": {"method": "diag", "update_every": 1},
    "es-d-rtrl": {"method": "expsm_diag"},
    "mixed": {"method": "diag", "chunk_size": 3, "precision": "mixed"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    **{model: {"model": model} for model in zoo.LIVE},
    "sparse": {"model": "lif-delta", "n_rec": 30, "connectivity": 0.2, "ff_scale": 30.0},
}
#: What an accelerator does in another way, of a model with several traced states, and sparse.
FAST = [("gif-delta", "d-rtrl, every step"), ("gif-delta", "es-d-rtrl")]
FAST += [("sparse", "d-rtrl, traces")]
PAIRS = [(n, k) for n in NETWORKS for k in LEARNERS if (n, k) != ("sparse", "mixed")]
#: What a CPU takes too.
BOTH = [(n, k) for n, k in PAIRS if k != "mixed"]


def program(network: dict[str, Any], learner: dict[str, Any]) -> Any:
    """``(gradients, metrics)`` as a function of parameters, input and targets."""
    config = zoo.model_config(**network)
    make, goal = zoo.make_network_fn(config), zoo.objective(config.n_layer)
    made = make_learner(LearnerConfig(**learner), make, zoo.BATCH, goal)
    length = learner.get("update_every") or zoo.STEPS
    assert made.backend == "snnlab"

    def run(params: Any, xs: jax.Array, targets: Any) -> Any:
        def some(carry: Any, start: Any) -> Any:
            part = made.segment(params, carry, zoo.ArrayStream(xs), targets, start, length)
            return part.carry, (part.gradients, part.metrics)

        if length == zoo.STEPS:
            return some(made.fresh(), 0)[1]
        _, parts = jax.lax.scan(some, made.fresh(), length * jnp.arange(zoo.STEPS // length))
        return jax.tree.map(lambda a: a.sum(0), parts)

    return jax.jit(run), (get_params(make("plain")), zoo.make_stream().xs, zoo.make_targets())


@pytest.mark.parametrize(
    ("network", "learner"),
    [pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow) for pair in BOTH],
)
def test_same_gradients(network: str, learner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, given = program(NETWORKS[network], LEARNERS[learner])
    want, measured = run(*given)
    monkeypatch.setattr(tuning, "CPU", tuning.ACCELERATOR)
    other, _ = program(NETWORKS[network], LEARNERS[learner])
    found, same = other(*given)
    zoo.assert_live({k: np.asarray(v) for k, v in want.items()}, measured)
    np.testing.assert_array_equal(measured.spikes, same.spikes)
    for name, value in want.items():
        assert zoo.relative_error(np.asarray(found[name]), np.asarray(value)) < 1e-5, name


def loops(jaxpr: Any) -> list[int]:
    """Lengths of the scans in a program."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            found.append(eqn.params["length"])
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += loops(inner)
    return found


def test_no_loop_over_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces are passed over in operations of the whole batch."""
    names = NETWORKS["lif-delta"], LEARNERS["d-rtrl, every step"]
    run, given = program(*names)
    assert zoo.BATCH in loops(jax.make_jaxpr(run)(*given).jaxpr)
    monkeypatch.setattr(tuning, "CPU", tuning.ACCELERATOR)
    run, given = program(*names)
    found = loops(jax.make_jaxpr(run)(*given).jaxpr)
    assert zoo.STEPS in found
    assert zoo.BATCH not in found


@pytest.mark.parametrize(
    ("network", "learner"),
    [
        pair if pair[0] == "lif-delta" else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in PAIRS
    ],
)
def test_exported(network: str, learner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that has no lowering on a GPU or a TPU."""
    monkeypatch.setattr(tuning, "CPU", tuning.ACCELERATOR)
    run, given = program(NETWORKS[network], LEARNERS[learner])
    made = export.export(run, platforms=["cuda", "tpu"])(*given)
    assert made.platforms == ("cuda", "tpu")
