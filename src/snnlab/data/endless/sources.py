"""Sources of endless streams, and what changes in them.

A *source* reads one stretch after another; all but a live reader are a pure function of (seed,
number of the stretch), so that a run goes on with the same bits from any of them.
"""

from __future__ import annotations

import abc
import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from snnlab.data.batch import Batch, Targets
from snnlab.data.endless.readers import Read, Reader, open_reader
from snnlab.data.stream import DenseStream, EventStream
from snnlab.errors import SourceFailed, UsageError, one_line, shown

if TYPE_CHECKING:
    from snnlab.data.build import Data
    from snnlab.data.endless.config import StreamData

#: What random numbers are for; beside the seed.
PATTERNS, STRETCH, CHANGE = 0xD1, 0xD2, 0xD3
#: Rates of an input in a step: of one that a class does not use, and what is added of one it does.
LOW, MORE, SHARE = 0.05, 0.4, 0.3


class Source(abc.ABC):
    """One stretch after another.

    Attributes:
        n_in, n_out: inputs and classes.
        batch_size: B.
        n_steps: of a stretch.
        identity: what recordings these are; see :class:`snnlab.data.batch.Splits`.
        facts: for ``results.json``.
    """

    n_in: int
    n_out: int
    batch_size: int
    n_steps: int
    bin_ms: float | None = None
    sensor: tuple[int, int, int] | None = None
    class_names: tuple[str, ...] = ()
    note: str = ""
    identity: dict[str, str]
    facts: dict[str, Any]

    @abc.abstractmethod
    def stretch(self, number: int) -> Batch:
        """Stretch ``number``, from 0; a live reader gives the next one whatever the number is.

        Its targets are labels ``(S, B)``; ``steps (S, B)`` says which are known.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the number does not say, JSON-able."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        return  # the number of a stretch says all

    def close(self) -> None:
        """Nothing more is read."""
        return


def _targets(labels: np.ndarray, mask: np.ndarray | None = None) -> Targets:
    known = (labels >= 0).astype(np.float32)
    everyone = np.ones(labels.shape[1], np.float32)
    values = np.maximum(labels, 0).astype(np.int32)
    return Targets(values, everyone if mask is None else mask, known)


class Drift(Source):
    """Every ``hold`` steps another class is on; each has its rate for each input.

    A step of an input is a spike with the rate of the class that is on. With ``drift_steps`` the
    rates move along the inputs, linearly between two, so that no class stays what it was.
    """

    def __init__(self, options: StreamData, seed: int) -> None:
        self.n_in, self.n_out = options.n_in, options.n_classes
        self.batch_size, self.n_steps = options.batch_size, options.stretch
        self.seed, self.hold, self.drift_steps = seed, options.hold, options.drift_steps
        self.identity, self.facts = {}, {}
        used = np.random.default_rng([seed, PATTERNS]).random((self.n_out, self.n_in)) < SHARE
        self.rates = (LOW + MORE * used).astype(np.float32)

    def stretch(self, number: int) -> Batch:
        rng = np.random.default_rng([self.seed, STRETCH, number])
        slots = self.n_steps // self.hold
        classes = rng.integers(0, self.n_out, (slots, self.batch_size), dtype=np.int32)
        rates = np.stack([
            self.rates_at(number * self.n_steps + k * self.hold)[classes[k]] for k in range(slots)
        ])  # fmt: skip
        draws = rng.random((slots, self.hold, self.batch_size, self.n_in), dtype=np.float32)
        spikes = (draws < rates[:, None]).astype(np.uint8)
        labels = np.repeat(classes, self.hold, axis=0)
        return Batch(DenseStream(spikes.reshape(self.n_steps, *spikes.shape[2:])), _targets(labels))

    def rates_at(self, step: int) -> np.ndarray:
        """``(n_classes, n_in)`` in a step."""
        if not self.drift_steps:
            return self.rates
        low, part = divmod(step, self.drift_steps)
        share = np.float32(part / self.drift_steps)
        now, then = (np.roll(self.rates, (low + k) % self.n_in, 1) for k in (0, 1))
        return (1 - share) * now + share * then


class Recordings(Source):
    """The training recordings of a dataset, one after another, each pass in another order.

    A stretch is one recording in each of the B streams; the network goes on from one to the next.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self.loader = data.train
        self.n_in, self.n_out, self.n_steps = data.n_in, data.n_out, data.n_steps
        self.batch_size, self.bin_ms, self.sensor = batch_size, data.bin_ms, data.sensor
        self.class_names, self.identity, self.facts = data.class_names, data.identity, data.facts
        self.note = data.note

    def stretch(self, number: int) -> Batch:
        turn, at = divmod(number, len(self.loader))
        self.loader.set_epoch(turn + 1)
        batch = self.loader.batch(at)
        labels = np.tile(np.asarray(batch.targets.values), (self.n_steps, 1))
        return Batch(batch.stream, _targets(labels, batch.targets.mask))


