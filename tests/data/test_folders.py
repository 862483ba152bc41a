"""``--dataset folder``: what is found in a folder, read as it was written, or refused in a line."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io.wavfile

import own_files
from own_files import SIDE, WRITERS, by_class, events, gestures
from snnlab import config as configs
from snnlab.data import DataConfig, EventStore, build_data
from snnlab.data.examine import examine
from snnlab.data.folders import aedat, layout
from snnlab.data.folders.gesture import NAMES, load_gesture
from snnlab.data.folders.load import load_folder
from snnlab.data.folders.npz import read_npz
from snnlab.data.store import TEST, TRAIN
from snnlab.errors import UsageError
from snnlab.problems.tasks import task_of

SIZES = {"-davis.aedat": (346, 260), "-dvs128.aedat": (128, 128)}


def load(root: Path, **options) -> EventStore:
    return load_folder("folder", DataConfig(dataset="folder", data_path=str(root), **options))


def same(store: EventStore, k: int, e: dict[str, np.ndarray]) -> None:
    """Recording ``k`` holds these events."""
    t, address = store.decode(np.asarray(store.events[store.starts[k] : store.ends[k]]))
    s = store.sensor
    place = address % s.width, address // s.width % s.height, address // (s.width * s.height)
    for name, found in zip("txyp", (t, *place)):
        np.testing.assert_array_equal(found, e[name], err_msg=name)


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_format_is_read_as_it_was_written(suffix: str, tmp_path: Path, own_cache) -> None:
    if suffix == ".aedat4":
        pytest.importorskip("aedat")
    store = load(by_class(tmp_path / "own", suffix, n=5))
    size = SIZES.get(suffix, (SIDE, SIDE))
    assert (store.sensor.width, store.sensor.height, store.sensor.polarities) == (*size, 2)
    assert (store.sensor.n_classes, store.class_names) == (2, ("left", "right"))
    assert store.labels.tolist() == [0] * 5 + [1] * 5
    ends = [int(events(label, k)["t"].max()) + 1 for label in (0, 1) for k in range(5)]
    assert store.sensor.window_us == -(-max(ends) // 1000) * 1000
    for k in (0, 7):
        same(store, k, events(k // 5, k % 5))
    # A fifth is carved, one of each class, and said.
    assert [int((store.split[store.labels == k] == TEST).sum()) for k in (0, 1)] == [1, 1]
    first, second = store.notes
    assert f"sensor {size[0]} x {size[1]}, 2 polarities (" in first
    assert "2 of 10 recordings (--test_fraction 0.2, stratified" in second


def test_splits_classes_and_what_is_asked(tmp_path: Path, own_cache) -> None:
    root = by_class(tmp_path / "own", ".npz", n=3, splits=("train", "Test"))
    store = load(root)
    assert store.split.tolist() == [TRAIN] * 6 + [TEST] * 6
    assert len(store.notes) == 1
    asked = load(root, classes="right,left,none", sensor_size="20x30", window_ms=50)
    assert asked.class_names == ("right", "left", "none")
    assert asked.labels.tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert (asked.sensor.width, asked.sensor.height, asked.sensor.window_us) == (20, 30, 50_000)
    same(asked, 0, events(1, 0))
    data = build_data(DataConfig(dataset="folder", data_path=str(root), window_ms=50), 0)
    assert data.counts["late_events"] > 100
    assert "come after 50 ms and are left out" in data.note


def test_the_carved_test_split_does_not_depend_on_the_seed(tmp_path: Path, own_cache) -> None:
    root = by_class(tmp_path / "own", ".npz", n=10)
    config = DataConfig(dataset="folder", data_path=str(root), data_length=20, batch_size=4)
    one, two = build_data(config, 1), build_data(config, 2)
    assert one.identity == two.identity
    assert one.counts == two.counts
    assert (one.counts["train"], one.counts["val"], one.counts["test"]) == (14, 2, 4)
    assert "same ones whatever --seed is" in one.note
    parts = [data.train.cutter.store.indices.tolist() for data in (one, two)]
    assert parts[0] != parts[1]
    assert one.test.cutter.store.indices.tolist() == two.test.cutter.store.indices.tolist()


def test_units_of_time(tmp_path: Path, own_cache) -> None:
    e = events(0, 0)
    path = tmp_path / "a.npz"
    for given, unit in (
        (e["t"], "auto"), (e["t"] / 1e6 + 1e-9, "auto"), (e["t"] / 1000 + 1e-6, "ms"),
        (e["t"] * 1000, "ns"), ((e["t"]).astype(np.uint64), "us"),
    ):  # fmt: skip
        np.savez(path, timestamps=given, X=e["x"])
        found = read_npz(path, unit)
        np.testing.assert_array_equal(found.time_us, e["t"])
        assert (found.polarities, found.y.max()) == (1, 0)
    np.savez(path, events=np.rec.fromarrays([e["x"], e["y"], e["t"], e["p"] * 2 - 1],
                                            names="x,y,t,p"))  # fmt: skip
    found = read_npz(path)
    np.testing.assert_array_equal(found.p, e["p"])
    root = by_class(tmp_path / "own", ".npz")
    np.savez(root / "left" / "r0.npz", **(e | {"t": e["t"] / 1e6}))
    with pytest.raises(UsageError, match=r"several units: of .*r0.npz s .*us .*--time_unit"):
        load(root)


def own_h5(path: Path, n: int, whole: bool, n_units: int = 900) -> None:
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (n,), h5py.vlen_dtype("i8" if whole else "f8"))
        units = file.create_dataset("spikes/units", (n,), h5py.vlen_dtype("u2"))
        for k in range(n):
            times[k] = [1000 * k, 250_000] if whole else [0.001 * k, 0.25]
            units[k] = [k, n_units - 1]
        file["labels"] = np.arange(n) % 3


@pytest.mark.parametrize("whole", [True, False])
def test_hdf5_with_channels_of_its_own(whole: bool, tmp_path: Path, own_cache) -> None:
    root = tmp_path / "own"
    root.mkdir()
    own_h5(root / "words_train.h5", 9, whole)
    own_h5(root / "words_test.h5", 3, whole)
    store = load(root)
    assert (store.sensor.width, store.sensor.height, store.sensor.window_us) == (900, 1, 251_000)
    assert store.split.tolist() == [TRAIN] * 9 + [TEST] * 3
    assert store.sensor.n_classes == 3
    t, unit = store.decode(np.asarray(store.events[store.starts[2] : store.ends[2]]))
    assert (t.tolist(), unit.tolist()) == ([2000, 250_000], [2, 899])
    assert ("us (whole numbers)" if whole else "s (fractions)") in store.notes[0]
    (found,) = examine(root)
    assert not found.problems
    assert found.use.startswith("--dataset folder")
    (root / "words_test.h5").unlink()
    assert load(root).split.tolist().count(TEST) == 3  # carved: of each class one


def test_a_recording_of_its_own_length_is_binned_as_by_tonic(tmp_path: Path, own_cache) -> None:
    """``--bins recording --binary_bins 0``: counts of ``ToFrame(n_time_bins)``, event by event."""
    tonic = pytest.importorskip("tonic")
    root = by_class(tmp_path / "own", ".npz", n=2, splits=("train", "test"))
    for label, name in enumerate(("left", "right")):
        e = events(label, 100)
        own = {**e, "t": 5000 * (label + 1) + e["t"] // (label + 1)}
        np.savez(root / "test" / name / "r0.npz", **own)
    config = DataConfig(
        dataset="folder", data_path=str(root), data_length=7, batch_size=4, bins="recording",
        binary_bins=False, val_fraction=0.49,
    )  # fmt: skip
    data = build_data(config, 0)
    (batch,) = list(data.test)
    xs = np.asarray(batch.stream.window(0, 7))
    frame = tonic.transforms.ToFrame((SIDE, SIDE, 2), n_time_bins=7)
    store = data.test.cutter.store
    for k in range(4):
        expected = frame(store.events_of(k)).reshape(7, -1)
        np.testing.assert_array_equal(xs[:, k], expected)
    assert "7 bins divide each recording's own span" in data.note
    spans = [
        np.diff(store.events_of(k)["t"][[0, -1]])[0] // 7 * 7 / 1000
        for store in [data.train.cutter.store] for k in range(len(store))
    ]  # fmt: skip
    whole = build_data(
        DataConfig(dataset="folder", data_path=str(root), data_length=7), 0
    )  # fmt: skip
    assert data.bin_ms != whole.bin_ms
    assert min(spans) / 7 <= data.bin_ms <= 90 / 7


@pytest.mark.parametrize("lists", [True, False])
def test_gestures(lists: bool, tmp_path: Path, own_cache) -> None:
    root = gestures(tmp_path / "DvsGesture", lists=lists)
    config = DataConfig(dataset="gesture", data_path=str(tmp_path))
    store = load_gesture("gesture", config)
    assert (store.sensor.width, store.sensor.height, store.sensor.polarities) == (128, 128, 2)
    assert (store.sensor.n_classes, store.class_names) == (11, NAMES)
    assert store.labels.tolist() == [0, 1, 0] * 3
    assert store.split.tolist() == [TRAIN] * 6 + [TEST] * 3
    for user in (0, 1, 2):
        for k in range(3):
            seed = 10 * (1, 2, 24)[user] + k
            same(store, 3 * user + k, events(k % 2, seed))
    (found,) = examine(root)
    assert found.use == f"--dataset gesture --data_path {root}"
    assert not found.problems
    plain = load(root)  # the same files without the name
    assert plain.class_names == ("1", "2")
    if lists:
        (root / "user24_fluorescent.aedat").unlink()
        with pytest.raises(UsageError, match="1 files of the lists are not there: user24"):
            load_gesture("gesture", config)


def test_gestures_as_tonic_keeps_them(tmp_path: Path, own_cache) -> None:
    e = events(0, 0)
    rows = np.stack([e["x"], e["y"], e["p"], e["t"] // 1000], 1)
    for name in ("ibmGestureTrain/user01_led", "ibmGestureTest/user24_led"):
        folder = tmp_path / "DVSGesture" / name
        folder.mkdir(parents=True)
        for label in (0, 10):
            np.save(folder / f"{label}.npy", rows)
    config = DataConfig(dataset="gesture", data_path=str(tmp_path))
    store = load_gesture("gesture", config)
    assert (store.labels.tolist(), store.split.tolist()) == ([0, 10] * 2, [TRAIN] * 2 + [TEST] * 2)
    same(store, 1, {**e, "t": e["t"] // 1000 * 1000})
    assert not examine(tmp_path)[0].problems


# ----------------------------------------------------------------------- what is refused


def with_raw(name: str, content: bytes):
    return lambda root: (root / "left" / name).write_bytes(content)


def with_arrays(**arrays):
    return lambda root: np.savez(root / "left" / "r0.npz", **arrays)


E = events(0, 0)
HEAD3 = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n"
FAULTS = {
    "no-zip": (".npz", with_raw("r0.npz", b"PK nothing"), "r0.npz is no readable zip file"),
    "empty": (".npz", with_raw("r0.npz", b""), "r0.npz is no readable zip file"),
    "pickle": (".npz", with_arrays(t=np.array([{}, 1], object), x=E["x"][:2]),
               "r0.npz: array 't' cannot be read: it holds pickled objects, which are not opened"),
    "no-times": (".npz", with_arrays(x=E["x"], z=E["t"]), "has no array t or ts or time"),
    "shapes": (".npz", with_arrays(t=E["t"], x=E["x"][1:]), "arrays of shapes t (60,), x (59,)"),
    "text": (".npz", with_arrays(t=E["t"].astype(str), x=E["x"]), "times are <U"),
    "nan": (".npz", with_arrays(t=np.array([0.1, np.nan]), x=np.zeros(2, int)), "time is nan"),
    "half": (".npz", with_arrays(t=E["t"], x=E["x"] + 0.5), "of an event is no place"),
    "negative-x": (".npz", with_arrays(t=E["t"], x=E["x"] - 20), "of an event is no place"),
    "negative-t": (".npz", with_arrays(t=E["t"] - 10, x=E["x"]), "an event at -1e-05 s"),
    "clock": (".npz", with_arrays(t=E["t"] + 1_700_000_000_000_000, x=E["x"]),
              "times count from the start of a recording"),
    "polarity": (".npz", with_arrays(t=E["t"], x=E["x"], p=E["p"] + 3),
                 "; expected 0 and 1, or -1 and 1"),
    "bin": (".bin", with_raw("r0.bin", b"1234"), "r0.bin is truncated: 4 bytes"),
    "no-aedat": ("-3.aedat", with_raw("r0-3.aedat", b"hello"), "it does not begin with #!AER-DAT"),
    "empty-aedat": ("-3.aedat", with_raw("r0-3.aedat", b""), "r0-3.aedat is empty"),
    "aedat1": ("-3.aedat", with_raw("r0-3.aedat", b"#!AER-DAT1.0\r\n"), "is AEDAT 1.0; expected"),
    "packet": ("-3.aedat", with_raw("r0-3.aedat", HEAD3 + own_files.packets3(E)[:-9]),
               "is truncated: a packet of 80 bytes has 71"),
    "head": ("-3.aedat", with_raw("r0-3.aedat", HEAD3 + own_files.packets3(E) + b"123"),
             "the head of a packet is cut off"),
    "strange": ("-3.aedat", with_raw("r0-3.aedat", HEAD3 + b"\xff" * 40), "at byte 28 is none"),
    "huge": ("-3.aedat", with_raw("r0-3.aedat", HEAD3 + struct.pack(
        "<HHIIIIII", 1, 1, 8, 4, 0, 1 << 30, 1, 1)), "a packet of 8589934592 bytes has 0"),
    "format": ("-3.aedat", with_raw("r0-3.aedat", b"#!AER-DAT3.1\r\n#Format: PNGFrames\r\n"),
               "of the format 'PNGFrames'"),
    "aedat2": ("-davis.aedat", with_raw("r0-davis.aedat", b"#!AER-DAT2.0\r\n" + bytes(9)),
               "9 bytes of data are no multiple of 8"),
    "chip": ("-davis.aedat", lambda root: own_files.write_aedat2(
        root / "left" / "r0-davis.aedat", E, "CochleaAMS1c"), "CochleaAMS1c'; known are"),
    "several": (".npz", with_raw("a.bin", b""), "recordings of several kinds, bin (a.bin), npz"),
    "loose": (".npz", lambda root: np.savez(root / "a.npz", t=E["t"], x=E["x"]),
              "a.npz lies in no subfolder of a class"),
    "no-test": (".npz", lambda root: [p.unlink() for p in root.rglob("r[1-9].npz")],
                "has no test recordings, and 2 training recordings, one of each class at most"),
    "nothing": (".npz", lambda root: [p.unlink() for p in root.rglob("*.npz")], "no recordings in"),
    "silent": (".npz", lambda root: [np.savez(p, t=np.zeros(0, int), x=np.zeros(0, int))
                                     for p in root.rglob("*.npz")], "and no event in any of them"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_used_is_one_line(name: str, tmp_path: Path, own_cache: Path) -> None:
    suffix, damage, message = FAULTS[name]
    root = by_class(tmp_path / "own", suffix, n=2)
    damage(root)
    with pytest.raises(UsageError) as caught:
        load(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(own_cache.rglob("events.npy")), "nothing half-written is left"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensor_size": "8x16"}, "lies outside the 8 x 16 sensor"),
        ({"sensor_size": "wide"}, "--sensor_size wide: expected WIDTHxHEIGHT"),
        ({"classes": "left,rihgt"}, "subfolder 'right' is none of --classes left,rihgt (did you"),
        ({"classes": "left,left"}, "--classes names 'left' twice"),
        ({"test_fraction": 0.3, "data_path": "split"}, "split has a test split"),
        ({"sensor_size": "20000x20000"}, "20000 x 20000 and 2 classes; at most 16777216 places"),
        ({"data_path": ""}, "--dataset folder needs --data_path, a folder with"),
        ({"data_path": "nowhere"}, "there is no such folder"),
    ],
)
def test_options_that_do_not_fit(options, message: str, tmp_path: Path, own_cache) -> None:
    root = by_class(tmp_path / "own", ".npz", n=2)
    if options.get("data_path") == "split":
        options["data_path"] = str(by_class(tmp_path / "split", ".npz", 2, ("train", "test")))
    with pytest.raises(UsageError) as caught:
        load_folder(
            "folder", DataConfig(**({"dataset": "folder", "data_path": str(root)} | options))
        )
    assert message in str(caught.value)
    if "time_unit" not in options:
        by_class(tmp_path / "bins", ".bin", n=2)
        with pytest.raises(UsageError, match="--time_unit ms: bin files have times in us"):
            load(tmp_path / "bins", time_unit="ms")


def test_tables_that_do_not_fit(tmp_path: Path, own_cache) -> None:
    root = gestures(tmp_path / "g")
    table = root / "user01_fluorescent_labels.csv"
    sound = table.read_text()
    for text, message in (
        (sound.replace("2,", "two,"), "line 3: 'two,1200000,1300000'; expected class,startTime"),
        (sound.replace("1100000", "900000"), "line 2: class 1 from 1000000 to 900000 us"),
        (sound.replace("1,", "12,"), "class 12 in a table; expected 1 to 11"),
        ("class,startTime_usec,endTime_usec\n", "names no gesture"),
        ("1,2\n", "line 1: '1,2'; expected class,startTime"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError) as caught:
            load_gesture("gesture", DataConfig(dataset="gesture", data_path=str(root)))
        assert message in str(caught.value), text
    table.unlink()
    with pytest.raises(UsageError, match=r"user01_fluorescent_labels.csv is not there"):
        layout.find(root)


def test_a_check_tells_everything_and_goes_on(tmp_path: Path, own_cache) -> None:
    root = by_class(tmp_path / "own", ".npz", n=4)
    (root / "left" / "r0.npz").write_bytes(b"damaged")
    np.savez(root / "left" / "r1.npz", t=np.zeros(0, int), x=np.zeros(0, int))
    e = events(1, 3, 900_000)
    np.savez(root / "right" / "r2.npz", **{**e, "t": e["t"] + 300_000})
    (root / "right" / "notes.txt").write_text("x")
    (found,) = examine(root)
    (line,) = found.problems
    assert "r0.npz is no readable zip file" in line
    told = "\n".join(found.parts[0].lines())
    for text in (
        "training: 7 recordings", "2 classes: left 3, right 4",
        "events of a recording: 0 to 60 (median 60), in all 360", "1 empty",
        "sensor 16 x 16 (found; --sensor_size gives it), both polarities",
        "times in us (whole numbers)", "1 end behind twice the median",
        "1 have their first event behind half of the median's end", "no test split",
        "1 other files are passed over",
    ):  # fmt: skip
        assert text in told, text
    few = by_class(tmp_path / "few", ".npz", n=1)  # which a run refuses
    (found,) = examine(few)
    assert found.problems == [f"{few}: no class has a second recording, for the test split"]
    (one,) = examine(root / "right" / "r2.npz")
    assert not one.problems
    assert one.kind == "a recording, numpy's .npz"


def test_times_of_32_bits_overflow(tmp_path: Path) -> None:
    """AEDAT 2 starts anew; AEDAT 3.1 counts overflows of 2^31 in a packet's head."""
    e = events(0, 0)
    own_files.write_aedat2(tmp_path / "a.aedat", {**e, "t": (e["t"] + 2**32 - 9_000) % 2**32})
    np.testing.assert_array_equal(aedat.read_aedat(tmp_path / "a.aedat").time_us, e["t"])
    raw = own_files.packets3({k: v[:1] for k, v in e.items()}, first=0)
    later = raw[:12] + struct.pack("<I", 1) + raw[16:36]
    (tmp_path / "b.aedat").write_bytes(HEAD3 + raw[:36] + later)
    assert aedat.read_aedat(tmp_path / "b.aedat").time_us.tolist() == [0, 1 << 31]


