"""The deterministic part of cutting: address map, time bins, packing into a step-sorted list.

numpy only, vectorised over the events of a batch.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from snnlab.data.store import EventStore, Sensor
from snnlab.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Transform:
    """How the events of a sensor become inputs and steps.

    Bins divide ``[0, cut_us)`` evenly: the step of time t is ``floor(t * n_steps / cut_us)``,
    for all recordings of a dataset alike, so a step has one length in ms. With ``own_span`` they
    divide each recording's own span instead, as tonic's ``ToFrame(n_time_bins)`` does: a bin is
    ``(last - first) // n_steps`` us (1 at least) from the first event on, and what is left behind
    the last bin, the last event at least, is dropped. With ``from_edges`` the window has
    ``n_steps`` edges, its ends among them, and a time's step is the number of edges up to it, as
    ``numpy.digitize`` counts: of ``n_steps - 1`` even bins, behind an empty step.

    Attributes:
        sensor: of the recordings.
        n_steps: bins T.
        first_saccade: cut after the first saccade.
        merge_polarity: both polarities of a pixel share an input.
        downsample: blocks of this many pixels a side (channels on a line) share an input.
        own_span: bins divide the span of each recording.
        from_edges: bins lie between edges.
    """

    sensor: Sensor
    n_steps: int
    first_saccade: bool = False
    merge_polarity: bool = False
    downsample: int = 1
    own_span: bool = False
    from_edges: bool = False

    def __post_init__(self) -> None:
        name = self.sensor.name
        if self.first_saccade and not self.sensor.saccade_us:
            raise UsageError(f"--first_saccade: {name} has no saccades")
        if self.merge_polarity and self.sensor.polarities == 1:
            raise UsageError(f"--merge_polarity: {name} has one polarity")
        largest = max(self.sensor.height, self.sensor.width)
        if self.downsample > largest:
            raise UsageError(
                f"--downsample {self.downsample}: {name} has {self.sensor.width} x "
                f"{self.sensor.height} pixels"
            )
        if self.from_edges and self.n_steps < 2:
            raise UsageError(f"--data_length {self.n_steps} with --bins edges: at least 2")
        sense = int(self.cut_us / self.sensor.resolution_us)
        if self.n_steps > sense:
            raise UsageError(
                f"--data_length {self.n_steps}: more bins than sense; {name} has time steps of "
                f"{self.sensor.resolution_us:g} us in {self.cut_us / 1000:g} ms, "
                f"so at most {sense}"
            )

    def __str__(self) -> str:
        span = "each recording" if self.own_span else f"{self.cut_us / 1000:g} ms"
        f, parts = self.downsample, [f"{self.n_steps} bins of {span}"]
        parts += ["between edges"] * self.from_edges
        parts += ["first saccade"] * self.first_saccade
        parts += ["polarities merged"] * self.merge_polarity
        parts += [f"downsampled by {f}"] * (f > 1)
        return ", ".join(parts)

    @property
    def cut_us(self) -> int:
        """Events from here on are dropped; of own spans that is beyond the window."""
        if self.first_saccade:
            return self.sensor.saccade_us
        return self.sensor.window_us * (2 if self.own_span else 1)

    def bins_us(self, store: EventStore, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First time and length of a bin of each recording, ``(n,) int64`` each, in us.

        Args:
            store: the recordings.
            ends: ``(n,)`` where the events that count end, see ``EventStore.ends_before``.
        """
        first, last = np.zeros((2, len(ends)), np.int64)
        some = np.flatnonzero(ends > store.starts)
        first[some] = store.decode(store.events[store.starts[some]])[0]
        last[some] = store.decode(store.events[ends[some] - 1])[0]
        return first, np.maximum((last - first) // self.n_steps, 1)

    def spans_ms(self, store: EventStore, which: np.ndarray) -> np.ndarray | None:
        """Time that the bins of recordings divide, ``(len(which),)``; ``None`` where it is one."""
        if not self.own_span:
            return None
        each = self.bins_us(store, store.ends_before(self.cut_us))[1][which]
        return each * self.n_steps / 1000

    @property
    def bin_ms(self) -> float:
        """Recorded time of a step."""
        return self.cut_us / (self.n_steps - self.from_edges) / 1000

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and polarities of the input."""
        f, s = self.downsample, self.sensor
        return -(-s.height // f), -(-s.width // f), 1 if self.merge_polarity else s.polarities

    @property
    def n_in(self) -> int:
        height, width, polarities = self.shape
        return height * width * polarities

    def address_map(self) -> np.ndarray:
        """Input of every address: ``(sensor.n_addresses,) int32``."""
        s, f = self.sensor, self.downsample
        p, y, x = np.indices((s.polarities, s.height, s.width))
        height, width, _ = self.shape
        p = np.zeros_like(p) if self.merge_polarity else p
        return (((p * height + y // f) * width) + x // f).ravel().astype(np.int32)

    def steps(self, time_us: np.ndarray) -> np.ndarray:
        """Step of every time in ``[0, cut_us)``, unsigned integers."""
        small = self.cut_us * self.n_steps < 1 << 32
        time: np.ndarray = time_us.astype(np.uint32 if small else np.uint64, copy=False)
        # The factors take the array's type: plain integers are weak in numpy's promotion.
        first = int(self.from_edges)
        return first + time * (self.n_steps - first) // self.cut_us


def sort_by_step(step: np.ndarray, cell: np.ndarray, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Order events by step; events of a step keep their order.

    Args:
        step: ``(n_events,)`` integers below ``n_steps``.
        cell: ``(n_events,) int32``.
        n_steps: T.

    Returns:
        The cells in that order and the offsets of the steps ``(n_steps + 1,) int32``.
    """
    # A sparse matrix of one row turned from rows to columns is a counting sort in C: its
    # columns are the steps, its data the cells. Several times faster than numpy's sorts.
    row = np.array([0, len(cell)], np.int32)
    columns = sparse.csr_array((cell, step.astype(np.int32), row), (1, n_steps)).tocsc()
    return columns.data, columns.indptr.astype(np.int32, copy=False)
