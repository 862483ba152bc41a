"""Nothing is lost in silence: late events, recordings without events, the share of validation."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from on_disk import event, nmnist, shd_pair
from snnlab.data import DataConfig, build_data, data_of, load_recordings
from snnlab.data.features import build_features
from snnlab.data.recordings import NMNIST_SENSOR
from snnlab.errors import UsageError
from snnlab.problems import image_classification
from snnlab.problems.balanced_data import BalancedData, make_splits

CONFIG = DataConfig(dataset="nmnist", data_length=10, batch_size=4, val_fraction=0.4)


def refused(name: str, root, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recordings(name, str(root))
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value), caught.value


# ---------------------------------------------------------------------- late


@pytest.mark.parametrize(
    ("scale", "unit"), [(1e3, "look like ms"), (1e6, "look like us"), (1e9, "look like ns")]
)
def test_times_in_another_unit(tmp_path, own_cache, scale, unit):
    shd_pair(tmp_path, scale=scale)
    refused("shd", tmp_path, "480 of 480 train events", "1400 ms", unit, "expected s")


def test_no_unit_that_fits(tmp_path, own_cache):
    shd_pair(tmp_path, scale=4.0)  # 3.2 s
    refused("shd", tmp_path, "expected times in s below 1400 ms", "train events come after")
    nmnist(tmp_path / "n", content=event(t=400_000) * 20)
    refused("nmnist", tmp_path / "n", "120 of 120 train events", "6 recordings would be lost whole",
            "end at 400 ms (median)", "expected times in us below 310 ms")  # fmt: skip
    nmnist(tmp_path / "m", content=event(t=2_500_000) * 20)
    refused("nmnist", tmp_path / "m", "look like units of 100 ns, expected us")


@pytest.mark.parametrize(
    ("n_late", "whole", "right"),
    [(0, False, True), (5, False, True), (11, False, True), (12, False, False), (0, True, False)],
)
def test_a_tenth_of_a_split_or_a_whole_recording(tmp_path, own_cache, n_late, whole, right):
    """120 training events: eleven may be late, but not all events of a recording."""
    nmnist(tmp_path)
    for k in range(n_late):
        path = tmp_path / "Train" / "0" / f"0000{k % 3}.bin"
        path.write_bytes(path.read_bytes()[5:] + event(t=310_000 + k))
    if whole:
        path = tmp_path / "Test" / "1" / "00000.bin"
        path.write_bytes(event(t=310_000))
    if not right:
        refused("nmnist", tmp_path, "1 recordings" if whole else "12 of 120 train events")
        return
    data = build_data(dataclasses.replace(CONFIG, data_path=str(tmp_path)), 0)
    assert data.counts["late_events"] == n_late
    assert sum(data.lost["late_events"].values()) == n_late
    assert data.lost["late_events"]["test"] == 0
    assert (f"{n_late} of 240 events come after 310 ms" in data.note) == (n_late > 0)


def test_cuts_that_are_asked_for_are_no_loss(tmp_path, own_cache):
    nmnist(tmp_path)
    path = tmp_path / "Train" / "0" / "00000.bin"
    path.write_bytes(event(t=1000) * 10 + event(t=200_000) * 90)
    config = dataclasses.replace(
        CONFIG, data_path=str(tmp_path), first_saccade=True, aug_drop=0.9, aug_jitter_ms=1000.0
    )
    data = build_data(config, 0)
    assert data.counts["late_events"] == 0
    assert data.note == ""


def test_real_nmnist_loses_some_and_says_so(real_data):
    data = build_data(DataConfig(dataset="nmnist", data_path=str(real_data)), seed=0)
    lost = data.lost["late_events"]
    assert sum(lost.values()) == data.counts["late_events"] == 334
    assert "334 of 3," in data.note
    assert data.lost["silent_recordings"] == {"train": 0, "val": 0, "test": 0}
    assert data.facts["late_events"] == lost
    assert build_data(DataConfig(dataset="shd", data_path=str(real_data)), seed=0).note == ""


# --------------------------------------------------------------------- silent


def test_recordings_without_any_event(tmp_path, own_cache):
    nmnist(tmp_path)
    for place in ("Train/0/00001", "Train/1/00001", "Test/1/00002"):
        (tmp_path / f"{place}.bin").write_bytes(b"")
    (tmp_path / "Test" / "0" / "00000.bin").write_bytes(event(t=150_000) * 9)
    config = dataclasses.replace(CONFIG, data_path=str(tmp_path))
    data = build_data(config, 0)
    silent = data.lost["silent_recordings"]
    assert silent["train"] + silent["val"] == 2
    assert silent["test"] == 1
    assert data.note.startswith("warning: nmnist: 3 recordings have no event")
    assert "take them out" in data.note
    short = build_data(dataclasses.replace(config, first_saccade=True), 0)
    assert short.lost["silent_recordings"]["test"] == 2
    assert "in their 100 ms" in short.note


def test_units_without_spikes_in_shd(tmp_path, own_cache):
    def edit(file) -> None:
        for name in ("times", "units"):
            file[f"spikes/{name}"][4] = np.zeros(0, file[f"spikes/{name}"][0].dtype)

    shd_pair(tmp_path, edit)
    config = dataclasses.replace(CONFIG, dataset="shd", data_path=str(tmp_path))
    assert "1 recordings have no event" in build_data(config, 0).note


def test_words_that_are_digital_silence(tmp_path, own_cache):
    import scipy.io.wavfile

    for word in ("bed", "no"):
        for i in range(6):
            path = tmp_path / word / f"{i}_nohash_0.wav"
            path.parent.mkdir(exist_ok=True)
            loud = 0 if (word, i) in (("bed", 1), ("no", 5)) else 1000
            wave = (loud * np.sin(np.arange(2000))).astype(np.int16)
            scipy.io.wavfile.write(path, 16_000, wave)
    for split, i in (("validation", 4), ("testing", 5)):
        (tmp_path / f"{split}_list.txt").write_text(f"bed/{i}_nohash_0.wav\nno/{i}_nohash_0.wav\n")
    config = DataConfig(data_path=str(tmp_path), data_length=12, batch_size=4)
    for _ in range(2):  # made, and from the cache
        data = build_features("sc", config, 0)
        assert data.lost == {"silent_recordings": {"train": 1, "val": 0, "test": 1}}
        assert "sc: 2 recordings are digital silence (train 1, test 1)" in data.note
    assert data.facts["silent_recordings"]["test"] == 1


# ------------------------------------------------- share of validation recordings


@pytest.mark.parametrize(
    ("n_classes", "each", "asked", "taken"),
    [(20, 2, 0.1, 20), (20, 1, 0.1, None), (2, 20, 0.1, 4), (3, 10, 0.2, 6), (10, 3, 0.1, 10)],
)
def test_validation_takes_what_is_said(own_cache, n_classes, each, asked, taken):
    from snnlab.data import cached

    sensor = dataclasses.replace(NMNIST_SENSOR, n_classes=n_classes)
    n = n_classes * each

    def write(writer) -> None:
        writer.add(np.zeros(n, int), np.zeros(n, int), np.ones(n, int), np.arange(n) % n_classes, 0)
        writer.add(np.zeros(1, int), np.zeros(1, int), np.ones(1, int), [0], 1)

    store = cached(sensor, {"n": n}, write)
    config = dataclasses.replace(CONFIG, val_fraction=asked)
    if taken is None:
        with pytest.raises(UsageError, match="leave none for validation"):
            data_of(store, config, 0)
        return
    data = data_of(store, config, 0)
    assert data.counts["val"] == taken
    other = abs(taken / n - asked) > 0.25 * asked
    assert bool(data.note) == other
    if other:
        assert f"--val_fraction {asked}: {taken} of {n} training recordings" in data.note
        assert f"({taken / n:.0%})" in data.note


# ------------------------------------------------------------- what a task gets


def test_problems_carry_it_all(tmp_path, own_cache):
    from snnlab.experiment import RunConfig
    from snnlab.learners import LearnerConfig
    from snnlab.models import ModelConfig
    from snnlab.training.config import TrainingConfig

    shd_pair(tmp_path)
    config = dataclasses.replace(CONFIG, dataset="shd", data_path=str(tmp_path), val_fraction=0.1)
    data = build_data(config, 0)
    problem = image_classification.build(
        image_classification.ImageClassification(
            RunConfig(), config, ModelConfig(), LearnerConfig(), TrainingConfig()
        )
    )
    assert problem.class_names == ("a", "b", "c")
    assert problem.identity == data.identity != {}
    assert problem.note == data.note
    assert "--val_fraction 0.1: 3 of 12 training recordings (25%)" in problem.note
    assert problem.facts == {
        "samples": {"train": 9, "val": 3, "test": 12},
        "late_events": {"train": 0, "val": 0, "test": 0},
        "silent_recordings": {"train": 0, "val": 0, "test": 0},
        "classes": ["a", "b", "c"],
    }
    json.dumps(problem.facts, allow_nan=False)
    splits = make_splits(
        BalancedData(dataset="shd", data_path=str(tmp_path), data_length=10, batch_size=4), 0
    )
    assert (splits.identity, splits.note) == (problem.identity, problem.note)
    assert splits.facts == problem.facts


# ------------------------------------------------------------ lists of words


def test_a_byte_order_mark_moves_no_word(tmp_path, own_cache):
    """The first word of each list stays in validation and test, whatever wrote the list."""
    import scipy.io.wavfile

    for word in ("bed", "no"):
        for i in range(4):
            path = tmp_path / word / f"{i}_nohash_0.wav"
            path.parent.mkdir(exist_ok=True)
            scipy.io.wavfile.write(path, 16_000, np.arange(2000, dtype=np.int16) * (i + 1))
    config = DataConfig(data_path=str(tmp_path), data_length=12, batch_size=4)
    plain = {s: f"bed/{i}_nohash_0.wav\nno/{i}_nohash_0.wav\n" for s, i in
             (("validation", 2), ("testing", 3))}  # fmt: skip
    kinds = (
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: "".join(f"./{line}\n" for line in text.split()).encode(),
        lambda text: text.replace("/", "\\").encode("utf-8-sig"),
    )
    for kind in kinds:
        for split, text in plain.items():
            (tmp_path / f"{split}_list.txt").write_bytes(kind(text))
        data = build_features("sc", config, 0)
        assert data.counts == {
            "train": 4, "val": 2, "test": 2, "cut": 0, "absent": 0, "unlisted": 0,
        }  # fmt: skip


def test_recordings_that_no_list_names_are_counted(tmp_path, own_cache, capsys):
    import scipy.io.wavfile

    names = [f"lang-english_speaker-0{k}_trial-1_digit-3" for k in range(6)]
    (tmp_path / "audio").mkdir()
    for name in names:
        scipy.io.wavfile.write(tmp_path / "audio" / f"{name}.wav", 16_000, np.ones(2000, np.int16))
    (tmp_path / "train_filenames.txt").write_bytes(
        b"\xef\xbb\xbf" + "".join(f"{n}.flac\n" for n in names[:3]).encode()
    )
    (tmp_path / "test_filenames.txt").write_text(f"{names[3]}.flac\n")
    config = DataConfig(data_path=str(tmp_path), data_length=12, batch_size=4)
    data = build_features("hd", config, 0)
    assert (data.counts["train"] + data.counts["val"], data.counts["test"]) == (3, 1)
    assert (data.counts["unlisted"], data.counts["absent"]) == (2, 0)
    assert "named by no list and left out: 2" in capsys.readouterr().err
    (tmp_path / "audio" / f"{names[0]}.flac").write_bytes(b"twice")
    with pytest.raises(UsageError, match="the same recording; keep one"):
        build_features("hd", config, 0)
