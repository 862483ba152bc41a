"""What is chosen by the device: sizes of chunks, of blocks and of passes.

No gradient depends on any of it (but for rounding). A CPU has little memory, caches and loops of
our own; an accelerator has much, and every operation of a program costs a launch, so the same
algebra is done there in few large operations.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax

from snnlab.errors import UsageError


class Kernels(NamedTuple):
    """What kernels of ours run on a GPU or TPU.

    Attributes:
        pass_steps: steps of a chunk up to which the pass over traces after it is one; 0: never.
        recurrence: whether a layer's recurrence through a chunk is one.
    """

    pass_steps: int = 0
    recurrence: bool = False


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The policies of a kind of device.

    Attributes:
        own_loops: whether numba's loops may be called (:mod:`snnlab.learners.stores.kernels`).
        share: of the device's memory that traces and chunks may take.
        whole: whether a sequence is one chunk, without traces, wherever the budget allows it;
            otherwise only if that takes no more than the traces would.
        beside, beside_bytes: memory of a chunk beside the traces, a share of theirs or so many
            bytes if that is more; ``beside`` 0: what the budget leaves.
        modest_bytes: traces and chunk together below which memory is not saved.
        longest: steps of a chunk beyond which nothing is gained, without traces (ES-D-RTRL) or
            with traces that a cache holds (``cached_bytes``).
        longest_traced: the same with larger traces.
        cached_bytes: see ``longest``.
        least_sparse: steps of a chunk of a network with sparse maps, at least.
        bptt_block: steps of a product of BPTT.
        least_events: inputs of a step (samples x lines) from which on they are taken as a list of
            events, where they come as one and there are loops for it.
        few_steps: steps of a chunk up to which its products are made in the pass over the traces.
        turn_from: steps of a segment from which on transposed weights are written down.
        layer_after_layer: whether a chunk of such a segment runs layer after layer
            (:mod:`snnlab.learners.graph.stages`) instead of step after step.
        block_bytes: traces that are advanced at once, at most (at least those of one sample).
        at_once: whether a pass over traces is few operations of all samples, which a compiler
            joins, instead of a loop over samples, as they lie in memory.
        kernels: what ``--kernels auto`` gives to kernels of ours.
    """

    own_loops: bool
    share: float
    whole: bool
    beside: float
    beside_bytes: int
    modest_bytes: int
    longest: int
    longest_traced: int
    cached_bytes: int
    least_sparse: int
    bptt_block: int
    least_events: int
    few_steps: int
    turn_from: int
    layer_after_layer: bool
    block_bytes: int
    at_once: bool
    kernels: Kernels = dataclasses.field(default_factory=Kernels)


#: Measured on two cores of an x86 server (docs/performance/cpu.md). Events: below 512 lines, 16
#: samples and 128 neurons a list gains a sixth (BPTT) or nothing (online learners), and its loops
#: take seconds to compile.
CPU = Tuning(
    own_loops=True,
    share=0.5,
    whole=False,
    beside=0.16,
    beside_bytes=50_000_000,
    modest_bytes=350_000_000,
    longest=25,
    longest_traced=500,
    cached_bytes=20_000_000,
    least_sparse=25,
    bptt_block=50,
    least_events=2**14,
    few_steps=4,
    turn_from=8,
    layer_after_layer=False,
    block_bytes=2**23,
    at_once=False,
)
#: GPU and TPU (docs/performance/gpu-h200.md); nothing was measured on a TPU. ES-D-RTRL has its best
#: chunks there too.
ACCELERATOR = dataclasses.replace(
    CPU,
    own_loops=False,
    share=0.25,
    whole=True,
    beside=0.0,
    cached_bytes=0,
    least_sparse=0,
    bptt_block=400,
    layer_after_layer=True,
    block_bytes=2**30,
    at_once=True,
)
#: After a step a pass over traces is faster as a kernel of ours (0.12 ms in place of 0.17), after
#: a chunk of 100, whose products the kernel adds up step by step, it is not.
GPU = dataclasses.replace(ACCELERATOR, kernels=Kernels(pass_steps=8))


_PLANNED: contextvars.ContextVar[Tuning | None] = contextvars.ContextVar("planned", default=None)


def current() -> Tuning:
    """The policies of the device that JAX runs on, or those of :func:`planned_for`."""
    planned = _PLANNED.get()
    if planned is not None:
        return planned
    return {"cpu": CPU, "gpu": GPU}.get(jax.default_backend(), ACCELERATOR)


def kernels(wanted: Literal["auto", "xla", "pallas"]) -> Kernels:
    """What kernels of ours run with ``--kernels``, on the device of :func:`current`.

    Raises:
        UsageError: kernels of a GPU or TPU, on a CPU.
    """
    of = current()
    if wanted == "pallas" and of.own_loops:
        raise UsageError(
            "--kernels pallas needs a GPU or TPU: a CPU would interpret these kernels, hundreds of "
            "times slower; use auto"
        )
    everywhere = Kernels(sys.maxsize, recurrence=True)
    return {"auto": of.kernels, "xla": Kernels(), "pallas": everywhere}[wanted]


@contextlib.contextmanager
def planned_for(tuning: Tuning) -> Iterator[None]:
    """Build and trace programs in this block as on another kind of device.

    With ``jax.export`` a machine without accelerator makes the programs of one.
    """
    token = _PLANNED.set(tuning)
    try:
        yield
    finally:
        _PLANNED.reset(token)
