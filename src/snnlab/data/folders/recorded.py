"""Events of one recording, as a reader returns them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from snnlab.errors import UsageError

#: Pixels of a side; AEDAT 3.1 has 15 bits for each coordinate.
MOST_PIXELS = 1 << 15
#: A recording's end: four weeks. Later times are a clock's, or of another unit.
LATEST_US = 28 * 24 * 3600 * 10**6


class Recorded(NamedTuple):
    """One recording.

    Attributes:
        time_us: ``(n,) int64``, from the start of the recording, in the order of the file.
        x, y, p: ``(n,) int64``; of channels on a line y is 0, and p where there is no polarity.
        size: width and height that the file states; (0, 0) where it states none.
        polarities: 2 if the file has them, 1 if not.
        unit: what its times are in, and how that is known.
    """

    time_us: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    size: tuple[int, int] = (0, 0)
    polarities: int = 2
    unit: str = "us (the format's)"


def checked(name: str, found: Recorded) -> Recorded:
    """``found``, if its times and places are such.

    Args:
        name: of the file, for messages.
        found: what a reader made of it.

    Raises:
        UsageError: negative or implausible times or places.
    """
    if not len(found.time_us):
        return found
    first, last = int(found.time_us.min()), int(found.time_us.max())
    if first < 0:
        raise UsageError(f"{name}: an event at {first / 1e6:g} s; times count from the start, >= 0")
    if last > LATEST_US:
        raise UsageError(
            f"{name}: an event at {last / 1e6:,.0f} s; times count from the start of a recording "
            f"(--time_unit says what they are in; taken: {found.unit})"
        )
    for what, values in (("x", found.x), ("y", found.y)):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= MOST_PIXELS:
            raise UsageError(
                f"{name}: event at {what}={low if low < 0 else high}; expected 0 to "
                f"{MOST_PIXELS - 1}"
            )
    return found


def slices(
    times_us: np.ndarray, address: np.ndarray, slice_us: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A recording in slices, as tonic's ``SliceByTime`` without incomplete ones.

    The first slice begins with the first event. What is left behind the last whole slice is left
    out; a recording that is shorter than one is a slice as it is.

    Args:
        times_us, address: ``(n,)`` of the events.
        slice_us: length; 0: the recording as it is.

    Yields:
        Times from the start of the slice, and addresses.
    """
    if not slice_us or not len(times_us):
        yield times_us, address
        return
    since = times_us - times_us.min()
    number = since // slice_us
    for k in range(max(int(since.max()) // slice_us, 1)):
        mine = number == k
        yield since[mine] - k * slice_us, address[mine]
