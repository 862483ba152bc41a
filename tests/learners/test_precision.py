"""--precision: what is rounded, and how near the gradient stays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.models import ModelConfig, build_network
from zoo import drtrl

from .test_chunked import N_IN, N_OUT, B, T, data, maker, objective, run

METHODS: dict[str, dict[str, Any]] = {
    "bptt": {"method": "bptt"},
    "es": {"method": "expsm_diag"},
    "drtrl": {"method": "diag", "chunk_size": 3},
}


def gradient(precision: str, **options: Any) -> np.ndarray:
    make = maker("lif-exp-cu")  # where no spike flips: one that does changes more than rounding
    config = LearnerConfig(**options, backend="snnlab", precision=precision)  # type: ignore[arg-type]
    found = run(make_learner(config, make, B, objective()), get_params(make("plain")))
    return np.concatenate([np.ravel(g) for g in jax.tree.leaves(found.gradients)])


@pytest.mark.parametrize("name", METHODS)
def test_gradient_is_near_and_not_the_same(name: str) -> None:
    exact = gradient("float32", **METHODS[name])
    for precision in ("mixed", "bfloat16"):
        rounded = gradient(precision, **METHODS[name])
        assert rounded.dtype == np.float32
        error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        assert 1e-4 < error < 0.02, (precision, error)


@pytest.mark.slow
def test_what_is_rounded() -> None:
    make = maker("lif-delta")
    stream, batch = data()

    def carry_after(precision: Any):
        learner = drtrl(make("plain"), B, objective(), 3, resumed=True, precision=precision)
        params = get_params(make("plain"))
        return learner.segment(params, learner.fresh(), stream, batch, 0, T).carry, learner

    (mixed, learner), (low, _), (full, exact) = map(carry_after, ("mixed", "bfloat16", "float32"))
    assert {e.dtype for e in mixed.rules[0].traces.values()} == {jnp.dtype(jnp.bfloat16)}
    assert 2 * learner.trace_bytes == exact.trace_bytes

    def is_rounded(h: jax.Array) -> bool:
        return bool(jnp.all(h == h.astype(jnp.bfloat16).astype(jnp.float32)))

    states = jax.tree.leaves(low.net)
    assert all(h.dtype == jnp.float32 for h in states)
    assert all(map(is_rounded, states))
    assert not all(map(is_rounded, jax.tree.leaves(mixed.net)))
    assert not all(map(is_rounded, jax.tree.leaves(full.net)))


@pytest.mark.parametrize("backend", ["plain", "braintrace", "layerwise"])
def test_other_backends_refuse(backend: Any) -> None:
    method: Any = "diag" if backend == "braintrace" else "bptt"
    with pytest.raises(ValueError, match="--precision mixed belongs to --backend snnlab"):
        LearnerConfig(method=method, backend=backend, precision="mixed")


def test_sparse_maps_refuse() -> None:
    config = ModelConfig(n_rec=8, n_layer=1, connectivity=0.5)

    def make(operator: Any):
        return build_network(config, N_IN, N_OUT, operator, 0)

    with pytest.raises(UsageError, match=r"sparse maps .* are float32"):
        make_learner(LearnerConfig(precision="mixed"), make, B, objective(1))
