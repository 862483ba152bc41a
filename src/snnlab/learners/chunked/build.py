"""From the config to one of the suite's own learners; the size of its chunks."""

from __future__ import annotations

import os

import jax

from snnlab.learners.base import Learner, Objective
from snnlab.learners.chunked import rules
from snnlab.learners.chunked.backprop import BlockBPTT
from snnlab.learners.chunked.graph import StepGraph
from snnlab.learners.chunked.learner import ChunkedDRTRL, ChunkedESDRTRL
from snnlab.learners.config import LearnerConfig
from snnlab.models.base import Network

#: Share of the device's memory that traces and chunks may take.
SHARE = 0.5
#: Arrays of the size of a state or a map's output that a chunk holds per step, for each of them.
LIVE_ARRAYS = 6
#: Chunks beyond this length gain little: the products inside them dominate. The limit keeps
#: memory flat in the sequence's length, which is what an online learner is for.
LONGEST = 32


def make_own(
    config: LearnerConfig, network: Network, batch_size: int, objective: Objective
) -> Learner:
    """The learner of ``--backend snnlab``.

    Raises:
        UsageError: the network is outside of what the rule can do.
    """
    windowed = config.vjp_method == "multi-step"
    resumed = config.update_every > 0
    size = config.chunk_size
    if config.method == "bptt":
        return BlockBPTT(network, batch_size, objective, size or 50, remat=config.remat)
    if config.method == "expsm_diag":
        made: ChunkedDRTRL | ChunkedESDRTRL = ChunkedESDRTRL(
            network, batch_size, objective, size or 1, config.decay, windowed=windowed
        )
    else:
        made = ChunkedDRTRL(
            network, batch_size, objective, size or 1, windowed=windowed, resumed=resumed
        )
    if size is None:
        made.chunk_size = automatic_chunk(
            made.graph, batch_size, config.memory_budget * 1e9 or SHARE * device_memory()
        )
    return made


def step_bytes(graph: StepGraph, batch_size: int) -> int:
    """Bytes that one more step in a chunk costs: inputs of maps, and vectors of neurons."""
    inputs = sum(p.size for cut in graph.cuts for p in cut.pieces)
    neurons = sum(v.aval.shape[-1] for v in graph.state_vars if v.aval.ndim == 2)
    neurons += sum(cut.y.aval.shape[1] for cut in graph.cuts)
    return 4 * batch_size * (inputs + LIVE_ARRAYS * neurons)


def trace_bytes(graph: StepGraph, batch_size: int) -> int:
    """Bytes of the traces of D-RTRL."""
    return sum(
        4 * batch_size * rules.n_rows(graph, key) * graph.cuts[key[0]].y.aval.shape[1]
        for key in rules.trace_keys(graph)
    )


def automatic_chunk(graph: StepGraph, batch_size: int, budget: float) -> int:
    """Steps of a chunk for a memory budget in bytes.

    The cost of a step is ``work + pass / K``: the products do not depend on K, the pass over the
    traces is shared by the K steps of a chunk. So K is as long as the budget allows: one chunk
    without a trace if the sequence fits (the learner needs no trace then), otherwise what
    is left beside the trace.
    """
    step = step_bytes(graph, batch_size)
    free = budget - trace_bytes(graph, batch_size)
    return int(max(1, min(LONGEST, max(free, 0.3 * budget) / step)))


def device_memory() -> float:
    """Bytes of memory of the first device."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return 4e9
