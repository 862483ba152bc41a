"""Mean, spread and interval over seeds; counts of true and predicted classes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Spread(NamedTuple):
    """Of some seeds: their number, mean, standard deviation (n - 1) and interval of the mean.

    ``sd``, ``low`` and ``high`` are ``None`` for fewer than two.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def spread_of(values: Sequence[float]) -> Spread | None:
    """Student's 95 % interval, ``mean +- t(0.975, n - 1) sd / sqrt(n)``; ``None`` for no value."""
    if not values:
        return None
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Spread(1, mean, None, None, None)
    from scipy.special import stdtrit

    sd = statistics.stdev(values)
    half = float(stdtrit(n - 1, 0.975)) * sd / n**0.5
    return Spread(n, mean, sd, mean - half, mean + half)


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
