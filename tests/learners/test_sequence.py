"""The gradient of a whole sequence, from one segment or from the parts of ``--update_every``."""

from __future__ import annotations

import jax

from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.learners.sequence import gradient_of_sequence
from zoo import BATCH, STEPS, make_network_fn, make_stream, make_targets, model_config, objective
from zoo import relative_error as error


def test_parts_of_an_online_rule_add_up_and_those_of_bptt_are_truncated() -> None:
    make, goal = make_network_fn(model_config()), objective(2)
    params = get_params(make("plain"))

    def found(method: str, every: int) -> dict:
        learner = make_learner(LearnerConfig(method=method, update_every=every), make, BATCH, goal)

        @jax.jit
        def run(params, stream, targets):
            return gradient_of_sequence(learner, params, stream, targets, STEPS, every)

        gradients, metrics = run(params, make_stream(), make_targets())
        assert float(metrics.steps) == STEPS
        return gradients

    whole, parts = found("diag", 0), found("diag", 6)  # three of six steps, and two more
    for name, value in whole.items():
        assert error(parts[name], value) < 1e-5, name
    exact, truncated = found("bptt", 0), found("bptt", 6)
    assert max(error(truncated[name], value) for name, value in exact.items()) > 0.01
