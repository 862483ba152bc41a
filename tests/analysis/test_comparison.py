"""Experiments side by side: what is drawn is what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnlab.analysis import figures


def rows(accuracy: float) -> list[dict[str, Any]]:
    first = {"epoch": 0, "split": "initial", "balance": [0.5, None]}
    return [first] + [
        {"epoch": e, "split": "val", "accuracy": accuracy, "balance": [0.25, 0.75],
         "firing_rates": [2.0, 4.0]}
        for e in (1, 2)
    ]  # fmt: skip


def test_a_line_is_the_mean_of_the_seeds() -> None:
    fig = figures.comparison_figure({"a": [rows(0.5), rows(0.7)], "b": [rows(0.9)]})
    accuracy, rate, balance = fig.axes
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [60.0, 60.0])
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), [90.0, 90.0])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [3.0, 3.0])
    np.testing.assert_allclose(balance.lines[0].get_xydata(), [[0, 0.5], [1, 0.5], [2, 0.5]])
    assert len(accuracy.collections) == 1  # a band for two seeds, none for one
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["a", "b"]


def test_a_panel_without_measurements_is_left_out() -> None:
    bare = [{"epoch": 1, "split": "val", "accuracy": 0.5}]
    assert len(figures.comparison_figure({"a": [bare]}).axes) == 1
    with pytest.raises(ValueError, match="validation"):
        figures.comparison_figure({"a": [[{"epoch": 1, "split": "train", "accuracy": 0.5}]]})


def test_streams_are_drawn_over_steps() -> None:
    stream = [
        {"epoch": k, "split": "train", "accuracy": 0.1, "step": 500 * k, "moving_accuracy": 0.2 * k}
        for k in (1, 2, 3)
    ]
    (ax,) = figures.comparison_figure({"a": [stream]}).axes
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[500, 20], [1000, 40], [1500, 60]])
    assert ax.get_xlabel() == "step"


def test_dependence_is_ordered_with_its_spread() -> None:
    fig = figures.dependence_figure({"a": [(4, [60.0, 80.0]), (1, [50.0])]}, "repeat", "test (%)")
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 50.0], [4, 70.0]])
