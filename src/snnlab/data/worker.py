"""What a process does that cuts batches for a loader; it never loads JAX."""

from __future__ import annotations

from snnlab import interrupts
from snnlab.data.cutting import BatchCutter, CutBatch

_cutter: BatchCutter | None = None


def begin(cutter: BatchCutter) -> None:
    """Cut batches of ``cutter`` from now on, until the process that asks for them ends."""
    global _cutter
    interrupts.serve()
    _cutter = cutter


def cut(key: tuple[int, int]) -> CutBatch:
    """The batch ``(epoch, number)``."""
    assert _cutter is not None
    return _cutter[key]
