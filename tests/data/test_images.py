"""Images: read from the published files, encoded as declared, the same bits for the same seed."""

from __future__ import annotations

import gzip
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest

from image_files import digits, write_cifar, write_idx
from snnlab import config as configs
from snnlab.data import build_data
from snnlab.data.examine import examine
from snnlab.data.images.build import watched
from snnlab.data.images.config import ImageData
from snnlab.data.images.encode import Encoding
from snnlab.data.images.files import Images, read_images
from snnlab.data.prepared import prepare
from snnlab.data.store import TEST, TRAIN
from snnlab.errors import UsageError
from snnlab.problems.tasks import task_of


def section(*argv: str) -> ImageData:
    task = task_of("image-classification")
    return configs.parse(task.config, argv, prog="p", description="", adapt=task.adapt)[0].data


# ------------------------------------------------------------------------ files


def test_mnist_is_read_packed_or_not(tmp_path: Path) -> None:
    plain = read_images("mnist", str(write_idx(tmp_path / "a", 30, 12)))
    raw = write_idx(tmp_path / "b" / "MNIST" / "raw", 30, 12, packed=True)
    packed = read_images("mnist", str(raw.parents[1]))
    assert plain.content == packed.content
    images, labels = digits(42)
    np.testing.assert_array_equal(plain.pixels[:, 0], images)
    np.testing.assert_array_equal(plain.labels, labels)
    assert plain.split.tolist() == [TRAIN] * 30 + [TEST] * 12
    assert read_images("fashion-mnist", str(tmp_path / "a")).class_names[9] == "ankle boot"
    assert prepare("mnist", str(tmp_path / "a")).startswith("30 training + 12 test images")


def test_cifar_is_read_without_pickles(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "cifar-10-batches-bin", 20)
    found = read_images("cifar10", str(tmp_path))
    assert found.pixels.shape == (120, 3, 32, 32)
    assert found.split.tolist() == [TRAIN] * 100 + [TEST] * 20
    assert (found.labels[:11].tolist(), found.class_names[3]) == ([*range(10), 0], "cat")
    row = np.frombuffer((folder / "data_batch_2.bin").read_bytes(), np.uint8)[:3073]
    np.testing.assert_array_equal(found.pixels[20], row[1:].reshape(3, 32, 32))
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    for path in folder.iterdir():
        path.unlink()
    assert read_images("cifar10", str(tmp_path)).content == found.content
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(UsageError, match=r"cifar-10-binary.tar.gz is no readable"):
        read_images("cifar10", str(tmp_path))
    (tmp_path / "cifar-10-binary.tar.gz").unlink()
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"(dp1")
    with pytest.raises(UsageError, match="pickles, which are not opened; expected data_batch_1"):
        read_images("cifar10", str(tmp_path))


