"""What a file or folder of recordings holds, before anything is trained on it.

N-MNIST's ``.bin``, SHD's HDF5 and sound are read by the readers that training uses, one file at a
time, so that one bad file does not hide the others. Nothing is written beside the recordings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from snnlab.data.decode import decode_bin
from snnlab.data.findings import MOST_TOLD, Found, Part, hear
from snnlab.data.folders.check import look
from snnlab.data.folders.layout import EXPECTED, HDF5
from snnlab.data.images.files import find_images, read_images
from snnlab.data.late import Lateness
from snnlab.data.recordings import (
    MOST_BYTES,
    NMNIST_SENSOR,
    SHD_UNITS,
    SHD_WINDOW_US,
    bins,
    find_files,
    members_in_zip,
    members_on_disk,
)
from snnlab.data.shd import opened_shd
from snnlab.data.sources import listing, mode_of, read_bytes
from snnlab.data.speech.audio import SUFFIXES
from snnlab.data.speech.folder import list_recordings
from snnlab.data.store import TEST, TRAIN, Sensor
from snnlab.errors import UsageError

_SHD_SENSOR = Sensor("shd", 1, SHD_UNITS, 1, 0, SHD_WINDOW_US)
#: Labels of a file that names no classes.
_ANY_LABEL = 1 << 30


def examine(path: Path) -> list[Found]:
    """What a file or folder holds.

    Raises:
        UsageError: it cannot be read, or holds nothing of a kind that is known.
    """
    mode_of(path)
    found = [*_bin(path), *_hdf5(path), *_sound(path), *_images(path)] or [*look(path)]
    if not found:
        raise UsageError(
            f"no recordings in {path}; known are Train/<digit>/*.bin and Test/<digit>/*.bin (or "
            f"zips of them), and folders with {EXPECTED}"
        )
    return found


# --------------------------------------------------------------------------- .bin


def _bin(path: Path) -> Iterator[Found]:
    """Recordings in N-MNIST's format."""
    if path.is_file() and path.suffix.lower() == ".bin":
        content = read_bytes(path, MOST_BYTES)
        parts = [_decoded(path, "file", iter([(str(path), path.parent.name, content)]))]
        yield Found("a recording in N-MNIST's format", "", parts)
        return
    try:
        files = find_files("nmnist", path)
    except UsageError:
        files = {}
    parts = []
    for split, place in files.items():
        if place.is_dir():
            parts.append(_decoded(place, split, members_on_disk(list(bins(place)))))
        elif place.suffix.lower() == ".zip":
            parts.append(_decoded(place, split, members_in_zip(place, split)))
    parts = [part for part in parts if part.events or part.problems]
    if parts:
        yield Found("N-MNIST's layout", f"--dataset nmnist --data_path {path}", parts)


def _decoded(path: Path, name: str, members: Iterator[tuple[str, str, bytes]]) -> Part:
    sensor = NMNIST_SENSOR
    part = Part(name, "events", sensor.window_us / 1000)
    late, wrong = Lateness(path, name, sensor, "us"), 0

    def refuse(error: UsageError) -> None:
        nonlocal wrong
        wrong += 1
        if wrong <= MOST_TOLD:
            part.problems.append(str(error))

    try:
        for member, digit, blob in members:
            try:
                times, _, lengths = decode_bin([blob], [member], sensor)
                part.add(times, lengths, [digit])
                late.add(times, lengths)
                if not (digit.isascii() and digit.isdigit() and int(digit) < sensor.n_classes):
                    raise UsageError(f"{member}: label '{digit[:40]}' is not one of 0..9")
            except UsageError as error:
                refuse(error)
        late.check()
    except UsageError as error:
        refuse(error)
    if wrong > MOST_TOLD:
        part.problems.append(f"{path}: and {wrong - MOST_TOLD} recordings more")
    return part


# -------------------------------------------------------------------------- HDF5


def _hdf5(path: Path) -> Iterator[Found]:
    """Files in SHD's layout, each a part."""
    files = [path] if path.is_file() else [p for f in _folders(path) for p in listing(f)]
    files = [f for f in files if f.name.lower().endswith(HDF5)]
    if not files or not any(f.name.lower().startswith(("shd", "ssc")) for f in files):
        return  # of one's own, with any number of channels
    parts = []
    for file in files:
        part = Part(file.name, "events", SHD_WINDOW_US / 1000)
        parts.append(part)
        late = Lateness(file, file.name, _SHD_SENSOR, "s")
        try:
            with opened_shd(file) as opened:
                keys = opened.keys or ()
                for some in opened.parts(_SHD_SENSOR, len(keys) or _ANY_LABEL):
                    labels = [keys[k] if keys else str(k) for k in some.labels]
                    part.add(some.times_us, some.lengths, labels)
                    late.add(some.times_us, some.lengths)
            late.check()
        except UsageError as error:
            part.problems.append(str(error))
    names = {file.name.lower().removesuffix(".zip") for file in files}
    known = next((n for n in ("shd", "ssc") if {f"{n}_train.h5", f"{n}_test.h5"} <= names), "")
    use = f"--dataset {known or 'folder'} --data_path {path}"
    yield Found("files in SHD's layout", use, parts)


def _folders(path: Path) -> list[Path]:
    """A folder, and those in it with a dataset's name."""
    return [path, *(path / n for n in ("SHD", "SSC", "shd", "ssc") if (path / n).is_dir())]


# ------------------------------------------------------------------------- sound


def _sound(path: Path) -> Iterator[Found]:
    """Sound files, by class."""
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            part = Part("file", "samples", SHD_WINDOW_US / 1000)
            hear(part, path, path.parent.name)
            yield Found("a sound file", "", [part])
        return
    if not _holds_sound(path):
        return
    part = Part(path.name or str(path), "samples", SHD_WINDOW_US / 1000)
    try:
        found = list_recordings(path)
        part.speakers = len(found.names)
        for file, label in zip(found.files, found.labels, strict=True):
            hear(part, file, found.keys[label])
    except UsageError as error:
        part.problems.append(str(error))
    use = f"--dataset folder --data_path {path}" if any(p.is_dir() for p in listing(path)) else (
        f"python -m snnlab.data.speech {path} OUT.h5"
    )  # fmt: skip
    yield Found("sound files", use, [part])


def _holds_sound(path: Path) -> bool:
    """Whether a folder, or one in it, has sound files."""
    inside = listing(path)
    folders = [path, *(child for child in inside if child.is_dir())]
    return any(p.suffix.lower() in SUFFIXES for folder in folders for p in listing(folder))


# ------------------------------------------------------------------------ images


def _images(path: Path) -> Iterator[Found]:
    """MNIST's files (Fashion-MNIST's have the same names), and CIFAR-10's."""
    for name in ("mnist", "fashion-mnist", "cifar10"):
        parts = [Part(split, "pixels", math.inf) for split in ("training", "test")]
        try:
            if not path.is_dir() or find_images(name, path) is None:
                continue
            images = read_images(name, str(path))
        except UsageError as error:
            parts[0].problems.append(str(error))
        else:
            known = images.class_names or [str(label) for label in range(10)]
            for part, split in zip(parts, (TRAIN, TEST)):
                part.labels = [known[label] for label in images.labels[images.split == split]]
                part.events = [images.pixels[0].size] * len(part.labels)
        yield Found(f"images, {name}", f"--dataset {name} --data_path {path}", parts)
        return
