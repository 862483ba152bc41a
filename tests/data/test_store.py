"""The packed cache: round trip, rebuilding, atomicity."""

from __future__ import annotations

import concurrent.futures
import json
import os

import numpy as np
import pytest

from snnlab.data.store import EventStore, Sensor, StoreWriter, cached, is_complete
from snnlab.errors import UsageError

SENSOR = Sensor("toy", 6, 5, 2, 4, window_us=1000)


def _write(writer: StoreWriter) -> None:
    # Two calls, an empty recording, and one whose times are out of order.
    writer.add(np.array([5, 900, 3, 3, 1]), np.array([7, 59, 2, 1, 0]), np.array([2, 3]), [1, 2], 0)
    writer.add(np.array([10**12]), np.array([4]), np.array([0, 1]), [3, 0], [1, 0])


def test_round_trip(own_cache):
    store = cached(SENSOR, {"k": 1}, _write)
    assert store.events.dtype == np.uint32
    assert isinstance(store.events, np.memmap)
    assert store.labels.tolist() == [1, 2, 3, 0]
    assert store.split.tolist() == [0, 0, 1, 0]
    assert (store.ends - store.starts).tolist() == [2, 3, 0, 1]
    first = store.events_of(0)
    assert first.dtype.names == ("x", "y", "t", "p")
    assert [tuple(e) for e in first] == [(2, 1, 5, 0), (4, 5, 900, 1)]
    # Put into time order; equal times keep their order.
    assert store.events_of(1)["t"].tolist() == [1, 3, 3]
    assert store.events_of(1)["x"].tolist() == [0, 2, 1]
    assert len(store.events_of(2)) == 0
    # A time beyond the packed range lies behind every window.
    assert store.ends_before(SENSOR.window_us)[3] == store.starts[3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"times_us": [0.5, 2]}, "times are float64"),
        ({"times_us": [-1, 2]}, "times of -1 to 2, needed: 0 or more"),
        ({"addresses": [0, 60]}, "addresses of 0 to 60, needed: 0 to 59"),
        ({"labels": [0.5]}, "labels are float64"),
        ({"labels": [4]}, "labels of 4 to 4, needed: 0 to 3"),
        ({"labels": [True]}, "labels are bool"),
        ({"labels": [1, 2]}, "2 events of 1 recordings, 2 labels"),
        ({"lengths": [3]}, "2 times, 2 addresses, 3 events"),
    ],
)
def test_nothing_is_cast(own_cache, change, said):
    sound = {"times_us": [1, 2], "addresses": [0, 59], "lengths": [2], "labels": [3], "split": 0}
    assert len(cached(SENSOR, {}, lambda w: w.add(**sound))) == 1
    with pytest.raises(ValueError, match=said):
        cached(SENSOR, {"other": 1}, lambda w: w.add(**{**sound, **change}))


def test_wide_sensor_packs_into_64_bits(own_cache):
    sensor = Sensor("wide", 128, 128, 2, 4, window_us=1_000_000)
    t, a = np.array([0, 1_999_999]), np.array([0, 128 * 128 * 2 - 1])
    store = cached(sensor, {}, lambda w: w.add(t, a, np.array([2]), [0], 0))
    assert store.events.dtype == np.uint64
    assert [x.tolist() for x in store.decode(np.asarray(store.events))] == [t.tolist(), a.tolist()]


def test_ends_before_is_a_bisection_of_every_recording(toy):
    for limit in (0, 1, 333, 1000, 5000):
        expected = [toy.starts[i] + (toy.events_of(i)["t"] < limit).sum() for i in range(len(toy))]
        assert toy.ends_before(limit).tolist() == expected


def test_subset_of_subset_and_pickled_view(toy):
    import pickle  # how multiprocessing sends it to a worker; the cache itself is never pickled

    view = toy.subset(np.array([5, 3, 9])).subset(np.array([2, 0]))
    assert view.indices.tolist() == [9, 5]
    assert np.array_equal(view.events_of(1), toy.events_of(5))
    sent = pickle.dumps(view)
    assert len(sent) < 1000, "a view travels as a path, not as its events"
    assert np.array_equal(pickle.loads(sent).events_of(0), view.events_of(0))


def test_second_load_does_not_rebuild_and_key_decides(own_cache):
    calls = []

    def write(writer):
        calls.append(1)
        _write(writer)

    a = cached(SENSOR, {"k": 1}, write)
    assert cached(SENSOR, {"k": 1}, write).path == a.path
    assert len(calls) == 1
    assert cached(SENSOR, {"k": 2}, write).path != a.path
    assert len(calls) == 2


@pytest.mark.parametrize(
    "damage", ["manifest", "no-events", "flip", "truncate", "offsets", "format"]
)
def test_damaged_store_is_rebuilt(own_cache, damage):
    path = cached(SENSOR, {}, _write).path
    good = (path / "events.npy").read_bytes()
    if damage == "manifest":
        (path / "manifest.json").write_text("{")
    elif damage == "no-events":
        (path / "events.npy").unlink()
    elif damage == "flip":
        (path / "events.npy").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif damage == "truncate":
        (path / "events.npy").write_bytes(good[:-4])
    elif damage == "offsets":
        np.save(path / "offsets.npy", np.array([0, 99]))
    else:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    assert not is_complete(path, SENSOR, {})
    again = cached(SENSOR, {}, _write)
    assert again.path == path
    assert is_complete(path, SENSOR, {})
    assert (path / "events.npy").read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left over"


def test_failed_build_leaves_nothing(own_cache):
    def broken(writer):
        _write(writer)
        raise UsageError("source is damaged")

    with pytest.raises(UsageError, match="source is damaged"):
        cached(SENSOR, {}, broken)
    assert list((own_cache / "events").iterdir()) == []
    assert len(cached(SENSOR, {}, _write)) == 4


def test_process_that_was_faster_wins(own_cache):
    def slow(writer):
        cached(SENSOR, {}, _write)  # another process finishes while this one writes
        _write(writer)

    store = cached(SENSOR, {}, slow)
    assert is_complete(store.path, SENSOR, {})
    assert len(list(store.path.parent.iterdir())) == 1


def test_concurrent_builds(own_cache):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: cached(SENSOR, {"race": 1}, _write), range(16)))
    assert [len(store) for store in stores] == [4] * 16
    assert len(list((own_cache / "events").iterdir())) == 1


def test_unwritable_cache_is_one_line(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("SNNLAB_CACHE", str(file / "below"))
    with pytest.raises(UsageError, match="SNNLAB_CACHE") as error:
        cached(SENSOR, {}, _write)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_pickle_in_files(toy):
    for file in toy.path.glob("*.npy"):
        np.load(file, allow_pickle=False)
    assert isinstance(EventStore(toy.path).manifest["n_events"], int)
    assert os.path.getsize(toy.path / "manifest.json") < 4000
