"""Folders of recorded words -> features, splits and batches; what is refused, and how."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from snnlab.data import DataConfig, build_features
from snnlab.data.features import BANDS, FeatureLoader, feature_store, features
from snnlab.data.speech.corpora import find_corpus
from snnlab.data.speech.mel import FLOOR, mel_filterbank
from snnlab.data.store import TEST, TRAIN, VALID
from snnlab.errors import UsageError

HZ = 16_000
CONFIG = DataConfig(data_length=12, batch_size=4)


def sound(seed: int, frames: int) -> np.ndarray:
    """Noise of so many frames."""
    n = int(HZ * (0.025 + 0.010 * (frames - 1)))
    return (3000 * np.random.default_rng(seed).standard_normal(n)).astype(np.int16)


def save(path: Path, samples: np.ndarray, hz: int = HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, hz, samples)


@pytest.fixture
def hd(tmp_path: Path) -> Path:
    """Twelve training and four test recordings of four digits; the lists name one more."""
    root, names = tmp_path / "hd", {"train": [], "test": []}
    for i in range(16):
        language = "german" if i % 4 > 1 else "english"
        stem = f"lang-{language}_speaker-{i // 4:02d}_trial-1_digit-{i % 2 + 3}"
        save(root / "audio" / f"{stem}.wav", sound(i, 5 + i))
        names["train" if i < 12 else "test"].append(f"{stem}.flac")
    names["test"].append("lang-english_speaker-09_trial-1_digit-0.flac")
    for split, files in names.items():
        (root / f"{split}_filenames.txt").write_text("\n".join(files) + "\n")
    return root


@pytest.fixture
def sc(tmp_path: Path) -> Path:
    """Three words of four recordings each, one for validation and one for the test; noise."""
    root, lists = tmp_path / "speech_commands_v0.02", {"validation": [], "testing": []}
    for word in ("yes", "bed", "no"):
        for i in range(4):
            save(root / word / f"{i}_nohash_0.wav", sound(i, 8))
        lists["validation"].append(f"{word}/2_nohash_0.wav")
        lists["testing"].append(f"{word}/3_nohash_0.wav")
    save(root / "_background_noise_" / "pink.wav", sound(0, 4000))
    (root / "README.md").write_text("words")
    for split, lines in lists.items():
        (root / f"{split}_list.txt").write_text("\n".join(lines) + "\n")
    return root


def test_heidelberg_digits(hd: Path) -> None:
    found = find_corpus("hd", hd)
    assert len(found.keys) == 20
    said = {(found.keys[label], path.stem[5]) for path, label in zip(found.files, found.labels)}
    assert said == {("three", "e"), ("four", "e"), ("drei", "g"), ("vier", "g")}
    speakers = {s: {p.stem.split("_")[1] for p, o in zip(found.files, found.split) if o == s}
                for s in (TRAIN, TEST)}  # fmt: skip
    assert speakers[TEST] == {"speaker-03"}
    assert len(speakers[TRAIN]) == 3
    assert found.absent == 1


def test_speech_commands(sc: Path) -> None:
    for root in (sc, sc.parent):
        found = find_corpus("sc", root)
        assert found.keys == ("bed", "no", "yes")
        assert found.split == [TRAIN, TRAIN, VALID, TEST] * 3
        assert found.labels == [0] * 4 + [1] * 4 + [2] * 4
        assert [p.parent.name for p in found.files[::4]] == ["bed", "no", "yes"]


def test_features_are_log_mel_over_the_floor(tmp_path: Path) -> None:
    wave = sound(3, 9)
    save(tmp_path / "a.wav", wave)
    found = features(tmp_path / "a.wav")
    assert found.shape == (9, BANDS)
    expected = mel_filterbank(wave / 32768, HZ) - np.log(FLOOR)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    save(tmp_path / "silence.wav", np.zeros(4000, np.int16))
    assert not features(tmp_path / "silence.wav").any()
    # A tone sounds the same from a file with three times as many samples per second.
    tones = [np.sin(2 * np.pi * 700 * np.arange(hz // 5) / hz) * 9000 for hz in (HZ, 3 * HZ)]
    for name, tone, hz in zip("bc", tones, (HZ, 3 * HZ)):
        save(tmp_path / f"{name}.wav", tone.astype(np.int16), hz)
    slow, fast = features(tmp_path / "b.wav"), features(tmp_path / "c.wav")
    assert slow.shape == fast.shape
    loudest = slow.mean(0).argsort()[-3:]
    np.testing.assert_allclose(slow[2:-2, loudest], fast[2:-2, loudest], atol=0.05)


def test_batches(hd: Path, own_cache: Path, capsys) -> None:
    config = dataclasses.replace(CONFIG, data_path=str(hd))
    data = build_features("hd", config, seed=1)
    said = capsys.readouterr().err
    assert "features of 16 hd recordings" in said
    assert "longer than 12 frames (--data_length), cut behind them: 8" in said
    assert "not there: 1\n" in said
    assert (data.n_in, data.n_out, data.n_steps, data.bin_ms) == (40, 20, 12, 10.0)
    assert data.counts == {"train": 8, "val": 4, "test": 4, "cut": 8, "absent": 1, "unlisted": 0}
    assert sorted(data.val.labels) == [3, 4, 13, 14]  # stratified
    store, batch = data.train.store, next(iter(data.train))
    xs = np.asarray(batch.stream.window(0, 12))
    assert xs.shape == (12, 4, BANDS)
    for place, i in enumerate(data.train.indices[batch.indices]):
        own = store.frames[store.starts[i] : store.ends[i]][:12]
        np.testing.assert_array_equal(xs[: len(own), place], own)
        assert own.any(axis=1).all()
        assert not xs[len(own) :, place].any()
        assert store.labels[i] == batch.targets.values[place]
    build_features("hd", config, seed=2)
    assert "made once" not in capsys.readouterr().err
    assert len(list((own_cache / "features").iterdir())) == 1


def test_a_damaged_cache_is_made_again(hd: Path, own_cache: Path, capsys) -> None:
    corpus = find_corpus("hd", hd)
    before = feature_store("hd", corpus)
    wanted = np.array(before.frames)
    path = before.path / "frames.bin"
    path.write_bytes(path.read_bytes()[:-400])
    assert np.array_equal(feature_store("hd", corpus).frames, wanted)
    assert capsys.readouterr().err.count("made once") == 2


def test_the_short_last_batch_and_the_order(sc: Path, own_cache: Path) -> None:
    config = dataclasses.replace(CONFIG, data_path=str(sc), batch_size=4)
    data = build_features("sc", config, seed=1)
    assert data.counts == {"train": 6, "val": 3, "test": 3, "cut": 0, "absent": 0, "unlisted": 0}
    assert data.class_names == ("bed", "no", "yes")
    val = next(iter(data.val))
    assert val.targets.mask.tolist() == [1, 1, 1, 0]
    assert val.indices.tolist() == [0, 1, 2, -1]
    assert not val.stream.window(0, 12)[:, 3].any()
    seen = [np.concatenate([b.indices[b.targets.mask > 0] for b in data.train])]
    data.train.set_epoch(1)
    seen.append(np.concatenate([b.indices[b.targets.mask > 0] for b in data.train]))
    assert [sorted(s) for s in seen] == [list(range(6))] * 2
    assert seen[0].tolist() != seen[1].tolist()
    dropped = build_features("sc", dataclasses.replace(config, drop_last=True), seed=1)
    assert len(dropped.train) == 1
    with pytest.raises(UsageError, match="--drop_last: 6 training recordings"):
        build_features("sc", dataclasses.replace(config, drop_last=True, batch_size=7), seed=1)
    with pytest.raises(UsageError, match="--val_fraction: sc has a validation split"):
        build_features("sc", dataclasses.replace(config, val_fraction=0.2), seed=1)


def test_a_restored_position_goes_on(sc: Path, own_cache: Path) -> None:
    store = feature_store("sc", find_corpus("sc", sc))

    def made(seed: int = 5) -> FeatureLoader:
        return FeatureLoader(store, np.arange(12), 6, 4, seed, shuffle=True)

    one, other = made(), made()
    one.set_epoch(3)
    rest = iter(one)
    next(rest)
    state = one.state_dict()
    other.load_state_dict(state)
    other.set_epoch(3)
    pairs = list(zip(rest, other, strict=True))
    assert len(pairs) == 2
    for a, b in pairs:
        np.testing.assert_array_equal(a.stream.xs, b.stream.xs)
        np.testing.assert_array_equal(a.targets.values, b.targets.values)
    with pytest.raises(UsageError, match="of seed 5, this run has 6"):
        made(6).load_state_dict(state)


def refused(name: str, root: Path, cache: Path, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_features(name, dataclasses.replace(CONFIG, data_path=str(root)), seed=0)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert not [p for p in cache.rglob("*") if p.is_file()], "something half-written is left"


@pytest.mark.parametrize("name", ["hd", "sc"])
def test_a_folder_without_recordings(tmp_path: Path, own_cache: Path, name: str) -> None:
    refused(name, tmp_path / "no", own_cache, "--data_path", "no such folder")
    refused(name, tmp_path, own_cache, f"no {name} recordings in", "published layout",
            {"hd": "train_filenames.txt", "sc": "validation_list.txt"}[name],
            "--data_path")  # fmt: skip


def test_refused_layouts(hd: Path, sc: Path, own_cache: Path) -> None:
    (hd / "test_filenames.txt").rename(hd / "x")
    refused("hd", hd, own_cache, "there is no", "test_filenames.txt", "published layout")
    (hd / "test_filenames.txt").write_text("lang-english_speaker-09_trial-1_digit-0.flac\n")
    refused("hd", hd, own_cache, "no test recordings")
    (hd / "test_filenames.txt").write_text((hd / "train_filenames.txt").read_text())
    refused("hd", hd, own_cache, "test_filenames.txt", "in another list too")
    (hd / "test_filenames.txt").write_text("tree.flac\n")
    save(hd / "audio" / "tree.wav", sound(0, 5))
    refused("hd", hd, own_cache, "tree.wav", "gives no label")
    (hd / "audio").rename(hd / "sounds")
    refused("hd", hd, own_cache, "there is no folder", "audio")
    (sc / "validation_list.txt").write_bytes(b"\xff\xfe\x00")
    refused("sc", sc, own_cache, "cannot read", "validation_list.txt")


def test_a_file_that_is_no_audio(sc: Path, own_cache: Path) -> None:
    (sc / "bed" / "1_nohash_0.wav").write_bytes(b"no sound")
    refused("sc", sc, own_cache, "bed/1_nohash_0.wav", "no readable WAV")
    save(sc / "bed" / "1_nohash_0.wav", sound(0, 5)[:100])
    refused("sc", sc, own_cache, "bed/1_nohash_0.wav", "shorter than a window")


def test_flac(hd: Path, own_cache: Path, monkeypatch) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = next(iter(sorted((hd / "audio").iterdir())))
    as_wav = features(wave)
    soundfile.write(wave.with_suffix(".flac"), scipy.io.wavfile.read(wave)[1], HZ, subtype="PCM_16")
    wave.unlink()
    np.testing.assert_array_equal(features(wave.with_suffix(".flac")), as_wav)
    assert len(find_corpus("hd", hd).files) == 16
    monkeypatch.setitem(sys.modules, "soundfile", None)
    refused("hd", hd, own_cache, "FLAC needs the package soundfile", r"'.[audio]'")
