"""Sound to spikes: the cochlea's physics, SHD's layout, folders, the command's refusals."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io.wavfile
import tonic

from snnlab.data import load_recordings
from snnlab.data.speech import convert
from snnlab.data.speech.audio import prepare, read_audio
from snnlab.data.speech.cochlea import SAMPLE_HZ, Cochlea
from snnlab.data.speech.folder import ENGLISH, GERMAN, list_recordings
from snnlab.data.speech.format import Item, write_shd
from snnlab.errors import UsageError


def tone(hz: float, seconds: float = 0.2, level: float = 0.3, rate: int = SAMPLE_HZ) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sqrt(2) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def chirp(seconds: float = 0.3, rate: int = SAMPLE_HZ) -> np.ndarray:
    """A tone that rises from 100 Hz to 6 kHz, evenly on a logarithmic scale."""
    t = np.arange(round(seconds * rate)) / rate
    octaves = np.log(60.0)
    phase = 2 * np.pi * 100 * seconds / octaves * np.expm1(octaves * t / seconds)
    return (0.4 * np.sin(phase)).astype(np.float32)


def save(path: Path, samples: np.ndarray | None = None, rate: int = SAMPLE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(500) if samples is None else samples
    scipy.io.wavfile.write(path, rate, (samples * 32767).astype(np.int16))
    return path


def refused(argv: list[object], *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        convert.main([str(a) for a in argv])
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


# --------------------------------------------------------------------- cochlea


def test_the_map_is_greenwoods():
    f = Cochlea().centres_hz()
    assert len(f) == 700
    assert f[[0, -1]] == pytest.approx([7100, 60])
    place = np.log10(f / 165.4 + 0.88) / 2.1
    assert np.allclose(np.diff(place), (place[-1] - place[0]) / 699)
    assert (np.diff(f) < 0).all()


@pytest.mark.parametrize("level", [0.1, 0.3])
def test_a_tone_is_heard_at_its_place(level):
    model = Cochlea()
    f = model.centres_hz()
    tones = (200.0, 1000.0, 4000.0)
    for hz, (_, unit) in zip(tones, model.spikes([tone(hz, level=level) for hz in tones])):
        place = int(np.abs(f - hz).argmin())
        counts = np.bincount(unit, minlength=700)
        assert counts[place] > 0
        assert abs(np.median(unit) - place) < 10
        assert abs(np.average(np.arange(700), weights=counts) - place) < 15


def test_the_filters_peak_at_their_centres():
    """The membrane alone: a tone of amplitude 1 moves its place by ``gain (f / kHz)^tilt``."""
    model = Cochlea()
    f, dt = model.centres_hz()[50:650:100], 1 / SAMPLE_HZ
    b = 1.019 * (24.7 + 0.108 * f)
    pole = np.exp(2 * np.pi * (1j * f - b) * dt)
    for detune, expected in ((0.0, 1.0), (1.0, (1 + 1) ** -2.0)):
        z = np.exp(2j * np.pi * (f + detune * b) * dt)
        response = (1 - np.abs(pole)) ** 4 / np.abs(1 - pole / z) ** 4
        assert response == pytest.approx(expected, rel=0.2)


def test_louder_means_more_and_silence_none():
    model = Cochlea()
    sounds = [tone(1000, level=a) for a in (0.0, 0.1, 0.2, 0.4, 0.8)]
    counts = [len(t) for t, _ in model.spikes(sounds)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert len(set(counts)) == 5
    assert [len(t) for t, _ in model.spikes([np.zeros(0, np.float32)] * 2)] == [0, 0]


def test_spikes_adapt_and_rest():
    times, unit = Cochlea().spikes([tone(1000, seconds=0.4)])[0]
    assert (np.diff(times) >= 0).all()
    assert 2 * (times > 0.3).sum() < (times < 0.1).sum()
    order = np.lexsort((times, unit))
    gaps = np.diff(times[order])[np.diff(unit[order].astype(int)) == 0]
    assert gaps.min() > 1e-3


def test_a_low_tone_is_phase_locked():
    times, unit = Cochlea().spikes([tone(250, seconds=0.4, level=0.1)])[0]
    place = int(np.abs(Cochlea().centres_hz() - 250).argmin())
    phase = times[(unit == place) & (times > 0.1)] * 250
    assert len(phase) > 10
    assert np.abs(np.exp(2j * np.pi * phase).mean()) > 0.9


def test_a_chirp_travels_and_reaches_all_channels():
    times, unit = Cochlea().spikes([chirp(0.5)])[0]
    first = np.array([times[unit == k].min() for k in range(30, 680, 50)])
    assert (np.diff(first) < 0).all()


def test_equal_sounds_equal_spikes_alone_or_together():
    model, rng = Cochlea(), np.random.default_rng(0)
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (1500, 4100, 800)]
    together, again = model.spikes(sounds), model.spikes(sounds)
    alone = [model.spikes([s])[0] for s in sounds]
    for a, b, c in zip(together, again, alone):
        for x, y, z in zip(a, b, c):
            assert np.array_equal(x, y)
            assert np.array_equal(x, z)
        assert len(a[0]) > 100


# ----------------------------------------------------------------------- audio


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_wav_of_every_kind(tmp_path, kind):
    wave = tone(300, level=0.2)
    full = {np.uint8: 127, np.int16: 32767, np.int32: 2**31 - 1}.get(kind, 1)
    raw = wave.astype(np.float64) * full + (128 if kind is np.uint8 else 0)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16_000, raw.astype(kind))
    samples, hz = read_audio(tmp_path / "a.wav")
    assert (hz, samples.dtype) == (16_000, np.float32)
    assert np.allclose(samples, wave, atol=1e-2 if kind is np.uint8 else 1e-4)


def test_stereo_is_averaged(tmp_path):
    both = np.stack([tone(300), np.zeros(3200, np.float32)], axis=1)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16_000, both)
    assert np.allclose(read_audio(tmp_path / "a.wav")[0], both[:, 0] / 2)


def test_flac(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile", reason="FLAC needs soundfile")
    soundfile.write(tmp_path / "a.flac", tone(300), 16_000)
    samples, hz = read_audio(tmp_path / "a.flac")
    assert np.allclose(samples, tone(300), atol=1e-4)
    assert hz == 16_000
    (tmp_path / "b.flac").write_bytes(b"fLaC nothing")
    with pytest.raises(UsageError, match="no readable FLAC"):
        read_audio(tmp_path / "b.flac")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="soundfile"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 44_101, 48_000])
def test_prepared_sound(rate):
    sound = prepare(tone(440, 0.5, 0.01, rate), rate)
    assert abs(len(sound) - 8000) <= 1
    assert np.sqrt(np.mean(sound[480:-480] ** 2)) == pytest.approx(0.3, rel=0.01)
    assert np.abs(sound[[0, -1]]).max() < 1e-3
    peak = np.abs(np.fft.rfft(sound)).argmax() * SAMPLE_HZ / len(sound)
    assert peak == pytest.approx(440, abs=2.5)
    assert not prepare(np.zeros(1000, np.float32), rate).any()


# --------------------------------------------------------------------- folders


def test_sub_folders_are_classes(tmp_path):
    for name in (
        "b/x_1.wav",
        "b/y_1.wav",
        "a/x_2.WAV",
        "a/plain.wav",
        ".hidden/z_1.wav",
        "a/._x.wav",
    ):
        save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no audio")
    found = list_recordings(tmp_path)
    assert [f.name for f in found.files] == ["plain.wav", "x_2.WAV", "x_1.wav", "y_1.wav"]
    assert (found.keys, found.labels) == (("a", "b"), [0, 0, 1, 1])
    assert (found.names, found.speakers) == (("unknown", "x", "y"), [0, 1, 1, 2])
    assert list_recordings(tmp_path, ("b", "c", "a")).labels == [2, 2, 0, 0]
    with pytest.raises(UsageError, match="sub-folder 'b'"):
        list_recordings(tmp_path, ("a", "c"))


def test_numbered_folders_keep_their_order(tmp_path):
    for name in ("0", "2", "10"):
        save(tmp_path / name / "s_0.wav")
    assert list_recordings(tmp_path).keys == ("0", "2", "10")


def test_file_names_of_both_collections(tmp_path):
    save(tmp_path / "f" / "7_jackson_32.wav")
    save(tmp_path / "f" / "0_theo_1.wav")
    found = list_recordings(tmp_path / "f")
    assert (found.labels, found.keys) == ([0, 7], ENGLISH)
    assert (found.names, found.speakers) == (("jackson", "theo"), [1, 0])
    for language, digit in (("german", 3), ("english", 3)):
        save(tmp_path / "h" / f"lang-{language}_speaker-04_trial-1_digit-{digit}.flac")
    found = list_recordings(tmp_path / "h")
    assert found.keys == ENGLISH + GERMAN
    assert [found.keys[i] for i in found.labels] == ["three", "drei"]


# ------------------------------------------------------- the file, and its readers


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two files, train and test, of three chirps and tones in two classes."""
    root = tmp_path_factory.mktemp("speech")
    for split in ("train", "test"):
        folder = root / split
        (root / "SHD").mkdir(exist_ok=True)
        save(folder / "0_ann_0.wav", chirp())
        save(folder / "3_bob_0.wav", tone(700, 0.25))
        save(folder / "3_ann_1.wav", chirp(rate=8_000), 8_000)
        assert convert.main([str(folder), str(root / "SHD" / f"shd_{split}.h5")]) == 0
    return root


