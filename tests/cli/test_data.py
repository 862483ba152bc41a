"""``snnlab data``: without JAX; what a check finds is what training would refuse."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io.wavfile

from light import without_jax
from snnlab.cli import main as cli
from snnlab.data.examine import examine
from snnlab.errors import UsageError


def events(times: list[int], y: int = 3) -> bytes:
    """A recording in N-MNIST's format: one pixel, times in us."""
    parts = [bytes([2, y, (t >> 16) & 127, (t >> 8) & 255, t & 255]) for t in times]
    return b"".join(parts)


def nmnist(root: Path, times: list[int], n: int = 2) -> Path:
    for split in ("Train", "Test"):
        for digit in range(2):
            folder = root / split / str(digit)
            folder.mkdir(parents=True)
            for k in range(n):
                (folder / f"{k}.bin").write_bytes(events(times))
    return root


def shd(path: Path, factor: float = 1.0) -> Path:
    """Two recordings of two classes; times in seconds, but for ``factor``."""
    with h5py.File(path, "w") as file:
        for name, kind, rows in (
            ("times", np.float32, [[0.1, 0.9], [0.2]]), ("units", np.uint16, [[3, 4], [699]])
        ):  # fmt: skip
            data = file.create_dataset(f"spikes/{name}", 2, h5py.vlen_dtype(kind))
            for k, row in enumerate(rows):
                data[k] = np.array(row, kind) * (factor if name == "times" else 1)
        file["labels"] = np.arange(2)
        file["extra/keys"] = np.array([b"yes", b"no"])
    return path


def test_data_commands_answer_without_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = nmnist(tmp_path / "good", [10, 20_000, 299_000])
    late = nmnist(tmp_path / "late", [10, 400_000, 500_000])
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(good.rglob("*.bin")):
            archive.write(path, path.relative_to(good))
    (good / "Train" / "0" / "bad.bin").write_bytes(b"1234")
    (good / "Train" / "1" / "out.bin").write_bytes(events([5], y=99))
    (good / "Train" / "1" / "none.bin").write_bytes(b"")
    files = tmp_path / "shd"
    files.mkdir()
    shd(files / "shd_train.h5")
    shd(files / "shd_test.h5", 1000)
    sound = tmp_path / "sound" / "yes"
    sound.mkdir(parents=True)
    scipy.io.wavfile.write(sound / "ann_1.wav", 8000, np.zeros(16_000, np.int16))
    monkeypatch.setenv("SNNLAB_CACHE", str(tmp_path / "cache"))
    before = sorted(tmp_path.rglob("*"))
    lines = [
        f"data check {good}", f"data check {packed}", f"data check {late}", f"data check {files}",
        f"data check {tmp_path / 'sound'}", f"data check {tmp_path / 'nothing'}",
        f"data check {sound.parent.parent / 'late' / 'Test' / '0' / '0.bin'}", "data list",
        "data prepare nmnis", "data prepare hd", "data chek x", "data prepare event-digits "
        "--data_path x",
    ]  # fmt: skip
    found = without_jax("snnlab", lines)
    assert [code for code, _, _ in found] == [1, 0, 1, 1, 0, 2, 1, 0, 2, 2, 2, 2]
    bad, zipped, behind, hdf, wav, nothing, one, listed, *refused = (o + e for _, o, e in found)
    assert "Train: 5 recordings" in bad
    assert "bad.bin is truncated" in bad
    assert "out.bin: event at x=2, y=99 lies outside" in bad
    assert "2 classes: 0 2, 1 3" in bad
    assert "1 empty" in bad
    assert "events of a recording: 3 to 3 (median 3), in all 12" in zipped
    assert "durations: 299 to 299 (median 299) ms" in zipped
    assert f"use: --dataset nmnist --data_path {packed}" in zipped
    assert "8 events of 4 recordings behind the 310 ms" in behind
    assert "problem: " in behind
    assert "shd_train.h5: 2 recordings\n    2 classes: no 1, yes 1" in hdf
    assert "times look like ms, expected s" in hdf
    assert "1 silent, 1 longer than the 1400 ms" in wav
    assert "durations: 2,000 to 2,000 (median 2,000) ms" in wav
    assert "nothing cannot be read" in nothing
    assert "a recording in N-MNIST's format" in one
    assert "event-digits" in listed
    assert "needs a download" in listed
    for text, message in zip(
        refused, ("did you mean 'nmnist'?", "no hd recordings", "did you mean 'check'?",
                  "is made, not read"), strict=True,
    ):  # fmt: skip
        assert message in text
        assert text.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before, "a check writes nothing"


def test_what_is_prepared_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("SNNLAB_CACHE", str(tmp_path / "cache"))
    nmnist(tmp_path / "good", [10, 20_000, 299_000])
    assert cli.main(["data", "prepare", "nmnist", "--data_path", str(tmp_path / "good")]) == 0
    told = capsys.readouterr().out
    assert "nmnist: 4 training + 4 test recordings, 10 classes, 24 events" in told
    assert cli.main(["data", "list"]) == 0
    listed = capsys.readouterr().out.split("\n")
    (line,) = [row.strip() for row in listed if "prepared" in row]
    assert line.startswith("prepared: 8 recordings, 0 MB")
    assert told.strip().endswith(line.rpartition(" ")[2])


def test_of_several_paths_all_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    nmnist(tmp_path / "good", [10, 20_000, 299_000])
    paths = [str(tmp_path / name) for name in ("nothing", "good")]
    assert cli.main(["data", "check", *paths]) == 1
    told = capsys.readouterr().out
    assert f"{paths[0]}\n  problem: {paths[0]} cannot be read" in told
    assert f"use: --dataset nmnist --data_path {paths[1]}" in told


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recordings in"):
        examine(tmp_path)


def test_real_recordings_are_as_they_are_described() -> None:
    folder = Path(os.environ.get("SNNLAB_TEST_DATA", "nowhere"))
    if not (folder / "nmnist_subset.zip").is_file():
        pytest.skip("real recordings not found; set SNNLAB_TEST_DATA to their folder")
    (found,) = examine(folder / "nmnist_subset.zip")
    train, test = found.parts
    assert [len(part.events) for part in (train, test)] == [800, 50]
    assert (min(train.events + test.events), max(train.events + test.events)) == (1069, 6960)
    assert not found.problems