def test_options_of_events_do_not_go_with_sound(tmp_path: Path, own_cache) -> None:
    for name in ("low", "high"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for k in range(2):
            wave = np.zeros(800, np.int16)
            scipy.io.wavfile.write(tmp_path / "own" / name / f"{k}.wav", 16_000, wave)
    with pytest.raises(UsageError, match="--sensor_size: sound has the 700 channels"):
        load(tmp_path / "own", sensor_size="20x20")
    with pytest.raises(UsageError, match="--time_unit: sound says itself"):
        load(tmp_path / "own", time_unit="ms")


def test_the_task_takes_a_folder(tmp_path: Path, own_cache) -> None:
    """Its problem, as a run builds it; trainings are in test_own_training.py."""
    root = by_class(tmp_path / "own", ".npz", n=8)
    task = task_of("image-classification")
    argv = f"--dataset folder --data_path {root} --data_length 12 --batch_size 8 --downsample 4"
    config = configs.parse(task.config, argv.split(), prog="p", description="", adapt=task.adapt)[0]
    problem = task.build(config)
    assert (problem.n_in, problem.n_out, problem.n_steps) == (32, 2, 12)
    assert problem.class_names == ("left", "right")
    batch = next(iter(problem.train))
    dense = np.asarray(batch.stream.window(0, 12))
    left = dense.reshape(12, 8, 2, 4, 4)[..., :2].sum((0, 2, 3, 4))
    np.testing.assert_array_equal(left > 0, batch.targets.values == 0)


def test_slices_are_those_of_tonic_and_stay_together(tmp_path: Path, own_cache) -> None:
    slicers = pytest.importorskip("tonic.slicers")
    root = by_class(tmp_path / "own", ".npz", n=10)
    e = events(0, 0)
    np.savez(root / "left" / "r0.npz", **{**e, "t": e["t"] // 9 + 3_000})  # shorter than a slice
    store = load(root, slice_ms=20)
    assert store.sensor.window_us == 20_000
    whole = load(root)
    cut = slicers.SliceByTime(20_000)
    k = 0
    for i in range(20):
        for theirs in cut.slice(whole.events_of(i), 0)[0]:
            ours = store.events_of(k)
            start = whole.events_of(i)["t"][0]
            slice_start = start + 20_000 * ((theirs["t"][0] - start) // 20_000)
            np.testing.assert_array_equal(ours["t"], theirs["t"] - slice_start)
            np.testing.assert_array_equal(ours["x"], theirs["x"])
            assert (store.groups[k], store.labels[k], store.split[k]) == (
                i, whole.labels[i], whole.split[i])  # fmt: skip
            k += 1
    assert k == len(store) > 60
    config = DataConfig(
        dataset="folder", data_path=str(root), slice_ms=20, data_length=10, batch_size=4,
        val_fraction=0.25,
    )  # fmt: skip
    data = build_data(config, 3)
    parts = [set(loader.cutter.store.groups) for loader in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert not parts[0] & parts[1]
    assert not parts[2] & (parts[0] | parts[1])
    assert "20 ms a recording (--slice_ms, a sample each)" in data.note
    assert load(root, slice_ms=20).content == store.content
    (store.path / "groups.npy").write_bytes(b"damaged")
    assert load(root, slice_ms=20).content == store.content  # made again
    with pytest.raises(UsageError, match="--window_ms with --slice_ms"):
        load(root, slice_ms=20, window_ms=10)


def test_aedat4_names_the_package_that_reads_it(tmp_path: Path, monkeypatch) -> None:
    own_files.write_aedat4(tmp_path / "a.aedat4", E)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"a.aedat4 is AEDAT 4.0; to read it needs the package aed"
    ):
        aedat.read_aedat(tmp_path / "a.aedat4")


def test_a_huge_recording_is_refused(tmp_path: Path, monkeypatch, own_cache) -> None:
    own_files.write_aedat2(tmp_path / "a.aedat", E)
    monkeypatch.setattr("snnlab.data.folders.aedat.MOST_BYTES", 300)
    with pytest.raises(UsageError, match=r"a.aedat is too large for a recording: \d+ bytes"):
        aedat.read_aedat(tmp_path / "a.aedat")
    pytest.importorskip("aedat")
    own_files.write_aedat4(tmp_path / "a.aedat4", E)
    monkeypatch.setattr("snnlab.data.folders.aedat4.MOST_EVENTS", 59)
    with pytest.raises(UsageError, match=r"a.aedat4 holds more than 59 events"):
        aedat.read_aedat(tmp_path / "a.aedat4")
    monkeypatch.undo()
    assert len(aedat.read_aedat(tmp_path / "a.aedat4").time_us) == 60  # by another process
