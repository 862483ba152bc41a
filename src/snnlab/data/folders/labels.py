"""DVS Gesture's lists (Amir et al. 2017): which gesture is made when, and what is for the test.

``<name>_labels.csv`` beside ``<name>.aedat``: a line ``class,startTime_usec,endTime_usec``, then a
line for each gesture, in the camera's times. ``gesture_mapping.csv``: ``action,label``, names of
the classes. ``trials_to_train.txt``, ``trials_to_test.txt``: a file's name a line.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from snnlab.data.sources import read_bytes
from snnlab.errors import UsageError, shown

SUFFIX = "_labels.csv"
MAPPING = "gesture_mapping.csv"
TRIALS = {"Train": "trials_to_train.txt", "Test": "trials_to_test.txt"}
_MOST_BYTES = 4 << 20
_COLUMNS = ("class", "startTime_usec", "endTime_usec")


class Stretch(NamedTuple):
    """A labelled part of a file: the number of its class, and from when to when."""

    label: int
    start_us: int
    end_us: int


def read_stretches(path: Path) -> list[Stretch]:
    """The lines of a ``_labels.csv``.

    Raises:
        UsageError: something else than three whole numbers, or an end before its start.
    """
    found = []
    for number, row in _rows(path):
        if number == 1 and not row[0].strip().lstrip("-").isdigit():
            continue
        try:
            stretch = Stretch(*(int(cell) for cell in row))
        except (TypeError, ValueError):
            raise UsageError(
                f"{path}, line {number}: '{shown(','.join(row), 60)}'; expected "
                f"{','.join(_COLUMNS)}"
            ) from None
        if not 0 <= stretch.start_us < stretch.end_us < 1 << 62 or not 0 <= stretch.label < 1 << 20:
            raise UsageError(
                f"{path}, line {number}: class {stretch.label} from {stretch.start_us} to "
                f"{stretch.end_us} us; expected a class >= 0 and an end behind its start"
            )
        found.append(stretch)
    if not found:
        raise UsageError(f"{path} names no gesture")
    return found


def read_mapping(path: Path) -> dict[int, str]:
    """Number -> name of each class.

    Raises:
        UsageError: a line that is no ``name,number``.
    """
    found: dict[int, str] = {}
    for number, row in _rows(path):
        if len(row) == 2 and row[1].strip().isdigit() and row[0].strip().isprintable():
            found[int(row[1])] = row[0].strip()[:100]
        elif number > 1:
            raise UsageError(f"{path}, line {number}: '{shown(','.join(row), 60)}'; expected a "
                             "name and a number")  # fmt: skip
    return found


def read_trials(path: Path) -> list[str]:
    """Names of files, one a line.

    Raises:
        UsageError: the file cannot be read.
    """
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        rows = list(csv.reader(io.StringIO(_text(path))))
    except csv.Error as error:
        raise UsageError(f"{path} is no readable table: {error}") from None
    return [(number, row) for number, row in enumerate(rows, 1) if any(c.strip() for c in row)]


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text") from None
