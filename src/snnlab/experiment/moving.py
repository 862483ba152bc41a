"""Accuracy of a stream over a moving window, and how long it takes to be back after a change.

All of it has a size that does not grow with the stream.
"""

from __future__ import annotations

from collections import deque
from typing import Any

#: Points of the mean accuracy after a change.
POINTS = 200
#: Rows of ``metrics.jsonl`` above which neighbours become one.
MOST_ROWS = 2000


class Moving:
    """What a stream's decisions say; fed with the right ones of a stretch after another.

    The accuracy after a change is *back* at the end of the first window wholly behind the change
    in which it is at most ``margin`` below that of the last window before it. The recovery is the
    number of steps from the change to there: a window at least. A change after which the next one
    comes first is not recovered from, nor is one before which nothing was learned: an accuracy of
    at most ``margin`` above ``chance``.

    Args:
        steps: of a stretch.
        window: stretches of the moving window.
        every: stretches from a change to the next; 0: there are none.
        margin: of accuracy.
        chance: the accuracy of a guess.
    """

    def __init__(
        self, steps: int, window: int, every: int, margin: float, chance: float = 0.0
    ) -> None:
        self.steps, self.window, self.every = steps, window, every
        self.margin, self.chance = margin, chance
        self.stretches = 0
        self.last: deque[tuple[float, float]] = deque(maxlen=window)
        self.right = self.known = 0.0
        self.before: float | None = None  # accuracy before the change that is waited for
        self.changes = self.recovered = self.recovery = 0
        self.longest = 0
        self.curve = [[0.0, 0.0] for _ in range(min(every, POINTS))]

    @property
    def accuracy(self) -> float | None:
        """Over the last window, or what there is of it; ``None`` before the first label."""
        known = sum(k for _, k in self.last)
        return sum(r for r, _ in self.last) / known if known else None

    @property
    def since(self) -> int:
        """Stretches since the last change, or the beginning."""
        return self.stretches % self.every if self.every else self.stretches

    def add(self, right: float, known: float) -> None:
        """A stretch with so many right decisions, of steps whose label is known."""
        if self.every and self.stretches and self.since == 0:
            self.changes += 1
            learned = self.accuracy is not None and self.accuracy > self.chance + self.margin
            self.before = self.accuracy if learned else None
        since = self.since
        self.last.append((right, known))
        self.right, self.known = self.right + right, self.known + known
        self.stretches += 1
        if self.changes:
            point = self.curve[since * len(self.curve) // self.every]
            point[0], point[1] = point[0] + right, point[1] + known
        if self.before is not None and since + 1 >= self.window:
            now = self.accuracy
            if now is not None and now >= self.before - self.margin:
                took = (since + 1) * self.steps
                self.recovered, self.recovery = self.recovered + 1, self.recovery + took
                self.longest, self.before = max(self.longest, took), None

    def facts(self) -> dict[str, Any]:
        """For ``results.json``."""
        found: dict[str, Any] = {
            "steps": self.stretches * self.steps,
            "accuracy": self.right / self.known if self.known else None,
            "moving_accuracy": self.accuracy,
            "window": self.window * self.steps,
        }
        if self.every:
            mean = self.recovery / self.recovered if self.recovered else None
            found |= {
                "changes": self.changes, "recovered": self.recovered,
                "recovery_steps": mean, "longest_recovery_steps": self.longest or None,
                "accuracy_after_change": [
                    [round((k + 0.5) * self.every * self.steps / len(self.curve)), r / n]
                    for k, (r, n) in enumerate(self.curve) if n
                ],
            }  # fmt: skip
        return found

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`load_state_dict` goes on from it."""
        return {**vars(self), "last": list(self.last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        vars(self).update(state)
        self.last = deque((tuple(pair) for pair in state["last"]), maxlen=self.window)


#: Numbers of a row that are added when rows become one, and those of its end.
_SUMS = ("steps", "samples", "seconds", "changes", "recovered", "recovery_steps")
_ENDS = ("epoch", "split", "step", "moving_accuracy", "lr_scale")


def thinned(rows: list[dict[str, Any]], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """``rows``; of more than ``most`` each two neighbours are one.

    What is long ago has been joined most often: the file has the whole stream, the nearer the
    finer, in ``most`` rows at most. Means are weighted by steps.
    """
    if len(rows) <= most:
        return rows
    return [_joined(*rows[k : k + 2]) for k in range(0, len(rows), 2)]


def _joined(first: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    for second in others:
        a, b = first["steps"], second["steps"]
        first = {
            name: second[name] if name in _ENDS
            else first[name] + second[name] if name in _SUMS
            else _mean(first[name], second[name], a, b)
            for name in second
        }  # fmt: skip
    return first


def _mean(one: Any, other: Any, a: int, b: int) -> Any:
    if isinstance(one, list):
        return [_mean(x, y, a, b) for x, y in zip(one, other, strict=True)]
    return (a * one + b * other) / (a + b)