def test_layout(made):
    with h5py.File(made / "SHD" / "shd_train.h5") as file:
        assert file["spikes/times"].dtype == h5py.vlen_dtype(np.float16)
        assert file["spikes/units"].dtype == h5py.vlen_dtype(np.uint16)
        assert h5py.check_vlen_dtype(file["spikes/times"].dtype) == np.float16
        assert [file[k].dtype for k in ("labels", "extra/speaker")] == [np.uint16] * 2
        assert file["labels"][()].tolist() == [0, 3, 3]
        assert [k.decode() for k in file["extra/keys"]] == list(ENGLISH)
        assert file["extra/speaker"][()].tolist() == [0, 0, 1]
        assert [k.decode() for k in file["extra/meta_info/name"]] == ["ann", "bob"]
        for times, units, seconds in zip(
            file["spikes/times"], file["spikes/units"], (0.3, 0.3, 0.25)
        ):
            assert len(times) == len(units) > 100
            assert (np.diff(times.astype(float)) >= 0).all()
            assert times.max() <= seconds


def test_tonic_and_our_reader_see_the_same(made, own_cache, monkeypatch):
    monkeypatch.setattr(tonic.dataset.Dataset, "download", lambda _: pytest.fail("downloaded"))
    ours = load_recordings("shd", str(made))
    assert (ours.sensor.n_classes, len(ours)) == (10, 6)
    for split, first in ((True, 0), (False, 3)):
        # tonic is content when a zip lies beside, which it does not open.
        name = "shd_train.h5.zip" if split else "shd_test.h5.zip"
        (made / "SHD" / name).write_bytes(b"")
        theirs = tonic.datasets.SHD(save_to=str(made), train=split)
        assert len(theirs) == 3
        for i in range(3):
            events, label = theirs[i]
            mine = ours.events_of(first + i)
            assert label == ours.labels[first + i]
            for column in ("t", "x", "p"):
                assert np.array_equal(events[column], mine[column])


