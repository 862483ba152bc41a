"""Counts of true and predicted classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Confusion(NamedTuple):
    """Samples by true class (row) and prediction (column), of all seeds together.

    ``names (C,)``, ``counts (C, C)``.
    """

    names: tuple[str, ...]
    counts: np.ndarray


def confusion_of(rows: Sequence[Mapping[str, Any]], classes: Sequence[str] = ()) -> Confusion:
    """Of the rows of ``predictions.csv``.

    Args:
        rows: with ``label`` and ``prediction``.
        classes: in the order that is wanted, those without samples included; others follow.
    """
    seen = {str(row[key]) for row in rows for key in ("label", "prediction")}
    more = sorted(seen - set(classes), key=lambda n: (not n.isdecimal(), len(n) if n.isdecimal()
                                                      else 0, n))  # fmt: skip
    names = (*classes, *more)
    place = {name: k for k, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for row in rows:
        counts[place[str(row["label"])], place[str(row["prediction"])]] += 1
    return Confusion(names, counts)
