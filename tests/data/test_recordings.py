"""Real datasets: decoding against tonic, layouts, and every refusal."""

from __future__ import annotations

import dataclasses
import io
import stat
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tonic

from snnlab.data import DataConfig, build_data, load_recordings
from snnlab.data.decode import decode_bin
from snnlab.data.recordings import NMNIST_SENSOR
from snnlab.errors import UsageError


def _refused(name: str, path: Path | str, *parts: str) -> None:
    with pytest.raises(UsageError) as error:
        load_recordings(name, str(path))
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def _bin(n: int = 20, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, n))
    p = rng.integers(0, 2, n)
    columns = [rng.integers(0, 34, n), rng.integers(0, 34, n), (p << 7) | (t >> 16)]
    return np.stack([*columns, (t >> 8) & 255, t & 255], 1).astype(np.uint8).tobytes()


def _nmnist_folder(root: Path, splits: tuple[str, ...] = ("Train", "Test")) -> Path:
    for split in splits:
        for digit in range(10):
            folder = root / split / str(digit)
            folder.mkdir(parents=True)
            for k in range(3):
                (folder / f"{k:05}.bin").write_bytes(_bin(seed=10 * digit + k))
    return root


def _shd_file(path: Path, labels=(0, 1, 2, 1, 0, 2), keys: int | None = 3, **change) -> None:
    n = len(labels)
    rng = np.random.default_rng(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, dtype, draw in (
            ("times", np.float16, lambda k: np.sort(rng.uniform(0, 1.2, k))),
            ("units", np.uint16, lambda k: rng.integers(0, 700, k)),
        ):
            if name in change.get("without", ()):
                continue
            data = file.create_dataset(f"spikes/{name}", (n,), h5py.vlen_dtype(dtype))
            for i in range(n):
                data[i] = draw(10 + i).astype(dtype)
        if "labels" not in change.get("without", ()):
            file["labels"] = np.array(labels, np.int64)
        if keys is not None:
            file["extra/keys"] = np.array([f"k{i}".encode() for i in range(keys)])
            file["extra/speaker"] = np.zeros(n, np.uint16)
        for index, value in change.get("units", {}).items():
            file["spikes/units"][index] = np.full(10 + index, value, np.uint16)
        for index, value in change.get("times", {}).items():
            file["spikes/times"][index] = np.full(10 + index, value, np.float16)


# ------------------------------------------------------------------- real files


def test_nmnist_as_tonic_reads_it(real_data):
    store = load_recordings("nmnist", str(real_data))
    assert np.bincount(store.split).tolist() == [800, 50]
    with zipfile.ZipFile(real_data / "nmnist_subset.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".bin"))
        names = [n for s in ("Train", "Test") for n in names if n.startswith(s)]
        for i in (*range(0, 850, 40), 849):
            stream = io.BytesIO(archive.read(names[i]))
            theirs = tonic.io.read_mnist_file(
                stream, dtype=tonic.datasets.NMNIST.dtype, is_stream=True
            )
            ours = store.events_of(i)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), names[i]
            assert store.labels[i] == int(names[i].split("/")[1])


def test_shd_as_tonic_reads_it(real_data, tmp_path):
    store = load_recordings("shd", str(real_data))
    assert np.bincount(store.split).tolist() == [1000, 250]
    assert store.sensor.n_classes == 10
    (tmp_path / "SHD").mkdir()
    for split in ("test", "train"):
        source = real_data / "SHD" / f"shd_{split}.h5.zip"
        (tmp_path / "SHD" / source.name).symlink_to(source)
    with zipfile.ZipFile(real_data / "SHD" / "shd_test.h5.zip") as archive:
        archive.extractall(tmp_path / "SHD")
    theirs = tonic.datasets.SHD(str(tmp_path), train=False)
    for i in (0, 1, 100, 249):
        events, label = theirs[i]
        ours = store.events_of(1000 + i)
        assert ours.dtype == events.dtype
        assert np.array_equal(ours, events)
        assert store.labels[1000 + i] == label


def test_build_from_a_read_only_folder(real_data):
    for name, n_in, n_classes in (("nmnist", 2312, 10), ("shd", 700, 10)):
        config = DataConfig(dataset=name, data_path=str(real_data), batch_size=16, data_length=50)
        data = build_data(config, seed=0)
        assert (data.n_in, data.n_out, data.dataset) == (n_in, n_classes, name)
        assert data.counts["train"] + data.counts["val"] == len(data.train.labels) + len(
            data.val.labels
        )
    assert data.counts["late_events"] == 0


def test_late_events_of_nmnist_are_counted(real_data):
    store = load_recordings("nmnist", str(real_data))
    late = sum((store.events_of(i)["t"] >= 310_000).sum() for i in range(len(store)))
    data = build_data(DataConfig(dataset="nmnist", data_path=str(real_data)), seed=0)
    assert data.counts["late_events"] == late > 0


# --------------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", ["here", "NMNIST", "nmnist", "zips", "lower-zips", "one-zip"])
def test_nmnist_layouts(tmp_path, own_cache, layout):
    plain = _nmnist_folder(tmp_path / "plain")
    reference = load_recordings("nmnist", str(plain))
    root = tmp_path / "root"
    root.mkdir()
    if layout in ("here", "NMNIST", "nmnist"):
        _nmnist_folder(root if layout == "here" else root / layout)
    else:
        files = sorted(plain.glob("*/*/*.bin"))
        for split in ("Train", "Test"):
            name = {"zips": split, "lower-zips": split.lower(), "one-zip": "nmnist_subset"}[layout]
            with zipfile.ZipFile(root / f"{name}.zip", "a") as archive:
                for file in files:
                    if file.parts[-3] == split:
                        archive.write(file, file.relative_to(plain))
    store = load_recordings("nmnist", str(root))
    assert np.array_equal(store.events, reference.events)
    assert np.array_equal(store.labels, reference.labels)


def test_changed_source_is_decoded_again(tmp_path, own_cache):
    root = _nmnist_folder(tmp_path / "d")
    first = load_recordings("nmnist", str(root))
    (root / "Train" / "3" / "00000.bin").write_bytes(_bin(50))
    assert len(load_recordings("nmnist", str(root)).events) == len(first.events) + 30


def test_overflow_events(tmp_path):
    """y = 240 adds 8192 us, as in tonic; and the count starts anew with each file."""
    raw = np.frombuffer(_bin(30), np.uint8).reshape(-1, 5).copy()
    raw[[10, 20], 1] = 240
    blobs = [raw.tobytes(), _bin(5, seed=3), raw.tobytes()]
    t, address, lengths = decode_bin(blobs, ["a", "b", "c"], NMNIST_SENSOR)
    dtype = tonic.datasets.NMNIST.dtype
    theirs = [tonic.io.read_mnist_file(io.BytesIO(b), dtype, is_stream=True) for b in blobs]
    assert lengths.tolist() == [28, 5, 28]
    assert np.array_equal(t, np.concatenate([e["t"] for e in theirs]))
    assert np.array_equal(address % 34, np.concatenate([e["x"] for e in theirs]))
    assert np.array_equal(address // 34 % 34, np.concatenate([e["y"] for e in theirs]))
    assert np.array_equal(address // 1156, np.concatenate([e["p"] for e in theirs]))


@pytest.mark.parametrize("zipped", [False, True])
def test_shd_layouts(tmp_path, own_cache, zipped):
    for split in ("train", "test"):
        path = tmp_path / "SHD" / f"shd_{split}.h5"
        _shd_file(path)
        if zipped:
            with zipfile.ZipFile(f"{path}.zip", "w") as archive:
                archive.write(path, path.name)
            path.unlink()
    store = load_recordings("shd", str(tmp_path))
    assert store.sensor.n_classes == 3
    assert len(store) == 12
    assert not list(tmp_path.glob("SHD/*.h5")) if zipped else True


# -------------------------------------------------------------------- refusals


def test_truncated_bin(tmp_path, own_cache):
    root = _nmnist_folder(tmp_path / "d")
    bad = root / "Test" / "4" / "00001.bin"
    bad.write_bytes(bad.read_bytes()[:-2])
    _refused("nmnist", root, str(bad), "truncated", "98 bytes")


def test_outside_the_sensor(tmp_path, own_cache):
    root = _nmnist_folder(tmp_path / "d")
    bad = root / "Train" / "7" / "00002.bin"
    bad.write_bytes(bytes([34, 3, 0, 0, 9]) + _bin(3))
    _refused("nmnist", root, str(bad), "x=34", "34 x 34")


@pytest.mark.parametrize("digit", ["10", "seven", "-1"])
def test_label_folder(tmp_path, own_cache, digit):
    root = _nmnist_folder(tmp_path / "d")
    (root / "Train" / digit).mkdir()
    (root / "Train" / digit / "0.bin").write_bytes(_bin())
    _refused("nmnist", root, f"'{digit}'", "0..9", str(root / "Train" / digit / "0.bin"))


@pytest.mark.parametrize(("there", "missing"), [("Train", "test"), ("Test", "train")])
def test_one_split_alone(tmp_path, own_cache, there, missing):
    root = _nmnist_folder(tmp_path / "d", (there,))
    _refused("nmnist", root, str(root / there), f"no {missing} recordings")


def test_empty_split(tmp_path, own_cache):
    root = _nmnist_folder(tmp_path / "d", ("Train",))
    (root / "Test").mkdir()
    _refused("nmnist", root, str(root / "Test"), "no recordings")


def test_broken_zip(tmp_path, own_cache):
    for name in ("train.zip", "test.zip"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 no zip")
    _refused("nmnist", tmp_path, "train.zip", "no readable zip")


def test_zip_with_damaged_member(tmp_path, own_cache):
    with zipfile.ZipFile(tmp_path / "nmnist.zip", "w") as archive:
        for split in ("Train", "Test"):
            archive.writestr(f"{split}/1/0.bin", _bin(100))
    raw = bytearray((tmp_path / "nmnist.zip").read_bytes())
    raw[200] ^= 255
    (tmp_path / "nmnist.zip").write_bytes(bytes(raw))
    _refused("nmnist", tmp_path, "nmnist.zip", "CRC")


@pytest.mark.parametrize("member", ["../Train/1/0.bin", "/Train/1/0.bin", "a/../../b", "C:/x.bin"])
def test_zip_that_leaves_its_folder(tmp_path, own_cache, member):
    with zipfile.ZipFile(tmp_path / "nmnist.zip", "w") as archive:
        archive.writestr(member, _bin())
    _refused("nmnist", tmp_path, "nmnist.zip", "leaves")
    assert not (tmp_path / "b").exists()
    assert not (tmp_path.parent / "Train").exists()


def test_zip_with_symlink_and_zip_bomb(tmp_path, own_cache, monkeypatch):
    info = zipfile.ZipInfo("Train/1/0.bin")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "nmnist.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    _refused("nmnist", tmp_path, "nmnist.zip", "symbolic link")
    with zipfile.ZipFile(tmp_path / "nmnist.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Train/1/0.bin", bytes(100_000))
    monkeypatch.setattr("snnlab.data.archives.MEMBER_LIMIT", 99_999)
    _refused("nmnist", tmp_path, "nmnist.zip", "100000 bytes", "plausible")
    monkeypatch.undo()
    monkeypatch.setenv("SNNLAB_CACHE", str(own_cache))
    with zipfile.ZipFile(tmp_path / "nmnist.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("Train", "Test"):
            archive.writestr(f"{split}/1/0.bin", bytes(20_000_000))
    _refused("nmnist", tmp_path, "nmnist.zip", "20000000 bytes", "plausible")


@pytest.mark.parametrize("group", ["times", "units", "labels"])
def test_shd_without_group(tmp_path, own_cache, group):
    _shd_file(tmp_path / "shd_train.h5")
    _shd_file(tmp_path / "shd_test.h5", without=(group,))
    name = group if group == "labels" else f"spikes/{group}"
    _refused("shd", tmp_path, "shd_test.h5", f"'{name}'")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"labels": (0, 1, 3, 1)}, ("label 3", "0..2")),
        ({"labels": (0, -1, 2)}, ("label -1", "0..2")),
        ({"labels": (0, 20, 2), "keys": None}, ("label 20", "0..19")),
        ({"units": {2: 700}}, ("unit 700", "recording 2", "0..699")),
        ({"times": {1: np.nan}}, ("nan", "recording 1")),
        ({"times": {1: -0.5}}, ("-0.5", "recording 1")),
    ],
)
def test_shd_out_of_range(tmp_path, own_cache, change, parts):
    _shd_file(tmp_path / "shd_train.h5", **change)
    _shd_file(tmp_path / "shd_test.h5")
    _refused("shd", tmp_path, "shd_train.h5", *parts)


def test_shd_damaged_or_alone(tmp_path, own_cache):
    (tmp_path / "shd_train.h5").write_bytes(b"\x89HDF\r\n\x1a\n nothing")
    _refused("shd", tmp_path, "shd_train.h5", "no test recordings")
    (tmp_path / "shd_test.h5").write_bytes(b"no")
    _refused("shd", tmp_path, "shd_train.h5", "no readable HDF5")


def test_ssc_has_its_own_validation_split(tmp_path, own_cache):
    labels = {"train": (0, 1, 2, 1, 0, 2), "test": (0, 1, 2), "valid": (2, 1)}
    for split, own in labels.items():
        if split != "train":
            _refused("ssc", tmp_path, f"no {split} recordings", "ssc_valid.h5")
        _shd_file(tmp_path / "SSC" / f"ssc_{split}.h5", labels=own, keys=None)
    config = DataConfig(dataset="ssc", data_path=str(tmp_path), data_length=50, batch_size=2)
    data = build_data(config, seed=0)
    assert (data.dataset, data.n_in, data.n_out) == ("ssc", 700, 35)
    for split, own in {**labels, "val": labels["valid"]}.items():
        if split != "valid":
            assert sorted(getattr(data, split).labels) == sorted(own)
    changed = dataclasses.replace(config, val_fraction=0.2)
    with pytest.raises(UsageError, match="ssc has a validation split"):
        build_data(changed, seed=0)


# -------------------------------------------------------------------- download


@pytest.mark.parametrize("name", ["nmnist", "shd"])
def test_offline(tmp_path, own_cache, monkeypatch, name):
    def unreachable(self) -> None:
        (Path(self.location_on_system) / self.filename).write_bytes(b"half")
        raise OSError("no route to host")

    monkeypatch.setattr(tonic.dataset.Dataset, "download", unreachable)
    root = own_cache / "data"
    parts = {"nmnist": "train.zip and test.zip", "shd": "shd_train.h5"}[name]
    _refused(name, "", "no route to host", parts, str(root), "--dataset event-digits")
    assert not list(root.rglob("*.*")), "a partial download is removed"
    # Again: nothing that looks like data was left.
    _refused(name, "", "no route to host")


def test_a_download_needs_tonic(own_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    _refused("shd", "", "no shd data in", "tonic, of the extra 'data'", "shd_train.h5")


@pytest.mark.parametrize("name", ["nmnist", "shd", "ssc"])
def test_a_wrong_path_downloads_nothing(tmp_path, own_cache, monkeypatch, name):
    monkeypatch.setattr(tonic.dataset.Dataset, "download", lambda _: pytest.fail("downloaded"))
    _refused(name, tmp_path / "typo", "--data_path", "typo", "no such folder")
    _refused(name, tmp_path, f"no {name} data", "expected", "--dataset event-digits")
    _refused(name, "~nosuchuser/x", "no such user")
    _refused(name, tmp_path / ("long" * 2000), "too long")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    _refused(name, loop, "--data_path", "loop")
    assert [p.name for p in tmp_path.iterdir()] == ["loop"]


def test_default_path_is_in_the_cache(own_cache, monkeypatch):
    def unreachable(self) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(tonic.dataset.Dataset, "download", unreachable)
    _refused("shd", "", str(own_cache / "data" / "SHD"))


def test_no_download_into_a_folder_with_some_data(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(tonic.dataset.Dataset, "download", lambda _: pytest.fail("downloaded"))
    _nmnist_folder(tmp_path, ("Train",))
    _refused("nmnist", tmp_path, "no test recordings")


def test_download_is_read(tmp_path, own_cache, monkeypatch):
    def download(self) -> None:
        folder = Path(self.location_on_system)
        _shd_file(folder / self.data_filename)
        (folder / self.filename).write_bytes(b"")

    monkeypatch.setattr(tonic.dataset.Dataset, "download", download)
    assert len(load_recordings("shd", "")) == 12


def test_path_that_is_a_file_or_unwritable(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    _refused("shd", file, "--data_path", "no folder")
    _refused("shd", file / "below", "--data_path", "Not a directory")
    monkeypatch.setenv("SNNLAB_CACHE", str(file))
    _refused("shd", "", "cannot be written")
