"""What a classification's test set was taken for: ``predictions.csv``, confusion matrix, shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snnlab import processes
from snnlab.analysis import figures
from snnlab.runs import RunFolder
from snnlab.scores import wilson
from snnlab.training.predictions import Predictions


class Decided:
    """The predictions of a whole test set.

    Args:
        predictions: of all processes.
        n_classes: readout units.
        class_names: of them; their numbers where there are none, or the same one twice.
    """

    def __init__(
        self, predictions: Predictions, n_classes: int, class_names: tuple[str, ...] = ()
    ) -> None:
        self._rows = predictions.rows
        named = len(set(class_names)) == n_classes
        self._names = class_names if named else tuple(map(str, range(n_classes)))
        self._counts = predictions.counts(n_classes)

    def facts(self) -> dict[str, Any]:
        """For ``results.json``; empty where nothing was classified.

        ``test_samples``; ``test_accuracy_wilson95``, Wilson's 95 % interval over these samples, of
        this one network (none where samples have several labels: those of one go together);
        ``test_accuracy_by_class``, ``None`` for a class without samples.
        """
        if not self._rows:
            return {}
        right, n = np.diag(self._counts).tolist(), self._counts.sum(1).tolist()
        samples = len({row[0] for row in self._rows})
        interval = {"test_accuracy_wilson95": list(wilson(sum(right), sum(n)))}
        return {
            "test_samples": samples,
            **(interval if samples == sum(n) else {}),
            "test_accuracy_by_class": {
                name: r / k if k else None for name, r, k in zip(self._names, right, n, strict=True)
            },
        }

    def write(self, folder: RunFolder) -> list[Path]:
        """``predictions.csv``, and ``figures/confusion.png``, which is returned."""
        if not self._rows or not processes.leads():
            return []
        names = self._names
        folder.write_predictions(("test", i, names[a], names[b]) for i, a, b in self._rows)
        drawn = figures.confusion_figure(self._counts, names, split="test")
        return figures.save(drawn, folder.figures / "confusion.png")
