"""Options that all tasks of generated trials share."""

from __future__ import annotations

from snnlab.config import option, section


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
        help="accepted and not used: trials are generated inside the compiled program",
        ge=0,
    )

    @property
    def note(self) -> str:
        """What a user of ``--n_data_worker`` is told."""
        if not self.n_data_worker:
            return ""
        return (
            f"--n_data_worker {self.n_data_worker}: not needed, trials are generated inside the "
            "compiled program"
        )
