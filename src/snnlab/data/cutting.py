"""Cutting of batches out of a store, in the training process or a worker.

This module and all it imports use numpy and scipy only: a worker never loads JAX.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from snnlab.data.augment import Augment, Events
from snnlab.data.batch import Targets, padded
from snnlab.data.store import EventStore
from snnlab.data.transform import Transform, sort_by_step


class CutBatch(NamedTuple):
    """A batch as numpy arrays, padded to static shapes; see :class:`~snnlab.data.batch.Batch`."""

    cell: np.ndarray
    offsets: np.ndarray
    targets: Targets
    indices: np.ndarray


def order_of(n: int, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of an epoch, a pure function of the arguments."""
    return np.random.default_rng([seed & 0xFFFFFFFF, epoch, 0x0D]).permutation(n)


def capacity(lengths: np.ndarray, batch_size: int, extra: int) -> int:
    """The most events a batch can have: the largest recordings plus ``extra`` for each."""
    n = min(batch_size, len(lengths))
    largest = np.partition(lengths, len(lengths) - n)[len(lengths) - n :] if n else lengths
    return int(largest.sum()) + n * extra


@dataclasses.dataclass
class BatchCutter:
    """A map-style dataset of whole batches: ``cutter[epoch, k]``.

    Attributes:
        store: the recordings of the split.
        transform: to inputs and steps.
        batch_size: B, of the batches of all processes together.
        capacity: length of ``cell``.
        augment: of the training split, or None.
        shuffle: order by (seed, epoch), or as stored.
        seed: of order and augmentation.
        part: ``(k, n)``: the k-th of n equal parts of each batch is cut, and nothing else is read.
    """

    store: EventStore
    transform: Transform
    batch_size: int
    capacity: int
    augment: Augment | None
    shuffle: bool
    seed: int
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        self._ends = self.store.ends_before(self.transform.cut_us)
        own = self.transform.own_span
        self._bins = self.transform.bins_us(self.store, self._ends) if own else None
        self._map = self.transform.address_map()
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches of an epoch, the short last one included."""
        return -(-len(self.store) // self.batch_size)

    @property
    def size(self) -> int:
        """Samples of what is cut, the static size: B, or those of the part."""
        return self.batch_size // self.part[1]

    def indices(self, epoch: int, k: int) -> np.ndarray:
        """Positions in the split of (the part of) batch ``k`` of an epoch, at most ``size``."""
        n = len(self.store)
        first = k * self.batch_size + self.part[0] * self.size
        if not self.shuffle:
            return np.arange(min(first, n), min(first + self.size, n))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, order_of(n, self.seed, epoch)
        return self._order[1][first : first + self.size]

    def __getitem__(self, key: tuple[int, int]) -> CutBatch:
        epoch, k = key
        return self.cut(self.indices(epoch, k), epoch)

    def cut(self, indices: np.ndarray, epoch: int = 0) -> CutBatch:
        """Events of the recordings ``indices`` as one padded batch.

        Returns:
            ``cell (capacity,) int32``, ``offsets (T + 1,) int32``, and as in a batch ``targets``
            and ``indices``.
        """
        events = self._gather(indices)
        sensor, n_in = self.transform.sensor, self.transform.n_in
        bin_us: np.ndarray | None = None
        cut_us: int | np.ndarray = self.transform.cut_us
        if self._bins is not None:  # times from each recording's first event on
            first, bin_us = (column[indices] for column in self._bins)
            cut_us = bin_us * self.transform.n_steps
            time_us = events.time_us.astype(np.int64) - first[events.owner]
            kept = time_us < cut_us[events.owner]
            events = dataclasses.replace(events, time_us=time_us).keep(kept)
        if self.augment is not None and self.augment.active:
            recordings = self.store.indices[indices]
            events = self.augment.apply(events, recordings, self.seed, epoch, sensor, cut_us)
        cells = self._map[events.address]
        cells += events.owner * np.int32(n_in)
        if bin_us is None:
            steps = self.transform.steps(events.time_us)
        else:
            steps = events.time_us // bin_us[events.owner]
        cell, offsets = sort_by_step(steps, cells, self.transform.n_steps)
        slots = np.zeros(self.capacity, np.int32)
        slots[: len(cell)] = cell
        return CutBatch(slots, offsets, *padded(indices, self.store.labels, self.size))

    def _gather(self, indices: np.ndarray) -> Events:
        starts = self.store.starts[indices]
        lengths = self._ends[indices] - starts
        where = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        where += np.arange(len(where))
        owner = np.repeat(np.arange(len(indices), dtype=np.int32), lengths)
        time_us, address = self.store.decode(np.asarray(self.store.events[where]))
        return Events(owner, time_us, address)
