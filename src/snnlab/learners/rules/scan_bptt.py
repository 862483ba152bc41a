"""Backpropagation through time: the exact gradient; memory grows with the segment.

With blocks of k steps, the carry is stored once in a block and the block's steps run again in the
backward pass (Chen et al. 2016, arXiv:1604.06174): memory for T / k + k steps instead of T, time
for one more forward pass, the same gradient.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import (
    Learner,
    Objective,
    Segment,
    add,
    sum_over_steps,
    template,
)
from snnlab.learners.functional import Params, PureStep


class ScanBPTT(Learner):
    """Reverse mode through a scan over the segment's steps (Werbos 1990)."""

    backend = "plain"

    def __init__(self, net: PureStep, objective: Objective, block: int = 0) -> None:
        self.objective = objective
        self.block = block
        self.net = net
        self.initial = template(self.net.initial)

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        def loss_of(params: Params) -> Any:
            def body(carry: Any, t: Any) -> Any:
                carry, out = self.net.step(params, carry, stream.at(t))
                loss, metrics = self.objective.step(out, t, batch)
                return carry, (loss, metrics)

            def steps(carry: Any, ts: Any) -> Any:
                carry, out = jax.lax.scan(body, carry, ts)
                return carry, sum_over_steps(out)

            ts = start + jnp.arange(length)
            block = self.block
            if not 0 < block < length:
                end, (loss, metrics) = steps(carry, ts)
                return loss, (end, metrics)
            n, rest = divmod(length, block)
            blocks = ts[: n * block].reshape(n, block)
            end, out = jax.lax.scan(jax.checkpoint(steps), carry, blocks)
            loss, metrics = sum_over_steps(out)
            if rest:
                end, out = jax.checkpoint(steps)(end, ts[n * block :])
                loss, metrics = add((loss, metrics), out)
            return loss, (end, metrics)

        gradients, (end, metrics) = jax.grad(loss_of, has_aux=True)(params)
        return Segment(end, gradients, metrics)
