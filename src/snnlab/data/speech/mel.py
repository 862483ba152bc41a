"""Log-mel features of audio, frame by frame: Kaldi's ``fbank`` without dither.

For networks that are fed with analogue features in place of spikes (40 filters in Bittar and
Garner 2022). Frames of 25 ms every 10 ms that lie wholly inside of the recording; mean removed,
pre-emphasis 0.97, window ``hann^0.85`` (Povey), power spectrum, triangles that are even on the
mel scale ``1127 ln(1 + f / 700)`` between 20 Hz and half the sampling rate, natural logarithm.
"""

from __future__ import annotations

import numpy as np

from snnlab.errors import UsageError

WINDOW_MS, HOP_MS = 25.0, 10.0
_LOWEST_HZ, _EMPHASIS = 20.0, 0.97
#: Least energy of a band: that of silence.
FLOOR = np.finfo(np.float32).eps


def mel_filterbank(samples: np.ndarray, rate: int, n_mels: int = 40) -> np.ndarray:
    """Log power in mel bands.

    Args:
        samples: ``(n,)``, one channel.
        rate: samples per second.
        n_mels: bands.

    Returns:
        ``(T, n_mels) float32``, ``T = 1 + (n - window) // hop``; in nepers of power.

    Raises:
        UsageError: shorter than one window, or more bands than the spectrum has lines for.
    """
    window, hop = int(rate * WINDOW_MS * 1e-3), int(rate * HOP_MS * 1e-3)
    if len(samples) < window:
        raise UsageError(f"{len(samples)} samples are shorter than a window of {window}")
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float64), window)
    frames = frames[::hop] - frames[::hop].mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - _EMPHASIS * before) * np.hanning(window) ** 0.85
    n_fft = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, n_fft)) ** 2
    energy = power @ triangles(rate, n_fft, n_mels).T
    return np.log(np.maximum(energy, FLOOR)).astype(np.float32)


def triangles(rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Weights ``(n_mels, n_fft // 2 + 1)`` of the bands, each with peak 1 on the mel scale.

    Raises:
        UsageError: a band that no line of the spectrum falls into.
    """
    lowest, highest = _mel(np.array([_LOWEST_HZ, rate / 2]))
    edges = np.linspace(lowest, highest, n_mels + 2)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    mel = _mel(np.arange(n_fft // 2 + 1) * rate / n_fft)
    weights = np.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)).clip(0)
    if not weights.any(axis=1).all():
        raise UsageError(f"{n_mels} mel bands are too many for {n_fft} points at {rate} Hz")
    return weights


def _mel(hz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hz / 700.0)
