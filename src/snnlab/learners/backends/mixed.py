"""Two learners of a library, of which each parameter takes its gradient from one."""

from __future__ import annotations

from typing import Any

from snnlab.data.stream import Stream
from snnlab.learners.base import Learner, Segment
from snnlab.learners.functional import Params


class Mixed(Learner):
    """Both see the same trajectory, so their gradients can be mixed.

    Args:
        diag: D-RTRL, or ``None`` if no map needs it.
        expsm: ES-D-RTRL, or ``None`` if no map needs it.
        exact: names of the parameters that take D-RTRL's gradient.
    """

    def __init__(self, diag: Learner | None, expsm: Learner | None, exact: set[str]) -> None:
        self.parts = {k: v for k, v in (("diag", diag), ("expsm", expsm)) if v is not None}
        self.exact = exact
        self.backend = next(iter(self.parts.values())).backend
        self.initial = {name: part.initial for name, part in self.parts.items()}

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        found = {
            name: part.segment(params, carry[name], stream, batch, start, length)
            for name, part in self.parts.items()
        }
        chosen = {n: "diag" if n in self.exact else "expsm" for n in params}
        return Segment(
            {name: one.carry for name, one in found.items()},
            {n: found[name].gradients[n] for n, name in chosen.items()},
            next(iter(found.values())).metrics,
        )
