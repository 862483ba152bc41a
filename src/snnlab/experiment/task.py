"""What a task of training is, to the command line and to a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from snnlab.config import Adapt
from snnlab.experiment.problem import Problem


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: its options, and the problem that they make.

    Importing it needs no JAX; ``build`` imports what it needs.

    Attributes:
        config: frozen dataclass of sections with at least ``run``, ``learner``, ``training``.
        build: config -> problem.
        title: one line.
        adapt: given the options set so far, defaults that depend on them.
        examples: for ``--help``: flags -> what this command line does.
        files: folder of ``configs/`` with its config files.
    """

    config: type
    build: Callable[[Any], Problem]
    title: str
    adapt: Adapt | None = None
    examples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: str = ""
