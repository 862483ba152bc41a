"""What a task of training is, to the command line and to a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from snnlab.config import Adapt
from snnlab.errors import UsageError
from snnlab.experiment.problem import Problem
from snnlab.experiment.published import Published
from snnlab.models.section import of_earlier as models_of_earlier

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        published: settings of the experiment that its commands come from, for ``--published``.
        held_out: whether validation and test have other samples than training.
    """

    config: type
    build: Callable[[Any], Problem]
    title: str
    adapt: Adapt | None = None
    examples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: str = ""
    network: Callable[[Any, Sizes, Operator], Network] | None = None
    layers: Callable[[Any], tuple[str, ...]] | None = None
    held_out: bool = True
    published: Published | None = None


def of_earlier(config_type: type, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a saved run, perhaps of an earlier version, in today's meaning."""
    found = models_of_earlier(saved)
    return getattr(config_type, "of_earlier", dict)(found)


def sizes_of(make: Any, config: Any, weights: Mapping[str, NDArray[Any]]) -> Sizes:
    """Inputs and outputs of a network from the shapes of its weights.

    Every size is linear in both: three small networks say how.

    Args:
        make: :attr:`Task.network`.
        config, weights: of the network.

    Raises:
        UsageError: no weight depends on the number of inputs, as where those are not trained.
    """
    from snnlab.learners.functional import get_params

    def shapes(n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
        return {
            n: v.shape for n, v in get_params(make(config, Sizes(n_in, n_out), "plain")).items()
        }

    base, found = shapes(2, 2), []
    for more in (shapes(3, 2), shapes(2, 3)):
        size = next(
            (
                2 + (weights[name].shape[k] - n) // (more[name][k] - n)
                for name, shape in base.items() if name in weights
                for k, n in enumerate(shape) if more[name][k] != n
            ),
            None,
        )  # fmt: skip
        if size is None:
            raise UsageError("the run does not say how many inputs its network has")
        found.append(size)
    return Sizes(*found)
