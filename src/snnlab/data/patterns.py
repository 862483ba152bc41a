"""Frozen noise and sums of sines: what pattern generation is made of, without arrays of length T.

A target is ``y*_k(t) = sum_i a_ki sin(2 pi f_i t + p_ki)``, with amplitudes uniform in [0.5, 2] and
phases uniform in [0, 2 pi), divided by ``sqrt(mean_t,k y*^2)`` so that a squared error of 1 is that
of a readout of zeros. The input is Poisson noise (a spike in a step with probability ``rate dt``),
the same spikes in every trial.

Source: Bellec et al. 2020 (Nat. Commun. 11:3625), pattern generation: sums of four sinusoids of 1,
2, 3 and 5 Hz in 1 s. Departure: targets are scaled to a mean square of 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.batch import Batch, Targets
from snnlab.data.resumable import ResumableLoader
from snnlab.data.stream import Stream
from snnlab.data.trials import Period, Trials, draw_batch

AMPLITUDES = (0.5, 2.0)
#: Random streams of a seed: input, and targets.
OF_NOISE, OF_TARGETS = 0x401, 0x402


class Sines(Stream):
    """Sums of sines as a stream, ``at(t) -> (B, n_out)``, the same for all samples.

    Args:
        amplitude, phase: ``(n_out, n_sines)``; phase in radians.
        hz: frequencies ``(n_sines,)``.
        dt_ms: length of a step.
        n_steps: T.
        batch_size: B.
    """

    def __init__(
        self, amplitude: Any, phase: Any, hz: tuple[float, ...], dt_ms: float, n_steps: int,
        batch_size: int,
    ) -> None:  # fmt: skip
        self.amplitude, self.phase = amplitude, phase
        self._static = (hz, dt_ms, n_steps, batch_size)

    @property
    def n_steps(self) -> int:
        return self._static[2]

    @property
    def batch_size(self) -> int:
        return self._static[3]

    @property
    def n_in(self) -> int:
        """Readout units."""
        return int(self.amplitude.shape[-2])

    def at(self, t: jax.Array | int) -> jax.Array:
        """Step ``t``: ``(B, n_out) float32``."""
        hz, dt_ms, _, batch_size = self._static
        turns = jnp.asarray(hz, jnp.float32) * (jnp.asarray(t, jnp.float32) * (dt_ms / 1000.0))
        turns = turns - jnp.floor(turns)  # whole turns cost digits in long trials
        waves = jnp.asarray(self.amplitude) * jnp.sin(2 * jnp.pi * turns + self.phase)
        return jnp.broadcast_to(waves.sum(-1), (batch_size, self.n_in))

    def window(self, start: jax.Array | int, length: int) -> jax.Array:
        """Steps ``start .. start + length - 1``: ``(length, B, n_out) float32``."""
        return jax.vmap(self.at)(start + jnp.arange(length))

    def parts(self, n: int) -> list[Sines]:
        hz, dt_ms, n_steps, batch_size = self._static
        return [Sines(self.amplitude, self.phase, hz, dt_ms, n_steps, batch_size // n)] * n


jax.tree_util.register_pytree_node(
    Sines,
    lambda s: ((s.amplitude, s.phase), s._static),
    lambda static, leaves: Sines(*leaves, *static),
)


def draw_sines(
    n_out: int, hz: tuple[float, ...], dt_ms: float, n_steps: int, batch_size: int, seed: int
) -> Sines:
    """Targets of a seed, with a mean square of 1 over steps and units."""
    rng = np.random.default_rng([seed, OF_TARGETS])
    amplitude = rng.uniform(*AMPLITUDES, (n_out, len(hz)))
    phase = rng.uniform(0.0, 2 * np.pi, (n_out, len(hz)))
    power, size = 0.0, max(1, 4_000_000 // amplitude.size)
    for block in np.array_split(np.arange(n_steps), -(-n_steps // size)):  # no array of length T
        angle = 2 * np.pi * np.outer(block * (dt_ms / 1000.0), hz)[:, None] + phase
        power += float(np.sum((amplitude * np.sin(angle)).sum(-1) ** 2))
    amplitude = amplitude / np.sqrt(power / (n_steps * n_out))
    return Sines(
        amplitude.astype(np.float32), phase.astype(np.float32), hz, dt_ms, n_steps, batch_size
    )


class Noise:
    """Poisson noise as a task of generated trials; see :class:`snnlab.data.trials.TrialTask`.

    Args:
        n_in: inputs.
        n_steps: T.
        probability: of a spike in a step.
        n_classes: of the labels, which are drawn at random.
    """

    def __init__(self, n_in: int, n_steps: int, probability: float, n_classes: int = 1) -> None:
        self.n_in, self.probability, self.n_classes = n_in, probability, n_classes
        self.periods = (Period("noise", n_steps, 0),)

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        shape = (1, batch_size, self.n_in)
        labels = jax.random.randint(key, (batch_size,), 0, self.n_classes, jnp.int32)
        return Trials(jnp.full(shape, self.probability), labels, {})


class FrozenLoader(ResumableLoader[Batch]):
    """The same trial of noise and targets, again and again; the protocol of other loaders.

    Args:
        noise: input.
        targets: sequences to follow, of one sample.
        n_batches: of an epoch.
        seed: of the noise.
    """

    def __init__(self, noise: Noise, targets: Sines, n_batches: int, seed: int) -> None:
        super().__init__()
        self.n_batches, self.seed = n_batches, seed
        key = jax.random.fold_in(jax.random.key(seed), OF_NOISE)
        stream = draw_batch(noise, key, 1).stream
        mask = np.ones(1, np.float32)
        self._batch = Batch(stream, Targets(targets, mask))

    def __len__(self) -> int:
        return self.n_batches

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "batches": self.n_batches}

    def batch(self, number: int) -> Batch:
        """The trial."""
        return self._batch
