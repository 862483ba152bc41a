"""Options that all tasks of generated trials share."""

from __future__ import annotations

from snnlab.config import option, section
from snnlab.errors import UsageError


@section("Task")
class TrialConfig:
    """Batches of generated trials."""

    batch_size: int = option(default=128, help="trials of a batch", gt=0, le=65_536)
    epoch_batches: int = option(
        default=100,
        help="training batches of an epoch, all of new trials; one optimiser update each",
        aliases=("epoch_per_step",),
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


def check_rate(flag: str, hz: float, dt_ms: float) -> None:
    """Refuse a rate that steps cannot have: an input has one spike in a step at most.

    Raises:
        UsageError: more than ``1000 / dt_ms`` Hz.
    """
    most = 1000.0 / dt_ms
    if hz > most * (1 + 1e-9):
        raise UsageError(
            f"{flag} {hz:g} Hz: steps of --dt {dt_ms:g} ms hold {most:g} Hz at most, one spike in "
            "every step"
        )
