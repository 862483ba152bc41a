"""Options that all tasks of generated trials share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnlab.config import option, section
from snnlab.errors import UsageError

if TYPE_CHECKING:
    from snnlab.data.trials import TrialTask

#: Steps of a trial.
MOST_STEPS = 10_000_000


@section("Task")
class TrialConfig:
    """Batches of generated trials."""

    batch_size: int = option(basic=True, default=128, help="trials of a batch", gt=0, le=65_536)
    epoch_batches: int = option(
        basic=True,
        default=100,
        help="training batches of an epoch, all of new trials; one optimiser update each",
        gt=0,
    )
    val_batches: int = option(
        default=5, help="validation batches, the same after every epoch", gt=0
    )
    test_batches: int = option(
        default=20, help="batches of fresh trials for the final accuracy", gt=0
    )
    n_data_worker: int = option(
        default=0,
        help="accepted: not needed, trials are generated inside the compiled program",
        ge=0,
        accepted=(),
    )


def loaders(task: TrialTask, config: TrialConfig, seed: int) -> dict[str, Any]:
    """``train`` (new trials in every epoch), ``val`` and ``test`` of a task."""
    from snnlab.data.trials import TrialLoader

    sizes = {"train": config.epoch_batches, "val": config.val_batches, "test": config.test_batches}
    return {
        name: TrialLoader(task, config.batch_size, n, seed, split, renewed=name == "train")
        for split, (name, n) in enumerate(sizes.items())
    }


def check_rate(flag: str, hz: float, dt_ms: float, beside: tuple[str, float] | None = None) -> None:
    """Refuse a rate that steps cannot have: an input has one spike in a step at most.

    Args:
        flag: option.
        hz: its value.
        dt_ms: length of a step.
        beside: option and value of a rate that is added.

    Raises:
        UsageError: more than ``1000 / dt_ms`` Hz.
    """
    name, added = beside or ("", 0.0)
    most = 1000.0 / dt_ms
    if hz + added > most * (1 + 1e-9):
        also = f" beside {name} {added:g}" if beside else ""
        raise UsageError(
            f"{flag} {hz:g} Hz: with steps of --dt {dt_ms:g} ms, one spike in each, at most "
            f"{most - added:g} Hz{also}"
        )


def check_length(n_steps: int) -> None:
    """Refuse a trial that no machine runs.

    Raises:
        UsageError: more than ``MOST_STEPS``.
    """
    if n_steps > MOST_STEPS:
        raise UsageError(f"a trial of {n_steps:,} steps: at most {MOST_STEPS:,}")