TRAINED = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAINED, b"", "is no IDX file of 3 dimensions"),
        (TRAINED, lambda raw: raw[:-1], "its header says 4704 bytes, and it has 4703"),
        (TRAINED, lambda raw: raw[:4] + b"\xff" * 4 + raw[8:], "is damaged: its header says"),
        (TRAINED, lambda raw: raw[:11] + b"\x0e\0\0\0\x38" + raw[16:], "images of 14 x 56; exp"),
        (TRAINED, None, "has no train-images-idx3-ubyte (or train-images-idx3-ubyte.gz)"),
        ("train-labels-idx1-ubyte", lambda raw: raw[:-1] + b"\x0b", "label 11 of a training image"),
        ("train-labels-idx1-ubyte", lambda raw: raw[:7] + b"\x05" + raw[8:-1],
         "6 train images and 5 labels"),
        ("t10k-images-idx3-ubyte.gz", b"\x1f\x8bnothing", "no readable .gz file"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(name, content, message: str, tmp_path: Path) -> None:
    root = write_idx(tmp_path, 6, 4)
    path = root / name
    if content is None:
        path.unlink()
    elif path.suffix == ".gz":
        path.with_suffix("").unlink()
        path.write_bytes(content)
    else:
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(UsageError) as caught:
        read_images("mnist", str(root))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_is_torchvisions(tmp_path: Path, own_cache: Path, monkeypatch) -> None:
    """Without torchvision a line says what to do; with it, its class downloads, whole or not."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package torchvision, of the extra 'vision'"):
        read_images("mnist", "")
    monkeypatch.undo()
    monkeypatch.setenv("SNNLAB_CACHE", str(own_cache))
    asked = []

    def mnist(root: str, train: bool, download: bool) -> None:
        asked.append(train)
        if len(asked) == 1:
            (Path(root) / "MNIST" / "raw").mkdir()
            raise RuntimeError("no network")
        write_idx(Path(root) / "MNIST" / "raw", 6, 4, packed=True)

    def fetch(url: str, root: str, md5: str) -> None:
        assert (url.rpartition("/")[2], len(md5)) == ("cifar-10-binary.tar.gz", 32)
        folder = write_cifar(tmp_path / "x", 10)
        with tarfile.open(Path(root) / "cifar-10-binary.tar.gz", "w:gz") as tar:
            tar.add(folder, "cifar-10-batches-bin")

    fake = {name: types.ModuleType(name) for name in (
        "torchvision", "torchvision.datasets", "torchvision.datasets.utils")}  # fmt: skip
    fake["torchvision"].__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    fake["torchvision"].datasets = fake["torchvision.datasets"]  # type: ignore[attr-defined]
    fake["torchvision.datasets"].MNIST = mnist  # type: ignore[attr-defined]
    fake["torchvision.datasets.utils"].download_url = fetch  # type: ignore[attr-defined]
    for name, module in fake.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UsageError, match=r"torchvision.datasets.MNIST could not download it"):
        read_images("mnist", "")
    assert not (own_cache / "data" / "MNIST").exists()
    assert len(read_images("mnist", "").labels) == 10
    assert asked == [True, True, False]
    assert len(read_images("cifar10", "").labels) == 60


def test_a_check_knows_images(tmp_path: Path) -> None:
    (found,) = examine(write_idx(tmp_path / "a", 20, 10))
    assert found.use.startswith("--dataset mnist --data_path")
    assert [len(part.labels) for part in found.parts] == [20, 10]
    assert "pixels of a recording: 784 to 784" in "\n".join(found.parts[0].lines())
    (found,) = examine(write_cifar(tmp_path / "b", 10))
    assert "airplane 5, automobile 5" in "\n".join(found.parts[0].lines())
    (tmp_path / "b" / "data_batch_3.bin").write_bytes(b"x")
    (found,) = examine(tmp_path / "b")
    assert "data_batch_3.bin is truncated" in found.problems[0]


# --------------------------------------------------------------------- encodings

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
PIXELS[0, 0, 0, :2] = 0, 255


def test_rate() -> None:
    encode = Encoding("rate", 4000, (3, 4, 4), 255, 0.5)
    spikes = encode(PIXELS, np.random.default_rng(1))
    assert (spikes.shape, spikes.dtype, encode.n_in) == ((4000, 5, 48), bool, 48)
    expected = PIXELS.reshape(5, -1) / 255 * 0.5
    assert np.abs(spikes.mean(0) - expected).max() < 5 * 0.5 / np.sqrt(4000)
    assert not spikes[:, 0, 0].any()
    pair = np.corrcoef(spikes[:-1, 1, 3], spikes[1:, 1, 3])[0, 1]
    assert abs(pair) < 0.06  # steps do not depend on each other


def test_latency() -> None:
    encode = Encoding("latency", 9, (3, 4, 4), 255)
    spikes = encode(PIXELS, np.random.default_rng(1))
    flat = PIXELS.reshape(5, -1)
    np.testing.assert_array_equal(spikes.sum(0), flat > 0)
    np.testing.assert_array_equal(
        spikes.argmax(0), np.where(flat > 0, np.rint((1 - flat / 255) * 8), 0)
    )


@pytest.mark.parametrize("permuted", [False, True])
def test_sequence(permuted: bool) -> None:
    encode = Encoding("sequence", 16, (3, 4, 4), 255, permuted=permuted)
    xs = encode(PIXELS, np.random.default_rng(1))
    assert (xs.shape, xs.dtype, encode.n_in) == ((16, 5, 3), np.float32, 3)
    order = encode.order()
    assert sorted(order) == list(range(16))
    assert (order.tolist() == list(range(16))) != permuted
    flat = PIXELS.reshape(5, 3, 16)[:, :, order].transpose(2, 0, 1)
    np.testing.assert_array_equal(xs, (flat / np.float32(255)).astype(np.float32))
    rows = Encoding("sequence", 4, (3, 4, 4), 255, permuted=permuted)(PIXELS, None)  # type: ignore[arg-type]
    assert rows.shape == (4, 5, 12)
    np.testing.assert_array_equal(
        rows.reshape(4, 5, 4, 3).transpose(0, 2, 1, 3).reshape(xs.shape), xs
    )
    np.testing.assert_array_equal(order, encode.order())
    with pytest.raises(UsageError, match=r"as many pixels in each: 1, 2, 4, 8, 16"):
        Encoding("sequence", 5, (3, 4, 4), 255)


def test_the_permutation_is_of_the_pixels_alone() -> None:
    """psMNIST's order is part of the dataset: it must not change from version to version."""
    order = Encoding("sequence", 784, (1, 28, 28), 255, permuted=True).order()
    assert order[:5].tolist() == [318, 2, 606, 446, 758]


def test_batches_are_functions_of_seed_epoch_and_number(tmp_path: Path) -> None:
    root = str(write_idx(tmp_path, 40, 20))
    argv = (
        "--dataset",
        "mnist",
        "--data_path",
        root,
        "--batch_size",
        "16",
        "--val_fraction",
        "0.2",
    )
    config = section(*argv)
    assert (config.encoding, config.data_length) == ("rate", 50)
    one, again, two = (build_data(config, seed) for seed in (0, 0, 1))

    def of(data, split: str, number: int, epoch: int = 0):
        loader = getattr(data, split)
        loader.set_epoch(epoch)
        batch = loader.batch(number)
        return np.asarray(batch.stream.xs), batch.targets.values, batch.indices

    for a, b in zip(of(one, "train", 1), of(again, "train", 1)):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(of(one, "train", 1)[0], of(one, "train", 1, 1)[0])
    assert not np.array_equal(of(one, "train", 1)[0], of(two, "train", 1)[0])
    np.testing.assert_array_equal(of(one, "test", 0)[0], of(two, "test", 0, 3)[0])
    xs, labels, indices = of(one, "test", 1)  # 4 of 20, the others are padding
    assert indices.tolist() == [16, 17, 18, 19] + [-1] * 12
    assert not xs[:, 4:].any()
    np.testing.assert_array_equal(labels[:4], digits(60)[1][-4:])
    assert (one.n_in, one.n_out, one.n_steps, one.sensor) == (784, 10, 50, (28, 28, 1))
    assert one.bin_ms is None
    assert one.identity["transform"] == "rate in 50 steps, 0.25 a step"
    with pytest.raises(UsageError, match="is of seed 0, this run has 1"):
        two.train.load_state_dict(one.train.state_dict())


@pytest.mark.parametrize(("encoding", "graded"), [("sequence", True), ("latency", False)])
def test_values_are_told_from_spikes(encoding: str, graded: bool, tmp_path: Path) -> None:
    root = str(write_idx(tmp_path, 20, 10))
    argv = ("--dataset", "mnist", "--data_path", root, "--encoding", encoding)
    assert build_data(section(*argv, "--val_fraction", "0.2"), 0).graded is graded


def test_sequential_digits() -> None:
    data = build_data(section("--dataset", "sequential-digits"), 0)
    assert (data.n_in, data.n_steps, data.counts["test"]) == (1, 64, 360)
    batch = next(iter(data.test))
    from sklearn.datasets import load_digits

    test = np.flatnonzero(read_images("sequential-digits", "").split == TEST)
    np.testing.assert_array_equal(
        batch.stream.xs[:, 3, 0], load_digits().data[test[3]].astype(np.float32) / 16
    )
    rows = build_data(section("--dataset", "sequential-digits", "--data_length", "8"), 0)
    assert (rows.n_in, rows.n_steps) == (8, 8)


def test_saccades_are_events_of_the_same_camera(own_cache: Path) -> None:
    pixels, labels = digits(30)
    images = Images("mnist", pixels[:, None], 255, labels.astype(np.int32),
                    np.repeat(np.array([0, 1], np.uint8), [20, 10]))  # fmt: skip
    store = watched(images)
    assert (store.sensor.width, store.sensor.height, len(store)) == (34, 34, 30)
    assert store.labels.tolist() == labels.tolist()
    assert (store.split == images.split).all()
    lengths = store.ends - store.starts
    assert lengths.min() > 300
    assert lengths.max() < 20_000
    labels, split = np.arange(2, dtype=np.int32), np.array([0, 1], np.uint8)
    colour = Images("cifar10", np.zeros((2, 3, 32, 32), np.uint8), 255, labels, split)
    assert watched(colour).sensor.width == 38


# ------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--encoding latency", "--encoding does not apply to --dataset event-digits"),
        ("--dataset mnist --aug_shift 1", "--aug_shift does not apply to --dataset mnist"),
        ("--dataset mnist --encoding latency --pixel_rate 0.1", "does not apply to --encoding lat"),
        ("--dataset sequential-digits --encoding rate", "--encoding does not apply to --dataset s"),
        ("--dataset sequential-digits --data_path x", "--data_path does not apply to --dataset s"),
        ("--dataset mnist --permuted", "--permuted does not apply to --dataset mnist"),
    ],
)
def test_options_of_the_other_kind_are_refused(argv: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        section(*argv.split())


def test_steps_follow_the_encoding() -> None:
    assert section("--dataset", "cifar10", "--encoding", "sequence").data_length == 1024
    made = section("--dataset", "mnist", "--encoding", "saccade", "--aug_shift", "1")
    assert (made.data_length, made.aug_shift) == (100, 1)
    assert section("--dataset", "mnist", "--encoding", "sequence", "--permuted").permuted
    assert section("--dataset", "event-digits").data_length == 60


def test_what_is_compressed_is_bounded(tmp_path: Path, monkeypatch) -> None:
    write_idx(tmp_path, 6, 4, packed=True)
    monkeypatch.setattr("snnlab.data.images.files._MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="unpacks to more than 1000 bytes"):
        read_images("mnist", str(tmp_path))
    assert gzip.decompress((tmp_path / f"{TRAINED}.gz").read_bytes())[:4] == b"\0\0\x08\x03"
