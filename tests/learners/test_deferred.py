"""An update at every step, with traces that are not written at every step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.learners.chunks import OnlineLearner
from snnlab.learners.stores import deferred
from snnlab.learners.stores.kernels import traces as kernels
from zoo import (
    BATCH,
    LIVE,
    ArrayStream,
    make_network_fn,
    make_stream,
    make_targets,
    model_config,
    objective,
    relative_error,
)

#: Several times what waits, and no multiple of it.
LENGTH = 4 * deferred.WAITING + 3
FAST = ("lif-delta", "gif-delta")


def along_updates(model: str, method: str) -> tuple[dict[str, jax.Array], jax.Array]:
    """Gradients of all steps, with an update after each; spikes per layer and step."""
    config = model_config(model, n_layer=2)
    make, goal = make_network_fn(config), objective(config.n_layer)
    learner = make_learner(
        LearnerConfig(method=method, update_every=1),
        make, BATCH, goal,
    )  # fmt: skip
    assert isinstance(learner, OnlineLearner)
    # What has no kernel (a readout of few units included) is written at every step.
    for rule in learner.rules:
        assert rule.deferred == (rule.mine if kernels.LEAST_BYTES == 0 else [])
    stream, batch = ArrayStream(make_stream(steps=LENGTH).xs), make_targets()
    params, optimizer = get_params(make("plain")), optax.sgd(0.05)

    def step(state, at):
        params, memory, carry = state
        made = learner.segment(params, carry, stream, batch, at, 1)
        change, memory = optimizer.update(made.gradients, memory, params)
        state = optax.apply_updates(params, change), memory, made.carry
        return state, (made.gradients, made.metrics.spikes)

    start = params, optimizer.init(params), learner.fresh()
    program = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(LENGTH))[1])
    return program(start)


@pytest.mark.parametrize(
    ("model", "method"),
    [
        *((m, "diag") if m in FAST else pytest.param(m, "diag", marks=pytest.mark.slow)
          for m in LIVE),
        ("lif-exp-cu", "eprop"),
        *(pytest.param("lif-exp-cu", m, marks=pytest.mark.slow) for m in ("otpe", "snap-1")),
    ],
)  # fmt: skip
def test_waiting_steps_change_no_gradient(
    model: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "LEAST_BYTES", 2**40)
    want, spikes = along_updates(model, method)
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    found, same_spikes = along_updates(model, method)
    rates = np.asarray(spikes).mean(0)
    assert np.all((rates > 0.01) & (rates < 0.9)), f"not live: {rates}"
    np.testing.assert_array_equal(spikes, same_spikes)
    for name, value in want.items():
        learns = np.linalg.norm(value, axis=(1, 2))[LENGTH // 2 :] > 1e-6
        assert np.mean(learns) > 0.5, f"{name}: {learns}"
        for at, (a, b) in enumerate(zip(found[name], value, strict=True)):
            if np.any(b):
                assert relative_error(a, b) < 1e-5, f"{name}, step {at}"
            else:
                assert not np.any(a), f"{name}, step {at}"