class Live(Source):
    """What a reader reads.

    Raises:
        UsageError: its state cannot be kept in a checkpoint.
    """

    def __init__(self, reader: Reader, stretch: int) -> None:
        self.reader, self.n_steps = reader, stretch
        self.n_in, self.n_out, self.batch_size = reader.n_in, reader.n_out, reader.batch_size
        self.identity, self.facts = {}, {}
        self._failed = False
        self._kept = self.state_dict()  # refused before the run has a folder

    def stretch(self, number: int) -> Batch:
        try:
            batch = self._checked(self._read())
        except SourceFailed:
            self._failed = True
            raise
        self._kept = copy.deepcopy({"reader": self.reader.state_dict()})
        return batch

    def _read(self) -> Read:
        try:
            return self.reader.read(self.n_steps)
        except Exception as error:  # whatever the code of another package does
            reason = one_line(str(error)) or type(error).__name__
            raise SourceFailed(
                f"the reader failed ({shown(reason, 150)}); what was read before it is kept, and "
                "--resume goes on from there"
            ) from error

    def _checked(self, found: Read) -> Batch:
        """What it gave, if it is as it said."""
        xs, labels = np.asarray(found.xs), np.asarray(found.labels)
        shape = (self.n_steps, self.batch_size)
        if xs.shape != (*shape, self.n_in) or labels.shape != shape:
            raise SourceFailed(
                f"the reader gave inputs {xs.shape} and labels {labels.shape}, needed: "
                f"{(*shape, self.n_in)} and {shape}"
            )
        if labels.max() >= self.n_out or not np.issubdtype(labels.dtype, np.integer):
            raise SourceFailed(f"the reader's labels must be whole numbers below {self.n_out}")
        if not np.isfinite(xs).all():
            raise SourceFailed("the reader gave a value that is not finite")
        # Copied: a reader may use its memory again while the device still reads.
        return Batch(DenseStream(np.array(xs, np.float32)), _targets(labels))

    def state_dict(self) -> dict[str, Any]:
        if self._failed:
            return self._kept  # behind the last stretch that was good
        found = {"reader": self.reader.state_dict()}
        try:
            json.dumps(found)
        except (TypeError, ValueError) as error:
            raise UsageError(
                "the reader's state_dict() must be of plain numbers, texts, lists and dicts: "
                f"{one_line(str(error))}"
            ) from None
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reader.load_state_dict(state["reader"])
        self._kept = copy.deepcopy(state)

    def close(self) -> None:
        self.reader.close()


class Changing(Source):
    """A source whose task changes: its inputs trade places, or its classes their names.

    Of the first task nothing is changed; of each later one the permutation is drawn from the seed
    and its number. Permuted inputs are those of Goodfellow et al. (2013, "An empirical
    investigation of catastrophic forgetting"), here without a word when it happens.

    Args:
        source: what is changed.
        every: stretches of a task.
        kind: ``inputs`` or ``labels``.
        seed: of the permutations.
    """

    def __init__(self, source: Source, every: int, kind: str, seed: int) -> None:
        self.source, self.every, self.kind, self.seed = source, every, kind, seed
        for name in ("n_in", "n_out", "batch_size", "n_steps", "bin_ms", "sensor", "class_names",
                     "note", "identity", "facts"):  # fmt: skip
            setattr(self, name, getattr(source, name))

    def stretch(self, number: int) -> Batch:
        batch, task = self.source.stretch(number), number // self.every
        if task == 0:
            return batch
        rng = np.random.default_rng([self.seed, CHANGE, task])
        if self.kind == "labels":
            names = rng.permutation(self.n_out).astype(np.int32)
            return batch._replace(
                targets=batch.targets._replace(values=names[batch.targets.values])
            )
        return batch._replace(stream=_rearranged(batch.stream, rng.permutation(self.n_in)))

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state)

    def close(self) -> None:
        self.source.close()


def _rearranged(stream: Any, order: np.ndarray) -> Any:
    """A stream whose input ``i`` is at ``order[i]``."""
    if isinstance(stream, DenseStream):
        return DenseStream(np.asarray(stream.xs)[..., np.argsort(order)])
    assert isinstance(stream, EventStream)
    cell = np.asarray(stream.cell)
    moved = cell - cell % stream.n_in + order[cell % stream.n_in]
    return EventStream(
        moved.astype(np.int32), stream.offsets, batch_size=stream.batch_size, n_in=stream.n_in,
        binary=stream.binary, block=stream.block, events=stream.events, most=stream.most,
    )  # fmt: skip


def build_source(options: StreamData, seed: int) -> Source:
    """The source of a run.

    Raises:
        UsageError: recordings or a reader that cannot be used.
    """
    made: Source
    if options.dataset == "drift":
        made = Drift(options, seed)
    elif options.dataset == "reader":
        made = Live(open_reader(options, seed), options.stretch)
    else:
        from snnlab.data.build import build_data

        made = Recordings(build_data(options, seed), options.batch_size)
    if not options.change_every:
        return made
    every = options.change_every // made.n_steps
    return Changing(made, every, options.change, seed)
