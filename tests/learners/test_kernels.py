"""The compiled pass over traces against the formula, and against XLA's pass."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.stream import DenseStream, EventStream
from snnlab.learners import chunks as chunked
from snnlab.learners import tuning
from snnlab.learners.functional import PureNetwork, get_params
from snnlab.learners.relations import InputBlock, MatMul
from snnlab.learners.relations.inputs import Events, Input
from snnlab.learners.rules.block_bptt import BPTT
from snnlab.learners.stores import traces
from snnlab.learners.stores.kernels import events
from snnlab.learners.stores.kernels import traces as kernels
from snnlab.models import ModelConfig, build_network
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Targets
from zoo import drtrl, es_drtrl

#: More rows than ``kernels.AT_ONCE`` holds at once, and samples than are passed together; no
#: multiples of them.
B, ROWS, N, K = 7, 70, 5, 4


class Case(NamedTuple):
    traces: list[jax.Array]
    c: list[jax.Array]
    p: list[list[jax.Array | None]]
    enter: list[jax.Array]
    x: jax.Array
    y_bar: jax.Array


def case(n_states: int, seed: int = 0) -> Case:
    """Random values; the first block of the last row of ``p`` is zero."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    p: list[list[Any]] = [[draw(B, N) for _ in range(n_states)] for _ in range(n_states)]
    if n_states > 1:
        p[-1][0] = None
    return Case(
        [draw(B, ROWS, N) for _ in range(n_states)],
        [draw(B, N) for _ in range(n_states)],
        p,
        [draw(K, B, N) for _ in range(n_states)],
        jnp.asarray(rng.random((K, B, ROWS)) < 0.2, jnp.float32) * 1.5,
        draw(K, B, N),
    )


def expected(of: Case, steps: int = K) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """New traces, the gradient through old ones, and that of ``y_bar``."""
    x = of.x[:steps]
    new = [
        sum(b[:, None] * e for b, e in zip(row, of.traces, strict=True) if b is not None)
        + jnp.einsum("tbi,tbn->bin", x, f[:steps])
        for row, f in zip(of.p, of.enter, strict=True)
    ]
    read = sum(jnp.einsum("bn,bin->in", s, e) for s, e in zip(of.c, of.traces, strict=True))
    return new, read, jnp.einsum("tbi,tbn->in", x, of.y_bar[:steps])


def close(found: Any, want: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-5), found, want)


@pytest.mark.parametrize("n_states", [1, 3])
def test_pass_is_the_formula(n_states: int) -> None:
    of = case(n_states)
    want, read, _ = expected(of)
    new, found = jax.jit(lambda e: kernels.read_and_advance(e, *of[1:5]))(of.traces)
    close(found[0], read)
    close(new, want)
    if n_states == 1:
        close(kernels.read_and_advance(of.traces, None, *of[2:5])[0], want)


@pytest.mark.parametrize("n_states", [1, 3])
@pytest.mark.parametrize("advance", [True, False])
def test_pass_with_products_of_some_steps(n_states: int, advance: bool) -> None:
    """The gradient lies in the rows of a whole map's; only two of the steps count."""
    of = case(n_states)
    want, read, made = expected(of, 2)
    others = jnp.arange((ROWS + 6) * N, dtype=jnp.float32).reshape(1, ROWS + 6, N)

    @jax.jit
    def run(traces, others, advance, steps):
        rows = kernels.Rows(4, ROWS + 6, others)
        return kernels.read_and_advance(
            traces, *of[1:], rows=rows, advance=advance, steps=steps
        )  # fmt: skip

    new, found = run(of.traces, others, jnp.asarray(advance), jnp.asarray(2))
    close(found[0, 4:-2], read + made)
    np.testing.assert_array_equal(found[0, :4], others[0, :4])
    np.testing.assert_array_equal(found[0, -2:], others[0, -2:])
    close(new, want if advance else of.traces)


@pytest.mark.parametrize("n_states", [1, 3])
def test_rows_that_are_zero_are_not_read(n_states: int) -> None:
    of = case(n_states)
    live = jnp.asarray(np.random.default_rng(3).random((B, ROWS)) < 0.4, jnp.float32)
    want, read, made = expected(of._replace(traces=[live[..., None] * e for e in of.traces]))
    holes = [jnp.where(live[..., None] > 0, e, 0.0) for e in of.traces]
    new, found = kernels.read_and_advance(holes, *of[1:], live=live)
    close(new, want)
    close(found[0], read + made)
    unread = [jnp.where(live[..., None] > 0, e, jnp.nan) for e in of.traces]
    _, found = kernels.read_and_advance(unread, *of[1:], live=live)
    close(found[0], read + made)


