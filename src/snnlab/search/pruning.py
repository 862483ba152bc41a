"""The hook of a trial: it tells the study of every epoch, and gives hopeless runs up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnlab.errors import UsageError
from snnlab.training.hooks import Hook, Moment


class Pruning(Hook):
    """Reports a run's validation metric to a study, and gives the run up where its pruner says so.

    Args:
        study: the journal.
        number: of the trial.
    """

    def __init__(self, study: Path, number: int) -> None:
        self._path, self._number = study, number
        self._trial: Any = None
        self._metric = ""

    def on_start(self, now: Moment) -> None:
        from snnlab.search import study as studies

        study = studies.opened(self._path)
        search, self._metric = studies.search_of(study)
        study.pruner = studies.pruner_of(search)
        self._trial = studies.trial_of(study, self._number)
        if now.place.epoch and not now.place.batch:  # it may have been ended before it was given up
            self._judge(now)

    def on_epoch(self, now: Moment) -> None:
        row = now.rows[0][1]
        value = number_of(row, self._metric)
        if now.place.epoch not in self._reported():
            self._trial.report(value, now.place.epoch)
        self._judge(now)

    def _judge(self, now: Moment) -> None:
        epoch, reported = now.place.epoch, self._reported()
        if epoch != max(reported, default=0) or not self._trial.should_prune():
            return
        now.given_up = (
            f"trial {self._number} of a search, whose pruner saw val_{self._metric} "
            f"{reported[epoch]:.4g} after epoch {epoch}"
        )

    def _reported(self) -> dict[int, float]:
        found: Any = self._trial.storage.get_trial(self._trial._trial_id)
        return found.intermediate_values


def number_of(row: dict[str, Any], metric: str) -> float:
    """A metric of a validation row; the mean where it has a number for each layer.

    Raises:
        UsageError: the row has no such number.
    """
    value = row.get(metric)
    each: list[Any] = [v for v in (value if isinstance(value, list) else [value]) if _is_number(v)]
    if not each:
        names = [
            f"val_{k}" for k, v in row.items()
            if (_is_number(v) or isinstance(v, list)) and k not in ("epoch", "seconds", "lr_scale")
        ]  # fmt: skip
        raise UsageError(
            f"search.metric: validation has no number val_{metric}; it has {', '.join(names)}"
        )
    return float(sum(each) / len(each))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
