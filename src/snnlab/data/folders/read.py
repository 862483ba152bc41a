"""The recordings of a layout, one at a time, by the reader of their kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from snnlab.data.decode import decode_bin
from snnlab.data.folders.aedat import read_aedat
from snnlab.data.folders.labels import read_stretches
from snnlab.data.folders.layout import Layout, Source
from snnlab.data.folders.npz import read_npy, read_npz
from snnlab.data.folders.recorded import LATEST_US, Recorded, checked
from snnlab.data.shd import class_map, opened_shd
from snnlab.data.sources import read_bytes
from snnlab.data.store import TRAIN, Sensor
from snnlab.errors import UsageError

_MOST_BIN = 64 << 20  # bytes of a .bin
_BIN = Sensor("bin", 256, 256, 2, 1, 1)
_UNITS = Sensor("h5", 1, 1 << 20, 1, 1, 1)  # more than any file has
_LABELS = 1 << 20


class Item(NamedTuple):
    """A recording.

    Attributes:
        name: of its file, for messages.
        split: TRAIN, TEST or VALID.
        label: its class.
        events: of it.
    """

    name: str
    split: int
    label: int
    events: Recorded


class ClassNames:
    """Names that HDF5 files give their classes; the training file's count."""

    def __init__(self) -> None:
        self.keys: tuple[str, ...] | None = None


def items(layout: Layout, unit: str, names: ClassNames) -> Iterator[Item]:
    """All recordings of a layout, but for sound, in its order (training files first).

    Args:
        layout: of the folder.
        unit: ``--time_unit``.
        names: takes the names that HDF5 files give.

    Raises:
        UsageError: a file that cannot be used.
    """
    for source in layout.sources:
        yield from of_source(layout, source, unit, names)


def of_source(layout: Layout, source: Source, unit: str, names: ClassNames) -> Iterator[Item]:
    """The recordings of one file; see :func:`items`."""
    path, split, label = source.path, source.split, source.label
    if layout.kind in ("npz", "h5"):
        pass
    elif unit not in ("auto", "us"):
        raise UsageError(f"--time_unit {unit}: {layout.kind} files have times in us ({path.name})")
    if layout.kind == "npz":
        yield Item(str(path), split, label, read_npz(path, unit))
    elif layout.kind == "bin":
        times, address, _ = decode_bin([read_bytes(path, _MOST_BIN)], [str(path)], _BIN)
        x, y, p = address % 256, address // 256 % 256, address // 65536
        yield Item(str(path), split, label, checked(str(path), Recorded(times, x, y, p)))
    elif layout.kind == "AEDAT":
        yield Item(str(path), split, label, read_aedat(path))
    elif layout.kind == "gestures":
        yield from _gestures(layout, source)
    elif layout.kind == "npy":
        yield Item(str(path), split, label, read_npy(path))
    else:
        yield from _hdf5(source, unit, names)


def _gestures(layout: Layout, source: Source) -> Iterator[Item]:
    """Each line of the table is a recording, whose times count from its start."""
    assert source.table is not None
    whole = read_aedat(source.path, zero=False)
    for stretch in read_stretches(source.table):
        name = f"{source.path} ({stretch.start_us} to {stretch.end_us} us)"
        mine = (whole.time_us >= stretch.start_us) & (whole.time_us < stretch.end_us)
        events = whole._replace(
            time_us=whole.time_us[mine] - stretch.start_us,
            x=whole.x[mine], y=whole.y[mine], p=whole.p[mine],
        )  # fmt: skip
        label = layout.numbers.index(stretch.label)
        yield Item(name, source.split, label, checked(name, events))


def _hdf5(source: Source, unit: str, names: ClassNames) -> Iterator[Item]:
    path, number = source.path, 0
    with opened_shd(path) as file:
        if names.keys is None and source.split == TRAIN:
            names.keys = file.keys
        own = class_map(path, file.keys, names.keys)
        for part in file.parts(_UNITS, len(file.keys or ()) or _LABELS, unit):
            if own is not None:
                part = part._replace(labels=own[part.labels])
            ends = np.cumsum(part.lengths)
            for start, end, label in zip(ends - part.lengths, ends, part.labels):
                t, units = part.times_us[start:end], part.units[start:end]
                zero = np.zeros(len(t), np.int64)
                t = np.minimum(t, LATEST_US + 1)
                events = Recorded(t, units, zero, zero, polarities=1, unit=file.unit)
                name = f"{path}, recording {number}"
                yield Item(name, source.split, int(label), checked(name, events))
                number += 1
