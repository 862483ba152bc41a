"""Augmentation: what each does, that each does something, and where its randomness comes from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from snnlab.data import Augment, DataConfig, Sensor, Transform, data_of
from snnlab.data.augment import Events, uniform
from snnlab.data.cutting import BatchCutter, capacity

SENSOR = Sensor("toy", 10, 12, 2, 4, window_us=100_000)
CUT = SENSOR.window_us
LINE = Sensor("line", 1, 50, 1, 4, window_us=100_000)


def _events(n_recordings: int = 40, n: int = 200, sensor: Sensor = SENSOR, where=None) -> Events:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(n_recordings, dtype=np.int32), n)
    t = np.sort(rng.integers(0, CUT, (n_recordings, n)), axis=1).ravel()
    address = rng.integers(0, sensor.n_addresses, len(owner)) if where is None else where
    return Events(owner, t, np.broadcast_to(address, owner.shape))


def _apply(augment, events, recordings=None, seed=1, epoch=0, sensor=SENSOR) -> Events:
    recordings = np.arange(events.owner.max() + 1) if recordings is None else recordings
    return augment.apply(events, recordings, seed, epoch, sensor, CUT)


def test_uniform_is_uniform():
    u = uniform(np.zeros(100_000, np.uint64) + np.uint64(7), np.arange(100_000))
    assert 0 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    chi2 = ((np.histogram(u, 100, (0, 1))[0] - 1000) ** 2 / 1000).sum()
    assert chi2 < 99 + 5 * (2 * 99) ** 0.5
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02


def test_drop():
    before = _events()
    after = _apply(Augment(drop=0.3), before)
    assert len(after.owner) / len(before.owner) == pytest.approx(0.7, abs=0.02)
    kept = set(zip(after.owner, after.time_us, after.address, strict=True))
    assert kept <= set(zip(before.owner, before.time_us, before.address, strict=True))


def test_jitter():
    before = dataclasses.replace(_events(), time_us=np.full(8000, CUT // 2))
    after = _apply(Augment(jitter_ms=2.0), before)
    moved = after.time_us - CUT // 2
    assert moved.mean() == pytest.approx(0, abs=5 * 2000 / 8000**0.5)
    assert moved.std() == pytest.approx(2000, rel=0.05)
    assert abs((np.abs(moved) < 2000).mean() - 0.683) < 0.03, "normal"
    assert np.array_equal(after.address, before.address)
    edge = _apply(Augment(jitter_ms=2.0), dataclasses.replace(before, time_us=np.zeros(8000, int)))
    assert 0.4 < len(edge.owner) / 8000 < 0.6
    assert edge.time_us.min() >= 0


@pytest.mark.parametrize("sensor", [SENSOR, LINE])
def test_shift_moves_a_recording_as_a_whole(sensor):
    y0 = sensor.height // 2
    centre = y0 * sensor.width + 6
    after = _apply(Augment(shift=3), _events(400, 5, sensor, centre), sensor=sensor)
    x, y = after.address % sensor.width - 6, after.address // sensor.width % sensor.height - y0
    assert len(after.owner) == 2000
    for k in range(0, 400, 50):
        assert len(set(x[after.owner == k])) == 1
    assert set(x) == set(range(-3, 4))
    assert set(y) == (set(range(-3, 4)) if sensor is SENSOR else {0})
    counts = np.bincount(x[::5] + 3, minlength=7)
    assert counts.min() > 30, "all shifts are about as likely"


def test_shift_drops_what_leaves_the_sensor_and_keeps_polarity():
    corner = SENSOR.height * SENSOR.width  # ON at (0, 0)
    after = _apply(Augment(shift=1), _events(300, 1, SENSOR, corner))
    assert len(after.owner) / 300 == pytest.approx(4 / 9, abs=0.1)
    assert (after.address >= corner).all()


def test_flip_only_where_the_sensor_allows_it():
    own = dataclasses.replace(SENSOR, flippable=True)
    Augment(flip=True).check(own)
    after = _apply(Augment(flip=True), _events(300, 1, own, 2), sensor=own)
    assert set(after.address) == {2, 9}
    assert 0.4 < (after.address == 9).mean() < 0.6


def test_noise_is_poisson_and_bounded():
    augment = Augment(noise=5.0)
    events = Events(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    after = augment.apply(events, np.arange(5000), 1, 0, SENSOR, CUT)
    counts = np.bincount(after.owner, minlength=5000)
    assert counts.mean() == pytest.approx(5, abs=0.15)
    assert counts.var() == pytest.approx(5, abs=0.5)
    assert counts.max() <= augment.most_noise < 60
    assert after.time_us.min() >= 0
    assert after.time_us.max() < CUT
    assert set(after.address) == set(range(SENSOR.n_addresses))
    assert after.time_us.mean() == pytest.approx(CUT / 2, rel=0.02)


def test_no_noise_and_no_augmentation():
    assert Augment().most_noise == 0
    assert not Augment().active
    assert all(Augment(**{n: 1}).active for n in ("shift", "flip", "jitter_ms", "noise"))


ALL = Augment(shift=2, drop=0.1, jitter_ms=1.0, noise=4.0)


def test_randomness_is_a_function_of_seed_epoch_and_recording():
    events = _events()

    def of(k: int, **kwargs) -> np.ndarray:
        out = _apply(ALL, events, **kwargs)
        return np.stack([out.time_us, out.address])[:, out.owner == k]

    same = of(3)
    assert np.array_equal(same, of(3))
    for change in ({"seed": 2}, {"epoch": 1}, {"recordings": np.arange(40) + 1}):
        assert not np.array_equal(same, of(3, **change))
    # Alone in its batch, recording 3 gets the same.
    alone = events.keep(events.owner == 3)
    alone = dataclasses.replace(alone, owner=np.zeros(200, np.int32))
    out = _apply(ALL, alone, recordings=np.array([3]))
    assert np.array_equal(same, np.stack([out.time_us, out.address]))


def test_only_training_is_augmented_and_epochs_differ(toy):
    options = {"data_length": 10, "batch_size": 4}
    plain = data_of(toy, DataConfig(**options), 0)
    noisy = data_of(toy, DataConfig(**options, aug_noise=5.0, aug_drop=0.2), 0)
    for name in ("val", "test"):
        for a, b in zip(getattr(plain, name), getattr(noisy, name), strict=True):
            n = a.stream.offsets[-1]
            assert np.array_equal(a.stream.offsets, b.stream.offsets)
            assert np.array_equal(a.stream.cell[:n], b.stream.cell[:n])
    first = [b.stream.offsets.tolist() for b in noisy.train]
    assert first != [b.stream.offsets.tolist() for b in plain.train]
    noisy.train.set_epoch(1)
    assert first != [b.stream.offsets.tolist() for b in noisy.train]


def test_capacity_holds_the_largest_batch(toy):
    lengths = toy.ends - toy.starts
    largest = np.sort(lengths)[::-1]
    assert capacity(lengths, 5, 7) == largest[:5].sum() + 35
    assert capacity(lengths, 500, 7) == lengths.sum() + 7 * len(toy)
    augment = Augment(noise=40.0)
    slots = capacity(lengths, 5, augment.most_noise)
    cutter = BatchCutter(toy, Transform(toy.sensor, 10), 5, slots, augment, True, 0)
    worst = np.argsort(lengths)[-5:]
    for epoch in range(50):
        assert cutter.cut(worst, epoch).offsets[-1] <= slots