def test_several_passes_under_vmap() -> None:
    cases = [case(1, seed) for seed in (0, 1)]

    def twice(of: Case):
        e, first = kernels.read_and_advance(*of[:5])
        rows = kernels.Rows(0, ROWS, after=first)
        return kernels.read_and_advance(e, *of[1:5], rows=rows)

    both = jax.tree.map(lambda *a: jnp.stack(a), *cases)
    new, found = jax.jit(jax.vmap(twice))(both)
    for at, of in enumerate(cases):
        of = of._replace(traces=expected(of)[0])
        want, read, _ = expected(of)
        close(new[0][at], want[0])
        close(found[at, 0], read)


def test_what_is_too_small_for_a_float_becomes_zero_and_nan_stays() -> None:
    of = case(1)
    small = jnp.full_like(of.traces[0], 1.5 * kernels.TINY).at[0, 0, 0].set(jnp.nan)
    p: Any = [[jnp.full((B, N), 0.5)]]
    (new,), _ = kernels.read_and_advance([small], of.c, p, of.enter, jnp.zeros_like(of.x))
    assert np.isnan(new[0, 0, 0])
    assert np.count_nonzero(new) == 1


def test_xla_and_kernel_pass_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    of = case(3)
    weight = types.SimpleNamespace(aval=jax.ShapeDtypeStruct((ROWS, N), jnp.float32))
    block = InputBlock(None, 0, ROWS, evolves=False)
    relation = MatMul(weight, None, (block,), ("w",), (B, N))
    graph: Any = types.SimpleNamespace(relations=[relation], kernels=tuning.Kernels())
    args = (
        graph,
        {(0, 0, s): e for s, e in enumerate(of.traces)},
        dict(enumerate(of.c)),
        (
            {(s, a): v for s, row in enumerate(of.p) for a, v in enumerate(row) if v is not None},
            {(s, 0): f for s, f in enumerate(of.enter)},
        ),
        {(0, 0): Input(of.x)},
        {},
    )
    want = traces.pass_over_traces(*args)
    assert not traces.kernel_relations(graph, args[1], 1)
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    assert traces.kernel_relations(graph, args[1], 1) == [0]
    close(traces.pass_over_traces(*args), want)


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

    wide = jnp.concatenate([w, jnp.full((2, N), jnp.nan)])
    close(events.times(cell, bounds, wide, B, ROWS, binary), x @ w)
    close(events.outer(cell, bounds, g, ROWS, binary), jnp.einsum("tbi,tbn->in", x, g))
    summed = events.weighted(cell, bounds, share, B, ROWS, binary)
    close(summed, jnp.einsum("t,tbi->bi", share, x))
    pairs = jax.vmap(lambda w: events.times(cell, bounds, w, B, ROWS, binary))(
        jnp.stack([w, 2 * w])
    )
    close(pairs[1], 2 * (x @ w))


def test_a_list_of_events_whatever_the_chunk() -> None:
    """The size of a step decides, so an update at every step does not change the products."""
    for batch, listed in (
        (tuning.CPU.least_events // 64, True),
        (tuning.CPU.least_events // 128, False),
    ):
        stream = EventStream(
            np.zeros(16, np.int32), np.zeros(9, np.int32), batch_size=batch, n_in=64, binary=True,
            block=16,
        )  # fmt: skip
        for length in (1, 8):
            x = chunked.read_window(stream, 0, length)
            assert isinstance(x, Events) is listed


@pytest.mark.parametrize(
    ("make", "products"),
    [
        (lambda net, b, goal: BPTT(PureNetwork(net, b, training=True), goal, 3), 2),
        (lambda *a: drtrl(*a, 3), 2),
        (lambda *a: es_drtrl(*a, 3, 0.9), 3),
    ],
    ids=["bptt", "d-rtrl", "es-d-rtrl"],
)
def test_gradient_from_events_is_that_from_dense_input(
    make, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "CPU", dataclasses.replace(tuning.CPU, least_events=0))
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
        def of(params):
            return learner.segment(params, learner.fresh(), stream, targets, 0, steps).gradients

        return jax.jit(of)(params)

    want = gradient(DenseStream(dense.astype(np.float32)))
    assert not used
    found = gradient(packed)
    assert len(set(used)) == products
    assert all(np.any(g) for g in jax.tree.leaves(want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, want)
