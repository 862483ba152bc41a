"""The spiking integrator against its equations with full N x N matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.models.integrator import State, currents, decoders, make_integrator, rest, step


@pytest.mark.parametrize("coupling", [0.0, -3.0])
def test_a_step_is_that_of_the_full_matrices(coupling: float) -> None:
    n, n_dim, a, mu, nu = 12, 3, 0.99, 0.3, 0.2
    rng = np.random.default_rng(0)
    w = rng.standard_normal((n, n_dim))
    matrix = coupling * (1 - np.eye(n_dim))
    net = make_integrator(
        jnp.asarray(w, jnp.float32), jnp.asarray(matrix), decay=a, mu=mu, nu=nu, v_rest=0.1
    )
    np.testing.assert_allclose(net.threshold, 0.5 * (nu + mu + (w**2).sum(1)), rtol=1e-6)
    w_out = w.T
    w_fast = -(w_out.T @ w_out + mu * np.eye(n)) / (1 - a)
    w_slow = w_out.T @ matrix @ w_out
    v, r, x, spike = np.full(n, 0.1), np.zeros(n), np.zeros(n_dim), n
    state, fired = rest(net), 0
    for k in range(60):
        c = 40 * rng.standard_normal(n_dim)
        o = np.eye(n + 1)[spike][:n]
        terms = [w_out.T * c, w_fast * o, w_slow * r]
        exc, inh, slow = currents(net, state, jnp.asarray(c, jnp.float32))
        np.testing.assert_allclose(
            exc, sum(np.maximum(t, 0).sum(1) for t in terms), rtol=1e-3, atol=1e-2
        )
        np.testing.assert_allclose(
            inh, sum(np.minimum(t, 0).sum(1) for t in terms), rtol=1e-3, atol=1e-2
        )
        v = a * v + (1 - a) * (0.1 + w_out.T @ c + w_fast @ o + w_slow @ r)
        r = a * r + o
        x = a * x + (1 - a) * (c + matrix @ x)
        new = step(net, state, jnp.asarray(c, jnp.float32), jnp.zeros(n), jnp.uint32(k * 77))
        state = new._replace(slow=slow)
        spike = int(state.spike)
        above = np.asarray(state.v) > np.asarray(net.threshold)
        assert above[spike] if spike < n else not above.any()
        np.testing.assert_allclose(state.v, v, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(state.x, x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(state.decoded, w_out @ r, rtol=1e-4, atol=1e-4)
        fired += spike < n
    assert fired > 10


def test_every_candidate_is_chosen_alike() -> None:
    n = 50
    net = make_integrator(jnp.zeros((n, 1)), jnp.zeros((1, 1)), decay=0.9)
    above = jnp.arange(n) % 5 == 3  # ten of them
    state = rest(net)
    state = State(jnp.where(above, 1.0, -1.0), *state[1:])
    draws = jax.random.bits(jax.random.key(0), (5000,), jnp.uint32)
    spikes = jax.vmap(lambda d: step(net, state, jnp.zeros(1), jnp.zeros(n), d).spike)(draws)
    counts = np.bincount(np.asarray(spikes), minlength=n)
    assert counts[~np.asarray(above)].sum() == 0
    assert (np.abs(counts[np.asarray(above)] - 500) < 110).all()  # five standard deviations


@pytest.mark.parametrize("n_dim", [1, 3])
def test_decoders(n_dim: int) -> None:
    key, n, g = jax.random.key(1), 60, 0.1

    def made(init):
        return np.asarray(decoders(init, n, n_dim, 0.9999, 0.3, key))

    fix = made("boerlin-fix")
    assert (np.count_nonzero(fix, axis=1) == 1).all()
    np.testing.assert_allclose(fix.sum(1), [g] * 30 + [-g] * 30, rtol=1e-4)
    sparse = made("boerlin-rand")
    assert (sparse[:30] >= 0).all()
    assert (sparse[30:] <= 0).all()
    sizes = np.abs(sparse[sparse != 0])
    assert 0.0599 < sizes.min() < sizes.max() < 0.1001
    assert 0.1 < (sparse == 0).mean() < 0.5
    assert np.abs(made("rand")).max() <= 0.1001
    assert 0.5 < made("kaiming-normal").std() / np.sqrt(2 / n) < 1.5
    assert np.abs(made("kaiming-uniform")).max() <= n**-0.5
    custom = made("custom")
    assert np.count_nonzero(custom) == 10
    assert np.count_nonzero(custom[:, 0]) == 10
