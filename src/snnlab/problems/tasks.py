"""The tasks by name. A user's package joins with an entry point of the group ``snnlab.tasks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snnlab import config as configs
from snnlab.experiment.command import command
from snnlab.experiment.info import PLACES
from snnlab.experiment.published import check_published
from snnlab.experiment.task import Task
from snnlab.registry import Registry

if TYPE_CHECKING:
    from snnlab.training.hooks import Hook

TASKS = Registry("task", "snnlab.tasks", Task, {
    "image-classification": "snnlab.problems.image_classification:TASK",
    "long-term-dependency": "snnlab.problems.delayed_match:TASK",
    "coba-ei": "snnlab.problems.evidence:TASK",
    "balanced-rsnn": "snnlab.problems.balanced:TASK",
    "pattern-generation": "snnlab.problems.pattern_generation:TASK",
    "stream": "snnlab.problems.stream:TASK",
    "working-memory": "snnlab.problems.working_memory:TASK",
})  # fmt: skip


def task_of(name: str) -> Task:
    """The task of a name.

    Raises:
        UsageError: there is none; the message lists all.
    """
    return TASKS.get(name)


def changed(name: str, config: Any) -> dict[str, tuple[Any, Any]]:
    """Option -> (value, default) of the options that count and are not their defaults.

    Args:
        name: of the task.
        config: of a run of it.
    """
    values, void = configs.flat(config), configs.void_options(config)
    defaults = configs.defaults_beside(type(config), values, adapt=task_of(name).adapt)
    return {
        option: (value, defaults[option]) for option, value in values.items()
        if value != defaults[option] and option not in void and option not in PLACES
    }  # fmt: skip


def read(name: str, arguments: Sequence[str]) -> Any:
    """The config of a command line of a task, as the command reads it.

    Raises:
        UsageError: an option or a value that the task does not take.
    """
    task = task_of(name)
    config: Any = configs.parse(
        task.config, arguments, prog=name, description="", adapt=task.adapt, files=task.files
    )[0]
    check_published(task.published, config)
    return config


def run_task(
    name: str, *, prog: str, description: str | None = None, argv: list[str] | None = None,
    hooks: Sequence[Hook] = (),
) -> int:  # fmt: skip
    """The whole command line of a task; its exit code.

    Args:
        name: of the task.
        prog: name in messages.
        description: head of ``--help``; the task's title by default.
        argv: arguments; those of the process by default.
        hooks: what else is done beside training.
    """
    task = task_of(name)
    return command(
        task.config, task.build, prog=prog, description=description or task.title, argv=argv,
        adapt=task.adapt, examples=task.examples, files=task.files, hooks=hooks,
        published=task.published,
    )  # fmt: skip
