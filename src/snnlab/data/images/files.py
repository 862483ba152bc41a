"""Images and their labels, from the published files or from scikit-learn.

``mnist`` (LeCun et al. 1998) and ``fashion-mnist`` (Xiao et al. 2017): the four IDX files,
``train-images-idx3-ubyte`` and so on, packed (``.gz``) or not, in the folder or in torchvision's
``MNIST/raw``, ``FashionMNIST/raw``. ``cifar10`` (Krizhevsky 2009): the binary version,
``data_batch_1.bin`` to ``5`` and ``test_batch.bin``, in the folder, in ``cifar-10-batches-bin``, or
packed in ``cifar-10-binary.tar.gz``; the Python version is of pickles, which are not opened.
``sequential-digits``: the 1,797 digits of ``sklearn.datasets.load_digits``, with the test split of
``event-digits``.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnlab.data.cache import cache_root
from snnlab.data.download import download
from snnlab.data.sources import chosen, read_bytes, regular
from snnlab.data.store import TEST, TRAIN
from snnlab.errors import UsageError, one_line

_MOST_BYTES = 256 << 20
#: Dataset -> folders in which torchvision puts it.
_PLACES = {
    "mnist": ("", "MNIST/raw", "raw", "MNIST", "mnist"),
    "fashion-mnist": ("", "FashionMNIST/raw", "raw", "FashionMNIST", "fashion-mnist"),
    "cifar10": ("", "cifar-10-batches-bin", "CIFAR10", "CIFAR10/cifar-10-batches-bin", "cifar10"),
}
_IDX = {TRAIN: "train", TEST: "t10k"}
_BATCHES = {TRAIN: tuple(f"data_batch_{k}.bin" for k in range(1, 6)), TEST: ("test_batch.bin",)}
_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR_ROW = 1 + 3 * 32 * 32
EXPECTED = {
    "mnist": "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte (or .gz)",
    "cifar10": f"data_batch_1.bin to 5 and test_batch.bin, or {_ARCHIVE} (the binary version)",
}
EXPECTED["fashion-mnist"] = EXPECTED["mnist"]
NAMES = {
    "fashion-mnist": (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
        "ankle boot",
    ),
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
}  # fmt: skip


class Images(NamedTuple):
    """A dataset.

    Attributes:
        name: of it.
        pixels: ``(n, channels, height, width) uint8``.
        full: the value of full brightness.
        labels: ``(n,) int32``, ten classes.
        split: ``(n,) uint8``, TRAIN or TEST.
        class_names: empty where they are numbers.
    """

    name: str
    pixels: np.ndarray
    full: int
    labels: np.ndarray
    split: np.ndarray
    class_names: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """Sum of all that is in it."""
        whole = hashlib.sha256(f"{self.pixels.shape} {self.full}".encode())
        for array in (self.pixels, self.labels, self.split):
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()[:32]


def read_images(name: str, data_path: str) -> Images:
    """A dataset by name.

    Args:
        name: of ``IMAGES``.
        data_path: folder of its files; ``""`` is ``data`` in the cache folder, where they are
            downloaded if they are not there.

    Raises:
        UsageError: no files and no download, or files that cannot be used.
    """
    if name == "sequential-digits":
        return _digits()
    root = chosen(data_path) if data_path else cache_root() / "data"
    found = find_images(name, root)
    if found is None and not data_path:
        download(name, root, ["Train", "Test"], EXPECTED[name])
        found = find_images(name, root)
    if found is None:
        raise UsageError(
            f"no {name} images in {f'--data_path {data_path}' if data_path else root}; expected "
            f"{EXPECTED[name]}"
        )
    parts = [_cifar(found, split) if name == "cifar10" else _idx(found, split) for split in _IDX]
    for (pixels, labels), kind in zip(parts, ("training", "test")):
        if not len(labels):
            raise UsageError(f"{found} holds no {kind} images")
        if labels.max() > 9:
            raise UsageError(f"{found}: label {labels.max()} of a {kind} image is not one of 0..9")
        if pixels.shape[1:] != parts[0][0].shape[1:]:
            raise UsageError(f"{found}: test images have another size than training images")
    pixels, labels = (np.concatenate(column) for column in zip(*parts))
    split = np.repeat(np.array([TRAIN, TEST], np.uint8), [len(part[1]) for part in parts])
    return Images(name, pixels, 255, labels.astype(np.int32), split, NAMES.get(name, ()))


def _digits() -> Images:
    from sklearn.datasets import load_digits  # slow to import

    from snnlab.data.event_digits import Camera
    from snnlab.data.splits import stratified

    digits, labels = load_digits(return_X_y=True)
    _, test = stratified(labels, Camera.test_fraction, Camera.seed)
    split = np.full(len(labels), TRAIN, np.uint8)
    split[test] = TEST
    pixels = digits.reshape(-1, 1, 8, 8).astype(np.uint8)
    return Images("sequential-digits", pixels, 16, labels.astype(np.int32), split)


def find_images(name: str, root: Path) -> Path | None:
    """The folder that holds the files (of CIFAR-10 also their archive); ``None``: there is none.

    Raises:
        UsageError: there are pickles alone.
    """
    wanted = _BATCHES[TEST] if name == "cifar10" else _idx_names("t10k", "images", 3)
    for place in (root / part for part in _PLACES[name]):
        if any((place / file).is_file() for file in wanted):
            return place
        if name == "cifar10" and (place / _ARCHIVE).is_file():
            return place / _ARCHIVE
    if name == "cifar10":
        for place in (root, root / "cifar-10-batches-py"):
            if (place / "data_batch_1").is_file() or (place / "test_batch").is_file():
                raise UsageError(
                    f"{place} holds CIFAR-10's Python version, pickles, which are not opened; "
                    f"expected {EXPECTED[name]}"
                )
    return None


# -------------------------------------------------------------------- MNIST's IDX


def _idx_names(split: str, what: str, rank: int) -> list[str]:
    plain = [f"{split}-{what}-idx{rank}-ubyte", f"{split}-{what}.idx{rank}-ubyte"]
    return [*plain, *(f"{name}.gz" for name in plain)]


def _idx(folder: Path, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(n, 1, height, width)`` and labels ``(n,)`` of a split."""
    images, labels = (_array(folder, _IDX[split], what) for what in ("images", "labels"))
    if len(images) != len(labels):
        raise UsageError(f"{folder}: {len(images)} {_IDX[split]} images and {len(labels)} labels")
    return images[:, None], labels


