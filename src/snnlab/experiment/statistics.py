"""Over seeds: mean, spread, interval; whether two experiments can be told apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


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


def limited(spread: Spread | None, share: bool) -> tuple[float | None, float | None]:
    """The interval, where it can be: no score is below 0, no ``share`` above 1."""
    if spread is None or spread.low is None or spread.high is None:
        return None, None
    return max(spread.low, 0.0), min(spread.high, 1.0) if share else spread.high


def paired_p(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Two-sided p of Student's paired t test, over the seeds that both have.

    ``t = mean(d) sqrt(n) / sd(d)`` of the differences ``d``, n - 1 degrees of freedom.

    Args:
        a, b: seed -> value.

    Returns:
        ``None`` for fewer than two such seeds; without any spread 1 if the means are equal, else 0.
    """
    differences = [a[seed] - b[seed] for seed in a if seed in b]
    n = len(differences)
    if n < 2:
        return None
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)
    if sd == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy.special import stdtr

    return 2.0 * float(stdtr(n - 1, -abs(mean) * math.sqrt(n) / sd))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number: step down, as large as the one before at least.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    found, last = dict[str, float](), 0.0
    for k, (name, p) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        last = max(last, min(1.0, p * (len(values) - k)))
        found[name] = last
    return found
