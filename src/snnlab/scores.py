"""Scores: what a run is judged by, and which way is better."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Score:
    """A number by which epochs, runs and networks are compared.

    Args:
        name: in files (``accuracy`` of a row of ``metrics.jsonl``, ``test_accuracy`` of
            ``results.json``).
        rises: whether higher is better.
        percent: whether it is shown as a percentage.
        label: in words; the name by default.
        short: in a line of progress; the name by default.
        plural: of the values of several seeds, in files.
    """

    name: str
    rises: bool = True
    percent: bool = False
    label: str = ""
    short: str = ""
    plural: str = ""

    @property
    def words(self) -> str:
        """In words."""
        return self.label or self.name

    @property
    def scale(self) -> float:
        """Factor of what figures and tables show."""
        return 100.0 if self.percent else 1.0

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.words}{' (%)' * self.percent}"

    @property
    def each(self) -> str:
        """Name of the values of several seeds."""
        return self.plural or f"{self.name}_values"

    def key(self, value: float) -> float:
        """A number that is higher for a better score."""
        return value if self.rises else -value

    def rank(self, value: float, loss: float) -> tuple[float, float]:
        """What is higher for a better epoch: of those with equal scores, that with less loss."""
        return self.key(value), -loss

    def falling(self, value: float) -> float:
        """A number that falls as the score gets better, and is never below 0."""
        return 1.0 - value if self.rises else value

    def reached(self, value: float | None, goal: float) -> bool:
        """Whether ``value`` is as good as ``goal``; a goal of 0 is none, and never reached."""
        return value is not None and goal > 0 and self.key(value) >= self.key(goal)

    def show(self, value: float, digits: int = 2) -> str:
        """``98.61%``, or ``0.0213``."""
        return f"{value:.{digits}%}" if self.percent else f"{value:.{digits + 2}f}"


ACCURACY = Score("accuracy", percent=True, short="acc", plural="accuracies")
NMSE = Score("nmse", rises=False, label="normalised MSE")
#: Of sequences of labels, those that are right from the first to the last.
SEQUENCES = Score(
    "sequence_accuracy", percent=True, label="whole sequences", plural="sequence_accuracies"
)
#: By name: those that the suite's files hold.
SCORES = {score.name: score for score in (ACCURACY, NMSE)}
#: Quantile of the normal distribution of a two-sided interval of 95 %.
Z_95 = 1.959963984540054


def score_of(rows: Iterable[Mapping[str, Any]]) -> Score:
    """The score that rows of ``metrics.jsonl`` hold; accuracy where they hold none."""
    names = {name for row in rows for name in row}
    return next((score for name, score in SCORES.items() if name in names), ACCURACY)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of which ``right`` of ``n`` samples were seen.

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``. Source: Wilson 1927,
    J. Am. Stat. Assoc. 22, 209-212. Of no sample it is 0 to 1.
    """
    if not n:
        return 0.0, 1.0
    share, z2 = right / n, Z_95**2
    middle = share + z2 / (2 * n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z2 / n) for sign in (-1, 1))
    return (max(low, 0.0) if right else 0.0), (min(high, 1.0) if right < n else 1.0)


def interval_of_test(score: Score, results: Mapping[str, Any]) -> str:
    """``95% interval 95.69 to 98.86%, 360 samples``; empty where ``results.json`` has none."""
    found, n = results.get(f"test_{score.name}_wilson95"), results.get("test_samples")
    ends = [end for end in found if isinstance(end, int | float)] if isinstance(found, list) else []
    if len(ends) != 2:
        return ""
    low, high = map(score.show, ends)
    return f"95% interval {low.removesuffix('%')} to {high}, {n} samples"
