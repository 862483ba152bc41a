"""Decoding from windows of activity."""

from __future__ import annotations

import numpy as np
import pytest

from snnlab.analysis.probing import decode, probe_figure


def test_a_linear_code_is_decoded() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    features = np.eye(4)[labels] @ rng.normal(size=(4, 10)) + 0.1 * rng.normal(size=(400, 10))
    assert decode(features, labels, 4) > 0.97


def test_noise_is_decoded_at_chance() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 2000)
    found = decode(rng.normal(size=(2000, 10)), labels, 4)
    assert abs(found - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)


def test_silent_neurons_do_no_harm() -> None:
    labels = np.arange(40) % 2
    features = np.stack([labels, np.zeros(40)], axis=1).astype(float)
    assert decode(features, labels, 2) == 1.0


def test_more_folds_than_samples() -> None:
    with pytest.raises(ValueError, match="5 folds"):
        decode(np.zeros((3, 2)), np.zeros(3, int), 2)


def test_the_figure_shows_both_curves() -> None:
    figure = probe_figure(
        [500, 1000], [0.9, 0.8], 1000, [50, 150], {"spikes": [0.2, 0.5], "membrane": [0.1, 0.9]},
        1 / 8, [("sample", 0, 100), ("delay", 100, 200)],
    )  # fmt: skip
    left, right = figure.axes
    assert list(left.get_lines()[0].get_ydata()) == [90.0, 80.0]
    assert list(right.get_lines()[1].get_ydata()) == [10.0, 90.0]
