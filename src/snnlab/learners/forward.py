"""The network without learning: measured in blocks of steps, or shown step by step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Objective, add
from snnlab.learners.chunks import equal_parts, read_window
from snnlab.learners.functional import Params, PureNetwork, PureSequence, get_params
from snnlab.learners.graph import derivatives
from snnlab.learners.graph.evaluate import Arrays, make_frame
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

    def measure(self, params: Params, stream: Stream, objective: Objective, batch: Any) -> Any:
        """The objective's metrics, summed over the steps of ``stream``."""
        length = stream.n_steps
        frame = make_frame(self.graph, params, length)
        size = equal_parts(length, min(current().bptt_block, length))
        n_full, rest = divmod(length, size)

        def advance(h: Arrays, first: Any, k: int) -> tuple[Arrays, Any]:
            xs = read_window(stream, first, k)
            end, steps = derivatives.forward(frame, h, xs, first + jnp.arange(k))
            return end, derivatives.observe(frame, steps, objective, batch)[1]

        h = [jnp.asarray(v) for v in jax.tree.leaves(self.start)]
        firsts = size * jnp.arange(n_full)
        h, measured = jax.lax.scan(lambda h, first: advance(h, first, size), h, firsts)
        total = jax.tree.map(lambda a: a.sum(0), measured)
        return add(total, advance(h, size * n_full, rest)[1]) if rest else total


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
