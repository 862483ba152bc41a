"""What a rule is: what it remembers of some relations, and the gradient that it makes of it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from snnlab.learners.graph.evaluate import ByRelation
from snnlab.learners.graph.step import StepGraph

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a rule is built with.

    Attributes:
        decay: ``--etrace_decay``, in [0, 1).
        window: steps of a window of backpropagation; 0: there are none.
        resumed: segments are continued (``--update_every``).
        single: every segment is one step (``--update_every 1``).
    """

    decay: float = 0.9
    window: int = 0
    resumed: bool = False
    single: bool = False


class Learned(NamedTuple):
    """What a rule makes of a chunk.

    Attributes:
        y_bar: adjoint of its relations' drives, ``(K, B, n)``: multiplied with their inputs it is
            the gradient within the chunk.
        before: gradient by relation through what was before the chunk.
        state: what it remembers after it.
    """

    y_bar: ByRelation
    before: ByRelation
    state: Any


class Rule(abc.ABC):
    """A rule for the relations ``mine`` of a cut step.

    Args:
        graph: the cut step.
        mine: numbers of the relations.
        setting: see there.
        kept: whether what it remembers is part of the carry; otherwise it lives between the
            chunks of a segment, and is ``None`` before the first.

    Attributes:
        initial: what it remembers at rest, shapes in the place of zeros.
        trace_bytes: bytes of its traces of parameters.
        traced: the relations of which it has a trace of each parameter and state.
    """

    #: Whether reading and writing what it remembers costs so much that the first and the last
    #: chunk of a sequence get programs of their own, without.
    splits = False

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        self.graph, self.mine, self.setting = graph, list(mine), setting
        self.initial: Any = None
        self.trace_bytes = 0
        self.traced: list[int] = []

    @abc.abstractmethod
    def chunk(self, chunk: Chunk, state: Any) -> Learned:
        """Learn from a chunk, and remember it."""


Choose = Callable[[StepGraph, int], type[Rule]]


def hidden_maps(rule: type[Rule], others: type[Rule]) -> Choose:
    """``rule`` for maps of spiking layers, ``others`` for readouts and parameters of neurons."""

    def choose(graph: StepGraph, r: int) -> type[Rule]:
        hidden = graph.relations[r].is_map and graph.layer_of(r) is not None
        return rule if hidden else others

    return choose
