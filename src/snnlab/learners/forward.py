"""The network without learning: measured in blocks of steps, or shown step by step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Objective, add
from snnlab.learners.chunks import equal_parts, read_window
from snnlab.learners.counting import Counts, StepCounter, counts, zeros
from snnlab.learners.functional import Params, PureNetwork, PureSequence, at_rest, get_params
from snnlab.learners.graph import derivatives
from snnlab.learners.graph.evaluate import make_frame
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.tuning import current
from snnlab.models.base import Network, StepOutput


class Forward:
    """What an objective measures of a whole sequence, from rest.

    Args:
        net: the network as a pure step.
    """

    def __init__(self, net: PureNetwork) -> None:
        self.graph = StepGraph(net, "sequence")
        self.start = net.initial
        self.counter = StepCounter(self.graph)

    def measure(self, params: Params, stream: Stream, objective: Objective, batch: Any) -> Any:
        """The objective's metrics, summed over the steps of ``stream``."""
        return self._measure(params, stream, objective, batch, None)[0]

    def measure_and_count(
        self, params: Params, stream: Stream, objective: Objective, batch: Any, wanted: jax.Array
    ) -> tuple[Any, Counts]:
        """The same, and what the connections took if ``wanted``; otherwise counts are 0.

        Args:
            batch: targets, whose ``mask (B,)`` is 0 for padding.
        """
        return self._measure(params, stream, objective, batch, wanted)

    def _measure(
        self, params: Params, stream: Stream, objective: Objective, batch: Any, wanted: Any
    ) -> tuple[Any, Any]:
        length = stream.n_steps
        frame = make_frame(self.graph, params, length)
        size = equal_parts(length, min(current().bptt_block, length))
        n_full, rest = divmod(length, size)

        def connections() -> Any:
            return self.counter.connections(frame, length)

        made = (
            () if wanted is None else jax.lax.cond(wanted, connections, lambda: zeros(connections))
        )

        def advance(at: Any, first: Any, k: int) -> tuple[Any, Any]:
            h, last = at
            xs = read_window(stream, first, k)
            end, steps = derivatives.forward(frame, h, xs, first + jnp.arange(k))
            measured = derivatives.observe(frame, steps, objective, batch)[1]
            if wanted is None:
                return (end, last), (measured, ())

            def count() -> Any:  # reads the input anew: elsewhere it may not be needed as an array
                again = read_window(stream, first, k)
                return self.counter.activity(frame, steps, again, made, last, batch.mask)

            activity, last = jax.lax.cond(wanted, count, lambda: zeros(count))
            return (end, last), (measured, activity)

        h = jax.tree.leaves(at_rest(self.start))
        start = h, () if wanted is None else self.counter.rest()
        firsts = size * jnp.arange(n_full)
        end, found = jax.lax.scan(lambda at, first: advance(at, first, size), start, firsts)
        total = jax.tree.map(lambda a: a.sum(0), found)
        if rest:
            total = add(total, advance(end, size * n_full, rest)[1])
        metrics, activity = total
        if wanted is None:
            return metrics, None

        spikes = [v.aval for v in self.graph.out.spikes]
        return metrics, counts(made, activity, spikes, batch.mask)


def response(network: Network, xs: Any) -> StepOutput:
    """What a network shows in each step of an input ``(T, B, n_in)``, from rest, untrained.

    Returns:
        Outputs with a leading axis T.
    """
    xs = jnp.asarray(xs, jnp.float32)
    params = get_params(network)
    if network.layerwise:
        everyone = jnp.ones(xs.shape[1], jnp.float32)
        whole = PureSequence(network, everyone)
        start = jax.tree.map(jnp.asarray, whole.initial)
        return jax.jit(lambda p, xs: whole.run(p, start, xs, everyone)[2])(params, xs)
    net = PureNetwork(network, xs.shape[1])
    start = jax.tree.map(jnp.asarray, net.initial)

    def run(params: Params, xs: jax.Array) -> StepOutput:
        return jax.lax.scan(lambda carry, x: net.step(params, carry, x), start, xs)[1]

    return jax.jit(run)(params, xs)
