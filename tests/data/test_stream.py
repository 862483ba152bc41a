"""Input streams: steps equal the dense scatter; static shapes; no dense array in memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from snnlab.data import DenseStream, EventStream, Stream
from snnlab.errors import UsageError

T, B, N_IN = 7, 3, 11


def _events(n: int, seed: int = 0, block: int = 8, capacity: int = 100, binary: bool = False):
    """A stream of ``n`` random events and its dense counts ``(T, B, n_in)``."""
    rng = np.random.default_rng(seed)
    step = np.sort(rng.integers(0, T, n))
    cell = rng.integers(0, B * N_IN, n).astype(np.int32)
    dense = np.zeros((T, B * N_IN), np.float32)
    np.add.at(dense, (step, cell), 1)
    padded = np.full(capacity, 5, np.int32)  # what lies behind the last event is not read
    padded[:n] = cell
    offsets = np.searchsorted(step, np.arange(T + 1)).astype(np.int32)
    stream = EventStream(padded, offsets, batch_size=B, n_in=N_IN, binary=binary, block=block)
    dense = np.minimum(dense, 1) if binary else dense
    return stream, dense.reshape(T, B, N_IN)


def _all_streams():
    for binary in (False, True):
        for block in (1, 8, 64):
            yield _events(36, block=block, binary=binary)
    yield _events(0)
    stream, dense = _events(36)
    yield DenseStream(dense), dense
    yield DenseStream(dense.astype(np.uint8)), dense
    yield stream, dense


@pytest.mark.parametrize("case", range(9))
def test_at_and_window_equal_the_dense_array(case):
    stream, dense = list(_all_streams())[case]
    assert isinstance(stream, Stream)
    assert (stream.n_steps, stream.batch_size, stream.n_in) == (T, B, N_IN)
    at, window = jax.jit(lambda s, t: s.at(t)), jax.jit(lambda s, t: s.window(t, 3))
    for t in range(T):
        assert np.array_equal(at(stream, t), dense[t])
        assert at(stream, t).dtype == jnp.float32
        assert np.array_equal(stream.at(t), dense[t])
    for start in range(T - 2):
        assert np.array_equal(window(stream, start), dense[start : start + 3])
    assert at(stream, 0).shape == (B, N_IN)
    xs = lax.map(stream.at, jnp.arange(T))
    assert np.array_equal(xs, dense)


def test_oracle_can_fail():
    stream, dense = _events(36)
    assert dense.max() > 1
    assert not np.array_equal(stream.at(0), dense[1])
    binary, _ = _events(36, binary=True)
    assert any(not np.array_equal(binary.at(t), dense[t]) for t in range(T))


def test_one_step_with_more_events_than_a_block():
    cell = np.pad(np.arange(20, dtype=np.int32), (0, 8))
    offsets = np.array([0, 0, 20, 20], np.int32)
    stream = EventStream(cell, offsets, batch_size=3, n_in=11, binary=False, block=8)
    assert [float(stream.at(t).sum()) for t in range(3)] == [0, 20, 0]


def test_one_program_for_all_batches():
    traces = []

    @jax.jit
    def total(stream):
        traces.append(1)
        return lax.fori_loop(0, T, lambda t, c: c + stream.at(t).sum(), 0.0)

    for n, seed in ((36, 0), (0, 1), (90, 2)):
        assert float(total(_events(n, seed)[0])) == n
    assert len(traces) == 1


@pytest.mark.parametrize("kind", ["events", "dense"])
@pytest.mark.parametrize("remat", [False, True])
def test_gradient_of_parameters_through_a_scan(kind, remat):
    stream, dense = _events(36)
    stream = DenseStream(dense) if kind == "dense" else stream

    def loss(w, stream):
        def step(h, t):
            h = jnp.tanh(0.5 * h + stream.at(t) @ w)
            return h, (h**2).sum()

        step = jax.checkpoint(step) if remat else step
        return lax.scan(step, jnp.zeros((B, 4)), jnp.arange(T))[1].sum()

    def reference(w):
        h, total = jnp.zeros((B, 4)), 0.0
        for t in range(T):
            h = jnp.tanh(0.5 * h + dense[t] @ w)
            total += (h**2).sum()
        return total

    w = jax.random.normal(jax.random.key(0), (N_IN, 4)) * 0.3
    value, gradient = jax.jit(jax.value_and_grad(loss))(w, stream)
    expected, expected_gradient = jax.value_and_grad(reference)(w)
    assert float(jnp.abs(expected_gradient).max()) > 0.1
    assert np.allclose(value, expected, rtol=1e-5)
    assert np.allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_no_dense_array_in_memory():
    """Forward under scan holds one step; with rematerialisation so does the gradient."""
    batch, n_in, steps = 16, 512, 64
    events = np.zeros(4096, np.int32)
    offsets = np.linspace(0, 4000, steps + 1).astype(np.int32)
    stream = EventStream(events, offsets, batch_size=batch, n_in=n_in, binary=True, block=64)

    def loss(w, stream):
        @jax.checkpoint
        def step(total, t):
            return total + jnp.tanh(stream.at(t) @ w).sum(), None

        return lax.scan(step, 0.0, jnp.arange(steps))[0]

    w = jnp.ones((n_in, 4))
    dense_bytes = steps * batch * n_in * 4
    for function in (loss, jax.grad(loss)):
        program = jax.jit(function).lower(w, stream).compile()
        assert program.memory_analysis().temp_size_in_bytes < dense_bytes / 8


def test_stream_is_a_pytree():
    stream, _ = _events(36)
    leaves, tree = jax.tree.flatten(stream)
    assert len(leaves) == 2
    assert jax.tree.structure(_events(10, 3)[0]) == tree
    assert jax.tree.structure(_events(10, binary=True)[0]) != tree
    moved = jax.device_put(stream)
    assert isinstance(moved, EventStream)
    assert isinstance(moved.cell, jax.Array)
    abstract = jax.eval_shape(lambda s: s.at(0), stream)
    assert abstract.shape == (B, N_IN)


@pytest.mark.parametrize("most", [0, 36])
def test_parts_have_the_samples_in_their_order(most: int):
    """Of one shape each, with room for all events that some samples can have."""
    for stream, dense in _all_streams():
        if isinstance(stream, EventStream):
            stream.most = most
        parts = stream.parts(B)
        assert [part.batch_size for part in parts] == [1] * B
        assert len({str(jax.tree.map(np.shape, part)) for part in parts}) == 1
        found = np.concatenate([part.window(0, T) for part in parts], axis=1)
        np.testing.assert_array_equal(found, dense)


def test_a_list_of_a_part_is_no_longer_than_its_samples_need():
    stream, _ = _events(36, capacity=100)
    assert [len(part.cell) for part in stream.parts(B)] == [100] * B
    stream.most = 20
    assert [len(part.cell) for part in stream.parts(B)] == [20 + stream.block] * B


def test_a_stream_without_parts_says_so():
    class Own(DenseStream):
        parts = Stream.parts

    with pytest.raises(UsageError, match="Own cannot be split over devices"):
        Own(np.zeros((2, 2, 1))).parts(2)
