"""Cutting: bins, maps and cuts against tonic and against brute force."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import tonic

from snnlab.data import DataConfig, Transform, data_of, load_recordings
from snnlab.data.cutting import BatchCutter
from snnlab.data.transform import sort_by_step
from snnlab.errors import UsageError


def _frames(data, loader, k: int = 0) -> np.ndarray:
    """Batch ``k`` as ``(T, B, P, H, W)``."""
    batch = list(loader)[k]
    height, width, polarities = data.sensor
    dense = np.asarray(batch.stream.window(0, data.n_steps))
    return dense.reshape(data.n_steps, -1, polarities, height, width)


def _to_frame(events: np.ndarray, sensor_size, n: int, window_us: int) -> np.ndarray:
    """tonic's own frames on our fixed window."""
    return tonic.transforms.ToFrame(
        sensor_size, time_window=window_us / n, start_time=0, end_time=window_us
    )(events)  # fmt: skip


@pytest.mark.parametrize("bins", [50, 200])
def test_frames_are_tonics(digits, bins):
    config = DataConfig(data_length=bins, batch_size=8, binary_bins=False)
    data = data_of(digits, config, seed=0)
    ours = _frames(data, data.test)
    store = data.test.cutter.store
    for b in range(8):
        theirs = _to_frame(store.events_of(b), (34, 34, 2), bins, 300_000)
        assert theirs.shape == (bins, 2, 34, 34)
        assert np.array_equal(ours[:, b], theirs)
        assert theirs.sum() == store.ends[b] - store.starts[b]


def test_frames_of_real_recordings_are_tonics(real_data):
    for name, size, window in (("nmnist", (34, 34, 2), 310_000), ("shd", (700, 1, 1), 1_400_000)):
        store = load_recordings(name, str(real_data))
        config = DataConfig(data_length=100, batch_size=6, binary_bins=False)
        data = data_of(store, config, seed=0)
        ours = _frames(data, data.test)
        for b in range(6):
            events = data.test.cutter.store.events_of(b)
            theirs = _to_frame(events, size, 100, window)
            assert np.array_equal(ours[:, b], theirs.reshape(ours[:, b].shape))


def test_bins_between_edges_are_those_of_the_published_program(real_data):
    """``numpy.digitize`` of the file's own times (float16), at 100 points of 1.4 s."""
    import h5py

    zipped = zipfile.ZipFile(next(Path(real_data).rglob("shd_test.h5.zip")))
    config = DataConfig(data_length=100, batch_size=6, binary_bins=False, bins="edges")
    data = data_of(load_recordings("shd", str(real_data)), config, seed=0)
    assert data.bin_ms == pytest.approx(1400 / 99)
    ours = _frames(data, data.test).reshape(100, 6, 700)
    with h5py.File(io.BytesIO(zipped.read("shd_test.h5"))) as file:
        for b in range(6):
            times, units = (file["spikes"][name][b] for name in ("times", "units"))
            theirs = np.zeros((100, 700))
            np.add.at(theirs, (np.digitize(times, np.linspace(0, 1.4, 100)), units), 1)
            assert not theirs[0].any()
            assert np.array_equal(ours[:, b], theirs)


def test_binary_bins(digits):
    frames = {}
    for binary in (False, True):
        config = DataConfig(data_length=20, batch_size=4, binary_bins=binary)
        data = data_of(digits, config, 0)
        frames[binary] = _frames(data, data.test)
    assert frames[False].max() > 1
    assert np.array_equal(frames[True], np.minimum(frames[False], 1))


def test_first_saccade(digits):
    config = DataConfig(data_length=40, batch_size=4, binary_bins=False, first_saccade=True)
    data = data_of(digits, config, seed=0)
    assert data.bin_ms == 2.5
    ours = _frames(data, data.test)
    for b in range(4):
        events = data.test.cutter.store.events_of(b)
        events = events[events["t"] < 100_000]
        assert np.array_equal(ours[:, b], _to_frame(events, (34, 34, 2), 40, 100_000))


