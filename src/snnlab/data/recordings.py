"""Finding and caching the real datasets, N-MNIST, SHD and SSC.

``nmnist`` (Orchard et al. 2015): ``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin``, as folders
or in ``train.zip``/``test.zip`` (tonic's names) or one zip with both, in ``data_path`` or its
subfolder NMNIST; ``data_path`` may be one of these zips itself. ``shd`` (Cramer et al. 2020):
``shd_train.h5`` and ``shd_test.h5``, or ``.h5.zip``, in ``data_path`` or its subfolder SHD. ``ssc``
(the same authors): ``ssc_train.h5``, ``ssc_valid.h5``, ``ssc_test.h5``, in ``data_path`` or its
subfolder SSC. ``data_path`` may also be one of these files, or a zip of them all. Any number of
recordings: packed or not they are the same ones, and decoded once. ``data_path`` is never written;
where none is given, the cache folder gets a download.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from snnlab.data import archives
from snnlab.data.archive_sums import unpacked_sum
from snnlab.data.cache import cache_root
from snnlab.data.decode import decode_bin
from snnlab.data.download import STAND_IN, download, say
from snnlab.data.late import Lateness
from snnlab.data.shd import class_map, opened_shd, packed_h5
from snnlab.data.sources import (
    chosen,
    content_sum,
    listing,
    mode_of,
    read_bytes,
    reason,
)
from snnlab.data.store import TEST, TRAIN, VALID, EventStore, Sensor, StoreWriter, cached
from snnlab.errors import UsageError

VERSION = 2
NMNIST_SENSOR = Sensor(
    "nmnist", 34, 34, 2, n_classes=10, window_us=310_000, saccade_us=100_000
)  # fmt: skip
SHD_UNITS, SHD_CLASSES, SHD_WINDOW_US = 700, 20, 1_400_000
SSC_CLASSES = 35
# float16 seconds: neighbours between 1 s and 2 s are 2**-10 s apart.
SHD_RESOLUTION_US = 1e6 / 1024
MOST_BYTES = 8 << 20  # of a .bin recording, and of those decoded at once
SPLITS = {"Train": TRAIN, "Test": TEST}
EXPECTED = {
    "nmnist": "Train/<digit>/*.bin and Test/<digit>/*.bin, or train.zip and test.zip",
    "shd": "shd_train.h5 and shd_test.h5, or shd_train.h5.zip and shd_test.h5.zip",
    "ssc": "ssc_train.h5, ssc_valid.h5 and ssc_test.h5, or the same with .zip",
    "gesture": "user*.aedat, their _labels.csv, trials_to_train.txt and trials_to_test.txt, or "
    "ibmGestureTrain and ibmGestureTest",
}


def load_recordings(name: str, data_path: str) -> EventStore:
    """The cached store of ``nmnist``, ``shd`` or ``ssc``.

    Args:
        name: dataset.
        data_path: folder of the recordings; ``""`` is ``data`` in the cache folder, where they are
            downloaded if they are not there.

    Raises:
        UsageError: no data and no download, a file that cannot be used, or no cache folder.
    """
    if data_path:
        root = chosen(data_path)
        found = find_files(name, root)
        if not found:
            raise UsageError(
                f"no {name} data in --data_path {data_path}; expected {EXPECTED[name]} "
                f"(without --data_path they are downloaded); {STAND_IN}"
            )
    else:
        root = cache_root() / "data"
        found = find_files(name, root)
        if not found:
            download(name, root, list(_splits(name)), EXPECTED[name])
            found = find_files(name, root)
            if not found:
                raise UsageError(f"the download left no {name} data in {root}; {STAND_IN}")
    for split in _splits(name):
        if split not in found:
            other = next(iter(found.values()))
            raise UsageError(
                f"{name}: {other} is there, but no {split.lower()} recordings beside it; "
                f"expected {EXPECTED[name]}"
            )
    return _nmnist(found) if name == "nmnist" else shd_store(found, name)


def _splits(name: str) -> dict[str, int]:
    return {**SPLITS, "Valid": VALID} if name == "ssc" else SPLITS


def find_files(name: str, root: Path) -> dict[str, Path]:
    """Split -> its folder or file, of the first place that has any."""
    try:
        if root.is_file() and (found := _beside(name, root)):
            return found
        if root.exists() and not root.is_dir():
            raise UsageError(f"--data_path {root} is no folder; expected that of {EXPECTED[name]}")
        find: Callable[[Path], dict[str, Path]] = _nmnist_in
        places = ("NMNIST", "nmnist", "N-MNIST")
        if name != "nmnist":
            places = (name.upper(), name, *(("hsd", "HSD") if name == "shd" else ()))
            find = lambda folder: _shd_in(folder, name)  # noqa: E731
        for folder in (root, *(root / place for place in places)):
            if found := find(folder):
                return found
    except OSError as error:
        raise UsageError(f"cannot read {root}: {reason(error)}") from None
    return {}


def _beside(name: str, file: Path) -> dict[str, Path]:
    """Split -> file, where a file of the dataset is given in the place of its folder."""
    found = _nmnist_in(file.parent) if name == "nmnist" else _shd_in(file.parent, name)
    if file in found.values():
        return found
    if file.suffix.lower() != ".zip":
        return {}
    if name == "nmnist":
        return dict.fromkeys(SPLITS, file)
    with archives.opened(file) as archive:
        inside = {member.filename.rpartition("/")[2] for member in archive.members}
    there = [s for s in _splits(name) if f"{name}_{s.lower()}.h5" in inside]
    return dict.fromkeys(there, file)


# --------------------------------------------------------------------- N-MNIST


def _nmnist_in(folder: Path) -> dict[str, Path]:
    """Split -> its folder, or the zip file that may hold it."""
    found: dict[str, Path] = {}
    for split in SPLITS:
        for name in (split, split.lower()):
            if (folder / name).is_dir():
                found[split] = folder / name
                break
            if (folder / f"{name}.zip").is_file():
                found[split] = folder / f"{name}.zip"
                break
    for name in ("nmnist_subset.zip", "nmnist.zip", "NMNIST.zip", "N-MNIST.zip"):
        if not found and (folder / name).is_file():
            found = dict.fromkeys(SPLITS, folder / name)
    return found


def _nmnist(found: dict[str, Path]) -> EventStore:
    sources: dict[str, tuple[Path, list[Path]]] = {}
    for split, path in found.items():
        files = list(bins(path)) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"{path} holds no recordings; expected {path.name}/<digit>/*.bin")
        sources[split] = path, files

    def sum_of(split: str, path: Path, files: list[Path]) -> str:
        if path.is_dir():
            return content_sum(path, files)
        return unpacked_sum(path, split, lambda: _packed(path, split))

    def sums() -> dict[str, str]:
        return {s: sum_of(s, path, files) for s, (path, files) in sources.items()}

    source = sums()

    def write(writer: StoreWriter) -> None:
        for split, (path, files) in sources.items():
            say(f"decoding {path} once into the cache")
            members = members_on_disk(files) if path.is_dir() else members_in_zip(path, split)
            _write_bins(writer, members, SPLITS[split], path, split)
        _check_unchanged(source, sums())

    return cached(NMNIST_SENSOR, {"version": VERSION, "source": source}, write)


def _packed(path: Path, split: str) -> Iterator[tuple[str, list[bytes]]]:
    """``<digit>/<file>.bin`` and content of the recordings of an archive."""
    for member, digit, content in members_in_zip(path, split):
        yield f"{digit}/{member.rpartition('/')[2]}", [content]


def _check_unchanged(before: dict[str, str], after: dict[str, str]) -> None:
    if before != after:
        raise UsageError("the recordings have changed while they were read; start again")


def bins(folder: Path) -> Iterator[Path]:
    """``<digit>/*.bin``, in order."""
    for child in listing(folder):
        if stat.S_ISDIR(mode_of(child).st_mode):
            yield from (path for path in listing(child) if path.suffix.lower() == ".bin")
        elif child.suffix.lower() == ".bin":
            raise UsageError(f"{child} lies in no folder of a digit; expected <digit>/*.bin")


def members_on_disk(files: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """``(name for messages, name of the digit's folder, content)``."""
    for file in files:
        yield str(file), file.parent.name, read_bytes(file, MOST_BYTES)


def members_in_zip(path: Path, split: str) -> Iterator[tuple[str, str, bytes]]:
    """:func:`_members_on_disk` of an archive; no recording is passed over for its name."""
    pattern = re.compile(rf"(?:^|/)({'|'.join(SPLITS)})/([^/]+)/[^/]+\.bin$", re.IGNORECASE)
    with archives.opened(path) as archive:
        for member in archive.members:
            match = pattern.search(member.filename)
            if match is None:
                archive.check_name(member)
                if member.filename.lower().endswith(".bin"):
                    raise UsageError(
                        f"{path}: member '{member.filename}' is no {split}/<digit>/*.bin"
                    )
            elif match.group(1).lower() == split.lower():
                content = archive.read(member, MOST_BYTES)
                yield f"{path}:{member.filename}", match.group(2), content


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
    n_classes, total, size = writer.sensor.n_classes, 0, 0
    late = Lateness(path, name, writer.sensor, "us")

    def flush() -> None:
        nonlocal names, labels, blobs, total, size
        t, address, lengths = decode_bin(blobs, names, writer.sensor)
        late.add(t, lengths)
        writer.add(t, address, lengths, np.array(labels), split)
        total += len(names)
        names, labels, blobs, size = [], [], [], 0

    for member, digit, blob in members:
        if not (digit.isascii() and digit.isdigit() and len(digit) < 9 and int(digit) < n_classes):
            raise UsageError(f"{member}: label '{digit[:40]}' is not one of 0..{n_classes - 1}")
        if names and size + len(blob) > MOST_BYTES:
            flush()
        names.append(member)
        labels.append(int(digit))
        blobs.append(blob)
        size += len(blob)
    if names:
        flush()
    if not total:
        raise UsageError(f"{path} holds no {name}/<digit>/*.bin recordings")
    late.check()


# ------------------------------------------------------------------- SHD and SSC


def _shd_in(folder: Path, name: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split in _splits(name):
        for file in (f"{name}_{split.lower()}.h5", f"{name}_{split.lower()}.h5.zip"):
            if (folder / file).is_file():
                found[split] = folder / file
                break
    return found


def shd_store(files: dict[str, Path], name: str = "shd") -> EventStore:
    """The cached store of files in SHD's layout.

    Classes are those that the training file names; the other files' are mapped by name. Where
    files have no names, labels are numbers.

    Args:
        files: ``Train`` and ``Test`` (``ssc``: ``Valid`` too).
        name: of the dataset.

    Raises:
        UsageError: a file that cannot be used, or no cache folder.
    """
    sensor = Sensor(
        name, 1, SHD_UNITS, 1, 0, SHD_WINDOW_US, resolution_us=SHD_RESOLUTION_US
    )  # fmt: skip

    def sum_of(split: str, path: Path) -> str:
        if path.suffix.lower() != ".zip":
            return content_sum(path.parent, [path])
        return unpacked_sum(path, split, lambda: packed_h5(path, f"{name}_{split.lower()}.h5"))

    def sums() -> dict[str, str]:
        return {split: sum_of(split, path) for split, path in files.items()}

    source = sums()

    def write(writer: StoreWriter) -> None:
        n_classes = SSC_CLASSES if name == "ssc" else SHD_CLASSES
        keys: tuple[str, ...] | None = None
        for split in sorted(files, key=lambda s: s != "Train"):
            path = files[split]
            say(f"decoding {path} once into the cache")
            with opened_shd(path, f"{name}_{split.lower()}.h5") as file:
                if split == "Train":
                    keys = file.keys
                    n_classes = len(keys) if keys else n_classes
                    writer.classes(n_classes, keys or ())
                elif bool(keys) != bool(file.keys):
                    say(f"{path}: labels are taken by number, as not all files have extra/keys")
                own = class_map(path, file.keys, keys)
                late = Lateness(path, split, sensor, "s")
                for part in file.parts(sensor, n_classes if own is None else len(own)):
                    late.add(part.times_us, part.lengths)
                    labels = part.labels if own is None else own[part.labels]
                    writer.add(
                        part.times_us, part.units, part.lengths, labels, _splits(name)[split]
                    )
                late.check()
        _check_unchanged(source, sums())

    return cached(sensor, {"version": VERSION, "source": source}, write)
