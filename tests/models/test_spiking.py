"""``--detach_reset`` of described neurons: what a spike does to its own neuron has no gradient."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners.functional import PureNetwork
from snnlab.models import ModelConfig, build_network
from snnlab.models.config import BalancedConfig

N = 5
MODELS = ("LIF", "adLIF", "RLIF", "RadLIF", "SE-adLIF", "BRF", "CuBaLIF")


def network(model: str, detach: bool) -> PureNetwork:
    config = ModelConfig(model=model, n_rec=N, n_layer=1, detach_reset=detach)
    return PureNetwork(build_network(config, 3, 2, "plain", 0), 1)


def near_threshold(pure: PureNetwork) -> dict[str, jax.Array]:
    """Membranes above and below the threshold, all in reach of the surrogate."""
    membrane = jnp.asarray([[0.8, 1.3, 0.9, 1.2, 1.1]])
    own = [name for name in pure.initial if name.startswith("layers.0")]
    first = {"layers.0.state.v", "layers.0.state.u"} & set(own)
    membranes = {"layers.0.state.u"} if "layers.0.state.u" in first else first
    return {n: membrane if n in membranes else jnp.full((1, N), 0.01) for n in own}


@functools.cache
def step(model: str, detach: bool) -> tuple[dict, dict]:
    """States after a step, and their Jacobian ``(N, N)`` by (new, old) state."""
    pure = network(model, detach)
    start = near_threshold(pure)

    def after(h: dict[str, jax.Array]) -> dict[str, jax.Array]:
        carry, _ = pure.step(pure.params(), {**pure.initial, **h}, jnp.ones((1, 3)))
        return {name: carry[name] for name in start}

    jac = jax.jit(jax.jacobian(after))(start)
    blocks = {(b, a): np.asarray(jac[b][a])[0, :, 0] for b in start for a in start}
    return jax.jit(after)(start), blocks


@pytest.mark.parametrize("model", MODELS)
def test_only_the_own_spike_loses_its_gradient(model: str) -> None:
    (states, kept), (same, detached) = step(model, False), step(model, True)
    for name in states:
        np.testing.assert_array_equal(states[name], same[name])
    changed = 0
    for key, block in kept.items():
        other = ~np.eye(N, dtype=bool)  # through the recurrent map
        np.testing.assert_allclose(detached[key][other], block[other], rtol=1e-5, atol=1e-7)
        changed += not np.allclose(np.diag(detached[key]), np.diag(block), rtol=1e-3)
    assert changed > 0
    across = sum(np.abs(block[~np.eye(N, dtype=bool)]).sum() for block in detached.values())
    assert (across > 0) == (model not in ("LIF", "adLIF"))


def test_by_hand() -> None:
    """LIF: du/du is the decay; with the gradient of its reset of 1 it is 0 near the threshold."""
    key = ("layers.0.state.u", "layers.0.state.u")
    alpha = np.asarray(network("LIF", True).params()["layers.0.value.alpha.weight"])
    np.testing.assert_allclose(np.diag(step("LIF", True)[1][key]), alpha, rtol=1e-5)
    np.testing.assert_allclose(np.diag(step("LIF", False)[1][key]), np.zeros(N), atol=1e-7)


def test_refused_where_nothing_resets() -> None:
    with pytest.raises((UsageError, ValueError), match="there is no reset"):
        BalancedConfig(model="RLIF", fix_w_rec=True, detach_reset=True)
    BalancedConfig(model="RLIF", fix_w_rec=True, detach_reset=True, reset="voltage")
