"""What each sample of a split was taken for."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnlab import processes
from snnlab.data.batch import Batch


class Predictions:
    """Label and prediction of each sample of a split, padding left out.

    Attributes:
        rows: ``(index, label, prediction)``: index of the recording in its split, or number of the
            trial; where samples have several labels a row for each, in their order. Of several
            processes (``--distributed``) those of its own samples, until :meth:`gather`. Empty
            where the objective decides for no class.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []

    def add(self, number: int, batch: Batch, numbers: dict[str, Any]) -> None:
        """The samples of batch ``number``, with what :meth:`Programs.evaluate` found of them.

        Predictions are those of the whole batch, of which ``batch`` may be a process's part.
        """
        if "predictions" not in numbers:
            return
        counts = np.asarray(batch.targets.mask) > 0
        values = batch.targets.values
        labels, size = np.asarray(getattr(values, "labels", values)), len(counts)
        first = processes.index() * size
        indices = batch.indices
        if indices is None:
            indices = number * processes.count() * size + first + np.arange(size)
        taken = np.asarray(numbers["predictions"])[first : first + size]
        if labels.ndim > 1:  # several labels of a sample, some of which it may not have
            counts = counts[:, None] & (labels >= 0)
            indices = np.broadcast_to(np.asarray(indices)[:, None], labels.shape)
        columns = [np.asarray(a)[counts].tolist() for a in (indices, labels, taken)]
        self.rows += zip(*columns, strict=True)

    def gather(self) -> Predictions:
        """Those of all processes, which all must ask; in the order of the split."""
        made = Predictions()
        made.rows = sorted(
            (tuple(row) for part in processes.gathered(self.rows) for row in part),
            key=lambda row: row[0],
        )
        return made

    def counts(self, n_classes: int) -> np.ndarray:
        """The confusion matrix ``(n_classes, n_classes) int64``: true class by prediction."""
        found = np.zeros((n_classes, n_classes), np.int64)
        for _, label, prediction in self.rows:
            found[label, prediction] += 1
        return found
