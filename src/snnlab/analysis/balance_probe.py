"""The balance of a network's layers on a stream, measured while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.analysis.balance import Balance, BalanceTracker
from snnlab.analysis.config import Metric
from snnlab.learners.base import Stream
from snnlab.learners.functional import Params, Pure, param_states
from snnlab.models import LayeredNetwork


def balance_program(
    network: LayeredNetwork, batch_size: int, n_steps: int, metric: Metric
) -> Callable[[Params, Stream], tuple[Balance, ...]]:
    """A compiled function (parameters, stream) -> balance of every layer.

    One scan: the memory is that of a forward pass and a few numbers per neuron and sample.

    Args:
        network: one of its own (its states are overwritten).
        batch_size: samples of the stream.
        n_steps: T.
        metric: filter of the currents.
    """
    network.init_states(batch_size)
    example = jnp.zeros((batch_size, network.n_in), jnp.float32)
    pure = Pure(network.step_with_currents, (example,), param_states(network))
    tracker = BalanceTracker(metric, n_steps)

    @jax.jit
    def measure(params: Params, stream: Stream) -> tuple[Balance, ...]:
        def advance(carry: Any, t: jax.Array) -> tuple[Any, Any]:
            carry, (_, currents) = pure(params, carry, stream.at(t))
            return carry, currents

        def body(state: Any, t: jax.Array) -> tuple[Any, None]:
            carry, currents = advance(state[0], t)
            pairs = zip(state[1], currents)
            return (carry, [tracker.update(s, *pair) for s, pair in pairs]), None

        start = jax.tree.map(jnp.asarray, pure.initial)
        carry, currents = advance(start, jnp.int32(0))
        first = [tracker.init(*pair) for pair in currents]
        (_, states), _ = jax.lax.scan(body, (carry, first), jnp.arange(1, n_steps))
        return tuple(tracker.result(state) for state in states)

    return measure
