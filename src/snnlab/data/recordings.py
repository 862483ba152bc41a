"""Finding, downloading and caching the real datasets, N-MNIST, SHD and SSC.

``nmnist`` (Orchard et al. 2015): ``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin``, as folders
or in ``train.zip``/``test.zip`` (tonic's names) or one zip with both, in ``data_path`` or its
subfolder NMNIST. ``shd`` (Cramer et al. 2020): ``shd_train.h5`` and ``shd_test.h5``, or
``.h5.zip``, in ``data_path`` or its subfolder SHD. ``ssc`` (the same authors): ``ssc_train.h5``,
``ssc_valid.h5``, ``ssc_test.h5``, in ``data_path`` or its subfolder SSC. Any number of recordings.
``data_path`` is never written, except by a download into a folder that has none of the data.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from snnlab.data import archives
from snnlab.data.decode import decode_bin, read_shd, shd_classes
from snnlab.data.store import (
    TEST,
    TRAIN,
    VALID,
    EventStore,
    Sensor,
    StoreWriter,
    cache_root,
    cached,
)
from snnlab.errors import UsageError, one_line

VERSION = 1
NMNIST_SENSOR = Sensor(
    "nmnist", 34, 34, 2, n_classes=10, window_us=310_000, saccade_us=100_000
)  # fmt: skip
SHD_UNITS, SHD_CLASSES, SHD_WINDOW_US = 700, 20, 1_400_000
SSC_CLASSES = 35
# float16 seconds: neighbours between 1 s and 2 s are 2**-10 s apart.
SHD_RESOLUTION_US = 1e6 / 1024
_CHUNK = 2_000  # recordings decoded at once
_SPLITS = {"Train": TRAIN, "Test": TEST}
_STAND_IN = "--dataset event-digits needs no files"


def load_recordings(name: str, data_path: str) -> EventStore:
    """The cached store of ``nmnist``, ``shd`` or ``ssc``.

    Args:
        name: dataset.
        data_path: folder of the recordings; ``""`` is ``data`` in the cache folder.

    Raises:
        UsageError: no data and no download, a file that cannot be used, or no cache folder.
    """
    root = Path(data_path).expanduser() if data_path else cache_root() / "data"
    if data_path and root.exists() and not root.is_dir():
        raise UsageError(f"--data_path {data_path} is no folder")
    find: Callable[[Path], dict[str, list[Path]]] = _find_nmnist
    build: Callable[[dict[str, list[Path]]], EventStore] = _nmnist
    if name != "nmnist":
        find, build = functools.partial(_find_shd, name=name), functools.partial(_shd, name=name)
    found = find(root)
    if not found:
        _download(name, root)
        found = find(root)
        if not found:
            raise UsageError(f"the download left no {name} data in {root}; {_STAND_IN}")
    for split in _splits(name):
        if split not in found:
            other = next(iter(found.values()))[0]
            raise UsageError(
                f"{name}: {other} is there, but no {split.lower()} recordings beside it; "
                f"expected {_EXPECTED[name]}"
            )
    return build(found)


_EXPECTED = {
    "nmnist": "Train/<digit>/*.bin and Test/<digit>/*.bin, or train.zip and test.zip",
    "shd": "shd_train.h5 and shd_test.h5, or shd_train.h5.zip and shd_test.h5.zip",
    "ssc": "ssc_train.h5, ssc_valid.h5 and ssc_test.h5, or the same with .zip",
}


def _splits(name: str) -> dict[str, int]:
    return {**_SPLITS, "Valid": VALID} if name == "ssc" else _SPLITS


def fingerprint(files: list[Path]) -> list[list[object]]:
    """Name, size and modification time of every source file."""
    facts = []
    for path in files:
        info = path.stat()
        facts.append(["/".join(path.parts[-3:]), info.st_size, info.st_mtime_ns])
    return facts


# --------------------------------------------------------------------- N-MNIST


def _find_nmnist(root: Path) -> dict[str, list[Path]]:
    """Split -> its folder, or the zip files that may hold it."""
    for folder in (root, *(root / n for n in ("NMNIST", "nmnist", "N-MNIST"))):
        found: dict[str, list[Path]] = {}
        for split in _SPLITS:
            for name in (split, split.lower()):
                if (folder / name).is_dir():
                    found[split] = [folder / name]
                    break
                if (folder / f"{name}.zip").is_file():
                    found[split] = [folder / f"{name}.zip"]
                    break
        for name in ("nmnist_subset.zip", "nmnist.zip", "NMNIST.zip", "N-MNIST.zip"):
            if not found and (folder / name).is_file():
                found = {split: [folder / name] for split in _SPLITS}
        if found:
            return found
    return {}


def _nmnist(found: dict[str, list[Path]]) -> EventStore:
    sources: dict[str, tuple[Path, list[Path]]] = {}
    for split, (path,) in found.items():
        files = sorted(path.glob("*/*.bin")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"{path} holds no recordings; expected {path.name}/<digit>/*.bin")
        sources[split] = path, files
    key = {"version": VERSION, "source": {s: fingerprint(f) for s, (_, f) in sources.items()}}

    def write(writer: StoreWriter) -> None:
        for split, (path, files) in sources.items():
            say(f"decoding {path} once into the cache")
            members = _members_on_disk(files) if path.is_dir() else _members_in_zip(path, split)
            _write_bins(writer, members, _SPLITS[split], path, split)

    return cached(NMNIST_SENSOR, key, write)


def _members_on_disk(files: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """``(name for messages, name of the digit's folder, content)``."""
    for file in files:
        try:
            yield str(file), file.parent.name, file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from None


def _members_in_zip(path: Path, split: str) -> Iterator[tuple[str, str, bytes]]:
    pattern = re.compile(rf"(?:^|/){split}/([^/]+)/[^/]+\.bin$", re.IGNORECASE)
    with archives.opened(path) as archive:
        for info in sorted(archive.infolist(), key=lambda i: i.filename):
            match = pattern.search(info.filename)
            if match:
                yield f"{path}:{info.filename}", match.group(1), archive.read(info)


def _write_bins(
    writer: StoreWriter,
    members: Iterator[tuple[str, str, bytes]],
    split: int,
    path: Path,
    name: str,
) -> None:
    names: list[str] = []
    labels: list[int] = []
    blobs: list[bytes] = []
    n_classes, total = writer.sensor.n_classes, 0

    def flush() -> None:
        nonlocal names, labels, blobs, total
        t, address, lengths = decode_bin(blobs, names, writer.sensor)
        writer.add(t, address, lengths, np.array(labels), split)
        total += len(names)
        names, labels, blobs = [], [], []

    for member, digit, blob in members:
        if not (digit.isascii() and digit.isdigit() and int(digit) < n_classes):
            raise UsageError(f"{member}: label '{digit}' is not one of 0..{n_classes - 1}")
        names.append(member)
        labels.append(int(digit))
        blobs.append(blob)
        if len(names) == _CHUNK:
            flush()
    if names:
        flush()
    if not total:
        raise UsageError(f"{path} holds no {name}/<digit>/*.bin recordings")


# ------------------------------------------------------------------- SHD and SSC


def _find_shd(root: Path, name: str) -> dict[str, list[Path]]:
    for folder in (root, *(root / n for n in (name.upper(), name, "hsd", "HSD"))):
        found = {}
        for split in _splits(name):
            for file in (f"{name}_{split.lower()}.h5", f"{name}_{split.lower()}.h5.zip"):
                if (folder / file).is_file():
                    found[split] = [folder / file]
                    break
        if found:
            return found
    return {}


def _shd(found: dict[str, list[Path]], name: str) -> EventStore:
    return shd_store({split: paths[0] for split, paths in found.items()}, name)


def shd_store(files: dict[str, Path], name: str = "shd") -> EventStore:
    """The cached store of files in SHD's layout.

    Args:
        files: ``Train`` and ``Test`` (``ssc``: ``Valid`` too).
        name: of the dataset.

    Raises:
        UsageError: a file that cannot be used, or no cache folder.
    """
    default = SSC_CLASSES if name == "ssc" else SHD_CLASSES
    n_classes = shd_classes(files["Train"], default=default)
    sensor = Sensor(
        name, 1, SHD_UNITS, 1, n_classes, SHD_WINDOW_US, resolution_us=SHD_RESOLUTION_US
    )  # fmt: skip
    key = {"version": VERSION, "source": {s: fingerprint([f]) for s, f in files.items()}}

    def write(writer: StoreWriter) -> None:
        for split, path in files.items():
            say(f"decoding {path} once into the cache")
            for t, unit, lengths, labels in read_shd(path, sensor, _CHUNK):
                writer.add(t, unit, lengths, labels, _splits(name)[split])

    return cached(sensor, key, write)


# -------------------------------------------------------------------- download


def say(message: str) -> None:
    """A line about slow work, on standard error."""
    print(f"snnlab: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _no_hang(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[None]:
    """Remove what an interrupted download left, since half a zip would look like data."""
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        for new in set(folder.iterdir()) - before:
            shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _download(name: str, root: Path) -> None:
    """Fetch a dataset through tonic, which shows progress and checks the MD5 sum."""
    import tonic.datasets

    source: Callable[..., object] = {
        "nmnist": tonic.datasets.NMNIST,
        "shd": tonic.datasets.SHD,
        "ssc": tonic.datasets.SSC,
    }[name]
    target = root / source.__name__
    advice = f"put {_EXPECTED[name]} into {target}, or give their folder by --data_path"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"no {name} data in {root}, and it cannot be written ({error.strerror}); {advice}; "
            f"{_STAND_IN}"
        ) from None
    if not os.access(target, os.W_OK):
        raise UsageError(
            f"no {name} data in {root}, and it cannot be written; {advice}; {_STAND_IN}"
        )
    say(f"no {name} data in {root}; downloading it through tonic")
    try:
        with _no_hang(60), _whole_or_nothing(target):
            for split in _splits(name):
                part = {"split": split.lower()} if name == "ssc" else {"train": split == "Train"}
                source(save_to=str(root), **part)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(
            f"no {name} data in {root}, and tonic.datasets.{source.__name__} could not "
            f"download it ({one_line(str(error)) or type(error).__name__}); {advice}; {_STAND_IN}"
        ) from None
