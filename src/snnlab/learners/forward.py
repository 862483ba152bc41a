"""The network without learning, as learners run it: in blocks of steps, input products at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Objective, add
from snnlab.learners.chunks import equal_parts, read_window
from snnlab.learners.functional import Params, PureNetwork
from snnlab.learners.graph import derivatives
from snnlab.learners.graph.evaluate import Arrays, make_frame
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.tuning import current


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
