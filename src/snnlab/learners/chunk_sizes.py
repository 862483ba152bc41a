"""The size of chunks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from snnlab.devices import memory
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.tuning import CPU, Tuning, current

if TYPE_CHECKING:
    from snnlab.learners.chunks import OnlineLearner
    from snnlab.learners.config import LearnerConfig

#: Arrays of the size of a state or a drive that a chunk holds per step, for each of them: beside
#: traces, and if it is the only chunk (fitted to XLA's figures for 3 x 512 LIF neurons).
LIVE_BESIDE, LIVE_ALONE = 8, 3


def automatic(learner: OnlineLearner, config: LearnerConfig) -> Automatic:
    """``--chunk_size auto``, within ``--memory_budget``; one that is given is used."""
    there = memory()
    batch = learner.net.batch_size
    tuning = current()
    if config.memory_budget:
        tuning = dataclasses.replace(tuning, whole=True, beside=0.0)
    return Automatic(
        beside=step_bytes(learner.graph, batch, LIVE_BESIDE),
        alone=step_bytes(learner.graph, batch, LIVE_ALONE),
        trace=learner.trace_bytes,
        budget=config.memory_budget * 1e9 or tuning.share * (there.total if there else 4e9),
        kept=learner.kept, tuning=tuning,
        least=tuning.least_sparse if has_sparse_traces(learner) else 0,
    )  # fmt: skip


def has_sparse_traces(learner: OnlineLearner) -> bool:
    """Whether there are traces of sparse maps."""
    maps = [one for one in learner.graph.relations if one.is_map and one.trained]
    return learner.trace_bytes > 0 and not all(one.dense for one in maps)


def step_bytes(graph: StepGraph, batch_size: int, live: int) -> int:
    """Bytes that one more step in a chunk costs: inputs of maps, ``live`` vectors of neurons."""
    maps = [one for one in graph.relations if one.is_map]
    inputs = sum(block.size for one in maps for block in one.blocks)
    neurons = sum(v.aval.shape[-1] for v in graph.state_vars if v.aval.ndim == 2)
    neurons += sum(one.shape[1] for one in maps)
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
    than the traces would take (on an accelerator, and with a budget that was given: than the
    budget) is one chunk, without traces. Otherwise K is what keeps a chunk's memory small beside
    that of the traces (or both below ``modest_bytes``), or what such a budget leaves; never more
    than ``longest_traced``, beyond which the pass is small beside the work, or ``longest`` where
    there are no traces to pass over, or so small ones that a cache holds them.

    Of many neurons with few synapses each, a step's vectors are not small beside the traces, and
    its work is that of the synapses of active units, a tenth of what a pass reads. So with sparse
    maps a chunk has ``least`` steps wherever the budget leaves room for them, and a sequence is one
    chunk where it needs no more than such chunks and the traces.

    Attributes:
        beside: bytes of one more step in a chunk, beside traces.
        alone: the same in the only chunk.
        trace: bytes of all traces; 0 for ES-D-RTRL, whose memory is that of a chunk.
        budget: bytes.
        kept: whether traces are kept in any case: segments are continued, or they are small.
        tuning: the device's policies.
        least: steps of a chunk at least, within the budget; 0 if memory alone decides.
    """

    beside: int
    alone: int
    trace: int
    budget: float
    kept: bool = False
    tuning: Tuning = CPU
    least: int = 0

    def __call__(self, length: int) -> int:
        of = self.tuning
        as_traces = self.trace + self.least * self.beside
        alone = self.budget if of.whole and self.trace else min(as_traces, self.budget)
        if not self.kept and length * self.alone <= alone:
            return length
        left = self.budget
        if self.trace and of.beside:
            most = max(of.beside * self.trace, of.beside_bytes, of.modest_bytes - self.trace)
            left = min(max(self.budget - self.trace, of.beside * self.trace), most)
        elif self.trace:
            left = max(self.budget - self.trace, of.beside_bytes)
        if self.least:
            left = max(left, min(self.least * self.beside, self.budget - self.trace))
        longest = of.longest_traced if self.trace > of.cached_bytes else of.longest
        return int(max(1, min(longest, length, left / self.beside)))
