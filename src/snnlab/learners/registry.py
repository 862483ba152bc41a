"""From ``--method`` and ``--backend`` to a learner."""

from __future__ import annotations

from collections.abc import Callable

from snnlab.learners.backends import make_library
from snnlab.learners.base import Learner, Objective
from snnlab.learners.chunks import ChunkedLearner
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import PureNetwork, PureStep
from snnlab.learners.methods import LIBRARIES, METHODS
from snnlab.learners.rules import layerwise
from snnlab.learners.rules.build import Request
from snnlab.models.base import Network
from snnlab.models.maps import Operator
from snnlab.registry import load

MakeNetwork = Callable[[Operator], Network]
#: What a file of a rule offers.
Make = Callable[[Request], Learner]


def operator_of(config: LearnerConfig) -> Operator:
    """The operator that a network must be built with for this learner."""
    return config.backend if config.backend in LIBRARIES else "plain"  # type: ignore[return-value]


def make_learner(
    config: LearnerConfig,
    make_network: MakeNetwork,
    batch_size: int,
    objective: Objective,
    seed: int = 0,
) -> Learner:
    """Build the learner of a config.

    Args:
        config: method and backend.
        make_network: network for an operator, the same parameters every time.
        batch_size: B of every batch (short ones are padded).
        objective: loss of a step.
        seed: of what a rule draws.

    Raises:
        UsageError: the backend cannot run here, or cannot train a parameter.
    """
    if config.backend in LIBRARIES:
        return make_library(config, make_network, batch_size, objective)
    network = make_network("plain")
    if config.method == "bptt" and (network.layerwise or config.backend == "layerwise"):
        return layerwise.make(config, network, batch_size, objective)
    net = PureNetwork(network, batch_size, training=True)
    return learner_of(config, net, objective, seed)


def learner_of(
    config: LearnerConfig, net: PureStep, objective: Objective, seed: int = 0,
    make: Make | None = None,
) -> Learner:  # fmt: skip
    """The learner of a config for any step; backends of our own.

    Args:
        make: of a rule that is in no file, in the place of that of the config's method.

    Raises:
        UsageError: the rule cannot train a parameter.
    """
    if make is None:
        make = load(METHODS[config.method].maker(config.method))
    made: Learner = make(Request(config, net, objective, seed))
    if isinstance(made, ChunkedLearner):
        made.use(config.kernels)
    return made
