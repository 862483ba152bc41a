"""Arithmetic and traffic of a learner, from shapes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from snnlab.benchmarks import roofline
from snnlab.benchmarks.cells import Cell
from snnlab.learners import LearnerConfig, get_params, make_learner
from zoo import (
    BATCH,
    N_IN,
    N_OUT,
    STEPS,
    make_network_fn,
    make_stream,
    make_targets,
    model_config,
    objective,
)

N = 12
WEIGHTS = (N_IN + N) * N + (N + N) * N + N * N_OUT
ONCE = 2 * BATCH * WEIGHTS  # a product of a step's input with every weight
SIGNALS = 2 * BATCH * (N * N + N * N_OUT)  # from the readout down to the first layer
INPUT = 2 * BATCH * N_IN * N


def test_loops_and_branches() -> None:
    a = jnp.ones((2, 3))
    w = jnp.ones((3, 3))

    def program(a: jax.Array, w: jax.Array) -> jax.Array:
        def body(a, _):
            return jax.lax.cond(a.sum() > 0, lambda: a @ w, lambda: a), None

        return jax.lax.scan(jax.jit(body), a, length=7)[0]

    assert roofline.product_flop(program, a, w) == 7 * 2 * 2 * 3 * 3
    batched = roofline.product_flop(lambda x, y: jnp.einsum("bij,bjk->bik", x, y),
                                    jnp.ones((5, 2, 3)), jnp.ones((5, 3, 4)))  # fmt: skip
    assert batched == 5 * 2 * 2 * 3 * 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Forward, gradient of the weights, adjoint of every map's input (also of the data).
        ({"method": "bptt", "backend": "plain"}, 3 * ONCE),
        ({"method": "bptt", "backend": "snnlab"}, 3 * ONCE - INPUT),
        ({"method": "bptt", "backend": "snnlab", "remat": True}, 4 * ONCE - INPUT),
        # No adjoint in time: signals of a step only.
        ({"method": "diag", "backend": "snnlab"}, 2 * ONCE + SIGNALS),
    ],
)
def test_products_of_learners(options: dict[str, Any], expected: int) -> None:
    config = model_config("lif-delta")
    make = make_network_fn(config)
    learner = make_learner(LearnerConfig(**options), make, BATCH, objective(config.n_layer))

    def gradient(params: Any) -> Any:
        segment = learner.segment(params, learner.fresh(), make_stream(), make_targets(), 0, STEPS)
        return segment.gradients

    assert roofline.product_flop(gradient, get_params(make("plain"))) == STEPS * expected


def test_traffic() -> None:
    cell = Cell(method="bptt", n_in=N_IN, n_rec=N, n_layer=2, batch_size=3, data_length=20)
    weights = (N_IN + N) * N + (N + N) * N + N * 10
    assert roofline.traffic_bytes(cell, 20) == 8 * weights
    online = Cell(method="diag", n_in=N_IN, n_rec=N, n_layer=2, batch_size=3, data_length=20)
    assert roofline.traffic_bytes(online, 20) == 4 * weights  # no traces are kept
    assert roofline.traffic_bytes(online, 5) == 4 * weights + 2 * 4 * 3 * weights / 5


def test_existing_synapses_only() -> None:
    """Rows of active units, with their targets; the table of a million neurons is no dense one."""
    cell = Cell(
        method="diag", n_in=N_IN, n_rec=40, n_layer=2, batch_size=2, data_length=20, density=0.5,
        connectivity=0.1,
    )  # fmt: skip
    config = model_config("lif-delta", n_rec=40, connectivity=0.1)
    network = make_network_fn(config)("plain")
    held = sum(v.size for v in get_params(network).values())
    assert roofline.n_weights(cell, N_OUT) == held
    rows = 0.5 * N_IN + 0.1 * 40 + 0.1 * 40 + 0.2 * 40
    wanted = 2 * 8 * 4 * rows + 4 * 40 * 10
    assert roofline.traffic_bytes(cell, 20, [100.0, 200.0]) == pytest.approx(wanted)
    assert roofline.traffic_bytes(cell, 5, [100.0, 200.0]) == pytest.approx(
        wanted + 2 * 4 * 2 * roofline.n_weights(cell) / 5
    )
    large = Cell(method="diag", n_in=2048, n_rec=10**6, n_layer=1, batch_size=1, connectivity=1e-4)
    assert roofline.traffic_bytes(large, 100, [90.0]) < 2e8
