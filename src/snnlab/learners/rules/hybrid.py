"""Hybrid: D-RTRL where its trace is the smaller one, ES-D-RTRL elsewhere.

A map keeps ``n_in * n_out`` numbers per sample under D-RTRL (its weights), ``n_in + n_out``
under ES-D-RTRL. Where the second is not smaller, the exact trace costs nothing more. Both rules
see the same trajectory, so their gradients can be mixed parameter by parameter. (brainscale's
own hybrid does not run, and braintrace dropped it.)
"""

from __future__ import annotations

from typing import Any

from snnlab.learners.base import Learner, Segment, Stream
from snnlab.learners.functional import Carry, Params


def exact_trace_is_smaller(n_in: int, n_out: int, n_weights: int) -> bool:
    """Whether a map ``(n_in, n_out)`` with ``n_weights`` weights gets D-RTRL."""
    return n_in + n_out > n_weights


class Hybrid(Learner):
    """Two learners of the same network; each parameter takes its gradient from one of them.

    Args:
        diag: D-RTRL, or ``None`` if no map needs it.
        expsm: ES-D-RTRL, or ``None`` if no map needs it.
        exact: names of the parameters that take D-RTRL's gradient.
    """

    def __init__(self, diag: Learner | None, expsm: Learner | None, exact: set[str]) -> None:
        self.diag = diag
        self.expsm = expsm
        self.exact = exact
        self.backend = next(part.backend for part in (diag, expsm) if part is not None)
        self.initial = {
            name: learner.initial
            for name, learner in (("diag", diag), ("expsm", expsm))
            if learner is not None
        }

    def segment(
        self, params: Params, carry: Carry, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        carries, gradients, metrics = {}, {}, None
        for key, learner in (("diag", self.diag), ("expsm", self.expsm)):
            if learner is None:
                continue
            part = learner.segment(params, carry[key], stream, batch, start, length)
            carries[key] = part.carry
            metrics = part.metrics if metrics is None else metrics
            wanted = {n for n in params if (n in self.exact) == (key == "diag")}
            gradients.update({n: part.gradients[n] for n in wanted})
        return Segment(carries, {n: gradients[n] for n in params}, metrics)
