"""Truncated BPTT: the exact gradient within windows of k steps, nothing across them.

States pass from window to window, adjoints do not. With ``--update_every n`` the optimiser acts
after n steps, in the middle of a sequence; windows begin anew there.

Memory: that of BPTT for k steps.

Source: Williams & Peng 1990 (Neural Comput. 2:490), with windows that do not overlap.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Learner, Segment, add
from snnlab.learners.functional import Carry, Params
from snnlab.learners.rules.block_bptt import BPTT
from snnlab.learners.rules.build import Request
from snnlab.learners.tuning import current


class TruncatedBPTT(BPTT):
    """Windows of ``window`` steps; the last one may be shorter."""

    window = 1

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        k = min(self.window, length)
        n_windows, rest = divmod(length, k)

        def window(carry: Carry, first: Any) -> tuple[Carry, Any]:
            part = super(TruncatedBPTT, self).segment(params, carry, stream, batch, first, k)
            return part.carry, (part.gradients, part.metrics)

        carry, parts = jax.lax.scan(window, carry, start + k * jnp.arange(n_windows))
        found = jax.tree.map(lambda a: a.sum(0), parts)
        if rest:
            last = super().segment(params, carry, stream, batch, start + k * n_windows, rest)
            carry, found = last.carry, add(found, (last.gradients, last.metrics))
        return Segment(carry, *found)


def make(of: Request) -> Learner:
    made = TruncatedBPTT(of.net, of.objective, current().bptt_block, precision=of.config.precision)
    made.window = of.config.chunk_size or 1
    return made
