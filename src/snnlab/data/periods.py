"""Periods of a trial: durations in ms as whole steps. Configs check them, without JAX."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from snnlab.errors import UsageError


def steps_of(flag: str, duration_ms: float, dt_ms: float, *, zero: bool = False) -> int:
    """Steps of a duration.

    Args:
        flag: name of the option, for messages.
        duration_ms: ms, a whole number of steps.
        dt_ms: length of a step.
        zero: whether there may be no step at all.

    Raises:
        UsageError: negative, zero where that has no meaning, or not a multiple of ``dt_ms``.

    >>> steps_of("t_delay", 10.0, 0.5)
    20
    """
    if not math.isfinite(duration_ms):
        raise UsageError(f"--{flag} {duration_ms:g}: not a duration in ms")
    steps = round(duration_ms / dt_ms)
    if duration_ms < 0:
        raise UsageError(f"--{flag} {duration_ms:g} ms: a duration cannot be negative")
    if abs(steps * dt_ms - duration_ms) > 1e-6 * max(dt_ms, duration_ms):
        raise UsageError(
            f"--{flag} {duration_ms:g} ms is not a multiple of the step --dt {dt_ms:g} ms "
            f"({steps * dt_ms:g} ms would be)"
        )
    if steps == 0 and not zero:
        raise UsageError(f"--{flag} {duration_ms:g} ms: must be at least one step of {dt_ms:g} ms")
    return steps


class Period(NamedTuple):
    """A stretch of a trial: ``steps`` long, with the firing rates of row ``level``."""

    name: str
    steps: int
    level: int


#: Groups of inputs of a trial of cues, in order.
GROUPS = ("left", "right", "recall", "noise")


class HasPeriods(Protocol):
    """A task of trials, as far as time goes."""

    @property
    def periods(self) -> tuple[Period, ...]: ...


def named(task: HasPeriods, repeat: int = 1) -> tuple[tuple[str, int], ...]:
    """Name and steps of every period that has steps; ``repeat``: steps of each step."""
    return tuple((p.name, repeat * p.steps) for p in task.periods if p.steps)


def n_steps(task: HasPeriods) -> int:
    """Steps of a whole trial."""
    return sum(p.steps for p in task.periods)


def period_steps(task: HasPeriods, name: str) -> slice:
    """Steps of the first period of that name."""
    start = 0
    for period in task.periods:
        if period.name == name:
            return slice(start, start + period.steps)
        start += period.steps
    raise KeyError(name)
