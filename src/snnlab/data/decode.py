"""Decoding of N-MNIST's ``.bin`` and SHD's ``.h5``, vectorised over many recordings."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snnlab.data import archives
from snnlab.data.store import Sensor
from snnlab.errors import UsageError, one_line

_OVERFLOW_ROW, _OVERFLOW_US = 240, 1 << 13


def decode_bin(
    blobs: Sequence[bytes], names: Sequence[str], sensor: Sensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode recordings in N-MNIST's format.

    Five bytes an event: x, y, then polarity (1 bit) and time in us (23 bits, big endian). An
    event with y = 240 is none, it adds 8192 us to itself and all later times (the rule of
    Orchard's reader and of ``tonic.io.read_mnist_file``).

    Args:
        blobs: content of each file.
        names: of each file, for messages.
        sensor: that the coordinates must fit.

    Returns:
        Times in us and addresses ``(n_events,)``, and events of each recording ``(n,)``.

    Raises:
        UsageError: a length that is no multiple of 5, or coordinates outside the sensor.
    """
    sizes = np.array([len(b) for b in blobs], np.int64)
    broken = np.flatnonzero(sizes % 5)
    if len(broken):
        k = broken[0]
        raise UsageError(
            f"{names[k]} is truncated: {sizes[k]} bytes are no multiple of 5 bytes an event"
        )
    raw = np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, 5)
    owner = np.repeat(np.arange(len(blobs)), sizes // 5)
    x, y = raw[:, 0].astype(np.int32), raw[:, 1].astype(np.int32)
    p = (raw[:, 2] >> 7).astype(np.int32)
    word = raw[:, 2:].astype(np.int64)
    t = ((word[:, 0] & 127) << 16) | (word[:, 1] << 8) | word[:, 2]
    overflow = y == _OVERFLOW_ROW
    if overflow.any():
        passed = np.concatenate([[0], np.cumsum(overflow)])
        before = passed[np.concatenate([[0], np.cumsum(sizes // 5)])[:-1]]
        t = t + _OVERFLOW_US * (passed[1:] - before[owner])
        x, y, p, t, owner = (column[~overflow] for column in (x, y, p, t, owner))
    outside = np.flatnonzero((x >= sensor.width) | (y >= sensor.height))
    if len(outside):
        k = outside[0]
        raise UsageError(
            f"{names[owner[k]]}: event at x={x[k]}, y={y[k]} lies outside the "
            f"{sensor.width} x {sensor.height} sensor"
        )
    address = (p * sensor.height + y) * sensor.width + x
    return t, address, np.bincount(owner, minlength=len(blobs))


# ------------------------------------------------------------------------- SHD


@contextlib.contextmanager
def _opened_h5(path: Path) -> Iterator[h5py.File]:
    with contextlib.ExitStack() as stack:
        source: Any = path
        if path.suffix == ".zip":
            archive = stack.enter_context(archives.opened(path))
            inside = [i for i in archive.infolist() if i.filename.endswith(".h5")]
            if len(inside) != 1:
                raise UsageError(f"{path} holds {len(inside)} .h5 files instead of one")
            source = io.BytesIO(archive.read(inside[0]))
        try:
            file = stack.enter_context(h5py.File(source, "r"))
        except OSError as error:
            raise UsageError(f"{path} is no readable HDF5 file: {one_line(str(error))}") from None
        for group in ("spikes/times", "spikes/units", "labels"):
            if group not in file:
                raise UsageError(
                    f"{path} has no '{group}'; expected spikes/times, spikes/units and labels"
                )
        yield file


def shd_classes(path: Path, default: int) -> int:
    """Number of classes: the length of ``extra/keys`` if it is there, else ``default``."""
    with _opened_h5(path) as file:
        return len(file["extra/keys"]) if "extra/keys" in file else default


def read_shd(
    path: Path, sensor: Sensor, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Read a file of SHD, ``chunk`` recordings at a time.

    Times (float16 s) become whole us, cut off as in tonic.

    Yields:
        Times in us and units ``(n_events,)``, events ``(n,)`` and labels ``(n,)``.

    Raises:
        UsageError: missing groups, unequal lengths, units, times or labels out of range.
    """
    with _opened_h5(path) as file:
        labels = np.asarray(file["labels"][()]).astype(np.int64).ravel()
        times, units = file["spikes/times"], file["spikes/units"]
        n = len(labels)
        if not (len(times) == len(units) == n) or n == 0:
            raise UsageError(
                f"{path}: {len(times)} times, {len(units)} units and {n} labels; "
                "expected the same number of each, not 0"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= sensor.n_classes))
        if len(wrong):
            raise UsageError(
                f"{path}: label {labels[wrong[0]]} of recording {wrong[0]} is not one of "
                f"0..{sensor.n_classes - 1}"
            )
        for first in range(0, n, chunk):
            last = min(first + chunk, n)
            yield *_shd_part(path, file, first, last, sensor), labels[first:last]


def _shd_part(
    path: Path, file: h5py.File, first: int, last: int, sensor: Sensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        times, units = file["spikes/times"][first:last], file["spikes/units"][first:last]
    except OSError as error:
        raise UsageError(f"{path} is damaged: {one_line(str(error))}") from None
    lengths = np.array([len(t) for t in times], np.int64)
    if not np.array_equal(lengths, [len(u) for u in units]):
        raise UsageError(f"{path}: a recording has not as many units as times")
    seconds = np.concatenate(list(times)).astype(np.float64)
    unit = np.concatenate(list(units)).astype(np.int64)
    owner = np.repeat(np.arange(first, last), lengths)
    wrong = np.flatnonzero((unit < 0) | (unit >= sensor.width))
    if len(wrong):
        k = wrong[0]
        raise UsageError(
            f"{path}: unit {unit[k]} of recording {owner[k]} is not one of 0..{sensor.width - 1}"
        )
    wrong = np.flatnonzero(~(np.isfinite(seconds) & (seconds >= 0)))
    if len(wrong):
        k = wrong[0]
        raise UsageError(f"{path}: time {seconds[k]} s of recording {owner[k]} is no time")
    return (seconds * 1e6).astype(np.int64), unit, lengths
