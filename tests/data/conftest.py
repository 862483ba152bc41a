"""Caches of a test's own, a small synthetic store, and the real recordings if present."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snnlab.data import EventStore, Sensor, cached, load_event_digits


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("SNNLAB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def digits() -> EventStore:
    return load_event_digits()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real recordings."""
    named = os.environ.get("SNNLAB_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "data"
    if not (folder / "nmnist_subset.zip").is_file():
        pytest.skip("real recordings not found; set SNNLAB_TEST_DATA to their folder")
    return folder


def synthetic(n: int = 28, sensor: Sensor | None = None, seed: int = 0) -> EventStore:
    """``n`` random recordings of 0 to 60 events on a sensor 6 wide and 5 high, 4 classes, 1 ms."""
    sensor = sensor or Sensor("toy", 5, 6, 2, 4, window_us=1000, saccade_us=400)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 61, n)
    lengths[0] = 0

    def write(writer) -> None:
        total = int(lengths.sum())
        t = rng.integers(0, int(sensor.window_us * 1.1), total)
        address = rng.integers(0, sensor.n_addresses, total)
        split = (np.arange(n) % 4 == 3).astype(np.uint8)
        writer.add(t, address, lengths, np.arange(n) // 2 % sensor.n_classes, split)

    return cached(sensor, {"synthetic": [n, seed]}, write)


@pytest.fixture
def toy() -> EventStore:
    return synthetic()


@pytest.fixture
def make_store() -> Callable[..., EventStore]:
    return synthetic
