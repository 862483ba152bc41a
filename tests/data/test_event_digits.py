"""The offline dataset: shape, statistics, determinism, learnability."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from snnlab.data import event_digits
from snnlab.data.event_digits import SENSOR, Camera, path_at, simulate


def test_shape_and_splits(digits):
    assert len(digits) == 1797
    assert np.bincount(digits.split).tolist() == [1437, 360]
    assert np.array_equal(digits.labels, load_digits().target)
    shares = np.bincount(digits.labels[digits.split == 1]) / np.bincount(digits.labels)
    assert shares.min() > 0.19
    assert shares.max() < 0.21


def test_events_are_those_of_a_camera(digits):
    counts = digits.ends - digits.starts
    assert 3000 < counts.mean() < 4500
    assert 0.08 < counts.std() / counts.mean() < 0.4
    t, address = digits.decode(np.asarray(digits.events))
    assert t.max() < SENSOR.window_us
    assert address.max() < SENSOR.n_addresses
    on = (address >= 34 * 34).mean()
    assert 0.4 < on < 0.6
    assert len(np.unique(t % 2500)) > 2400, "times are finer than the simulation's frames"
    for i in (0, 700, 1796):
        assert (np.diff(digits.events_of(i)["t"]) >= 0).all()


def test_activity_follows_the_saccades(digits):
    t, _ = digits.decode(np.asarray(digits.events))
    rate = np.histogram(t, bins=30, range=(0, SENSOR.window_us))[0]
    middles, ends = rate[[4, 5, 14, 15, 24, 25]], rate[[0, 9, 10, 19, 20, 29]]
    assert middles.min() > 3 * ends.max()


def test_path_is_the_triangle_of_nmnist():
    corners = path_at(np.array([0, 100_000, 200_000, 300_000]), 7.0)
    assert np.allclose(corners, [[0, 0], [3.5, 7], [7, 0], [0, 0]])
    steps = np.linalg.norm(np.diff(path_at(np.arange(0, 300_001, 1000), 7.0), axis=0), axis=1)
    assert steps.max() < 0.2


def test_same_seed_same_events_and_another_seed_differs():
    images = (load_digits().images[:5] / 16).astype(np.float32)
    a, b, c = (simulate(images, Camera(seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])


def test_physics():
    images = (load_digits().images[:8] / 16).astype(np.float32)
    quiet = {"noise_hz": 0.0, "mismatch": 0.0}
    # A black scene gives nothing but the background events.
    t, _, lengths = simulate(np.zeros((8, 8, 8), np.float32), Camera(**quiet))
    assert len(t) == 0
    assert lengths.tolist() == [0] * 8
    noise = simulate(np.zeros((200, 8, 8), np.float32), Camera(noise_hz=1.0))[2]
    assert noise.mean() == pytest.approx(34 * 34 * 0.3, rel=0.05)
    # Half the threshold, about twice the events.
    fast = {**quiet, "refractory_us": 0}
    n1, n2 = (len(simulate(images, Camera(**fast, threshold=h))[0]) for h in (0.08, 0.04))
    assert 1.9 < n2 / n1 < 2.2
    # A pixel rests for the refractory time.
    camera = Camera(**quiet, threshold=0.1, refractory_us=3000)
    t, address, lengths = simulate(images, camera)
    pixel = np.repeat(np.arange(8), lengths) * 1156 + address % 1156
    order = np.lexsort((t, pixel))
    gaps = np.diff(t[order])[np.diff(pixel[order]) == 0]
    assert gaps.min() >= 3000


def test_camera_is_part_of_the_cache_key(digits, monkeypatch):
    monkeypatch.setattr(event_digits, "_write", lambda *_: pytest.fail("rebuilt"))
    assert event_digits.load_event_digits().path == digits.path
    with pytest.raises(pytest.fail.Exception):
        event_digits.load_event_digits(Camera(threshold=0.4))


def test_learnable_by_a_linear_classifier(digits):
    """Counts of 3 saccades x 2 polarities x 17 x 17 pixels; N-MNIST's 850 give about 0.94."""
    t, address = (a.astype(np.int64) for a in digits.decode(np.asarray(digits.events)))
    owner = np.repeat(np.arange(len(digits)), digits.ends - digits.starts)
    x, y, p = address % 34 // 2, address // 34 % 34 // 2, address // (34 * 34)
    feature = ((t // 100_000 * 2 + p) * 17 + y) * 17 + x
    counts = np.bincount(owner * 1734 + feature, minlength=len(digits) * 1734)
    features = np.log1p(counts.reshape(len(digits), 1734))
    train = digits.split == 0
    model = RidgeClassifier(alpha=100.0).fit(features[train], digits.labels[train])
    assert model.score(features[~train], digits.labels[~train]) > 0.93
