"""The process that opens a file in SHD's layout: ``python -m snnlab.data.shd_child FILE SHOWN``.

The HDF5 library may crash, loop or ask for any amount of memory on a damaged file. So a file is
read here, in a process with bounded memory and a watch over its time, which does nothing else;
:mod:`snnlab.data.shd` starts it and looks at the values. What it sends to its standard output is a
sequence of frames, each a line of JSON and the arrays that the line names, as raw bytes:

    {"n": recordings, "keys": [class names] or null}
    {"arrays": [[dtype, count], ...]}      labels, lengths, times, units of some recordings
    {"refused": why}, or {"end": true}     the last one

Before anything is read, what the file claims is held against its size. Links to other files, data
that lie in other files, and virtual datasets are refused.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

from snnlab.errors import one_line

MEMORY = 1 << 30  # address space, of which the libraries take a third
PART_S = 3.0  # processor time of one part; a sound one takes 0.01 s
PART_BYTES, PART_RECORDINGS = 16 << 20, 200
NEEDED = ("labels", "spikes/times", "spikes/units")
_SMALL, _RATIO = 4 << 20, 200  # what a file may claim: so many bytes, or times its size
_MOST_KEYS, _LONGEST_KEY = 10_000, 1_000


class Refused(Exception):
    """The file cannot be used; the message is for the user."""


class Layout(NamedTuple):
    """The parts of a file that passed the checks."""

    labels: h5py.Dataset
    times: h5py.Dataset
    units: h5py.Dataset
    keys: list[str] | None
    size: int


def main(argv: list[str]) -> None:
    path, shown = argv
    bound()
    serve(path, shown, sys.stdout.buffer, rewind)


def bound() -> None:
    """Bound the memory of this process, and the processor time until the next :func:`rewind`."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    rewind()


def rewind() -> None:
    """A part is done: the watch starts anew. It ends the process by SIGPROF."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, PART_S)


def serve(path: str, shown: str, sink: BinaryIO, done: Callable[[], None]) -> None:
    """Send the file ``path`` to ``sink``; ``shown`` is its name in messages."""
    try:
        for head, arrays in frames(path, shown):
            sink.write(json.dumps(head).encode() + b"\n")
            for array in arrays:
                sink.write(array.tobytes())
            sink.flush()
            done()
    except Refused as error:
        sink.write(json.dumps({"refused": one_line(str(error))}).encode() + b"\n")
    except MemoryError:
        why = f"{shown} is damaged, or needs more memory than {MEMORY >> 20} MiB"
        sink.write(json.dumps({"refused": why}).encode() + b"\n")
    sink.flush()


def frames(path: str, shown: str) -> Iterator[tuple[Mapping[str, Any], list[np.ndarray]]]:
    """The frames of a file; see the module.

    Raises:
        Refused: it is no HDF5 file, is damaged, or is laid out in another way.
    """
    with contextlib.ExitStack() as stack:
        with _library(f"{shown} is no readable HDF5 file"):
            file = stack.enter_context(h5py.File(path, "r"))
            size = file.id.get_filesize()
        damaged = f"{shown} is damaged"
        with _library(damaged):
            layout = _layout(file, shown, size)
            n = layout.labels.shape[0]
        yield {"n": n, "keys": layout.keys}, []
        chunk = _chunk(layout, n)
        for first in range(0, n, chunk):
            with _library(damaged):
                arrays = _part(layout, shown, slice(first, min(first + chunk, n)))
            yield {"arrays": [[a.dtype.str, len(a)] for a in arrays]}, arrays
        yield {"end": True}, []


@contextlib.contextmanager
def _library(what: str) -> Iterator[None]:
    """h5py lets many kinds of exceptions through: make one line of them."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 (many kinds, see above)
        why = one_line(str(error)) or type(error).__name__
        raise Refused(f"{what}: {why[:200]}") from None


