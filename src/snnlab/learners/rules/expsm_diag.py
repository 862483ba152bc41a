"""ES-D-RTRL (pp-prop): a trace of two smoothed vectors, of a map's input and of its drive.

    xbar_t = a xbar_{t-1} + x_t ,    fbar_t = a D_t fbar_{t-1} + (1 - a) f_t ,
    dL/dW = sum_t xbar_t (d_t . fbar_t) / (1 - a^(t+1))

Memory: B (n_in + n) numbers for a map and state. Parameters of a neuron keep the exact trace of
D-RTRL, which is smaller still. With windows, backpropagation inside a window and the smoothed
vectors for what was before it; the correction of the first steps counts steps.

Source: Wang et al. 2026 (Nature Communications 17:1745); the factor (1 - a) and the correction are
braintrace's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from snnlab.learners.base import Learner, at_rest
from snnlab.learners.graph.derivatives import Blocks
from snnlab.learners.graph.evaluate import ByBlock, ByRelation
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Learned, Rule, Setting
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.stores import factors
from snnlab.learners.stores.dynamics import plus, through_drives

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class Smoothed(NamedTuple):
    """``x_bar`` by block, ``f_bar`` by (state, relation), and the steps so far."""

    x_bar: ByBlock
    f_bar: Blocks
    steps: jax.Array


class ESDRTRL(Rule):
    """Both vectors smoothed by ``--etrace_decay``."""

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        super().__init__(graph, mine, setting, kept)
        reach = {r: graph.relations[r] for r in self.mine if graph.relations[r].reach}
        f_bar = {(b, r): at_rest(one.shape)
                 for r, one in reach.items() for b in one.reach}  # fmt: skip
        steps = at_rest((), jnp.int32)
        self.initial = Smoothed(factors.resting_inputs(graph, list(reach)), f_bar, steps)

    def chunk(self, chunk: Chunk, state: Smoothed) -> Learned:
        decay, of, mine = self.setting.decay, chunk.dynamics, dict.fromkeys(self.mine)
        f_bar, f_bars = factors.smooth_drives(of, chunk.length, state.f_bar, decay)
        y_bar: ByRelation = {}
        before: ByRelation = {}
        if chunk.role.learns:
            windowed = bool(self.setting.window)
            signal = chunk.windows.behind if windowed else chunk.found.states
            warm = factors.warm_up(decay, state.steps, chunk.length)[:, None, None]
            g = through_drives(of, signal, f_bars)
            if g:
                before, y_bar = factors.smooth_signal({r: v / warm for r, v in g.items()}, decay)
            if windowed:
                last = factors.warm_up(decay, jnp.maximum(state.steps - 1, 0), 1)[0]
                first = through_drives(of, chunk.windows.before, state.f_bar)
                before = plus(before, {r: v / last for r, v in first.items()})
                y_bar = chunk.windows.joined(y_bar, self.mine)
            else:
                y_bar = chunk.direct(y_bar, mine)
        x_bar = factors.smooth_inputs(state.x_bar, chunk.steps.inputs, decay)
        new = Smoothed(x_bar, f_bar, state.steps + chunk.length)
        return Learned(y_bar, factors.outer_before(self.graph, state.x_bar, before), new)


def make(of: Request) -> Learner:
    return of.online(lambda graph, r: ESDRTRL if graph.relations[r].is_map else DRTRL)
