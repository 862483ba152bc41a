"""An artificial cochlea: sound -> spikes of 700 bushy cells, without any random number.

After Cramer, Stradmann, Schemmel, Zenke 2020 (IEEE TNNLS, "The Heidelberg spiking data sets for
the systematic evaluation of spiking neural networks"), whose SHD and SSC were made by the same
chain: basilar membrane, hair cell, bushy cell. Sample period ``dt`` = 1 / 16,000 s.

Basilar membrane. Channel k of n = 700 sits at the relative distance from the apex ``x_k``, evenly
spaced, with the centre frequency of Greenwood 1990 (human): ``f = 165.4 (10^(2.1 x) - 0.88)``
Hz. Channel 0 is nearest to the base (highest frequency), channel 699 to the apex. It is a
gammatone filter of order 4, a cascade of four complex one-pole filters (Hohmann 2002):

    z_i = a z_i + z_{i-1} (of the step before; z_0 is the sound),  a = exp(2 pi (j f - b) dt),
    u = gain (f / 1 kHz)^tilt 2 (1 - |a|)^4 Re z_4,   b = 1.019 (24.7 + 0.108 f) Hz

(b: Glasberg, Moore 1990). The tilt stands for the membrane's velocity, which grows with frequency
where its displacement does not; Cramer et al. feed velocity too.

Hair cell (Meddis 1986, 1988), with transmitter in the free pool q, the cleft c and the
reprocessing store w, by explicit Euler steps:

    k  = g max(u + A, 0) / (max(u + A, 0) + B)
    q' = y (1 - q) + x w - k q
    c' = k q - (l + r) c
    w' = r c - x w

Bushy cell: leaky integrate-and-fire neuron with a current synapse, fed by ``n_fibres`` fibres
of its hair cell. Fibres fire with rate h c and a dead time d, so at ``h c / (1 + d h c)``:

    i = i exp(-dt/tau_syn) + n_fibres * rate * dt
    v = v exp(-dt/tau_mem) + weight / n_fibres * i * dt, and 0 for the time d after a spike
    spike where v >= 1, then v = 0

Departures from Cramer et al.: gammatone filters on Greenwood's map in place of the hydrodynamic
model of Sieroka et al. 2006 (in the same order, from about the same highest frequency); the drive
of a bushy cell is the expected number of fibre spikes, not a drawn one, so equal sounds give
equal spikes and silence none; without that noise an adapted hair cell would not reach threshold,
so ``weight`` is 1.7 times theirs, which a strong lasting tone just reaches; ``gain`` gives speech
about SHD's number of spikes; sound is computed at 16 kHz, enough for the highest channel.
Loudness and the windowed ends, after theirs, are in :mod:`~snnlab.data.speech.audio`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.speech.audio import SAMPLE_HZ

BATCH = 8  # recordings side by side: their state stays in the processor's cache
_CHUNK = 4_000  # steps of one call


@dataclasses.dataclass(frozen=True)
class Cochlea:
    """The parameters of the chain; rates in 1/s, hair cell as in Meddis 1988.

    Attributes:
        n_channels: places along the membrane.
        lowest_hz, highest_hz: centre frequencies of the last and the first channel.
        gain: membrane response, in Meddis' units, to a sound of amplitude 1 at the centre
            frequency of 1 kHz.
        tilt: the response grows with the centre frequency to this power.
        permeability, saturation: A and B, in the units of the membrane response.
        release: g.
        replenishment, reprocessing: y and x.
        loss, recovery: l and r.
        fibre_hz: h, rate of a fibre per transmitter in the cleft.
        n_fibres: that a bushy cell integrates.
        dead_ms: d, of fibres and bushy cells.
        tau_mem_ms, tau_syn_ms: of the bushy cell.
        weight: of all fibres together.
    """

    n_channels: int = 700
    lowest_hz: float = 60.0
    highest_hz: float = 7_100.0
    gain: float = 120.0
    tilt: float = 0.5
    permeability: float = 5.0
    saturation: float = 300.0
    release: float = 2_000.0
    replenishment: float = 5.05
    reprocessing: float = 66.31
    loss: float = 2_500.0
    recovery: float = 6_580.0
    fibre_hz: float = 50_000.0
    n_fibres: int = 40
    dead_ms: float = 1.0
    tau_mem_ms: float = 1.0
    tau_syn_ms: float = 0.5
    weight: float = 22_000.0

    def centres_hz(self) -> np.ndarray:
        """Centre frequency of each channel ``(n_channels,)``, falling."""
        low, high = (np.log10(f / 165.4 + 0.88) / 2.1 for f in (self.lowest_hz, self.highest_hz))
        return 165.4 * (10 ** (2.1 * np.linspace(high, low, self.n_channels)) - 0.88)

    def spikes(self, sounds: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The spikes of recordings, ``BATCH`` at a time; neighbours of equal length cost least.

        A recording's spikes do not depend on the others. Runs on the CPU.

        Args:
            sounds: each ``(n_samples,)``, ``SAMPLE_HZ`` samples per second; see ``gain``.

        Returns:
            For each recording times in s ``(n_spikes,) float64``, rising, and channels
            ``(n_spikes,) uint16``, rising where times are equal.
        """
        found = []
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            for first in range(0, len(sounds), BATCH):
                found += self._batch(sounds[first : first + BATCH])
        return found

    def _batch(self, sounds: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        n = 1 if len(sounds) == 1 else BATCH  # two sizes, two compilations
        padded = np.zeros((-(-max(map(len, sounds)) // _CHUNK) * _CHUNK, n), np.float32)
        for column, sound in enumerate(sounds):
            padded[: len(sound), column] = sound
        state, advance = _silence(self, n), _compiled(self)
        steps, owners, channels = [], [], []
        for first in range(0, len(padded), _CHUNK):
            state, fired = advance(state, padded[first : first + _CHUNK])
            step, owner, channel = np.nonzero(np.asarray(fired))
            steps.append(step + first)
            owners.append(owner)
            channels.append(channel)
        out = []
        for i, sound in enumerate(sounds):
            mine = [(o == i) & (s < len(sound)) for s, o in zip(steps, owners)]
            at = [s[m] for s, m in zip(steps, mine)] or [np.zeros(0, np.int64)]
            where = [c[m] for c, m in zip(channels, mine)] or [np.zeros(0, np.int64)]
            out.append((np.concatenate(at) / SAMPLE_HZ, np.concatenate(where).astype(np.uint16)))
        return out


_State = tuple[jax.Array, ...]


def _silence(model: Cochlea, n: int) -> _State:
    """What a long silence leaves: ``z (4, n, channels)``, then ``q, c, w, i, v, rest``."""
    m, shape = model, (n, model.n_channels)
    k = m.release * m.permeability / (m.permeability + m.saturation)
    c = m.replenishment * k / (m.loss * k + m.replenishment * (m.loss + m.recovery))
    rate = m.fibre_hz * c / (1 + m.dead_ms * 1e-3 * m.fibre_hz * c)
    i = m.n_fibres * rate / SAMPLE_HZ / (1 - _decay(m.tau_syn_ms))
    v = m.weight / m.n_fibres * i / SAMPLE_HZ / (1 - _decay(m.tau_mem_ms))
    levels = (c * (m.loss + m.recovery) / k, c, c * m.recovery / m.reprocessing, i, min(v, 1.0))
    cells = (jnp.full(shape, level, jnp.float32) for level in levels)
    return jnp.zeros((4, *shape), jnp.complex64), *cells, jnp.zeros(shape, jnp.int32)


def _decay(tau_ms: float) -> float:
    return float(np.exp(-1e3 / (tau_ms * SAMPLE_HZ)))


@functools.lru_cache(maxsize=4)
def _compiled(model: Cochlea) -> Callable[[_State, np.ndarray], tuple[_State, jax.Array]]:
    """``(state, sound (steps, n)) -> (state, fired (steps, n, channels) bool)``."""
    m, dt = model, 1 / SAMPLE_HZ
    f = m.centres_hz()
    b = 1.019 * (24.7 + 0.108 * f)
    exact = np.exp(2 * np.pi * (1j * f - b) * dt)
    pole = exact.astype(np.complex64)
    tilt = (f / 1e3) ** m.tilt
    scale = (m.gain * tilt * 2 * (1 - np.abs(exact)) ** 4).astype(np.float32)
    keep_i, keep_v = _decay(m.tau_syn_ms), _decay(m.tau_mem_ms)
    dead_s, dead = m.dead_ms * 1e-3, round(m.dead_ms * 1e-3 * SAMPLE_HZ)

    def step(state: _State, sound: jax.Array) -> tuple[_State, jax.Array]:
        z, q, c, w, i, v, rest = state
        first = jnp.broadcast_to(sound[:, None], z.shape[1:]).astype(z.dtype)
        z = jnp.multiply(pole, z) + jnp.concatenate([first[None], z[:-1]])
        open_ = jnp.maximum(scale * z[3].real + m.permeability, 0)
        eject = q * (open_ / (open_ + m.saturation)) * (m.release * dt)
        back = w * (m.reprocessing * dt)
        taken = c * (m.recovery * dt)
        q = q + (1 - q) * (m.replenishment * dt) + back - eject
        c = c * (1 - (m.loss + m.recovery) * dt) + eject
        w = w + taken - back
        rate = c * m.fibre_hz
        i = i * keep_i + rate / (1 + dead_s * rate) * (m.n_fibres * dt)
        v = jnp.where(rest > 0, 0, v * keep_v + i * (m.weight / m.n_fibres * dt))
        fired = v >= 1
        v = jnp.where(fired, 0, v)
        rest = jnp.where(fired, dead, jnp.maximum(rest - 1, 0))
        return (z, q, c, w, i, v, rest), fired

    return jax.jit(lambda state, sound: jax.lax.scan(step, state, sound))
