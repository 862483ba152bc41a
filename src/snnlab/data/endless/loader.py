"""An endless stream as the training loop's batches: a stretch is a batch, a row an epoch."""

from __future__ import annotations

from typing import Any

from snnlab.data.batch import Batch
from snnlab.data.endless.sources import Source
from snnlab.data.resumable import ResumableLoader


class StretchLoader(ResumableLoader[Batch]):
    """Stretches of a source; of an "epoch" ``n`` of them, and epochs without end.

    Args:
        source: where they come from.
        n: stretches of a row of ``metrics.jsonl``.
        seed: of the run.
    """

    def __init__(self, source: Source, n: int, seed: int) -> None:
        super().__init__()
        self.source, self.n, self.seed = source, n, seed

    def __len__(self) -> int:
        return self.n

    def batch(self, number: int) -> Batch:
        return self.source.stretch((self.epoch - 1) * self.n + number)

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "stretches": self.n, "steps": self.source.n_steps}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"source": self.source.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["source"]:
            self.source.load_state_dict(state["source"])
