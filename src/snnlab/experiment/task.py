"""What a task of training is, to the command line and to a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from snnlab.config import Adapt
from snnlab.experiment.problem import Problem

if TYPE_CHECKING:
    from snnlab.models import Network
    from snnlab.models.maps import Operator


class Sizes(NamedTuple):
    """What data say of a network.

    Attributes:
        n_in, n_out: inputs and readout units.
        dt_ms: length of a step, where the config does not say it.
    """

    n_in: int
    n_out: int
    dt_ms: float | None = None


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
        network: (config, sizes, operator) -> network, by which a run is used without its data.
        layers: config -> names of the recurrent layers.
    """

    config: type
    build: Callable[[Any], Problem]
    title: str
    adapt: Adapt | None = None
    examples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: str = ""
    network: Callable[[Any, Sizes, Operator], Network] | None = None
    layers: Callable[[Any], tuple[str, ...]] | None = None
