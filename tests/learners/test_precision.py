"""--precision: what is rounded, and how near the gradient stays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner, tuning
from snnlab.models import ModelConfig, build_network
from zoo import drtrl

from .test_chunked import N_IN, N_OUT, B, T, data, maker, objective, run

#: Learner, and a bound of its gradient's relative error (Euclidean norm).
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "bptt": ({"method": "bptt"}, 0.02),
    "es": ({"method": "expsm_diag"}, 0.02),
    "drtrl": ({"method": "diag", "chunk_size": 3}, 0.02),
    "drtrl, pallas": ({"method": "diag", "chunk_size": 3, "kernels": "pallas"}, 0.02),
}
FAST = ("bptt", "drtrl")


def gradient(precision: str, **options: Any) -> np.ndarray:
    make = maker("lif-exp-cu")  # where no spike flips: one that does changes more than rounding
    config = LearnerConfig(**options, backend="snnlab", precision=precision)  # type: ignore[arg-type]
    learner = make_learner(config, make, B, objective())
    params = {**get_params(make("plain")), **learner.parameters()}
    found = run(learner, params)
    return np.concatenate([np.ravel(g) for g in jax.tree.leaves(found.gradients)])


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
)
def test_gradient_is_near_and_not_the_same(name: str) -> None:
    options, bound = METHODS[name]
    with tuning.planned_for(tuning.ACCELERATOR):
        exact = gradient("float32", **options)
        for precision in ("mixed", "bfloat16"):
            rounded = gradient(precision, **options)
            assert rounded.dtype == np.float32
            error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
            assert 1e-4 < error < bound, (precision, error)


def products(jaxpr: Any) -> list[tuple[str, ...]]:
    """Types of the factors and of the sum of all products in a program, but those with vectors
    (of a penalty in the loss)."""
    found = []
    for eqn in jaxpr.eqns:
        maps = all(v.aval.ndim > 1 for v in eqn.invars)
        if eqn.primitive.name == "dot_general" and maps:
            found.append(tuple(str(v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)))
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            found += products(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("name", ["bptt", "drtrl"])
def test_factors_go_into_products_as_they_are(name: str) -> None:
    """Not made float32 before: an accelerator has units for bfloat16 with float32 sums."""
    make, (options, _) = maker("lif-exp-cu"), METHODS[name]
    with tuning.planned_for(tuning.ACCELERATOR):
        made = make_learner(LearnerConfig(**options, precision="mixed"), make, B, objective())
        stream, batch = data()
        params = get_params(make("plain"))
        program = jax.make_jaxpr(
            lambda p: made.segment(p, made.fresh(), stream, batch, 0, T).gradients
        )(params)
    assert set(products(program.jaxpr)) == {("bfloat16", "bfloat16", "float32")}


@pytest.mark.parametrize("method", ["diag", "expsm_diag"])
def test_a_cpu_refuses_where_it_would_lose(method: Any) -> None:
    config = LearnerConfig(method=method, precision="mixed")
    words = f"--precision mixed with --method {method}: a CPU would need more memory"
    with pytest.raises(UsageError, match=words):
        make_learner(config, maker("lif-delta"), B, objective())


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
