"""The compiled pass over traces against the formula, and against XLA's pass."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.stream import DenseStream, EventStream
from snnlab.learners.chunked import learner as chunked
from snnlab.learners.chunked import rules
from snnlab.learners.chunked.backprop import BlockBPTT
from snnlab.learners.chunked.kernels import events
from snnlab.learners.chunked.kernels import traces as kernels
from snnlab.learners.functional import get_params
from snnlab.models import ModelConfig, build_network
from snnlab.training.config import TrainingConfig
from snnlab.training.losses import Classification, Targets

#: More rows than ``kernels.AT_ONCE`` holds at once, and no multiple of it.
B, ROWS, N, K = 3, 70, 5, 4


def case(n_states: int, seed: int = 0):
    """Traces, signals, propagators (the first block of the last row is zero), input."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    traces = [draw(B, ROWS, N) for _ in range(n_states)]
    c = [draw(B, N) for _ in range(n_states)]
    p = [[draw(B, N) for _ in range(n_states)] for _ in range(n_states)]
    if n_states > 1:
        p[-1][0] = None
    enter = [draw(K, B, N) for _ in range(n_states)]
    x = jnp.asarray(rng.random((K, B, ROWS)) < 0.2, jnp.float32) * 1.5
    return traces, c, p, enter, x


def expected(traces, c, p, enter, x):
    new = [
        sum(block[:, None] * e for block, e in zip(row, traces, strict=True) if block is not None)
        + jnp.einsum("tbi,tbn->bin", x, f)
        for row, f in zip(p, enter, strict=True)
    ]
    return new, sum(jnp.einsum("bn,bin->in", s, e) for s, e in zip(c, traces, strict=True))


@pytest.mark.parametrize("n_states", [1, 3])
def test_pass_is_the_formula(n_states: int) -> None:
    traces, c, p, enter, x = case(n_states)
    want, gradient = expected(traces, c, p, enter, x)
    new, found = jax.jit(lambda e: kernels.read_and_advance(e, c, p, enter, x, None))(traces)
    np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-5)
    for e, value in zip(new, want, strict=True):
        np.testing.assert_allclose(e, value, rtol=1e-5, atol=1e-5)


def test_several_passes_under_vmap() -> None:
    cases = [case(1, seed) for seed in (0, 1)]
    traces, c, p, enter, x = jax.tree.map(lambda *a: jnp.stack(a), *cases)

    def twice(e, c, p, enter, x):
        e, first = kernels.read_and_advance(e, c, p, enter, x, None)
        return kernels.read_and_advance(e, c, p, enter, x, first)

    new, found = jax.jit(jax.vmap(twice))(traces, c, p, enter, x)
    for at, (e, c, p, enter, x) in enumerate(cases):
        once, _ = expected(e, c, p, enter, x)
        want, gradient = expected(once, c, p, enter, x)
        np.testing.assert_allclose(new[0][at], want[0], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found[at], gradient, rtol=1e-5, atol=1e-4)


def test_what_is_too_small_for_a_float_becomes_zero() -> None:
    (e,), c, _, enter, x = case(1)
    p = [[jnp.full((B, N), 0.5)]]
    small = jnp.full_like(e, 1.5 * kernels.TINY)
    new, _ = kernels.read_and_advance([small], c, p, enter, jnp.zeros_like(x), None)
    assert not np.any(new[0])


def test_xla_and_kernel_pass_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    traces, c, p, enter, x = case(3)
    graph = types.SimpleNamespace(post=lambda r, k: None)
    args = (
        graph,
        {(0, 0, s): e for s, e in enumerate(traces)},
        dict(enumerate(c)),
        (
            {(s, a): v for s, row in enumerate(p) for a, v in enumerate(row) if v is not None},
            {(s, 0): f for s, f in enumerate(enter)},
        ),
        {(0, 0): x},
    )
    want = rules.pass_over_traces(*args)
    used = []
    original = kernels.read_and_advance
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    monkeypatch.setattr(kernels, "read_and_advance", lambda *a: used.append(1) or original(*a))
    found = rules.pass_over_traces(*args)
    assert used
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, want)


@pytest.mark.parametrize("binary", [True, False])
def test_products_with_events(binary: bool) -> None:
    """Events in any order within a step, some of them twice."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 40, K)
    cell = rng.integers(0, B * ROWS, counts.sum() + 5).astype(np.int32)
    cell[counts[0] - 2 : counts[0]] = cell[:2]  # of one step, far apart
    first = 3  # the list may begin before the chunk
    bounds = first + np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    cell = np.concatenate([np.zeros(first, np.int32), cell])
    x = np.zeros((K, B * ROWS), np.float32)
    for t in range(K):
        np.add.at(x[t], cell[bounds[t] : bounds[t + 1]], 1)
    assert x.max() >= 2
    x = jnp.asarray(np.minimum(x, 1) if binary else x).reshape(K, B, ROWS)
    w = jnp.asarray(rng.normal(size=(ROWS, N)), jnp.float32)
    g = jnp.asarray(rng.normal(size=(K, B, N)), jnp.float32)
    share = jnp.asarray(rng.normal(size=K), jnp.float32)

    def close(found: jax.Array, want: jax.Array) -> None:
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)

    close(events.times(cell, bounds, w, B, binary), x @ w)
    close(events.outer(cell, bounds, g, ROWS, binary), jnp.einsum("tbi,tbn->in", x, g))
    summed = events.weighted(cell, bounds, share, B, ROWS, binary)
    close(summed, jnp.einsum("t,tbi->bi", share, x))
    pairs = jax.vmap(lambda w: events.times(cell, bounds, w, B, binary))(jnp.stack([w, 2 * w]))
    close(pairs[1], 2 * (x @ w))


@pytest.mark.parametrize(
    ("make", "products"),
    [
        (lambda *a: BlockBPTT(*a, 3), 2),
        (lambda *a: chunked.ChunkedDRTRL(*a, 3), 2),
        (lambda *a: chunked.ChunkedESDRTRL(*a, 3, 0.9), 3),
    ],
    ids=["bptt", "d-rtrl", "es-d-rtrl"],
)
def test_gradient_from_events_is_that_from_dense_input(
    make, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "LEAST_EVENTS", 0)
    steps, batch, n_in = 8, 2, 12
    dense = np.random.default_rng(2).random((steps, batch, n_in)) < 0.2
    cells = [np.flatnonzero(step) for step in dense]
    offsets = np.cumsum([0, *map(len, cells)]).astype(np.int32)
    padded = np.concatenate([*cells, np.zeros(16)]).astype(np.int32)
    packed = EventStream(padded, offsets, batch_size=batch, n_in=n_in, binary=True, block=16)
    network = build_network(ModelConfig(n_rec=6, n_layer=1, ff_scale=9.0), n_in, 3, "plain", 0)
    goal = Classification(3, 1, 0, 1.0, TrainingConfig())
    targets = Targets(jnp.array([0, 2], jnp.int32), jnp.ones(batch, jnp.float32))
    learner = make(network, batch, goal)
    params = get_params(network)
    used = []
    for name in ("times", "outer", "weighted"):
        original = getattr(events, name)
        monkeypatch.setattr(events, name, lambda *a, o=original: used.append(o) or o(*a))

    def gradient(stream):
        segment = learner.segment(params, learner.fresh(), stream, targets, 0, steps)
        return segment.gradients

    want = gradient(DenseStream(dense.astype(np.float32)))
    assert not used
    found = gradient(packed)
    assert len(set(used)) == products
    assert all(np.any(g) for g in jax.tree.leaves(want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, want)
