"""What recordings are known by: their content and the transform, never their names."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from on_disk import event, nmnist, shd, shd_pair
from snnlab.data import DataConfig, build_data, build_features, cached, load_recordings
from snnlab.data.manifest import NAME, canonical, digest, read_manifest
from snnlab.data.store import EventStore, Sensor, is_complete
from snnlab.errors import UsageError

SENSOR = Sensor("toy", 6, 5, 2, 4, window_us=1000)
CONFIG = DataConfig(data_length=10, batch_size=4)


def same_times(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        os.utime(path, (315532800, 315532800))


# -------------------------------------------------------------------- content


def test_equal_names_sizes_and_times_are_two_datasets(tmp_path, own_cache):
    """Two unpacked archives: only the bytes differ."""
    for name, x in (("a", 1), ("b", 30)):
        same_times(nmnist(tmp_path / name, content=event(x) * 20))
    for name, x in (("a", 1), ("b", 30), ("a", 1)):
        assert set(load_recordings("nmnist", str(tmp_path / name)).events_of(0)["x"]) == {x}


def test_a_byte_changed_in_place_is_seen(tmp_path, own_cache):
    root = nmnist(tmp_path / "a")
    same_times(root)
    load_recordings("nmnist", str(root))
    path = root / "Test" / "1" / "00002.bin"
    path.write_bytes(event(33, 2, t=1002) * 20)
    same_times(root)
    assert set(load_recordings("nmnist", str(root)).events_of(11)["x"]) == {33}


def test_shd_and_words_too(tmp_path, own_cache, capsys):
    def other(file) -> None:
        file["spikes/units"][0] = np.full(40, 699, np.uint16)

    for name, edit in (("a", None), ("b", other)):
        same_times(shd_pair(tmp_path / name, edit))
    first = [load_recordings("shd", str(tmp_path / n)).events_of(0)["x"].max() for n in "ab"]
    assert first[0] < 230
    assert first[1] == 699
    rng = np.random.default_rng(0)
    found = []
    for name in "cd":
        for word in ("bed", "no"):
            for i in range(4):
                path = tmp_path / name / word / f"{i}_nohash_0.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                wave = (rng.normal(size=2000) * 1000).astype(np.int16)
                scipy.io.wavfile.write(path, 16_000, wave)
        for split, i in (("validation", 2), ("testing", 3)):
            lines = "".join(f"{word}/{i}_nohash_0.wav\n" for word in ("bed", "no"))
            (tmp_path / name / f"{split}_list.txt").write_text(lines)
        same_times(tmp_path / name)
        config = dataclasses.replace(CONFIG, data_path=str(tmp_path / name))
        data = build_features("sc", config, 0)
        found.append((np.array(data.train.store.frames), data.identity["recordings"]))
        state = data.train.state_dict()
    assert found[0][0].tobytes() != found[1][0].tobytes()
    assert found[0][1] != found[1][1]
    assert state["recordings"] in found[1][1]


def test_the_same_recordings_packed_otherwise_are_the_same(tmp_path, own_cache, capsys):
    """A run goes on with the archive that its folder was unpacked from; they are decoded once."""
    root = nmnist(tmp_path / "a")
    shd_pair(tmp_path / "s")
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.bin")):
            archive.write(path, path.relative_to(root))
    folder, packed = (load_recordings("nmnist", str(tmp_path / n)) for n in ("a", "all.zip"))
    assert folder.content == packed.content
    assert folder.path == packed.path
    loose = load_recordings("shd", str(tmp_path / "s"))
    for split in ("train", "test"):
        path = tmp_path / "s" / f"shd_{split}.h5"
        with zipfile.ZipFile(f"{path}.zip", "w") as archive:
            archive.write(path, path.name)
        path.unlink()
    capsys.readouterr()
    zips = load_recordings("shd", str(tmp_path / "s"))
    both = tmp_path / "both.zip"
    with zipfile.ZipFile(both, "w") as archive:
        for split in ("train", "test"):
            with zipfile.ZipFile(tmp_path / "s" / f"shd_{split}.h5.zip") as one:
                archive.writestr(f"SHD/shd_{split}.h5", one.read(f"shd_{split}.h5"))
    # The file itself, in the place of its folder.
    given = [load_recordings("shd", str(p)) for p in (tmp_path / "s/shd_test.h5.zip", both)]
    assert {found.path for found in (zips, *given)} == {loose.path}
    assert "decoding" not in capsys.readouterr().err
    assert not [p for p in own_cache.iterdir() if p.name.startswith(".")], "nothing is left over"


def test_source_that_changes_while_it_is_read(tmp_path, own_cache, monkeypatch):
    from snnlab.data import recordings

    root = nmnist(tmp_path / "a")
    read = recordings.read_bytes

    def reading(path: Path, most: int) -> bytes:
        (root / "Train" / "0" / "00000.bin").write_bytes(event(9) * 20)
        return read(path, most)

    monkeypatch.setattr(recordings, "read_bytes", reading)
    with pytest.raises(UsageError, match="changed while they were read"):
        load_recordings("nmnist", str(root))
    assert list((own_cache / "events").iterdir()) == []


# ---------------------------------------------------------- identity of a run


def test_identity_says_content_and_transform(tmp_path, own_cache, digits):
    nmnist(tmp_path / "a")
    nmnist(tmp_path / "b", content=event(7) * 20)
    config = dataclasses.replace(CONFIG, dataset="nmnist", data_path=str(tmp_path / "a"))
    data = build_data(config, 0)
    content = load_recordings("nmnist", str(tmp_path / "a")).content
    assert data.identity == {
        "recordings": f"nmnist sha256 {content}",
        "transform": "10 bins of 310 ms, binary bins",
    }
    changed = {
        "data_length": 11, "first_saccade": True, "merge_polarity": True, "downsample": 2,
        "binary_bins": False,
    }  # fmt: skip
    seen = {data.identity["transform"]}
    for name, value in changed.items():
        other = build_data(dataclasses.replace(config, **{name: value}), 0).identity
        assert other["recordings"] == data.identity["recordings"]
        seen.add(other["transform"])
    assert len(seen) == 6
    assert build_data(config, seed=1).identity == data.identity
    elsewhere = build_data(dataclasses.replace(config, data_path=str(tmp_path / "b")), 0)
    assert elsewhere.identity["recordings"] != data.identity["recordings"]
    assert elsewhere.counts == data.counts, "by number they are the same"
    for split in ("train", "val", "test"):
        state = getattr(data, split).state_dict()
        getattr(data, split).load_state_dict(json.loads(json.dumps(state)))
        with pytest.raises(UsageError, match=f"of recordings {content}, this run has"):
            getattr(elsewhere, split).load_state_dict(state)


# ------------------------------------------------------------------- manifests


def _write(writer) -> None:
    writer.add(np.array([5, 900]), np.array([7, 59]), np.array([1, 1]), [1, 2], [0, 1])


def _edited(path: Path, change) -> None:
    """An edit that does not know of the manifest's own sum, and one that does."""
    manifest = json.loads((path / NAME).read_text())
    manifest.update(change)
    (path / NAME).write_text(json.dumps(manifest))


