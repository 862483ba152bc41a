"""Backpropagation through time in blocks of steps, without weight gradients inside the scan.

The backward scan yields the adjoint of each map's output; the gradient of a weight is then one
product for a block of steps, ``sum_t x_t^T ybar_t``, where reverse mode through a plain scan adds
an outer product to an array of the weight's size at every step. What the input alone decides (the
first map's product with it) is computed for a block at once, forwards and backwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Objective, Segment, add, template
from snnlab.learners.chunks import ChunkedLearner, equal_parts, read_window
from snnlab.learners.functional import Params, PureStep
from snnlab.learners.graph import derivatives
from snnlab.learners.graph.evaluate import inputs_of_chunk, make_frame
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.stores.traces import within_chunk

if TYPE_CHECKING:
    from snnlab.learners.config import Precision


class BPTT(ChunkedLearner):
    """The exact gradient; what is kept is the state and the maps' outputs of every step.

    Args:
        net, objective: as for every learner.
        block_size: steps of a product.
        remat: keep the state at the start of blocks only, and run each block again on the way
            back; blocks of sqrt(T) steps.
    """

    def __init__(
        self,
        net: PureStep,
        objective: Objective,
        block_size: int = 50,
        *,
        remat: bool = False,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(
            net, StepGraph(net, "sequence", precision), objective, block_size, precision
        )
        self.initial = template(net.initial)
        self.remat = remat

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        graph = self.graph
        frame = make_frame(graph, jax.lax.stop_gradient(params), length)
        wanted = math.isqrt(length - 1) + 1 if self.remat else self.longest(length)
        size = equal_parts(length, max(1, min(wanted, length)))
        n_full, rest = divmod(length, size)
        h = jax.tree.leaves(carry)
        gradients, metrics = self.zero_sums(frame, h, stream, batch)

        def steps_of(h: Any, first: Any, k: Any) -> Any:
            xs = read_window(stream, first, k)
            return derivatives.forward(frame, h, xs, first + jnp.arange(k))

        def advance(state: Any, first: Any, k: Any) -> Any:
            h, metrics = state
            end, steps = steps_of(h, first, k)
            measured = derivatives.observe(frame, steps, self.objective, batch)[1]
            return (end, add(metrics, measured)), h if self.remat else (steps.h, steps.ys)

        def back(state: Any, first: Any, kept: Any, k: Any) -> Any:
            h_bar, gradients = state
            if self.remat:
                _, steps = steps_of(kept, first, k)
            else:
                known, extra = inputs_of_chunk(frame, read_window(stream, first, k))
                h, ys = kept
                steps = derivatives.Steps(first + jnp.arange(k), h, ys, extra, known)
            inputs, _ = derivatives.observe(frame, steps, self.objective, batch)
            h_bar, y_bar = derivatives.adjoint(frame, steps, self.objective, batch, h_bar)
            new = within_chunk(frame, inputs, y_bar)
            return h_bar, {r: gradients[r] + new[r] for r in gradients}

        firsts = start + size * jnp.arange(n_full)
        last = start + size * n_full
        state, kept = jax.lax.scan(lambda s, t: advance(s, t, size), (h, metrics), firsts)
        if rest:
            state, kept_last = advance(state, last, rest)
        end, metrics = state
        back_state = ([jnp.zeros_like(v) for v in derivatives.floats(graph, end)], gradients)
        if rest:
            back_state = back(back_state, last, kept_last, rest)
        (_, gradients), _ = jax.lax.scan(
            lambda s, i: (back(s, *i, size), None), back_state, (firsts, kept), reverse=True
        )
        return Segment(self.net_carry(end), self.gradients(params, gradients), metrics)
