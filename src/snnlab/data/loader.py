"""The loader of recordings: batches cut here or by processes that work ahead."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import multiprocessing
import multiprocessing.context
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from snnlab.data import worker
from snnlab.data.batch import Batch
from snnlab.data.cutting import BatchCutter, CutBatch
from snnlab.data.resumable import ResumableLoader
from snnlab.data.stream import BLOCK, EventStream
from snnlab.errors import UsageError

#: Batches that are asked for ahead, for each process.
AHEAD = 2


def _context() -> multiprocessing.context.BaseContext:
    """Never fork: JAX is multithreaded. A fork server imports numpy once for all processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snnlab.data.worker"])
    return context


@contextlib.contextmanager
def _empty_main() -> Iterator[None]:
    """Keep processes that start inside from importing the user's script.

    multiprocessing imports ``__main__`` again in each, and with a task script comes JAX. They need
    only :mod:`snnlab.data.worker`, so they are shown an empty ``__main__``.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Loader(ResumableLoader[Batch]):
    """Iterates over the batches of one split.

    A batch is a function of (seed, epoch, number) alone: with any number of processes the same bits
    in the same order, and a position that was saved with one number is good for every other.

    Args:
        cutter: cuts the batches.
        n_worker: processes that cut ahead, from the first iteration on as long as this loader
            lives; 0 cuts when asked.
        drop_last: leave out a short last batch.
        binary, events, most: of the streams, see :class:`~snnlab.data.stream.EventStream`.
    """

    #: Of a loader of parts: that of whole batches.
    whole: Loader

    def __init__(
        self,
        cutter: BatchCutter,
        n_worker: int = 0,
        drop_last: bool = False,
        binary: bool = True,
        events: bool = True,
        most: int = 0,
    ) -> None:
        super().__init__()
        self.cutter = cutter
        self._binary = binary
        self._events = events
        self._most = most
        n, size = len(cutter.store), cutter.batch_size
        self._length = n // size if drop_last else -(-n // size)
        self._n_worker = n_worker
        self._pool: ProcessPoolExecutor | None = None

    def part(self, k: int, n: int) -> Loader:
        """The loader of the k-th of ``n`` equal parts of each batch; it cuts nothing else."""
        cutter, size = self.cutter, self.cutter.batch_size // n
        room = cutter.capacity
        if self._most:
            room = min(room, size * self._most + BLOCK)
        mine = dataclasses.replace(cutter, part=(k, n), capacity=room)
        made = copy.copy(self)
        made.cutter, made.whole, made._pool = mine, self, None
        return made

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._length

    @property
    def n_samples(self) -> int:
        """Recordings of the split."""
        return len(self.cutter.store)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the split, ``(n_samples,) int32``."""
        return self.cutter.store.labels

    def batch(self, number: int) -> Batch:
        return self._wrap(self.cutter[self.epoch, number])

    def batches(self, first: int) -> Iterator[Batch]:
        if not self._n_worker:
            yield from super().batches(first)
            return
        ahead: deque[Future[CutBatch]] = deque()
        left = iter([(self.epoch, number) for number in range(first, len(self))])
        try:
            while True:
                while len(ahead) < AHEAD * self._n_worker and (key := next(left, None)) is not None:
                    ahead.append(self._ask(key))
                if not ahead:
                    return
                yield self._wrap(ahead.popleft().result())
        except BrokenProcessPool:
            self._pool = None
            raise UsageError(
                f"a process of --n_data_worker {self._n_worker} ended before its time, as one does "
                "that is out of memory; --n_data_worker 0 needs none"
            ) from None
        finally:
            for asked in ahead:
                asked.cancel()

    def _ask(self, key: tuple[int, int]) -> Future[CutBatch]:
        """Have a process cut the batch ``(epoch, number)``; the pool starts one if all are busy."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._n_worker, _context(), initializer=worker.begin, initargs=(self.cutter,)
            )
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        with _empty_main():
            return self._pool.submit(worker.cut, key)

    def _identity(self) -> dict[str, Any]:
        cutter = self.cutter
        return {
            "n_samples": self.n_samples, "batch_size": cutter.batch_size, "seed": cutter.seed,
            "recordings": cutter.store.content,
        }  # fmt: skip

    def _wrap(self, cut: CutBatch) -> Batch:
        cutter, transform = self.cutter, self.cutter.transform
        stream = EventStream(
            cut.cell, cut.offsets, batch_size=cutter.size, n_in=transform.n_in,
            binary=self._binary, block=BLOCK, events=self._events,
            most=self._most,
        )  # fmt: skip
        return Batch(stream, cut.targets, cut.indices)
