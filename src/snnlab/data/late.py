"""Events behind the time window: some are in every recording, many mean another unit of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snnlab.data.store import Sensor
from snnlab.errors import UsageError

#: Share of a split's events from which on their loss is refused.
MOST_LATE = 0.1
#: Smaller units that times may be in, and how many of them make the unit that is expected.
_SMALLER = {
    "s": {"ms": 1e3, "us": 1e6, "ns": 1e9},
    "us": {"units of 100 ns": 10.0, "ns": 1e3},
}


class Lateness:
    """Counts the events of a split that its recordings lose behind the window.

    Args:
        path, split: of the recordings, for the message.
        sensor: whose window it is.
        unit: that times of the source are in, ``"s"`` or ``"us"``.
    """

    def __init__(self, path: Path, split: str, sensor: Sensor, unit: str) -> None:
        self.path, self.split, self.sensor, self.unit = path, split, sensor, unit
        self._last_us: list[np.ndarray] = []
        self.n_events = self.n_late = self.n_lost = 0

    def add(self, times_us: np.ndarray, lengths: np.ndarray) -> None:
        """Take recordings in: ``(n_events,)`` times, ``(n,)`` events of each."""
        some = lengths[lengths > 0]
        if not len(some):
            return
        starts = np.cumsum(some) - some
        late = times_us >= self.sensor.window_us
        each = np.add.reduceat(late, starts, dtype=np.int64)
        self._last_us.append(np.maximum.reduceat(times_us, starts))
        self.n_events += len(times_us)
        self.n_late += int(each.sum())
        self.n_lost += int((each == some).sum())

    def check(self) -> None:
        """Refuse the split if too much of it is lost.

        Raises:
            UsageError: a tenth of its events, or all events of a recording.
        """
        few = self.n_late < MOST_LATE * self.n_events
        if not self.n_events or (few and not self.n_lost):
            return
        window = self.sensor.window_us
        last = float(np.median(np.concatenate(self._last_us)))
        looks = [
            f"times look like {name}, expected {self.unit}"
            for name, factor in _SMALLER[self.unit].items()
            if 0.2 * window <= last / factor <= 1.05 * window
        ]
        raise UsageError(
            f"{self.path}: {self.n_late:,} of {self.n_events:,} {self.split.lower()} events come "
            f"after the {window / 1000:g} ms of a recording, {self.n_lost:,} recordings would be "
            f"lost whole; recordings end at {last / 1000:,.0f} ms (median): "
            + (looks or [f"expected times in {self.unit} below {window / 1000:g} ms"])[0]
        )