def _layout(file: h5py.File, shown: str, size: int) -> Layout:
    labels, times, units = (_needed(file, name, shown) for name in NEEDED)
    if len(labels.shape) != 1 or labels.dtype.kind not in "biuf" or labels.dtype.itemsize > 8:
        raise Refused(f"{shown}: 'labels' holds {_said(labels)}; expected a number a recording")
    _plausible(labels, "labels", shown, size)
    for name, data in zip(NEEDED[1:], (times, units), strict=True):
        inner = h5py.check_vlen_dtype(data.dtype)
        kind = data.dtype if inner is None else np.dtype(inner)
        rows = 1 if inner is not None else 2
        if len(data.shape) != rows or kind.kind not in "biuf" or kind.itemsize > 8:
            raise Refused(
                f"{shown}: '{name}' holds {_said(data)}; expected a list of numbers a recording"
            )
        if inner is not None and not kind.isnative:
            # h5py (3.16) hands such lists out with their bytes in the wrong order.
            raise Refused(
                f"{shown}: '{name}' holds lists of {kind}, of the other byte order; write them as "
                f"{kind.newbyteorder('=').name}"
            )
        _plausible(data, name, shown, size)
    n = labels.shape[0]
    if not (times.shape[0] == units.shape[0] == n) or n == 0:
        raise Refused(
            f"{shown}: {times.shape[0]} times, {units.shape[0]} units and {n} labels; "
            "expected the same number of each, not 0"
        )
    return Layout(labels, times, units, _keys(file, shown), size)


def _needed(file: h5py.File, name: str, shown: str) -> h5py.Dataset:
    data = _dataset(file, name, shown)
    if data is None:
        raise Refused(f"{shown} has no '{name}'; expected spikes/times, spikes/units and labels")
    return data


def _dataset(file: h5py.File, name: str, shown: str) -> h5py.Dataset | None:
    """A dataset that lies in this file, or ``None``: there is none of that name."""
    place: Any = file
    for part in name.split("/"):
        if not isinstance(place, h5py.Group):
            raise Refused(f"{shown}: '{name}' is not in a group")
        link = place.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise Refused(f"{shown}: '{name}' is a link; expected the data themselves")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise Refused(f"{shown}: '{name}' is no dataset, but a {type(place).__name__.lower()}")
    if place.external or place.is_virtual:
        raise Refused(f"{shown}: the data of '{name}' lie in other files")
    if place.shape is None:
        raise Refused(f"{shown}: '{name}' is empty")
    return place


def _said(data: h5py.Dataset) -> str:
    return f"an array {tuple(data.shape)} of {data.dtype}"


def _plausible(data: h5py.Dataset, name: str, shown: str, size: int) -> None:
    """Refuse a dataset whose header claims more than the file can hold."""
    claimed = data.dtype.itemsize
    for length in data.shape:
        claimed *= int(length)
    if claimed > max(_SMALL, _RATIO * size):
        raise Refused(f"{shown} of {size} bytes claims {claimed} bytes of '{name}'")


def _keys(file: h5py.File, shown: str) -> list[str] | None:
    data = _dataset(file, "extra/keys", shown)
    if data is None:
        return None
    kind = h5py.check_string_dtype(data.dtype)
    if (
        kind is None
        or len(data.shape) != 1
        or not 0 < data.shape[0] <= _MOST_KEYS
        or (kind.length or 0) > _LONGEST_KEY
    ):
        raise Refused(f"{shown}: 'extra/keys' holds {_said(data)}; expected the name of each class")
    try:
        keys = [bytes(key).decode() for key in data[()]]
    except UnicodeDecodeError:
        raise Refused(f"{shown}: 'extra/keys' holds names that are no UTF-8") from None
    for key in keys:
        if not key or len(key) > _LONGEST_KEY or not key.isprintable():
            raise Refused(f"{shown}: 'extra/keys' holds the name {key[:40]!r}")
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"{shown}: 'extra/keys' names the class '{twice[:40]}' twice")
    return keys


def _chunk(layout: Layout, n: int) -> int:
    """Recordings of a part: few where they are long."""
    each = layout.size // n
    for data in (layout.times, layout.units):
        if len(data.shape) == 2:
            each = max(each, data.shape[1] * 8)
    return max(1, min(PART_RECORDINGS, PART_BYTES // max(each, 1)))


def _part(layout: Layout, shown: str, which: slice) -> list[np.ndarray]:
    labels = np.asarray(layout.labels[which])
    times, units = (list(data[which]) for data in (layout.times, layout.units))
    lengths = np.array([len(t) for t in times], np.int64)
    if not np.array_equal(lengths, [len(u) for u in units]):
        raise Refused(f"{shown}: a recording has not as many units as times")
    return [labels, lengths, np.concatenate(times), np.concatenate(units)]


if __name__ == "__main__":
    main(sys.argv[1:])
