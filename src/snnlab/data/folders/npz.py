"""One recording in a ``.npz`` of numpy: an array for each of time, place and polarity.

Times are called t, x (or unit), y and p below; each has the names of ``NAMES``. y and p may be
missing: channels on a line, no polarity. Or one structured array has them as fields, as tonic's
events. Whole numbers are times in us, fractions are in s, unless ``--time_unit`` says otherwise.
Nothing is unpickled.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from snnlab.data import archives
from snnlab.data.folders.recorded import LATEST_US, Recorded, checked
from snnlab.data.sources import read_bytes
from snnlab.data.units import FRACTIONS, UNITS_US, WHOLE
from snnlab.errors import UsageError, one_line

#: What an array may be called.
NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "unit", "units", "channel", "channels", "neuron", "neurons"),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}
MOST_BYTES = 2 << 30


def read_npz(path: Path, unit: str = "auto") -> Recorded:
    """The events of a file.

    Args:
        path: ``.npz``.
        unit: of times: one of ``UNITS_US``, or ``"auto"``.

    Raises:
        UsageError: no zip file, damaged, pickled, too large, or arrays that are no events.
    """
    columns = _columns(path, _arrays(path))
    shapes = {name: column.shape for name, column in columns.items()}
    if any(shape != (len(columns["t"]),) for shape in shapes.values()):
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UsageError(f"{path}: arrays of shapes {told}; expected one value of each an event")
    n = len(columns["t"])
    time_us, said = to_us(str(path), columns["t"], unit)
    x = _whole(path, "x", columns["x"])
    y = _whole(path, "y", columns["y"]) if "y" in columns else np.zeros(n, np.int64)
    p = _polarity(path, columns["p"]) if "p" in columns else np.zeros(n, np.int64)
    found = Recorded(time_us, x, y, p, polarities=2 if "p" in columns else 1, unit=said)
    return checked(str(path), found)


def read_npy(path: Path) -> Recorded:
    """A gesture as tonic keeps it: ``.npy`` of rows x, y, p and t in ms.

    Raises:
        UsageError: it is something else, damaged or pickled.
    """
    rows = _array(path, "", read_bytes(path, MOST_BYTES))
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iuf":
        raise UsageError(f"{path} holds {rows.shape} of {rows.dtype}; expected rows of x, y, p, t")
    x, y, p, t = (rows[:, k] for k in range(4))
    time_us, _ = to_us(str(path), t, "ms")
    found = Recorded(time_us, _whole(path, "x", x), _whole(path, "y", y), _polarity(path, p))
    return checked(str(path), found)


def to_us(name: str, times: np.ndarray, unit: str = "auto") -> tuple[np.ndarray, str]:
    """Times as whole us, cut off, and what they were taken for.

    Args:
        name: of the file, for messages.
        times: ``(n,)``.
        unit: as of :func:`read_npz`.

    Raises:
        UsageError: no numbers.
    """
    if times.dtype.kind not in "iuf":
        raise UsageError(f"{name}: times are {times.dtype}; expected numbers")
    whole = times.dtype.kind in "iu"
    if unit == "auto":
        unit = WHOLE if whole else FRACTIONS
        said = f"{unit} ({'whole numbers' if whole else 'fractions'})"
    else:
        said = f"{unit} (--time_unit)"
    if whole and unit == "us":
        wide = times.astype(np.int64)
        return np.where(times > LATEST_US, LATEST_US + 1, wide), said  # unsigned ones may wrap
    with np.errstate(invalid="ignore"):
        us = times.astype(np.float64) * UNITS_US[unit]
    if not np.isfinite(us).all():
        raise UsageError(f"{name}: a time is {us[~np.isfinite(us)][0]}, which is none")
    return np.clip(us, -1, LATEST_US + 1).astype(np.int64), said


def _arrays(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with archives.opened(path) as archive:
        for member in archive.members:
            name = member.filename.removesuffix(".npy")
            found[name] = _array(path, name, archive.read(member, MOST_BYTES))
    return found


def _array(path: Path, name: str, content: bytes) -> np.ndarray:
    """An array of numpy's format; ``name`` in the file, for messages."""
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, TypeError, OverflowError, EOFError, MemoryError) as error:
        why = one_line(str(error))[:120]
        if "allow_pickle" in why:
            why = "it holds pickled objects, which are not opened"
        what = f"array '{name[:40]}'" if name else "it"
        raise UsageError(f"{path}: {what} cannot be read: {why}") from None


def _columns(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for array in arrays.values():
        if array.dtype.names:
            arrays = {name: array[name] for name in array.dtype.names}
            break
    lower = {name.lower(): array for name, array in arrays.items()}
    columns = {
        column: lower[name]
        for column, names in NAMES.items()
        for name in (next((n for n in names if n in lower), ""),)
        if name
    }
    for needed in ("t", "x"):
        if needed not in columns:
            held = ", ".join(list(arrays)[:10]) or "nothing"
            raise UsageError(
                f"{path} has no array {' or '.join(NAMES[needed][:4])}; expected t, x and, where "
                f"there are, y and p of each event (found {one_line(held)[:80]})"
            )
    return columns


def _whole(path: Path, what: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise UsageError(f"{path}: {what} is {values.dtype}; expected whole numbers")
    with np.errstate(invalid="ignore"):
        whole = np.clip(np.nan_to_num(values, nan=-1.0), -1, 1 << 40).astype(np.int64)
        wrong = np.flatnonzero(whole != values)
    if len(wrong):
        raise UsageError(f"{path}: {what} {values[wrong[0]]} of an event is no place")
    return whole


def _polarity(path: Path, values: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(~np.isin(values, (-1, 0, 1)))
    if len(wrong):
        raise UsageError(f"{path}: polarity {values[wrong[0]]}; expected 0 and 1, or -1 and 1")
    return (values > 0).astype(np.int64)