@pytest.mark.parametrize("factor", [2, 3])
def test_downsample_and_merge(digits, factor):
    plain = data_of(digits, DataConfig(data_length=10, batch_size=4, binary_bins=False), 0)
    config = DataConfig(
        data_length=10, batch_size=4, binary_bins=False, downsample=factor, merge_polarity=True
    )
    small = data_of(digits, config, 0)
    size = -(-34 // factor)
    assert small.sensor == (size, size, 1)
    assert small.n_in == size * size
    full = np.zeros((10, 4, size * factor, size * factor))
    full[:, :, :34, :34] = _frames(plain, plain.test).sum(2)
    blocks = full.reshape(10, 4, size, factor, size, factor).sum((3, 5))
    assert np.array_equal(_frames(small, small.test)[:, :, 0], blocks)


def test_shd_downsample_groups_channels(real_data):
    store = load_recordings("shd", str(real_data))
    data = data_of(store, DataConfig(data_length=10, batch_size=2, downsample=10), 0)
    assert data.sensor == (1, 70, 1)
    assert data.n_in == 70


def test_late_events_are_dropped_and_counted(toy):
    data = data_of(toy, DataConfig(data_length=10, batch_size=6, binary_bins=False), 0)
    late = sum((toy.events_of(i)["t"] >= 1000).sum() for i in range(len(toy)))
    assert data.counts["late_events"] == late > 0
    loaders = (data.train, data.val, data.test)
    binned = sum(int(b.stream.offsets[-1]) for loader in loaders for b in loader)
    assert binned == len(toy.events) - late


def test_steps_are_exact_integers(toy):
    transform = Transform(toy.sensor, 7)
    t = np.arange(1000, dtype=np.uint32)
    assert np.array_equal(transform.steps(t), [int(x) * 7 // 1000 for x in t])
    assert transform.steps(t).max() == 6
    big = Transform(toy.sensor, 1000)
    assert np.array_equal(big.steps(t), t)
    between = Transform(toy.sensor, 7, from_edges=True)
    edges = 1000 * np.arange(7) / 6
    assert np.array_equal(between.steps(t), np.digitize(t, edges))
    with pytest.raises(UsageError, match="--data_length 1 with --bins edges: at least 2"):
        Transform(toy.sensor, 1, from_edges=True)


def test_sort_by_step_is_stable():
    rng = np.random.default_rng(0)
    step, cell = rng.integers(0, 9, 500).astype(np.uint32), rng.permutation(500).astype(np.int32)
    ordered, offsets = sort_by_step(step, cell, 9)
    order = np.argsort(step, kind="stable")
    assert np.array_equal(ordered, cell[order])
    assert ordered.dtype == np.int32
    assert np.array_equal(offsets, np.searchsorted(step[order], np.arange(10)))
    assert offsets.dtype == np.int32


def test_batch_is_one_by_one(toy):
    cutter = BatchCutter(toy, Transform(toy.sensor, 10), 5, 400, None, False, 0)
    both = cutter.cut(np.array([3, 8, 1]))
    for row, i in enumerate((3, 8, 1)):
        one = cutter.cut(np.array([i]))
        for t in range(10):
            cells = both.cell[both.offsets[t] : both.offsets[t + 1]]
            mine = cells[cells // 60 == row] - row * 60
            assert np.array_equal(mine, one.cell[one.offsets[t] : one.offsets[t + 1]])


def test_refusals(toy, real_data):
    shd = load_recordings("shd", str(real_data))
    cases = [
        (toy, {"data_length": 1001}, "more bins than sense"),
        (shd, {"data_length": 1500}, "more bins than sense"),
        (shd, {"first_saccade": True}, "no saccades"),
        (shd, {"merge_polarity": True}, "one polarity"),
        (shd, {"aug_flip": True}, "reverses its frequencies"),
        (toy, {"aug_flip": True}, "another label"),
        (toy, {"downsample": 7}, "--downsample 7"),
        (toy, {"aug_shift": 6}, "--aug_shift 6"),
        (toy, {"batch_size": 50, "drop_last": True}, "--drop_last"),
    ]
    for store, change, message in cases:
        with pytest.raises(UsageError, match=message) as error:
            data_of(store, DataConfig(**{"data_length": 50, "batch_size": 4, **change}), 0)
        assert "\n" not in str(error.value)


def test_frames_do_not_depend_on_platform_x64(toy):
    data = data_of(toy, DataConfig(data_length=5, batch_size=4), 0)
    assert jax.tree.map(lambda x: x.dtype.name, next(iter(data.test)).stream).cell == "int32"
