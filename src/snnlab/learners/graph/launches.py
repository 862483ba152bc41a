"""Recurrences that a kernel of our own runs (:mod:`snnlab.learners.stores.pallas.recurrence`)."""

from __future__ import annotations

import dataclasses

import jax

from snnlab.learners.graph.blocks import Blocks, NotElementwise, blocks_of
from snnlab.learners.graph.evaluate import Arrays, ByBlock, ByRelation, Frame
from snnlab.learners.graph.stages import Recurrence, stages
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.stores.pallas import recurrence as kernel

ByState = dict[int, jax.Array]


@dataclasses.dataclass(frozen=True)
class Launch:
    """A recurrence of a segment, in the terms of :mod:`snnlab.learners.graph.in_stages`."""

    frame: Frame
    of: Recurrence
    blocks: Blocks

    @property
    def weights(self) -> Arrays:
        return [self.frame.rows[r][self.of.inner[r][0]] for r in self.blocks.maps]

    def forward(
        self, h: Arrays, reads: Arrays, outer: ByRelation, length: int
    ) -> tuple[Arrays, Arrays, ByRelation, ByBlock]:
        """See :func:`snnlab.learners.graph.in_stages.recur`."""
        of, maps = self.of, self.blocks.maps
        own = self.blocks.own([self.frame.whole[r] for r in of.values])
        end, before, ys, xs = kernel.forward(
            self.blocks, [h[i] for i in of.states], reads, [outer.get(r) for r in maps], own,
            self.blocks.fixed(self.frame), self.weights, length,
        )  # fmt: skip
        blocks = {(r, of.inner[r][0]): x for r, x in zip(maps, xs, strict=True)}
        return end, before, dict(zip(maps, ys, strict=True)), blocks

    def backward(
        self, h: Arrays, reads: Arrays, ys: ByRelation, own: ByRelation,
        seen_bar: tuple[ByState, ByState, ByRelation], h_bar: ByState,
    ) -> tuple[ByState, list[jax.Array | None], ByRelation, ByRelation]:  # fmt: skip
        """See :func:`snnlab.learners.graph.in_stages.recur_back`."""
        of, maps = self.of, self.blocks.maps
        before, after, drives = seen_bar
        wide, narrow = jax.vjp(self.blocks.own, [own[r] for r in of.values])
        seen = [before.get(i) for i in of.states] + [after.get(i) for i in of.states]
        start, reads_bar, y_bar, own_bar = kernel.backward(
            self.blocks, [h_bar[i] for i in of.states], h, reads, [ys[r] for r in maps],
            [*seen, *(drives.get(r) for r in maps)], wide, self.blocks.fixed(self.frame),
            self.weights,
        )  # fmt: skip
        (own_sums,) = narrow(own_bar)
        return (
            dict(zip(of.states, start, strict=True)), list(reads_bar),
            dict(zip(maps, y_bar, strict=True)), dict(zip(of.values, own_sums, strict=True)),
        )  # fmt: skip


def find(frame: Frame, of: Recurrence) -> Launch | None:
    """The kernel of a recurrence; ``None`` where it stays a scan."""
    if of.states not in frame.blocks:
        frame.blocks[of.states] = blocks_for(frame.graph, of)
    blocks = frame.blocks[of.states]
    return None if blocks is None else Launch(frame, of, blocks)


def blocks_for(graph: StepGraph, of: Recurrence) -> Blocks | None:
    """``None`` of what is not elementwise, has other maps than dense float32 ones of own spikes,
    arrays of several shapes, or more neurons than fit."""
    try:
        found = blocks_of(graph, of)
    except NotElementwise:
        return None
    return found if kernel.fits(found) else None


def any_in(graph: StepGraph) -> bool:
    """Whether there is a kernel for a recurrence."""
    found = (s for s in stages(graph) if isinstance(s, Recurrence))
    return any(blocks_for(graph, s) is not None for s in found)
