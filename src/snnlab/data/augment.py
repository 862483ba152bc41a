"""Augmentation of the training split, vectorised over the events of a batch.

Randomness is counter-based: a number is a hash of (seed, epoch, recording, purpose, event), so
what happens to a recording depends neither on its batch nor on the worker, and a restored run
repeats it bit for bit. The hash is splitmix64's finaliser (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from snnlab.data.store import Sensor
from snnlab.errors import UsageError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT_X, _SHIFT_Y, _FLIP, _COUNT, _DROP, _JITTER_A, _JITTER_B, _NOISE_T, _NOISE_A = range(1, 10)


def mix(key: np.ndarray, counter: np.ndarray | int) -> np.ndarray:
    """Hash two uint64 arrays into one; wraps around by design."""
    with np.errstate(over="ignore"):
        z = key + (np.asarray(counter).astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z


def uniform(key: np.ndarray, counter: np.ndarray | int) -> np.ndarray:
    """Uniform float64 in [0, 1)."""
    return (mix(key, counter) >> np.uint64(11)) * 2.0**-53


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of a batch before binning; ``owner`` is the int32 position in the batch."""

    owner: np.ndarray
    time_us: np.ndarray
    address: np.ndarray

    def keep(self, which: np.ndarray) -> Events:
        return Events(self.owner[which], self.time_us[which], self.address[which])


@dataclasses.dataclass(frozen=True)
class Augment:
    """The augmentations, all off by default.

    Attributes:
        shift: largest shift, pixels in x and y (on a line of channels: channels).
        flip: mirror half of the recordings left to right.
        drop: share of events left out.
        jitter_ms: standard deviation added to times; events that leave the window are lost.
        noise: mean number of noise events of a recording (Poisson), uniform over window and
            addresses.
    """

    shift: int = 0
    flip: bool = False
    drop: float = 0.0
    jitter_ms: float = 0.0
    noise: float = 0.0

    @property
    def active(self) -> bool:
        return self != Augment()

    def check(self, sensor: Sensor) -> None:
        """Refuse what makes no sense for a dataset.

        Raises:
            UsageError: a flip that changes labels, or a shift beyond the sensor.
        """
        if self.flip and not sensor.flippable:
            why = "reverses its frequencies" if sensor.height == 1 else "has another label"
            raise UsageError(f"--aug_flip: a mirrored recording of {sensor.name} {why}")
        if self.shift >= sensor.width:
            raise UsageError(
                f"--aug_shift {self.shift}: {sensor.name} is {sensor.width} pixels wide"
            )

    @functools.cached_property
    def _poisson(self) -> np.ndarray:
        """Cumulative distribution of the noise count, up to where its tail is below 1e-12."""
        k = np.arange(int(self.noise + 12 * np.sqrt(self.noise) + 30))
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
        cdf = np.cumsum(np.exp(k * np.log(self.noise) - self.noise - log_factorial))
        return cdf[: int(np.searchsorted(cdf, 1 - 1e-12)) + 1]

    @property
    def most_noise(self) -> int:
        """The most noise events a recording can get."""
        return len(self._poisson) if self.noise else 0

    def apply(
        self, events: Events, recordings: np.ndarray, seed: int, epoch: int,
        sensor: Sensor, cut_us: int | np.ndarray,
    ) -> Events:  # fmt: skip
        """Augment the events of a batch.

        Args:
            events: recording by recording, in their stored order.
            recordings: ``(b,)`` identity of each recording of the batch.
            seed, epoch: of the run.
            sensor: address space.
            cut_us: end of the time window, or ``(b,)`` of each recording's own.
        """
        base = mix(np.full(1, seed & (2**64 - 1), np.uint64), epoch)
        key = mix(np.broadcast_to(base, len(recordings)), recordings)
        counts = np.bincount(events.owner, minlength=len(recordings))
        first = np.cumsum(counts) - counts
        number = np.arange(len(events.owner)) - first[events.owner]
        if self.drop:
            kept = uniform(mix(key, _DROP)[events.owner], number) >= self.drop
            events, number = events.keep(kept), number[kept]
        if self.jitter_ms:
            a = uniform(mix(key, _JITTER_A)[events.owner], number)
            b = uniform(mix(key, _JITTER_B)[events.owner], number)
            normal = np.sqrt(-2 * np.log1p(-a)) * np.cos(2 * np.pi * b)
            moved = np.rint(normal * (self.jitter_ms * 1000)).astype(np.int64)
            time_us = events.time_us.astype(np.int64) + moved
            inside = (time_us >= 0) & (time_us < _each(cut_us, events.owner))
            events = dataclasses.replace(events, time_us=time_us).keep(inside)
        if self.shift or self.flip:
            events = self._move(events, key, sensor)
        return self._add_noise(events, key, sensor, cut_us) if self.noise else events

    def _move(self, events: Events, key: np.ndarray, sensor: Sensor) -> Events:
        address = events.address.astype(np.int64)
        x = address % sensor.width
        y = address // sensor.width % sensor.height
        p = address // (sensor.width * sensor.height)
        if self.flip:
            mirrored = uniform(key, _FLIP) < 0.5
            x = np.where(mirrored[events.owner], sensor.width - 1 - x, x)
        span = 2 * self.shift + 1
        dx = np.floor(uniform(key, _SHIFT_X) * span).astype(np.int64) - self.shift
        x = x + dx[events.owner]
        if sensor.height > 1:
            dy = np.floor(uniform(key, _SHIFT_Y) * span).astype(np.int64) - self.shift
            y = y + dy[events.owner]
        inside = (x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height)
        moved = (p * sensor.height + y) * sensor.width + x
        return dataclasses.replace(events, address=moved).keep(inside)

    def _add_noise(
        self, events: Events, key: np.ndarray, sensor: Sensor, cut_us: int | np.ndarray
    ) -> Events:
        counts = np.searchsorted(self._poisson, uniform(key, _COUNT), side="right")
        counts = np.minimum(counts, self.most_noise)
        owner = np.repeat(np.arange(len(key), dtype=np.int32), counts)
        number = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
        t = np.floor(uniform(mix(key, _NOISE_T)[owner], number) * _each(cut_us, owner))
        address = np.floor(uniform(mix(key, _NOISE_A)[owner], number) * sensor.n_addresses)
        return Events(
            np.concatenate([events.owner, owner]),
            np.concatenate([events.time_us.astype(np.int64), t.astype(np.int64)]),
            np.concatenate([events.address.astype(np.int64), address.astype(np.int64)]),
        )


def _each(cut_us: int | np.ndarray, owner: np.ndarray) -> int | np.ndarray:
    """The end of the window of each event's recording."""
    return cut_us[owner] if isinstance(cut_us, np.ndarray) else cut_us