@pytest.mark.parametrize("resummed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"key": {"k": 2}},
        {"key": {"k": True}},
        {"key": {"k": 1.0}},
        {"sensor": {**dataclasses.asdict(SENSOR), "window_us": 999}},
        {"sensor": {**dataclasses.asdict(SENSOR), "n_classes": 5}},
        {"sensor": []},
        {"sums": {}},
        {"sums": None},
    ],
    ids=str,
)
def test_a_manifest_is_held_against_what_is_asked(own_cache, change, resummed):
    path = cached(SENSOR, {"k": 1}, _write).path
    _edited(path, change)
    if resummed:
        manifest = json.loads((path / NAME).read_text())
        del manifest["sum"]
        _edited(path, {"sum": digest(manifest)})
        assert read_manifest(path) is not None
    assert not is_complete(path, SENSOR, {"k": 1})
    again = cached(SENSOR, {"k": 1}, _write)
    assert again.path == path
    assert again.sensor == SENSOR
    assert is_complete(path, SENSOR, {"k": 1})


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"1", b'"x"', b"{}", b"NaN", b'{"sum": NaN}',
        b'{"format": 1e999}', b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"format": ' + b"9" * 5000 + b"}", b"\xff\xfe\x00", b" " * (2 << 20), b'{"sum": {}}',
    ],
    ids=range(16),
)  # fmt: skip
def test_a_manifest_that_is_none_is_made_again(own_cache, text):
    path = cached(SENSOR, {}, _write).path
    (path / NAME).write_bytes(text)
    assert not is_complete(path, SENSOR, {})
    with pytest.raises(UsageError, match="no store of events"):
        EventStore(path)
    assert cached(SENSOR, {}, _write).labels.tolist() == [1, 2]


