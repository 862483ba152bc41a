"""Cue accumulation: which side had more cues, asked a second after the last of them?

A trial has 7 cues of 100 ms, each after 50 ms of silence, on the left or on the right; 1,050 ms
of silence; and a recall cue of 150 ms: 2,250 steps of 1 ms. Inputs 0-9 fire during left cues,
10-19 during right cues, 20-29 during recall, at 40 Hz; 30-39 are noise of 10 Hz throughout.
A trial leans to the left or to the right with equal chance: its cues are on the right with
probability 0.3 or 0.7. The label is the side that more than 3 cues were on (1: right).

Source: Bellec et al. 2020 (Nat. Commun. 11:3625), fig. 4; numbers as Stadtmann, Paessens &
Gemmeke 2024. Departures from the latter: its splits draw cues of their own, and share the numbers
that noise and spikes are drawn with; and what it tests on is its validation split. Here every split
has its own random stream.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from snnlab.data.batch import Batch, padded
from snnlab.data.cutting import order_of
from snnlab.data.repeated import RepeatedStream
from snnlab.data.resumable import ResumableLoader
from snnlab.data.trials import Period, TrialStream

N_CUES, GROUP = 7, 10
CUE_INPUTS = 4 * GROUP
RATE, NOISE_RATE = 0.04, 0.01  # spikes per step of 1 ms
LEAN = 0.3
SILENT, FIRST_CUE, RECALL = 0, 1, 1 + N_CUES
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class CueTask:
    """Durations in steps of 1 ms."""

    silence: int = 50
    cue: int = 100
    wait: int = 1050
    recall: int = 150

    @property
    def periods(self) -> tuple[Period, ...]:
        cues = []
        for k in range(N_CUES):
            cues += [Period("silence", self.silence, SILENT)]
            cues += [Period(f"cue {k + 1}", self.cue, FIRST_CUE + k)]
        return (*cues, Period("wait", self.wait, SILENT), Period("recall", self.recall, RECALL))

    @property
    def n_steps(self) -> int:
        """Steps of a trial."""
        return sum(p.steps for p in self.periods)

    @property
    def first_scored(self) -> int:
        """The step after the last cue."""
        return N_CUES * (self.silence + self.cue)


class CueTrials(NamedTuple):
    """Conditions of n trials: ``sides (n, 7)`` of 0 (left) and 1, ``salt (n, 40) uint32``."""

    sides: np.ndarray
    salt: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return (self.sides.sum(1) > N_CUES // 2).astype(np.int32)


def draw_trials(n: int, seed: int, split: int) -> CueTrials:
    """The ``n`` trials of a split; a pure function of its arguments."""
    rng = np.random.default_rng([seed, split, 0xC0E])
    right = np.where(rng.random(n) < 0.5, LEAN, 1 - LEAN)
    sides = (rng.random((n, N_CUES)) < right[:, None]).astype(np.int32)
    return CueTrials(sides, rng.integers(0, 2**32, (n, CUE_INPUTS), dtype=np.uint32))


def cue_stream(task: CueTask, trials: CueTrials) -> TrialStream:
    """The spikes of the trials, ``(T, n, 40)`` when made dense."""
    n = len(trials.sides)
    chance = np.zeros((N_CUES + 2, n, CUE_INPUTS))
    chance[:, :, 3 * GROUP :] = NOISE_RATE
    chance[RECALL, :, 2 * GROUP : 3 * GROUP] = RATE
    for k in range(N_CUES):
        right = trials.sides[:, k, None] == 1
        chance[FIRST_CUE + k, :, :GROUP] = np.where(right, 0.0, RATE)
        chance[FIRST_CUE + k, :, GROUP : 2 * GROUP] = np.where(right, RATE, 0.0)
    threshold: Any = (chance * 2.0**32).astype(np.uint32)
    salt: Any = trials.salt
    return TrialStream(threshold, salt, tuple((p.steps, p.level) for p in task.periods))


def cue_sample(task: CueTask, seed: int) -> np.ndarray:
    """``(T, 40) float32`` spikes of the first training trial of a seed."""
    stream = cue_stream(task, draw_trials(1, seed, 0))
    return np.asarray(jax.jit(lambda s: s.window(0, task.n_steps))(stream))[:, 0]


class CueLoader(ResumableLoader[Batch]):
    """Batches of a fixed set of trials; the protocol of :class:`snnlab.data.loader.Loader`.

    Args:
        task: durations.
        n_samples: trials of the split.
        batch_size: B; the last batch is padded.
        repeat: steps of a ms.
        scale: value of an input spike.
        seed, split: of the trials, and of the order.
        shuffle: another order in every epoch.
    """

    def __init__(
        self, task: CueTask, n_samples: int, batch_size: int, repeat: int, scale: float,
        seed: int, split: int, shuffle: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.task, self.n_samples, self.batch_size = task, n_samples, batch_size
        self.repeat, self.scale, self.shuffle = repeat, scale, shuffle
        self.seed, self.split = seed, split
        self.trials = draw_trials(n_samples, seed, split)
        self.labels = self.trials.labels

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def _identity(self) -> dict[str, int]:
        names = ("n_samples", "batch_size", "seed", "split")
        return {name: getattr(self, name) for name in names}

    def batch(self, number: int) -> Batch:
        """Batch ``number`` (from 0) of the current epoch."""
        order = np.arange(self.n_samples)
        if self.shuffle:
            order = order_of(self.n_samples, self.seed, self.epoch)
        mine = order[number * self.batch_size : (number + 1) * self.batch_size]
        targets, indices = padded(mine, self.labels, self.batch_size)
        trials = CueTrials(self.trials.sides[indices], self.trials.salt[indices])
        stream = RepeatedStream(cue_stream(self.task, trials), self.repeat, self.scale)
        return Batch(stream, targets, indices)
