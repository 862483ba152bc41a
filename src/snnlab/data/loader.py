"""The loader: batches through torchdata's ``StatefulDataLoader``, resumable at any batch."""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import multiprocessing.context
import sys
import types
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnlab import interrupts
from snnlab.data.batch import Batch
from snnlab.data.cutting import BatchCutter, CutBatch
from snnlab.data.resumable import check_same
from snnlab.data.stream import BLOCK, EventStream


class _Order:
    """The sampler: keys ``(epoch, k)`` of the batches from ``start`` on."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch, self.start = length, 0, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, k) for k in range(self.start, self.length)])


def _as_it_is(batch: CutBatch) -> CutBatch:
    return batch


def _worker_context() -> multiprocessing.context.BaseContext:
    """Never fork: JAX is multithreaded. A fork server imports torch once for all workers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.utils.data", "snnlab.data.cutting"])
    return context


@contextlib.contextmanager
def _starting_workers() -> Iterator[None]:
    """Keep workers from importing the user's script, and torch from commenting on their number.

    multiprocessing imports ``__main__`` again in every worker, and with a task script comes
    JAX. A worker needs only :mod:`snnlab.data.cutting`, so it is shown an empty ``__main__``.
    """
    main = sys.modules["__main__"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _end_workers(of: weakref.ref[Loader]) -> None:
    """At exit: let torch end its workers in order, before ``multiprocessing`` does it by force."""
    loader = of()
    if loader is not None:
        loader._inner = None
        gc.collect()


class Loader:
    """Iterates over the batches of one split.

    ``set_epoch`` selects the order; ``state_dict`` after k batches and ``load_state_dict`` in a
    fresh loader, with any number of workers, continue with batch k, bit for bit.

    Args:
        cutter: cuts the batches.
        n_worker: processes that cut ahead; 0 cuts when asked.
        drop_last: leave out a short last batch.
        binary, events: of the streams, see :class:`~snnlab.data.stream.EventStream`.
    """

    def __init__(
        self,
        cutter: BatchCutter,
        n_worker: int = 0,
        drop_last: bool = False,
        binary: bool = True,
        events: bool = True,
    ) -> None:
        self.cutter = cutter
        self._binary = binary
        self._events = events
        n, size = len(cutter.store), cutter.batch_size
        self._length = n // size if drop_last else -(-n // size)
        self._n_worker = n_worker
        self._order = _Order(self._length)
        self._inner: Any = None
        self._position = 0
        self._pending = False
        self._inner_state: dict[str, Any] | None = None

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

    @property
    def epoch(self) -> int:
        return self._order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Select an epoch. The epoch of a restored position keeps that position."""
        if epoch != self._order.epoch:
            self._order.epoch = epoch
            self._position, self._pending, self._inner_state = 0, False, None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, JSON-able."""
        started = self._inner is not None and self._position > 0 and not self._pending
        return {
            "epoch": self._order.epoch,
            "position": self._position,
            "n_worker": self._n_worker,
            **self._identity(),
            "torchdata": self._inner.state_dict() if started else self._inner_state,
        }

    def _identity(self) -> dict[str, Any]:
        cutter = self.cutter
        return {
            "n_samples": self.n_samples, "batch_size": cutter.batch_size, "seed": cutter.seed,
            "recordings": cutter.store.content,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken; the next iteration gives the remaining batches.

        Raises:
            UsageError: the state is of other data.
        """
        check_same(self._identity(), state)
        self._order.epoch = int(state["epoch"])
        self._position = int(state["position"])
        self._pending = True
        same = state["n_worker"] == self._n_worker
        self._inner_state = state["torchdata"] if same else None

    def __iter__(self) -> Iterator[Batch]:
        if self._pending:
            self._pending = False
        else:
            self._position, self._inner_state = 0, None
        with _starting_workers():
            batches = self._start()
        for cut in batches:
            self._position += 1
            yield self._wrap(cut)
        self._position = 0

    def _start(self) -> Iterator[CutBatch]:
        if self._inner is None:
            self._inner = self._make()
        self._order.start = 0
        if self._inner_state is not None:
            self._inner.load_state_dict(self._inner_state)
            self._inner_state = None
        elif self._position:  # other number of workers: torchdata's own state does not fit
            self._order.start = self._position
        return iter(self._inner)

    def _make(self) -> Any:
        from torchdata.stateful_dataloader import StatefulDataLoader

        many = self._n_worker > 0
        if many:
            atexit.register(_end_workers, weakref.ref(self))
        return StatefulDataLoader(
            self.cutter,
            batch_size=None,
            sampler=self._order,
            num_workers=self._n_worker,
            collate_fn=_as_it_is,
            worker_init_fn=interrupts.serve if many else None,
            multiprocessing_context=_worker_context() if many else None,
            persistent_workers=many,
        )

    def _wrap(self, cut: CutBatch) -> Batch:
        cutter, transform = self.cutter, self.cutter.transform
        stream = EventStream(
            cut.cell, cut.offsets, batch_size=cutter.batch_size, n_in=transform.n_in,
            binary=self._binary, block=BLOCK, events=self._events,
        )  # fmt: skip
        return Batch(stream, cut.targets, cut.indices)
