"""From ``--method`` and ``--backend`` to a learner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from snnlab.learners.base import Learner, Objective
from snnlab.learners.bptt import BPTT
from snnlab.learners.brainscale import BrainScale, require_brainscale
from snnlab.learners.braintrace import BrainTrace
from snnlab.learners.chunked import make_own
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import get_params
from snnlab.learners.hybrid import Hybrid, exact_trace_is_smaller
from snnlab.models.base import Network
from snnlab.models.maps import Operator

MakeNetwork = Callable[[Operator], Network]
BACKENDS = {"braintrace": BrainTrace, "brainscale": BrainScale}


def operator_of(config: LearnerConfig) -> Operator:
    """The operator that a network must be built with for this learner."""
    if config.method == "bptt" or config.implementation == "snnlab":
        return "plain"
    return config.implementation


def make_learner(
    config: LearnerConfig, make_network: MakeNetwork, batch_size: int, objective: Objective
) -> Learner:
    """Build the learner of a config.

    Args:
        config: method and backend.
        make_network: network for an operator, the same parameters every time.
        batch_size: B of every batch (short ones are padded).
        objective: loss of a step.

    Raises:
        UsageError: the backend cannot run here, or cannot train a parameter.
    """
    if config.backend == "snnlab" and config.method == "bptt":
        return make_own(config, make_network("plain"), batch_size, objective)
    if config.method == "bptt":
        return BPTT(make_network("plain"), batch_size, objective, config.checkpoint_block)
    backend = config.implementation
    if backend == "brainscale":
        require_brainscale()

    def online(method: Literal["diag", "expsm_diag"]) -> Learner:
        network = make_network(operator_of(config))
        decay = None if method == "diag" else config.etrace_decay
        chosen = dataclasses.replace(config, method=method, backend=backend, etrace_decay=decay)
        if backend == "snnlab":
            return make_own(chosen, network, batch_size, objective)
        return BACKENDS[backend](network, batch_size, objective, chosen)

    if config.method != "hybrid":
        return online(config.method)
    shapes = {name: value.shape for name, value in get_params(make_network("plain")).items()}
    exact = {
        name for name, (n_in, n_out) in shapes.items()
        if exact_trace_is_smaller(n_in, n_out, n_in * n_out)
    }  # fmt: skip
    diag = online("diag") if exact else None
    expsm = online("expsm_diag") if exact != set(shapes) else None
    return Hybrid(diag, expsm, exact)
