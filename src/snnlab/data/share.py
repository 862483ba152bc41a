"""Each process's share of the batches (``--distributed``): an equal part of the samples of each.

The k-th of n parts holds samples ``k B / n .. (k + 1) B / n - 1`` of every batch, whatever the
number of processes: order and trials are those of one process. A loader that has a method
``part(k, n)`` reads nothing else; of any other the batch is cut (trials are drawn whole, which is
small beside running them).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnlab.data.batch import Batch


class Share:
    """A loader of whole batches as one of a part of their samples.

    Args:
        whole: the loader; the position in the data is its own.
        k, n: which part, of how many.
    """

    def __init__(self, whole: Any, k: int, n: int) -> None:
        self.whole, self._k, self._n = whole, k, n

    def __len__(self) -> int:
        return len(self.whole)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.whole, name)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.whole:
            yield _part(batch, self._k, self._n)


def _part(batch: Batch, k: int, n: int) -> Batch:
    def rows(array: Any) -> Any:
        size = len(array) // n
        return array[k * size : (k + 1) * size]

    conditions, indices = batch.conditions, batch.indices
    return Batch(
        batch.stream.parts(n)[k],
        batch.targets.parts(n)[k],
        None if indices is None else rows(indices),
        None if conditions is None else {name: rows(a) for name, a in conditions.items()},
    )


def share(loader: Any, k: int, n: int) -> Any:
    """The k-th of ``n`` parts of a loader's batches."""
    return loader.part(k, n) if hasattr(loader, "part") else Share(loader, k, n)


def whole(loader: Any) -> Any:
    """The loader of whole batches behind one of parts."""
    return getattr(loader, "whole", loader)
