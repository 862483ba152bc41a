"""Optuna's record of a search: trials, what they were, what became of them.

It is a journal, a file of one JSON object a line, in the folder of the search. What Optuna draws
for a trial depends on the seed, the trial's number and the trials before it, and on nothing else: a
search that was killed and goes on draws what it would have drawn. Its lock is the operating
system's, so a killed process leaves none behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from snnlab.errors import UsageError, missing, shown
from snnlab.experiment.search_file import Range, Search, Value

if TYPE_CHECKING:
    import optuna

    from snnlab.search.plan import Plan

_NAME = "search"
#: Where a study keeps what was asked.
_ASKED = "asked"


def need_optuna() -> None:
    """Refuse to go on without it.

    Raises:
        UsageError: it is not installed.
    """
    if package := missing("optuna", "search"):
        raise UsageError(f"a sweep file with search needs {package}")


def opened(path: Path, plan: Plan | None = None) -> optuna.Study:
    """The study of a file, made if there is none and a plan is given.

    Raises:
        UsageError: it is the study of another search, or damaged.
    """
    need_optuna()
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock: Any = _Lock(path)
    if plan is not None:
        _mend(path, lock)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock))
        if plan is None:
            study = optuna.load_study(study_name=_NAME, storage=storage)
        else:
            study = optuna.create_study(
                study_name=_NAME, storage=storage, direction=plan.direction, load_if_exists=True
            )
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is no study that can be read ({shown(error, 100)}); choose another --filepath"
        ) from None
    if plan is None:
        return study
    before = study.user_attrs.get(_ASKED)
    if before is None and not study.trials:
        study.set_user_attr(_ASKED, plan.asked)
    elif before != plan.asked:
        changed = [k for k in plan.asked if (before or {}).get(k) != plan.asked[k]]
        raise UsageError(
            f"{path.parent} holds another search (other {', '.join(changed)}); choose another "
            "--filepath. A search goes on with other n_trials alone"
        )
    return study


def search_of(study: optuna.Study) -> tuple[Search, str]:
    """The part ``search`` of its file, and the metric's name in a validation row."""
    asked = study.user_attrs[_ASKED]
    return Search.model_validate({**asked["search"], "n_trials": 1}), asked["metric"]


def use_sampler(study: optuna.Study, search: Search, number: int) -> None:
    """Let the study draw trial ``number`` as its own seed says."""
    import optuna

    seed = (search.seed * 1_000_003 + number) % 2**32
    study.sampler = (
        optuna.samplers.RandomSampler(seed=seed) if search.sampler == "random"
        else optuna.samplers.TPESampler(n_startup_trials=search.startup, seed=seed)
    )  # fmt: skip


def pruner_of(search: Search) -> optuna.pruners.BasePruner:
    """What gives trials up."""
    import optuna

    warmup = search.n_warmup_epochs or 0
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(search.startup, warmup)
    if search.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=warmup + 1)
    return optuna.pruners.NopPruner()


def drawn(trial: optuna.Trial, plan: Plan) -> dict[str, Value]:
    """Option -> value of a trial, in the order of the file, of those that count beside others."""
    point: dict[str, Value] = {}
    for name, part in plan.space.items():
        if plan.counts(name, point):
            point[name] = _suggested(trial, name, part)
    return point


def _suggested(trial: optuna.Trial, name: str, part: Range) -> Any:
    if part.choices is not None:
        return trial.suggest_categorical(name, part.choices)
    low: Any = part.low
    high: Any = part.high
    step: Any = part.step
    log = bool(part.log)
    if part.whole:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(name, float(low), float(high), step=step, log=log)


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that was begun."""
    import optuna

    (found,) = [t for t in study.get_trials(deepcopy=False) if t.number == number]
    return optuna.Trial(study, found._trial_id)


def _mend(path: Path, lock: _Lock) -> None:
    """Cut off a last line that a crash of the machine left unfinished.

    Raises:
        UsageError: the file cannot be read.
    """
    if not path.exists():
        return
    try:
        lock.acquire()
        with open(path, "rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    finally:
        lock.release()


class _Lock:
    """Optuna's lock of a journal as one of the operating system."""

    def __init__(self, path: Path) -> None:
        self._file = filelock.FileLock(path.with_name(".study.lock"))

    def acquire(self) -> bool:
        self._file.acquire()
        return True

    def release(self) -> None:
        self._file.release()
