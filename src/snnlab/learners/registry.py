"""From ``--method`` and ``--backend`` to a learner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Set
from typing import Literal

from snnlab.errors import UsageError
from snnlab.learners.backends.brainscale import BrainScale, require_brainscale
from snnlab.learners.backends.braintrace import BrainTrace
from snnlab.learners.backends.library import LibraryLearner
from snnlab.learners.base import Learner, Objective
from snnlab.learners.chunk_sizes import make_own
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import get_params, path_name
from snnlab.learners.graph.locality import check_network
from snnlab.learners.rules.hybrid import Hybrid, exact_trace_is_smaller
from snnlab.learners.rules.layerwise import LayerwiseBPTT
from snnlab.learners.rules.scan_bptt import BPTT
from snnlab.models.base import Network
from snnlab.models.maps import Operator, SparseMap

MakeNetwork = Callable[[Operator], Network]
LIBRARIES: dict[str, type[LibraryLearner]] = {"braintrace": BrainTrace, "brainscale": BrainScale}


def operator_of(config: LearnerConfig) -> Operator:
    """The operator that a network must be built with for this learner."""
    return config.backend if config.backend in ("braintrace", "brainscale") else "plain"


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
    if config.method == "bptt":
        return _bptt(config, make_network("plain"), batch_size, objective)
    if config.backend == "brainscale":
        require_brainscale()

    def online(method: Literal["diag", "expsm_diag"], only: Set[str] | None = None) -> Learner:
        network = make_network(operator_of(config))
        decay = None if method == "diag" else config.etrace_decay
        chosen = dataclasses.replace(config, method=method, etrace_decay=decay)
        library = LIBRARIES.get(config.backend)
        if library is not None:
            made = library(network, batch_size, objective, chosen)
            windowed = config.vjp_method == "multi-step"
            check_network(make_network("plain"), batch_size, objective, config.backend, windowed)
            return made
        return make_own(chosen, network, batch_size, objective, only)

    if config.method != "hybrid":
        return online(config.method)
    network = make_network("plain")
    shapes = {name: value.shape for name, value in get_params(network).items()}
    # A sparse map has fewer weights from each input than outputs.
    n_outs = {
        path_name((*path, "weight")): found.out_size[0]
        for path, found in network.nodes(SparseMap).items()
    }
    exact = {
        name for name, (n_in, n) in shapes.items()
        if exact_trace_is_smaller(n_in, n_outs.get(name, n), n_in * n)
    }  # fmt: skip
    diag = online("diag", exact) if exact else None
    expsm = online("expsm_diag") if exact != set(shapes) else None
    return Hybrid(diag, expsm, exact)


def require_layerwise(config: LearnerConfig) -> None:
    """Refuse a learner that goes step by step through a network of whole sequences.

    Raises:
        UsageError: BPTT in the order of steps.
    """
    stepwise = config.remat or config.checkpoint_block or config.precision != "float32"
    if config.backend not in ("auto", "layerwise") or stepwise:
        raise UsageError(
            "batch normalisation and bidirectional layers need whole sequences: --backend "
            "layerwise, without --remat, --checkpoint_block and --precision"
        )


def _bptt(
    config: LearnerConfig, network: Network, batch_size: int, objective: Objective
) -> Learner:
    """The exact gradient; plain reverse mode where a parameter is outside of maps.

    Layer after layer where that is asked for, or the network exists in this order only.
    """
    if network.layerwise:
        require_layerwise(config)
    if config.backend == "layerwise" and type(network).sequence is Network.sequence:
        raise UsageError("--backend layerwise: the layers of this network run step by step only")
    if network.layerwise or config.backend == "layerwise":
        return LayerwiseBPTT(network, batch_size, objective)
    if config.backend != "plain" and not config.checkpoint_block:
        try:
            return make_own(config, network, batch_size, objective)
        except UsageError:
            if config.backend == "snnlab" or config.remat or config.precision != "float32":
                raise
    return BPTT(network, batch_size, objective, config.checkpoint_block)
