"""Running means over the samples of a split."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass
class Averages:
    """Running means over the samples of a split.

    Attributes:
        outputs_ms: length of a step where outputs are no spikes: their mean then stands in the
            place of rates.
    """

    samples: float = 0.0
    loss: float = 0.0
    measures: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # above, below
    rates: np.ndarray | None = None
    grad_norm: float | None = None  # of training alone
    outputs_ms: float | None = None

    def add(self, numbers: dict[str, Any]) -> None:
        count = float(numbers["count"])
        self.samples += count
        self.loss += count * float(numbers["loss"])
        for name, ratio in numbers["measures"].items():
            sums = self.measures.setdefault(name, [0.0, 0.0])
            sums[:] = sums[0] + float(ratio.above), sums[1] + float(ratio.below)
        if "grad_norm" in numbers:
            self.grad_norm = (self.grad_norm or 0.0) + count * float(numbers["grad_norm"])
        rates = count * np.asarray(numbers["rates"])
        self.rates = rates if self.rates is None else self.rates + rates

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`of` makes the same averages of it."""
        rates = None if self.rates is None else self.rates.tolist()
        return {**dataclasses.asdict(self), "rates": rates}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Averages:
        rates = state["rates"]
        return cls(**{**state, "rates": None if rates is None else np.asarray(rates, np.float32)})

    def row(self, epoch: int, split: str) -> dict[str, Any]:
        """One object of ``metrics.jsonl``; rates in Hz, exactly 0 only where nothing spiked."""
        n = max(self.samples, 1.0)
        per_s, kind = (1.0, "firing_rates")
        if self.outputs_ms:
            per_s, kind = (1000.0 / self.outputs_ms, "mean_outputs")
        rates = [] if self.rates is None else [float(f"{r / per_s:.6g}") for r in self.rates / n]
        return {
            "epoch": epoch, "split": split, "loss": self.loss / n,
            **{name: _ratio(*sums) for name, sums in self.measures.items()},
            "samples": int(self.samples), kind: rates,
            **({} if self.grad_norm is None else {"grad_norm": self.grad_norm / n}),
        }  # fmt: skip


def _ratio(above: float, below: float) -> float:
    """``above / below``; of nothing 0."""
    return above / below if below else (math.inf if above else 0.0)
