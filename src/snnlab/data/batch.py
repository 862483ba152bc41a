"""One batch, and the splits of a task that batches come from.

This module imports nothing heavy: commands start at once, and workers that cut batches never load
JAX.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from snnlab.data.stream import Stream


class Targets(NamedTuple):
    """What a batch's outputs are compared with; a pytree.

    Attributes:
        values: labels ``(B,) int32``, 0 for padding; or a sequence: an array ``(T, B, n_out)``, or
            whatever has ``at(t) -> (B, n_out)`` as a stream does, so that targets which are
            generated need no array of length T; or :class:`snnlab.data.answers.Answers`.
        mask: ``(B,) float32``, 1 for a sample, 0 for padding.
        steps: which steps count, 0 or 1: ``(T,)`` for all samples, ``(T, B)`` for each; ``None``
            for all that the objective scores.
        total: the samples of the whole batch, where these are a part of it (a shard of several
            devices); ``None``: the mask's sum.
    """

    values: Any
    mask: Any
    steps: Any = None
    total: Any = None

    def parts(self, n: int) -> list[Targets]:
        """Those of ``n`` equal parts of the samples, in their order."""
        values, steps = self.values, self.steps
        labels = values.parts(n) if hasattr(values, "parts") else cut(values, n, values.ndim > 1)
        each = [steps] * n if steps is None or steps.ndim == 1 else cut(steps, n, 1)
        return [Targets(*part) for part in zip(labels, cut(self.mask, n, 0), each, strict=True)]


class Batch(NamedTuple):
    """One batch of any task; a pytree.

    Attributes:
        stream: its input, ``(T, B, n_in)`` when made dense.
        targets: what the outputs are compared with.
        indices: ``(B,) int64`` positions in the split, -1 for padding; ``None`` where samples are
            generated.
        conditions: what was drawn for each generated trial, ``(B, ...)`` by name.
    """

    stream: Stream
    targets: Targets
    indices: Any = None
    conditions: Any = None


def cut(array: Any, n: int, axis: int) -> list[Any]:
    """``n`` equal parts of an array along an axis of samples."""
    size = array.shape[axis] // n
    lead = (slice(None),) * axis
    return [array[(*lead, slice(k * size, (k + 1) * size))] for k in range(n)]


def padded(which: np.ndarray, labels: np.ndarray, size: int) -> tuple[Targets, np.ndarray]:
    """Targets and indices of a batch of ``size`` samples, the last of them padding.

    Args:
        which: ``(b,)`` positions in the split, b <= size.
        labels: of the whole split.
        size: B.
    """
    import numpy as np

    values, mask = np.zeros(size, np.int32), np.zeros(size, np.float32)
    indices = np.full(size, -1, np.int64)
    values[: len(which)], mask[: len(which)], indices[: len(which)] = labels[which], 1, which
    return Targets(values, mask), indices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Training, validation and test of a task, and what a network and a user must know of them.

    Attributes:
        dataset: name.
        train, val, test: loaders; see :mod:`snnlab.data.loader`.
        n_in: inputs.
        n_out: readout units: classes, or targets of a step.
        n_steps: steps T of a sample.
        bin_ms: recorded time of a step; ``None`` where nothing was recorded (it is then the
            simulated step of the network).
        sensor: (height, width, polarities) of recorded input, whose index is
            ``(polarity * height + y) * width + x``. ``None`` where there is none.
        graded: inputs are values (brightness, energy), no spikes or counts of them, for figures.
        class_names: of the readout units; their numbers where empty.
        input_groups: names and sizes of the groups of inputs, for figures; empty: they are one.
        periods: names and steps of the periods of a trial, for figures; empty: there are none.
        facts: for ``results.json``.
        identity: what recordings are, by content and transform, not by name: fact -> text. It
            stands in ``config.yaml`` and in every checkpoint, and a run goes on only with the same.
            Empty where trials are generated from the options.
        note: lines for the user, if there is something to say.
    """

    dataset: str
    train: Any
    val: Any
    test: Any
    n_in: int
    n_out: int
    n_steps: int
    bin_ms: float | None = None
    sensor: tuple[int, int, int] | None = None
    graded: bool = False
    class_names: tuple[str, ...] = ()
    input_groups: tuple[tuple[str, int], ...] = ()
    periods: tuple[tuple[str, int], ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    identity: dict[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""

    def shared(self, **changes: Any) -> dict[str, Any]:
        """These fields by name, with ``changes``: what a subclass of other data is made of."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(Splits)} | changes