def test_classes_that_the_recordings_say(own_cache):
    """Left open in what is asked, they are in the store and under its sums."""
    asked = dataclasses.replace(SENSOR, n_classes=0)

    def write(writer) -> None:
        writer.classes(3, ("x", "y", "z"))
        _write(writer)

    store = cached(asked, {}, write)
    assert (store.sensor.n_classes, store.class_names) == (3, ("x", "y", "z"))
    assert is_complete(store.path, asked, {})
    assert not is_complete(store.path, SENSOR, {})
    _edited(store.path, {"class_names": ["y", "x", "z"]})
    assert not is_complete(store.path, asked, {})
    for n in (0, -1, 2.0, None):
        _edited(store.path, {"sensor": {**dataclasses.asdict(asked), "n_classes": n}})
        assert not is_complete(store.path, asked, {})


def test_a_place_taken_by_a_file_or_a_pipe(own_cache):
    path = cached(SENSOR, {}, _write).path
    for name in ("labels.npy", "events.npy", NAME):
        (path / name).unlink()
        os.mkfifo(path / name)
        assert cached(SENSOR, {}, _write).labels.tolist() == [1, 2]
    import shutil

    shutil.rmtree(path)
    path.write_text("no folder")
    assert cached(SENSOR, {}, _write).labels.tolist() == [1, 2]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_canonical_text_tells_kinds_apart():
    assert canonical({"b": (1, 2), "a": 1}) == canonical({"a": 1, "b": [1, 2]})
    assert len({canonical(v) for v in (1, 1.0, True, "1", None)}) == 5
    with pytest.raises(ValueError):
        canonical(float("nan"))


# --------------------------------------------------------------- class names


def _labels(root: Path) -> tuple[tuple[str, ...], list[int], list[int]]:
    store = load_recordings("shd", str(root))
    return store.class_names, store.labels[:12].tolist(), store.labels[12:].tolist()


@pytest.mark.parametrize(
    ("test", "labels"),
    [
        (("a", "b", "c"), [0, 1, 2]),
        (("b", "a", "c"), [1, 0, 2]),
        (("c", "b", "a"), [2, 1, 0]),
        (("c", "a", "b"), [2, 0, 1]),
    ],
)
def test_classes_go_by_name(tmp_path, own_cache, test, labels):
    shd(tmp_path / "shd_train.h5")
    shd(tmp_path / "shd_test.h5", keys=test)
    assert _labels(tmp_path) == (("a", "b", "c"), [0, 1, 2] * 4, labels * 4)


def test_some_of_the_classes(tmp_path, own_cache):
    """Train bird, cat, dog, owl; test cat, dog, bird: none is another's number."""
    shd(tmp_path / "shd_train.h5", keys=("bird", "cat", "dog", "owl"))
    shd(tmp_path / "shd_test.h5", keys=("cat", "dog", "bird"))
    assert _labels(tmp_path)[2] == [1, 2, 0] * 4
    config = dataclasses.replace(CONFIG, dataset="shd", data_path=str(tmp_path))
    data = build_data(config, 0)
    assert (data.n_out, data.class_names) == (4, ("bird", "cat", "dog", "owl"))
    assert data.facts["classes"] == ["bird", "cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("test", "parts"),
    [
        (("a", "b", "d"), ("shd_test.h5", "class 'd'", "a, b, c")),
        (("a", "b", "c", "d"), ("shd_test.h5", "class 'd'")),
        (("a", "b", "b"), ("shd_test.h5", "'b' twice")),
        (("a", "b", "\x1b[2J"), ("shd_test.h5", "holds the name")),
        (("a", "b"), ("shd_test.h5", "label 2", "0..1")),
    ],
)
def test_classes_that_cannot_be_mapped(tmp_path, own_cache, test, parts):
    shd(tmp_path / "shd_train.h5")
    shd(tmp_path / "shd_test.h5", keys=test)
    with pytest.raises(UsageError) as caught:
        load_recordings("shd", str(tmp_path))
    for part in parts:
        assert part in str(caught.value)


def test_names_in_one_file_only(tmp_path, own_cache, capsys):
    shd(tmp_path / "shd_train.h5")
    shd(tmp_path / "shd_test.h5", keys=None)
    assert _labels(tmp_path) == (("a", "b", "c"), [0, 1, 2] * 4, [0, 1, 2] * 4)
    assert "labels are taken by number" in capsys.readouterr().err
