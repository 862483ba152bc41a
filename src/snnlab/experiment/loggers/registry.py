"""The loggers by name. A user's package joins with an entry point of the group ``snnlab.loggers``,
a :class:`~snnlab.experiment.loggers.base.LoggerKind`."""

from __future__ import annotations

from snnlab.errors import UsageError, missing
from snnlab.experiment.loggers.base import LoggerKind
from snnlab.registry import Registry

_HERE = "snnlab.experiment.loggers"
LOGGERS: Registry[LoggerKind] = Registry("logger", "snnlab.loggers", LoggerKind, {
    "tensorboard": LoggerKind(
        "event files in the run folder (extra `tensorboard`)", f"{_HERE}.tensorboard:TensorBoard",
        "tensorboard", "tensorboard",
    ),
    "wandb": LoggerKind(
        "Weights & Biases, offline with WANDB_MODE=offline (extra `wandb`)",
        f"{_HERE}.weights_and_biases:WeightsAndBiases", "wandb", "wandb",
    ),
})  # fmt: skip


def named(text: str) -> tuple[str, ...]:
    """The names in a comma list.

    Raises:
        UsageError: no logger has such a name.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        LOGGERS.get(name)
    return names


def check_installed(text: str) -> None:
    """Ask for the packages that loggers need.

    Raises:
        UsageError: one is not installed.
    """
    for name in named(text):
        kind = LOGGERS.get(name)
        lacks = missing(kind.package, kind.extra) if kind.package else ""
        if lacks:
            raise UsageError(f"--log {name} needs {lacks}")
