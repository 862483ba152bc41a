"""Immediate: nothing is remembered. The control that every comparison of rules needs.

    dL/dW = sum_t x_t (d_t . f_t)

What reaches the loss of a step through what came before it is left out, the readout's memory
included.

Memory: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnlab.learners.base import Learner
from snnlab.learners.rules.base import Learned, Rule
from snnlab.learners.rules.build import Request
from snnlab.learners.stores.dynamics import through_drives

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class Immediate(Rule):
    """The exact signal of a step, and its input."""

    def chunk(self, chunk: Chunk, state: Any) -> Learned:
        y_bar = {}
        if chunk.role.learns:
            g = through_drives(chunk.dynamics, chunk.found.states)
            y_bar = chunk.direct(g, dict.fromkeys(self.mine))
        return Learned(y_bar, {}, state)


def make(of: Request) -> Learner:
    return of.online(lambda _graph, _r: Immediate)
