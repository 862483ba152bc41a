"""Our gradients are braintrace's along training too, not only at initialisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.learners import LearnerConfig, get_params, make_learner
from zoo import (
    BATCH,
    LIVE,
    STEPS,
    ArrayStream,
    make_network_fn,
    make_stream,
    make_targets,
    model_config,
    objective,
)

TRAINING, FURTHER, N_BATCHES = 100, 200, 4
METHODS: dict[str, dict[str, Any]] = {
    "diag": {"method": "diag"},
    "expsm_diag": {"method": "expsm_diag", "etrace_decay": 0.9},
}


def along_training(model: str, method: str, n_layer: int, every: int) -> dict[str, Any]:
    """Train with our learner; compare it with braintrace, on the same weights.

    Returns:
        Over updates ``loss``; over every ``every``-th update ``error`` and ``norm`` (by parameter:
        norm of the difference over norm of braintrace's gradient, and the latter) and ``rates`` of
        both backends, per step.
    """
    config = model_config(model, n_layer=n_layer)
    make, goal = make_network_fn(config), objective(config.n_layer)
    ours, theirs = (
        make_learner(LearnerConfig(**METHODS[method], **extra), make, BATCH, goal)
        for extra in ({"backend": "snnlab", "chunk_size": 5}, {"backend": "braintrace"})
    )
    xs = jnp.stack([make_stream(i).xs for i in range(N_BATCHES)])
    targets = jax.tree.map(lambda *a: jnp.stack(a), *[make_targets(i) for i in range(N_BATCHES)])
    params = get_params(make("plain"))
    optimizer = optax.adam(1e-2)

    def segment(learner, params, i):
        batch = jax.tree.map(lambda a: a[i % N_BATCHES], targets)
        return learner.segment(
            params, learner.fresh(), ArrayStream(xs[i % N_BATCHES]), batch, 0, STEPS
        )

    def update(state, i):
        params, opt_state = state
        made = segment(ours, params, i)
        change, opt_state = optimizer.update(made.gradients, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), (params, made[1:3])

    def other(job):
        made = segment(theirs, *job)
        return made.gradients, made.metrics

    start, updates = (params, optimizer.init(params)), jnp.arange(TRAINING + FURTHER)
    visited, (a, metrics) = jax.jit(lambda s: jax.lax.scan(update, s, updates)[1])(start)
    chosen = slice(every - 1, None, every)
    jobs = jax.tree.map(lambda v: v[chosen], (visited, updates))
    b, others = jax.jit(lambda j: jax.lax.map(other, j))(jobs)
    norm = {n: np.linalg.norm(g, axis=(1, 2)) for n, g in b.items()}
    return {
        "loss": metrics.loss,
        "norm": norm,
        "error": {n: np.linalg.norm(a[n][chosen] - b[n], axis=(1, 2)) / norm[n] for n in b},
        "rates": np.stack([metrics.spikes[chosen], others.spikes], 1) / STEPS,
    }


@pytest.mark.parametrize(
    ("model", "method", "n_layer", "every"),
    [
        ("lif-delta", "diag", 1, 10),
        *(pytest.param(m, k, 2, 1, marks=pytest.mark.slow) for m in LIVE for k in METHODS),
    ],
)
def test_gradients_along_training(model: str, method: str, n_layer: int, every: int) -> None:
    found = along_training(model, method, n_layer, every)
    loss = found["loss"]
    first, trained, last = (
        loss[i : i + N_BATCHES].mean() for i in (0, TRAINING - N_BATCHES, len(loss) - N_BATCHES)
    )
    assert trained < 0.7 * first, f"not trained: {first} -> {trained}"
    assert last < trained
    start = TRAINING // every
    rates = found["rates"][start:, 1].mean(0)
    assert np.all((rates > 0.01) & (rates < 0.9)), f"not live: {rates}"
    assert len(found["rates"]) - start == FURTHER // every
    for name, norm in found["norm"].items():
        assert np.all(norm > 1e-4), f"{name}: no gradient at update {every * np.argmin(norm)}"
    for name, errors in found["error"].items():
        worst = int(np.argmax(errors))
        assert errors[worst] < 1e-4, (
            f"{name}: {errors[worst]:.1e} at update {every * worst + every - 1}, spikes per step "
            f"{found['rates'][worst]}"
        )
