"""What is done beside training: files, progress, checkpoints, figures, stopping."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from snnlab.training.checkpoint_files import START, Place

if TYPE_CHECKING:
    from snnlab.learners.functional import Params
    from snnlab.training.averages import Averages

Row = dict[str, Any]


@dataclasses.dataclass
class Moment:
    """Where training stands. The loop goes on with the same object: a hook copies what it keeps.

    With several seeds in one program, arrays have a leading axis of seeds; one seed has none.

    Attributes:
        state: a :class:`~snnlab.training.programs.TrainState`, from which the next batch starts;
            ``None`` in :meth:`Hook.on_batch` if no hook wanted it. The next batch consumes it.
        place: epochs done, and batches of the next one.
        averages: of these batches, for every seed; ``None`` between epochs.
        batches: of an epoch.
        rows: after an epoch, its rows of training and (if there is one) validation for every seed.
        evaluated: after an epoch, the parameters that validation saw.
        given_up: why a hook finds the run hopeless, set by it in ``on_start`` or ``on_epoch``: the
            run ends with this epoch, and its results say so.
    """

    state: Any
    place: Place = START
    averages: list[Averages] | None = None
    batches: int = 0
    rows: list[tuple[Row, ...]] = dataclasses.field(default_factory=list)
    evaluated: Params = dataclasses.field(default_factory=dict)
    given_up: str = ""


class Hook:
    """Something that is done beside training; a subclass has the methods that it needs."""

    def wants(self, place: Place) -> bool:
        """Whether :meth:`on_batch` needs the state after this batch.

        The loop then waits for the batch. Otherwise the device works on the next one while the
        numbers of this one are read.
        """
        return False

    def on_start(self, now: Moment) -> bool | None:
        """Before the first batch; true ends training before it, when all hooks have been."""

    def on_batch(self, now: Moment) -> None:
        """After every batch."""

    def on_epoch(self, now: Moment) -> bool | None:
        """After every epoch and its validation; true ends training when all hooks have been."""

    def on_end(self, now: Moment, error: BaseException | None) -> None:
        """At the end, also of training that ``error`` ends; hooks in reverse order."""


@contextlib.contextmanager
def ending(hooks: Sequence[Hook], now: Moment) -> Iterator[None]:
    """Whatever ends this block, the hooks are told, the last one first."""
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.push(lambda _kind, error, _trace, hook=hook: hook.on_end(now, error))
        yield
