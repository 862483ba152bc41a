"""What ``--chunk_size auto`` chooses for networks too large to be built here."""

from __future__ import annotations

import dataclasses
from typing import Any

import zoo
from snnlab.learners import LearnerConfig, make_learner
from snnlab.learners.chunk_sizes import automatic
from snnlab.models import build_network


def test_chunks_of_large_sparse_networks() -> None:
    """A million neurons with 100 synapses each, and 100,000 with 1,000: within the budget, one
    chunk where it is no larger than traces and chunks would be, otherwise chunks of 25.

    All bytes are proportional to the numbers of neurons and of inputs, those of traces also to a
    unit's synapses; so a small network tells them.
    """
    neurons, synapses = 101, 100
    config = zoo.model_config("lif-delta", n_rec=neurons, n_layer=1, connectivity=0.99)

    def network(operator: Any) -> Any:
        return build_network(config, 2, 10, operator, 0)

    given = LearnerConfig(method="diag")
    small = automatic(make_learner(given, network, 1, zoo.objective(1)), given)
    small = dataclasses.replace(small, budget=12e9)
    for n, k in ((10**6, 100), (10**5, 1000)):
        more = n / neurons
        auto = dataclasses.replace(
            small, beside=round(more * small.beside), alone=round(more * small.alone),
            trace=round(more * k / synapses * small.trace),
        )  # fmt: skip
        assert 4.0e8 < auto.trace < 4.8e8
        assert auto(50) == 50
        assert auto(1000) == 25
        assert auto(1000) * auto.beside < 2e9
        kept = dataclasses.replace(auto, kept=True)  # --update_every 10
        assert kept(10) == 10
        if n == 10**6:
            assert dataclasses.replace(auto, budget=auto.trace + 5.5 * auto.beside)(1000) == 5


def test_a_budget_that_is_given_is_used() -> None:
    """Without one a CPU keeps a chunk small beside its traces."""
    config = zoo.model_config("lif-exp-co", n_rec=8, n_layer=1)

    def chosen(budget: float) -> Any:
        given = LearnerConfig(
            method="diag", memory_budget=budget, vjp_method="multi-step", chunk_size=1
        )
        made = make_learner(
            given, lambda operator: build_network(config, 4, 3, operator, 0), 2, zoo.objective(1)
        )
        # as large as 800 neurons in batches of 128
        return dataclasses.replace(
            automatic(made, given), beside=33_000_000, alone=13_000_000, trace=740_000_000
        )

    assert chosen(0.0)(2200) == 3
    assert chosen(2.0)(2200) == (2_000_000_000 - 740_000_000) // 33_000_000
    assert chosen(1.0)(2200) == (1_000_000_000 - 740_000_000) // 33_000_000
    assert chosen(40.0)(2200) == 2200  # one chunk, without traces
