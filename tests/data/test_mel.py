"""Log-mel features against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snnlab.data.speech.mel import mel_filterbank, triangles
from snnlab.errors import UsageError


def test_shape_counts_whole_windows():
    assert mel_filterbank(np.zeros(16_000), 16_000).shape == (98, 40)
    assert mel_filterbank(np.zeros(400), 16_000, 23).shape == (1, 23)
    with pytest.raises(UsageError, match="shorter than a window of 400"):
        mel_filterbank(np.zeros(399), 16_000)
    with pytest.raises(UsageError, match="300 mel bands"):
        mel_filterbank(np.zeros(400), 16_000, 300)


def test_one_frame_by_hand():
    rate, n = 8_000, 200
    x = [math.sin(0.3 * i) + 0.01 * (i % 7) + 0.5 for i in range(n)]
    mean = sum(x) / n
    x = [v - mean for v in x]
    x = [x[i] - 0.97 * x[max(i - 1, 0)] for i in range(n)]
    x = [v * (0.5 - 0.5 * math.cos(2 * math.pi * i / (n - 1))) ** 0.85 for i, v in enumerate(x)]
    mel = lambda f: 1127 * math.log(1 + f / 700)  # noqa: E731
    power = []
    for k in range(129):
        re = sum(v * math.cos(2 * math.pi * k * i / 256) for i, v in enumerate(x))
        im = sum(v * math.sin(2 * math.pi * k * i / 256) for i, v in enumerate(x))
        power.append(re * re + im * im)
    step = (mel(4000) - mel(20)) / 6
    expected = []
    for band in range(5):
        centre = mel(20) + (band + 1) * step
        weights = [max(0.0, 1 - abs(mel(k * rate / 256) - centre) / step) for k in range(129)]
        expected.append(math.log(sum(w * p for w, p in zip(weights, power))))
    wave = np.array([math.sin(0.3 * i) + 0.01 * (i % 7) + 0.5 for i in range(n)])
    assert mel_filterbank(wave, rate, 5)[0] == pytest.approx(expected, rel=1e-5)


def test_a_tone_is_loudest_in_its_band():
    t = np.arange(16_000) / 16_000
    assert triangles(16_000, 512, 40).max() > 0.95
    low, high = (1127 * np.log1p(f / 700) for f in (20.0, 8000.0))
    for band in (8, 20, 35):
        hz = 700 * np.expm1((low + (band + 1) * (high - low) / 41) / 1127)
        loudest = mel_filterbank(np.sin(2 * np.pi * hz * t), 16_000).argmax(axis=1)
        assert (loudest == band).all()


def test_silence_is_the_floor():
    assert mel_filterbank(np.zeros(800), 16_000) == pytest.approx(np.log(np.finfo(np.float32).eps))