def _array(folder: Path, split: str, what: str) -> np.ndarray:
    rank = 3 if what == "images" else 1
    names = _idx_names(split, what, rank)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise UsageError(f"{folder} has no {names[0]} (or {names[2]})")
    raw = _gunzipped(path) if path.suffix == ".gz" else read_bytes(path, _MOST_BYTES)
    if len(raw) < 4 + 4 * rank or raw[:4] != bytes([0, 0, 8, rank]):
        raise UsageError(f"{path} is no IDX file of {rank} dimensions of bytes")
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    held = len(raw) - 4 - 4 * rank
    claimed = 1
    for length in shape:
        claimed *= length
    if claimed != held:
        raise UsageError(f"{path} is damaged: its header says {claimed} bytes, and it has {held}")
    if rank == 3 and shape[1:] != (28, 28):
        raise UsageError(f"{path} holds images of {shape[1]} x {shape[2]}; expected 28 x 28")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _gunzipped(path: Path) -> bytes:
    regular(path)
    try:
        with gzip.open(path) as file:
            raw = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is no readable .gz file: {one_line(str(error))[:120]}") from None
    if len(raw) > _MOST_BYTES:
        raise UsageError(f"{path} unpacks to more than {_MOST_BYTES} bytes")
    return raw


# ---------------------------------------------------------------- CIFAR-10's binary version


def _cifar(found: Path, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(n, 3, 32, 32)`` and labels ``(n,)`` of a split."""
    rows = []
    for name in _BATCHES[split]:
        if found.is_dir():
            shown, raw = str(found / name), read_bytes(found / name, _MOST_BYTES)
        else:
            shown, raw = f"{found}:{name}", _member(found, name)
        if len(raw) % _CIFAR_ROW:
            raise UsageError(
                f"{shown} is truncated: {len(raw)} bytes are no multiple of {_CIFAR_ROW} an image"
            )
        rows.append(np.frombuffer(raw, np.uint8).reshape(-1, _CIFAR_ROW))
    table = np.concatenate(rows)
    return table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0]


def _member(archive: Path, name: str) -> bytes:
    """A file of the archive, read without unpacking."""
    regular(archive)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.isfile() and member.name.rpartition("/")[2] == name:
                    if member.size > _MOST_BYTES:
                        raise UsageError(f"{archive}: member '{name}' is larger than plausible")
                    stream = tar.extractfile(member)
                    assert stream is not None
                    return stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{archive} is no readable .tar.gz: {one_line(str(error))[:120]}"
        ) from None
    raise UsageError(f"{archive} holds no {name}")
