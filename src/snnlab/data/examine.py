"""What a file or folder of recordings holds, before anything is trained on it.

N-MNIST's ``.bin``, SHD's HDF5 and sound are read by the readers that training uses, one file at a
time, so that one bad file does not hide the others. Nothing is written beside the recordings.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from snnlab.data.decode import decode_bin
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
from snnlab.data.speech.audio import SUFFIXES, read_audio
from snnlab.data.speech.folder import list_recordings
from snnlab.data.store import Sensor
from snnlab.errors import UsageError, one_line

#: Problems of one kind that are told one by one.
MOST_TOLD = 5
_SHD_SENSOR = Sensor("shd", 1, SHD_UNITS, 1, 0, SHD_WINDOW_US)
#: Labels of a file that names no classes.
_ANY_LABEL = 1 << 30


@dataclasses.dataclass
class Part:
    """The recordings of a split or file.

    Attributes:
        name: of it.
        unit: of an entry of ``events``.
        window_ms: what is read of a recording.
        events, ends_ms, labels: of each recording: how many events (samples of sound), when the
            last one is, its class.
        late: recordings that go on behind the window; ``n_late`` events of them.
        speakers: how many, where names say it.
        problems: what keeps recordings from being used.
    """

    name: str
    unit: str
    window_ms: float
    events: list[int] = dataclasses.field(default_factory=list)
    ends_ms: list[float] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    late: int = 0
    n_late: int = 0
    silent: int = 0
    speakers: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, times_us: np.ndarray, lengths: np.ndarray, labels: Iterable[str]) -> None:
        """Take recordings in: ``(n_events,)`` times, ``(n,)`` events and labels of each."""
        self.labels += labels
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends):
            mine = times_us[start:end]
            last = float(mine.max()) / 1000 if len(mine) else 0.0
            self.events.append(len(mine))
            self.ends_ms.append(last)
            behind = int((mine >= 1000 * self.window_ms).sum())
            self.late, self.n_late = self.late + bool(behind), self.n_late + behind

    def lines(self) -> list[str]:
        """What it holds."""
        n, counts = len(self.events), Counter(self.labels)
        order = sorted(counts, key=lambda label: (len(label), label))
        classes = ", ".join(f"{label} {counts[label]}" for label in order[:20])
        more = ", ..." if len(order) > 20 else ""
        lines = [f"{self.name}: {_count(n, 'recording')}"]
        if not n:
            return lines
        speakers = f", {_count(self.speakers, 'speaker')}" if self.speakers else ""
        lines.append(f"  {_count(len(order), 'class', 'es')}{speakers}: {classes}{more}")
        lines.append(f"  {self.unit} of a recording: {_range(self.events, 0)}, in all "
                     f"{sum(self.events):,}")  # fmt: skip
        lines.append(f"  durations: {_range(self.ends_ms, 0)} ms")
        lost = [f"{self.events.count(0)} empty"]
        if self.silent:
            lost.append(f"{self.silent} silent")
        if self.n_late:
            lost.append(f"{self.n_late:,} {self.unit} of {self.late} recordings behind the "
                        f"{self.window_ms:g} ms that are read")  # fmt: skip
        elif self.late:
            lost.append(f"{self.late} longer than the {self.window_ms:g} ms that are read as "
                        "spikes")  # fmt: skip
        return [*lines, f"  {', '.join(lost)}"]


@dataclasses.dataclass
class Found:
    """Recordings of one kind.

    Attributes:
        kind: in words.
        use: how to train on them.
        parts: of them.
    """

    kind: str
    use: str
    parts: list[Part]

    @property
    def problems(self) -> list[str]:
        """All that is wrong, no recordings included."""
        own = [line for part in self.parts for line in part.problems]
        return own or ["there are no recordings"] * (not any(p.events for p in self.parts))


def examine(path: Path) -> list[Found]:
    """What a file or folder holds.

    Raises:
        UsageError: it cannot be read, or holds nothing of a kind that is known.
    """
    mode_of(path)
    found = [*_bin(path), *_hdf5(path), *_sound(path)]
    if not found:
        raise UsageError(
            f"no recordings in {path}; known are Train/<digit>/*.bin and Test/<digit>/*.bin (or "
            "zips of them), .h5 files in SHD's layout, and WAV or FLAC files by class"
        )
    return found


def _count(n: int, word: str, end: str = "s") -> str:
    return f"{n:,} {word}{end * (n != 1)}"


def _range(values: list[int] | list[float], digits: int) -> str:
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{low:,.{digits}f} to {high:,.{digits}f} (median {middle:,.{digits}f})"


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
    files = [f for f in files if f.name.lower().endswith((".h5", ".hdf5", ".h5.zip"))]
    if not files:
        return
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
    use = f"--dataset {known} --data_path {path}" if known else (
        "--dataset shd --data_path FOLDER, where they are shd_train.h5 and shd_test.h5"
    )  # fmt: skip
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
            _heard(part, [path], [path.parent.name])
            yield Found("a sound file", "", [part])
        return
    if not _holds_sound(path):
        return
    part = Part(path.name or str(path), "samples", SHD_WINDOW_US / 1000)
    try:
        found = list_recordings(path)
        part.speakers = len(found.names)
        _heard(part, found.files, [found.keys[label] for label in found.labels])
    except UsageError as error:
        part.problems.append(str(error))
    yield Found("sound files", f"python -m snnlab.data.speech {path} OUT.h5", [part])


def _holds_sound(path: Path) -> bool:
    """Whether a folder, or one in it, has sound files."""
    inside = listing(path)
    folders = [path, *(child for child in inside if child.is_dir())]
    return any(p.suffix.lower() in SUFFIXES for folder in folders for p in listing(folder))


def _heard(part: Part, files: list[Path], labels: list[str]) -> None:
    """Read sound files into a part."""
    for file, label in zip(files, labels, strict=True):
        try:
            samples, hz = read_audio(file)
        except UsageError as error:
            if len(part.problems) < MOST_TOLD:
                part.problems.append(one_line(str(error)))
            continue
        part.labels.append(label)
        part.events.append(len(samples))
        part.ends_ms.append(1000 * len(samples) / hz)
        part.silent += not samples.any()
        part.late += 1000 * len(samples) / hz > part.window_ms
