"""Parts of batches: together they are the batch of one process, bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest

from snnlab.data import DataConfig, data_of
from snnlab.data.cue import CueLoader, CueTask
from snnlab.data.share import Share, share, whole
from snnlab.data.stream import EventStream
from snnlab.data.trials import TrialLoader
from snnlab.problems.balanced_data import RepeatedLoader
from snnlab.problems.delayed_match import DelayedMatch

OPTIONS = {"data_length": 10, "batch_size": 4, "aug_noise": 3.0, "aug_jitter_ms": 0.05}
#: Of the recordings and trials below; the last batch of either is short.
N_TRIALS = 6


def recorded(store: Any, **changes: Any) -> Any:
    return data_of(store, DataConfig(**{**OPTIONS, **changes}), 0).train


def cues(_store: Any) -> CueLoader:
    return CueLoader(CueTask(2, 3, 4, 3), N_TRIALS, 4, 2, 3.0, 0, 0, shuffle=True)


def trials(_store: Any) -> TrialLoader:
    task = DelayedMatch(fixation=0, sample=6, delay=2, test=6, n_in=10, peak=300.0, background=50.0)
    return TrialLoader(task, 4, 2, 0, 0, renewed=True)


MAKE = {
    "events": recorded,
    "with a worker": lambda store: recorded(store, n_data_worker=1),
    "repeated": lambda store: RepeatedLoader(recorded(store), 3, 2.0),
    "cues": cues,
    "trials": trials,
}


def seen(batch: Any) -> tuple[np.ndarray, ...]:
    """Of each sample (leading axis): input, label, mask, index; nothing is compiled."""
    stream = getattr(batch.stream, "stream", batch.stream)
    if isinstance(stream, EventStream):
        dense = np.zeros((stream.n_steps, stream.batch_size * stream.n_in), np.int32)
        for t, (first, end) in enumerate(itertools.pairwise(np.asarray(stream.offsets))):
            np.add.at(dense[t], np.asarray(stream.cell)[first:end], 1)
        shape = stream.n_steps, stream.batch_size, stream.n_in
        found = [dense.reshape(shape).swapaxes(0, 1)]
    else:
        found = [np.swapaxes(stream.threshold, 0, 1), stream.salt]
    found += [batch.targets.values, batch.targets.mask]
    found += [] if batch.indices is None else [batch.indices]
    found += list((batch.conditions or {}).values())
    return tuple(map(np.asarray, found))


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        ("events", 4), ("repeated", 2), ("cues", 2), ("trials", 2),
        pytest.param("with a worker", 2, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_parts_are_the_batch(kind: str, n: int, toy: Any) -> None:
    one = MAKE[kind](toy)
    parts = [share(MAKE[kind](toy), k, n) for k in range(n)]
    for loader in (one, *parts):
        loader.set_epoch(2)
    shapes = set()
    for batch, *cut in zip(one, *parts, strict=True):
        assert len(one) == len(parts[0])
        mine = [np.concatenate(leaves) for leaves in zip(*map(seen, cut), strict=True)]
        for got, wanted in zip(mine, seen(batch), strict=True):
            np.testing.assert_array_equal(got, wanted)
        shapes |= {tuple(np.shape(a) for a in jax.tree.leaves(c)) for c in cut}
        assert all(c.stream.batch_size == 4 // n for c in cut)
    assert len(shapes) == 1  # one program for all parts of all batches


@pytest.mark.parametrize("kind", ["events", "repeated", "trials"])
def test_the_position_is_that_of_one_process(kind: str, toy: Any) -> None:
    """A run goes on in another number of processes."""
    of_two = share(MAKE[kind](toy), 1, 2)
    of_two.set_epoch(1)
    next(iter(of_two))
    alone = MAKE[kind](toy)
    alone.load_state_dict(of_two.state_dict())
    alone.set_epoch(1)
    left = list(alone)
    assert len(left) == len(alone) - 1
    assert whole(of_two).epoch == 1 if isinstance(of_two, Share) else True
    assert next(iter(whole(of_two))).stream.batch_size == 4


def test_a_part_reads_its_own_recordings_alone(toy: Any) -> None:
    mine = share(recorded(toy), 1, 2)
    gathered: list[int] = []
    cutter = mine.cutter
    gather = cutter._gather

    def told(indices: np.ndarray) -> Any:
        gathered.append(len(indices))
        return gather(indices)

    object.__setattr__(cutter, "_gather", told)
    list(mine)
    assert max(gathered) == 2
    assert cutter.capacity < recorded(toy).cutter.capacity
