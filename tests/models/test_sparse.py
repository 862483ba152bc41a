"""Products of sparse weights against those of the dense weight with the same connections."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.models import ModelConfig, build_network, sparse
from snnlab.models.maps import SparseMap

N_IN, N_OUT, K, L = 9, 30, 6, 7


def case(density: float) -> tuple[jax.Array, ...]:
    """``x (L, n_in)`` with so many entries that are not zero, ``g (L, n_out)``, ``w``, ``post``."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((L, N_IN)) * (rng.random((L, N_IN)) < density)
    g, w = rng.standard_normal((L, N_OUT)), rng.standard_normal((N_IN, K))
    post = sparse.fixed_out_degree(N_IN, N_OUT, K, 1)
    return *(jnp.asarray(a, jnp.float32) for a in (x, g, w)), jnp.asarray(post, jnp.uint32)


def dense(w: jax.Array, post: jax.Array) -> jax.Array:
    return jnp.zeros((N_IN, N_OUT)).at[jnp.arange(N_IN)[:, None], post].set(w)


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("small_caches", [False, True])
def test_products(density: float, small_caches: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By events and by rows, in blocks that do not divide the work, over further axes."""
    if small_caches:
        monkeypatch.setattr(sparse, "CPU_CACHE", 4 * N_OUT * 3)  # 3 samples, and one left over
        monkeypatch.setattr(sparse, "CPU_BLOCK", 4 * K * 3 * 4)  # 4 rows, and one left over
    x, g, w, post = case(density)
    full = dense(w, post)
    rows = np.arange(N_IN)[:, None]
    near = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(sparse.times(x, w, post, N_OUT), x @ full, **near)
    np.testing.assert_allclose(sparse.back(g, w, post), g @ full.T, **near)
    np.testing.assert_allclose(sparse.outer(x, g, post), (x.T @ g)[rows, post], **near)
    np.testing.assert_allclose(sparse.outer(x[0], g[0], post), (x[:1].T @ g[:1])[rows, post])
    deep = sparse.times(x[:6].reshape(2, 3, N_IN), w, post, N_OUT)
    np.testing.assert_allclose(deep.reshape(6, N_OUT), x[:6] @ full, **near)


@pytest.mark.parametrize(
    "axes", [(0, None), (None, 0), pytest.param((0, 0), marks=pytest.mark.slow)]
)
def test_reverse_mode_and_vmap(axes: tuple) -> None:
    """Steps of a chunk map the input, seeds map the weights."""
    x, _, w, post = case(0.4)
    xs, ws = jnp.stack([x, -x, 2 * x]), jnp.stack([w, 3 * w, -w])
    args = (x if axes[0] is None else xs, w if axes[1] is None else ws)

    def ours(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sin(sparse.sparse_product(x, w, post, n_out=N_OUT)).sum()

    def theirs(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sin(x @ dense(w, post)).sum()

    found, wanted = (jax.vmap(jax.grad(f, (0, 1)), axes)(*args) for f in (ours, theirs))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def moved(axes: tuple, *, full: bool) -> Any:
    """Derivatives ``(dy/dx dx, dy/dw dw, both)`` of a sparse product or of the dense one."""
    x, _, w, post = case(0.4)
    dx, dw = jnp.cos(x), jnp.sin(w)
    xs, ws = (v if axis is None else jnp.stack([v, -v, 2 * v]) for v, axis in zip((x, w), axes))

    def map_of(x: jax.Array, w: jax.Array) -> jax.Array:
        return x @ dense(w, post) if full else sparse.sparse_product(x, w, post, n_out=N_OUT)

    def one(x: jax.Array, w: jax.Array) -> Any:
        return (
            jax.jvp(lambda x: map_of(x, w), (x,), (dx,)),
            jax.jvp(lambda w: map_of(x, w), (w,), (dw,)),
            jax.jvp(map_of, (x, w), (dx, dw)),
            jax.jvp(lambda w: map_of(x, 2.0 * jax.lax.stop_gradient(w)), (w,), (dw,)),
        )

    return jax.jit(one if axes == (None, None) else jax.vmap(one, axes))(xs, ws)


@pytest.mark.parametrize(
    "axes", [(None, None), (0, None), pytest.param((None, 0), marks=pytest.mark.slow), (0, 0)]
)
def test_forward_mode_and_vmap(axes: tuple) -> None:
    found, wanted = (jax.tree.leaves(moved(axes, full=full)) for full in (False, True))
    assert len(found) == 8
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert all(np.abs(a).max() > 0.5 for a in found[:7])
    assert not np.any(found[7])  # no derivative passes


def test_derivatives_of_derivatives() -> None:
    """Forward over reverse mode: the adjoints are differentiable once more."""
    x, _, w, post = case(0.4)
    dx, dw = jnp.cos(x), jnp.sin(w)

    def of(product: Any) -> Any:
        gradient = jax.grad(lambda x, w: jnp.sin(product(x, w)).sum(), (0, 1))
        return jax.jvp(gradient, (x, w), (dx, dw))[1]

    found = of(lambda x, w: sparse.sparse_product(x, w, post, n_out=N_OUT))
    wanted = of(lambda x, w: x @ dense(w, post))
    for a, b in zip(found, wanted, strict=True):
        assert np.abs(b).max() > 1
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_connections() -> None:
    post = sparse.fixed_out_degree(40, 25, 5, 3)
    assert all(len(set(row)) == 5 and list(row) == sorted(row) for row in post)
    assert post.min() == 0
    assert post.max() == 24
    np.testing.assert_array_equal(post, sparse.fixed_out_degree(40, 25, 5, 3))
    assert (post != sparse.fixed_out_degree(40, 25, 5, 4)).any()
    # Every target is about as likely as another.
    counts = np.bincount(sparse.fixed_out_degree(4000, 25, 5, 0).ravel(), minlength=25)
    assert abs(counts / 800 - 1).max() < 0.15


def test_a_sparse_network_has_the_drive_of_a_dense_one() -> None:
    """The squared weights onto a neuron sum to the Kaiming scale, whatever the connectivity."""
    config = ModelConfig(n_rec=400, n_layer=1, connectivity=0.1, ff_scale=10.0, rec_scale=2.0)
    made = build_network(config, 400, 4, "plain", 0).layers[0].pathways[0].map
    assert isinstance(made, SparseMap)
    assert made.weight.value["weight"].shape == (800, 40)
    squares = np.asarray(made.dense_weight() ** 2)
    np.testing.assert_allclose(squares[:400].sum(0).mean(), 10.0, rtol=0.05)
    np.testing.assert_allclose(squares[400:].sum(0).mean(), 2.0, rtol=0.05)


@pytest.mark.parametrize("operator", ["braintrace", "brainscale"])
def test_libraries_keep_dense_traces(operator) -> None:
    config = ModelConfig(n_rec=20, connectivity=0.2)
    with pytest.raises(
        UsageError, match=f"--backend {operator} .*; use --backend snnlab"
    ) as caught:
        build_network(config, 6, 4, operator, 0)
    assert "\n" not in str(caught.value)