def test_a_failed_write_leaves_what_was_there(tmp_path):
    def items():
        yield Item(0, np.array([0.1]), np.array([5]))
        raise UsageError("no more")

    out = tmp_path / "o.h5"
    write_shd(out, [Item(0, np.array([0.25]), np.array([7]))], [1], [0], ["a", "b"], ["x"])
    before = out.read_bytes()
    with pytest.raises(UsageError, match="no more"):
        write_shd(out, items(), [0], [0], ["a"], ["x"])
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["o.h5"]


# ------------------------------------------------------------------ the command


def test_summary(tmp_path, capsys):
    save(tmp_path / "in" / "hum" / "a_0.wav", tone(200))
    save(tmp_path / "in" / "hiss" / "a_0.wav", np.random.default_rng(0).normal(0, 0.1, 24_000))
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "o.h5")]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for part in ("2 recordings", "2 classes", "1.7 s of sound", "times real time", "1 longer"):
        assert part in said


def test_bad_input_is_one_line(tmp_path):
    out, folder = tmp_path / "o.h5", tmp_path / "in"
    refused([tmp_path / "none", out], "none", "no folder")
    folder.mkdir()
    refused([folder, out], str(folder), "no recordings")
    wav = save(folder / "nine.wav")
    refused([folder, out], "nine.wav", "gives no label")
    refused([wav, out], "nine.wav", "no folder")
    save(folder / "nine" / "a.wav")
    refused([folder, out], "nine.wav", "sub-folders")
    wav.unlink()
    refused([folder, tmp_path], str(tmp_path), "is a folder")
    refused([folder, tmp_path / "no" / "o.h5"], "there is no folder")
    (tmp_path / "text.txt").write_text("precious")
    refused([folder, tmp_path / "text.txt"], "no HDF5", "not overwritten")
    refused([folder, out, "--classes", "one,nien"], "'nine'", "one,nien", "did you mean 'nien'")
    assert (tmp_path / "text.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "text.txt"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"this is no audio at all", "no readable WAV"),
        (b"", "no readable WAV"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no readable WAV"),
        ("cut", "truncated"),
        ("empty", "no samples"),
        ("nan", "no numbers"),
        ("long", "more than 30 s"),
        ("slow", "100 samples per second"),
        ("inf", "no numbers"),
        ("loud", "no sound"),
        ("louder", "no sound"),
        ("sparse", "more than 30 s"),
        ("claims", "its header says 32000"),
        ("cut even", "is truncated"),
        ("bits", "1 channels of 3 bits in 2 bytes"),
        ("channels", "65535 channels of 16 bits"),
        ("behind", "its header ends behind it"),
    ],
)
def test_a_file_that_is_no_audio(tmp_path, content, part):
    save(tmp_path / "in" / "a" / "good.wav")
    bad = save(tmp_path / "in" / "a" / "wrong.wav")
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content == "cut":
        bad.write_bytes(bad.read_bytes()[:-1001])
    elif content == "cut even":
        bad.write_bytes(bad.read_bytes()[:-1000])
    elif content == "sparse":
        os.truncate(bad, 20 << 30)  # takes no room
    elif content in ("claims", "bits", "channels", "behind"):
        where, value = {
            "claims": (40, struct.pack("<I", 32_000)),
            "bits": (34, b"\3\0"),
            "channels": (22, b"\xff\xff"),
            "behind": (16, b"\xff\xff\xff\x7f"),
        }[content]
        raw = bytearray(bad.read_bytes())
        assert raw[36:40] == b"data"
        raw[where : where + len(value)] = value
        bad.write_bytes(bytes(raw))
    else:
        wave, hz = {
            "empty": (np.zeros(0, np.int16), 16_000),
            "nan": (np.full(99, np.nan, np.float32), 16_000),
            "inf": (np.full((99, 2), np.inf), 16_000),
            "loud": (np.full(99, 3e38, np.float32), 16_000),
            "louder": (np.full((99, 2), -1e300), 16_000),
            "long": (np.zeros(8_000 * 31, np.uint8), 8_000),
            "slow": (np.zeros(99, np.int16), 100),
        }[content]
        scipy.io.wavfile.write(bad, hz, wave)
    refused([tmp_path / "in", tmp_path / "o.h5"], "wrong.wav", part)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_length_that_was_not_known_when_it_was_written(tmp_path):
    """A program that writes into a pipe leaves the largest number in the header."""
    path = save(tmp_path / "a.wav")
    expected = read_audio(path)[0]
    raw = bytearray(path.read_bytes())
    raw[40:44] = raw[4:8] = b"\xff" * 4
    path.write_bytes(bytes(raw))
    assert np.array_equal(read_audio(path)[0], expected)


def test_a_flac_header_is_not_believed(tmp_path):
    """What it claims would be allocated before anything is read."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(500), SAMPLE_HZ)
    raw = bytearray(path.read_bytes())
    raw[21] |= 0x0F
    raw[22:26] = b"\xff" * 4  # 2^36 - 1 samples
    path.write_bytes(bytes(raw))
    with pytest.raises(UsageError, match=r"lasts 4294967\.3 s, more than 30 s"):
        read_audio(path)


def test_exit_code_two_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "snnlab.data.speech", str(tmp_path), str(tmp_path / "o.h5")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds no recordings" in done.stderr
