"""Generated trials: cognitive tasks whose inputs are drawn from a random key in the program.

A *task* says which periods a trial has and draws the conditions of a batch; a
:class:`TrialStream` turns the conditions into spikes, step by step, inside the program that
trains; a :class:`TrialLoader` hands out batches that are a pure function of (seed, split, epoch,
number). Nothing of length T is stored and no host loop or worker process takes part.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnlab.data.batch import Batch, Targets, cut
from snnlab.data.periods import Period
from snnlab.data.resumable import ResumableLoader
from snnlab.data.stream import Stream


class Trials(NamedTuple):
    """Conditions of a batch of trials.

    Attributes:
        probability: ``(n_levels, B, n_in)`` of a spike in a step, for every level.
        labels: ``(B,) int32``, or :class:`snnlab.data.answers.Answers`.
        conditions: what else was drawn, ``(B, ...)`` each, by name.
    """

    probability: jax.Array
    labels: Any
    conditions: dict[str, jax.Array]


class TrialTask(Protocol):
    """Periods and conditions of a task; hashable, so that it may be a static argument."""

    @property
    def periods(self) -> tuple[Period, ...]: ...
    @property
    def n_in(self) -> int: ...
    def draw(self, key: jax.Array, batch_size: int) -> Trials: ...


def _mix(x: jax.Array) -> jax.Array:
    """A bijective hash of uint32 (Wellons 2018, "Prospecting for hash functions", lowbias32
    with the constants found later: bias 0.11)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


class TrialStream(Stream):
    """Bernoulli spikes of a batch of trials.

    The spike of input ``i`` of trial ``b`` in step ``t`` is ``hash(salt[b, i] ^ hash(t)) <
    threshold``: a pure function of its arguments, the same for every order of steps, under vmap
    and in every program. A cipher-grade generator (threefry) costs a tenth of a network step,
    this hash about a hundredth; the salt is drawn by JAX's own generator.

    Args:
        threshold: ``(n_levels, B, n_in) uint32``, probability times 2^32.
        salt: ``(B, n_in) uint32``.
        periods: ``((steps, level), ...)``.
    """

    def __init__(
        self, threshold: jax.Array, salt: jax.Array, periods: tuple[tuple[int, int], ...]
    ) -> None:
        self.threshold = threshold
        self.salt = salt
        self.periods = periods

    @property
    def n_steps(self) -> int:
        return sum(steps for steps, _ in self.periods)

    @property
    def batch_size(self) -> int:
        return int(self.salt.shape[-2])

    @property
    def n_in(self) -> int:
        return int(self.salt.shape[-1])

    def at(self, t: jax.Array | int) -> jax.Array:
        """Step ``t``: ``(B, n_in) float32`` of 0 and 1."""
        t = jnp.asarray(t, jnp.int32)
        ends = np.cumsum([steps for steps, _ in self.periods])[:-1]
        levels = np.array([level for _, level in self.periods], np.int32)
        period = jnp.sum(t >= jnp.asarray(ends, jnp.int32))
        level = jnp.asarray(levels)[period]
        threshold = lax.dynamic_index_in_dim(jnp.asarray(self.threshold), level, keepdims=False)
        draw = _mix(jnp.asarray(self.salt) ^ _mix(t.astype(jnp.uint32) + jnp.uint32(0x9E3779B9)))
        return lax.stop_gradient((draw < threshold).astype(jnp.float32))

    def window(self, start: jax.Array | int, length: int) -> jax.Array:
        """Steps ``start .. start + length - 1``: ``(length, B, n_in) float32``."""
        return jax.vmap(self.at)(start + jnp.arange(length))

    def parts(self, n: int) -> list[TrialStream]:
        """The salt is drawn for the whole batch, so a sample's spikes do not depend on ``n``."""
        pairs = zip(cut(self.threshold, n, 1), cut(self.salt, n, 0), strict=True)
        return [TrialStream(*pair, self.periods) for pair in pairs]


jax.tree_util.register_pytree_node(
    TrialStream,
    lambda s: ((s.threshold, s.salt), s.periods),
    lambda periods, leaves: TrialStream(*leaves, periods),
)


def draw_batch(task: TrialTask, key: jax.Array, batch_size: int) -> Batch:
    """A batch of trials of ``task``; pure, and traceable in ``key``."""
    of_trials, of_spikes = jax.random.split(key)
    trials = task.draw(of_trials, batch_size)
    # 2^32 - 256 is the largest float32 below 2^32; the probability 1 keeps a gap of 6e-8.
    scaled = jnp.clip(trials.probability, 0.0, 1.0) * jnp.float32(2**32)
    threshold = jnp.minimum(scaled, jnp.float32(2**32 - 256)).astype(jnp.uint32)
    salt = jax.random.bits(of_spikes, (batch_size, task.n_in), jnp.uint32)
    periods = tuple((p.steps, p.level) for p in task.periods)
    stream = TrialStream(threshold, salt, periods)
    mask = jnp.ones(batch_size, jnp.float32)  # generated batches are never short
    labels = jax.tree.map(lambda a: a.astype(jnp.int32), trials.labels)
    targets = Targets(labels, mask)
    return Batch(stream, targets, conditions=trials.conditions)


@dataclasses.dataclass(frozen=True)
class _Identity:
    seed: int
    split: int
    batch_size: int
    n_batches: int


class TrialLoader(ResumableLoader[Batch]):
    """Batches of generated trials; the protocol of :class:`snnlab.data.loader.Loader`.

    Args:
        task: what is generated.
        batch_size: B.
        n_batches: batches of an epoch.
        seed: of the run.
        split: number of the split: other trials for every split.
        renewed: other trials in every epoch (training); the same ones otherwise.
    """

    def __init__(
        self, task: TrialTask, batch_size: int, n_batches: int, seed: int, split: int,
        renewed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.task = task
        self.renewed = renewed
        self._id = _Identity(seed, split, batch_size, n_batches)
        self._draw = jax.jit(self._draw_batch)

    def __len__(self) -> int:
        return self._id.n_batches

    @property
    def n_samples(self) -> int:
        return self._id.n_batches * self._id.batch_size

    def _identity(self) -> dict[str, int]:
        return dataclasses.asdict(self._id)

    def batch(self, number: int) -> Batch:
        """Batch ``number`` (from 0) of the current epoch."""
        return self._draw(self.epoch if self.renewed else 0, number)

    def _draw_batch(self, epoch: Any, number: Any) -> Batch:
        key = jax.random.key(self._id.seed)
        for part in (self._id.split, epoch, number):
            key = jax.random.fold_in(key, part)
        return draw_batch(self.task, key, self._id.batch_size)
