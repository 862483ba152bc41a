"""The online rules of other libraries, behind the learner protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from snnlab.learners.backends.mixed import Mixed
from snnlab.learners.base import Learner, Objective
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import get_params
from snnlab.learners.graph.locality import check_network
from snnlab.learners.rules.hybrid import exact_trace_is_smaller
from snnlab.models.base import Network, path_name
from snnlab.models.maps import SparseMap


def make_library(
    config: LearnerConfig, make_network: Callable[[Any], Network], batch_size: int,
    objective: Objective,
) -> Learner:  # fmt: skip
    """The learner of ``--backend braintrace`` or ``brainscale``; its hybrid is put together here.

    Raises:
        UsageError: the library cannot run here, or cannot train a parameter.
    """
    if config.backend == "brainscale":
        from snnlab.learners.backends.brainscale import BrainScale as Library
        from snnlab.learners.backends.brainscale import require_brainscale

        require_brainscale()
    else:
        from snnlab.learners.backends.braintrace import BrainTrace as Library  # type: ignore[assignment]

    def alone(method: Any) -> Learner:
        decay = config.etrace_decay if method == "expsm_diag" else None
        chosen = dataclasses.replace(config, method=method, etrace_decay=decay)
        made = Library(make_network(config.backend), batch_size, objective, chosen)
        windowed = config.vjp_method == "multi-step"
        check_network(make_network("plain"), batch_size, objective, config.backend, windowed)
        return made

    if config.method != "hybrid":
        return alone(config.method)
    network = make_network("plain")
    shapes = {name: v.shape for name, v in get_params(network).items() if v.ndim == 2}
    # A sparse map has fewer weights from each input than outputs.
    n_outs = {
        path_name((*path, "weight")): found.out_size[0]
        for path, found in network.nodes(SparseMap).items()
    }
    exact = {
        name for name, (n_in, n) in shapes.items()
        if exact_trace_is_smaller(n_in, n_outs.get(name, n), n_in * n)
    }  # fmt: skip
    diag = alone("diag") if exact else None
    expsm = alone("expsm_diag") if exact != set(shapes) else None
    return Mixed(diag, expsm, exact)
