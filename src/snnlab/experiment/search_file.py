"""The part ``search`` of a sweep file: options that are drawn, trial by trial.

A sweep file with a search::

    task: image-classification
    options: {epochs: 8}                            # flags of every trial
    search:
      n_trials: 30
      space:
        lr: {low: 1e-4, high: 1e-1, log: true}
        n_rec: {low: 64, high: 512, step: 64}
        method: [diag, expsm_diag]                  # or {choices: [...]}
        etrace_decay: {low: 0.5, high: 0.99}        # drawn where it counts: with expsm_diag
      metric: val_accuracy                          # of validation, at a trial's best epoch
      direction: maximize
      sampler: tpe                                  # or random
      seed: 0
      pruner: median                                # or halving, none
      n_startup_trials: 5                           # drawn at random, and not pruned by the median
      n_warmup_epochs: 0                            # epochs after which no trial is pruned

``n_trials`` and ``space`` alone are needed. A trial is a run of the task: one of the search's runs,
not the seeds of ``--trials``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

Value = bool | int | float | str
Number = pydantic.StrictInt | Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
#: Trials of one search, and choices of one option.
MOST_TRIALS, MOST_CHOICES = 2000, 50
#: Metrics whose better direction is known.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "val_accuracy": "maximize", "val_nmse": "minimize", "val_loss": "minimize",
}  # fmt: skip


def _divides(step: float, length: float) -> bool:
    return abs(length / step - round(length / step)) < 1e-9


class Range(pydantic.BaseModel):
    """What an option may be: numbers from ``low`` to ``high``, or one of ``choices``."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    low: Number | None = None
    high: Number | None = None
    log: bool | None = None
    step: Number | None = None
    #: Whole numbers, of an option that takes others too.
    whole: bool | None = pydantic.Field(default=None, alias="int")
    choices: list[Value] | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return {"choices": given} if isinstance(given, list) else given

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Range:
        numbers = [k for k in ("low", "high", "log", "step") if getattr(self, k) is not None]
        numbers += ["int"] * (self.whole is not None)
        if self.choices is not None:
            if numbers:
                raise ValueError(f"either choices or a range: {numbers[0]} is given beside choices")
            if not 2 <= len(self.choices) <= MOST_CHOICES:
                raise ValueError(f"must have 2 to {MOST_CHOICES} choices")
            if len({repr(c) for c in self.choices}) < len(self.choices):
                raise ValueError("a choice is given twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("must have low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g}: must be above 0 with log")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError("step must be above 0, and there is none with log")
        if self.step is not None and not _divides(self.step, self.high - self.low):
            raise ValueError(f"step {self.step:g} does not lead from {self.low:g} to {self.high:g}")
        return self

    @property
    def ends(self) -> list[Value]:
        """The values by which it is checked."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        return [self.low, self.high]

    def words(self) -> str:
        """In one line."""
        if self.choices is not None:
            return "one of " + ", ".join(
                str(c).lower() if isinstance(c, bool) else str(c) for c in self.choices
            )
        more = ", log" * bool(self.log) + (f", step {self.step:g}" if self.step else "")
        return f"{self.low:g} to {self.high:g}{more}{', whole numbers' * bool(self.whole)}"

    def of_numbers(self, whole: bool) -> Range:
        """The same for an option of whole numbers, or of any.

        Raises:
            ValueError: ends or step that are no whole numbers where they must be.
        """
        if whole and self.whole is False:
            raise ValueError("takes whole numbers; int: false is not possible")
        if not whole and not self.whole:
            return self
        if any(not float(n).is_integer() for n in (self.low, self.high, self.step or 1) if n):
            raise ValueError("low, high and step must be whole numbers")
        return self.model_copy(update={"whole": True})


class Search(pydantic.BaseModel):
    """What a search may hold; see the module."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    n_trials: int = pydantic.Field(gt=0, le=MOST_TRIALS)
    space: dict[str, Range] = pydantic.Field(min_length=1)
    metric: str = ""
    direction: Literal["maximize", "minimize"] | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    pruner: Literal["median", "halving", "none"] = "median"
    n_startup_trials: int | None = pydantic.Field(default=None, ge=0, le=MOST_TRIALS)
    n_warmup_epochs: int | None = pydantic.Field(default=None, ge=0)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Search:
        if self.metric.startswith("test"):
            raise ValueError(
                f"metric {self.metric}: a search never chooses by the test set; "
                f"val_{self.metric.removeprefix('test_')} is that of validation"
            )
        if self.metric and not self.metric.removeprefix("val_"):
            raise ValueError("metric must be val_NAME, a number of a validation row")
        if self.metric and not self.metric.startswith("val_"):
            raise ValueError(f"metric {self.metric}: must be of validation, val_{self.metric}")
        known = DIRECTIONS.get(self.metric)
        if self.metric and not known and not self.direction:
            raise ValueError(f"direction is missing: is a high or a low {self.metric} better?")
        if known and self.direction not in (None, known):
            raise ValueError(f"direction {self.direction}: of {self.metric} it is {known}")
        if self.n_warmup_epochs is not None and self.pruner == "none":
            raise ValueError("n_warmup_epochs does not apply to pruner none")
        startup = self.sampler == "tpe" or self.pruner == "median"
        if self.n_startup_trials is not None and not startup:
            raise ValueError("n_startup_trials only applies to sampler tpe or pruner median")
        return self

    @property
    def startup(self) -> int:
        """Trials that are drawn at random, and not pruned by the median."""
        return 5 if self.n_startup_trials is None else self.n_startup_trials

    def asked(self) -> dict[str, Any]:
        """What two searches must share to be one: all but the number of trials."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude={"n_trials"})
