"""From the config to one of the suite's own learners; the size of its chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Set

from snnlab.devices import memory
from snnlab.learners.base import Learner, Objective
from snnlab.learners.chunks import ChunkedDRTRL, ChunkedESDRTRL
from snnlab.learners.config import LearnerConfig
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.bptt import BlockBPTT
from snnlab.learners.tuning import CPU, Tuning, current
from snnlab.models.base import Network

#: Arrays of the size of a state or a map's output that a chunk holds per step, for each of them:
#: beside traces, and if it is the only chunk (fitted to XLA's figures for 3 x 512 LIF neurons).
LIVE_BESIDE, LIVE_ALONE = 8, 3


def make_own(
    config: LearnerConfig,
    network: Network,
    batch_size: int,
    objective: Objective,
    only: Set[str] | None = None,
) -> Learner:
    """The learner of ``--backend snnlab``.

    Args:
        config, network, batch_size, objective: see :func:`snnlab.learners.make_learner`.
        only: parameters whose gradient is wanted; ``None`` for all.

    Raises:
        UsageError: the network is outside of what the rule can do.
    """
    windowed = config.vjp_method == "multi-step"
    resumed = config.update_every > 0
    size, precision = config.chunk_size, config.precision
    if config.method == "bptt":
        return BlockBPTT(
            network,
            batch_size,
            objective,
            current().bptt_block,
            remat=config.remat,
            precision=precision,
        )
    if config.method == "expsm_diag":
        made: ChunkedDRTRL | ChunkedESDRTRL = ChunkedESDRTRL(
            network,
            batch_size,
            objective,
            size or 1,
            config.decay,
            windowed=windowed,
            precision=precision,
        )
        trace = 0
    else:
        made = ChunkedDRTRL(
            network, batch_size, objective, size or 1, windowed=windowed, resumed=resumed,
            single=config.update_every == 1, only=only, precision=precision,
        )  # fmt: skip
        trace = made.trace_bytes
    if size is None:
        there = memory()
        budget = config.memory_budget * 1e9 or current().share * (there.total if there else 4e9)
        made.chunk_size = Automatic(
            beside=step_bytes(made.graph, batch_size, LIVE_BESIDE),
            alone=step_bytes(made.graph, batch_size, LIVE_ALONE),
            trace=trace, budget=budget, resumed=resumed, tuning=current(),
        )  # fmt: skip
    return made


def step_bytes(graph: StepGraph, batch_size: int, live: int) -> int:
    """Bytes that one more step in a chunk costs: inputs of maps, ``live`` vectors of neurons."""
    inputs = sum(p.size for cut in graph.cuts for p in cut.pieces)
    neurons = sum(v.aval.shape[-1] for v in graph.state_vars if v.aval.ndim == 2)
    neurons += sum(cut.y.aval.shape[1] for cut in graph.cuts)
    return 4 * batch_size * (inputs + live * neurons)


@dataclasses.dataclass(frozen=True)
class Automatic:
    """Steps of a chunk for a segment: ``--chunk_size auto``.

    The model, per step of a sequence of T steps in chunks of K:

    ====== ========================== ===========================
    .      time                       memory
    ====== ========================== ===========================
    K < T  ``work + pass / K``        ``trace + K * beside``
    K >= T ``work``                   ``T * alone``
    ====== ========================== ===========================

    ``work`` does not depend on K (the products of a chunk are those of its steps), ``pass`` is
    one reading and writing of the traces. So a sequence that needs no more memory as one chunk
    than the traces would take (on an accelerator: than the budget) is one chunk, without traces.
    Otherwise K is what keeps a chunk's memory small beside that of the traces (or both below
    ``modest_bytes``), or what the budget leaves; never more than ``longest_traced``, beyond which
    the pass is small beside the work, or ``longest`` where there are no traces to pass over, or so
    small ones that a cache holds them.

    Attributes:
        beside: bytes of one more step in a chunk, beside traces.
        alone: the same in the only chunk.
        trace: bytes of all traces; 0 for ES-D-RTRL, whose memory is that of a chunk.
        budget: bytes.
        resumed: whether traces are kept in any case, since segments are continued.
        tuning: the device's policies.
    """

    beside: int
    alone: int
    trace: int
    budget: float
    resumed: bool = False
    tuning: Tuning = CPU

    def __call__(self, length: int) -> int:
        of = self.tuning
        alone = self.budget if of.whole and self.trace else min(self.trace, self.budget)
        if not self.resumed and length * self.alone <= alone:
            return length
        left = self.budget
        if self.trace and of.beside:
            most = max(of.beside * self.trace, of.beside_bytes, of.modest_bytes - self.trace)
            left = min(max(self.budget - self.trace, of.beside * self.trace), most)
        elif self.trace:
            left = max(self.budget - self.trace, of.beside_bytes)
        longest = of.longest_traced if self.trace > of.cached_bytes else of.longest
        return int(max(1, min(longest, length, left / self.beside)))
