"""Accuracy along an endless stream, and after its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from snnlab.analysis import style

#: Changes up to which each is marked by a line.
MARKED = 60


def stream_figure(
    rows: Sequence[Mapping[str, Any]], after: Sequence[Sequence[float]] = (),
    chance: float | None = None,
) -> Figure:  # fmt: skip
    """Moving accuracy over the steps of a stream; the mean accuracy after a change beside it.

    Args:
        rows: of ``metrics.jsonl``, with ``step``, ``accuracy`` (of the row's own steps),
            ``moving_accuracy``, and ``changes`` where there are any.
        after: ``(steps since the change, accuracy)``, over all changes; empty: no such panel.
        chance: accuracy of guesses.
    """
    fig = style.figure(6.4 if after else 4.6, 2.2)
    if after:
        left, right = fig.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [2, 1]})
    else:
        left = fig.subplots()
    step = np.array([row["step"] for row in rows])
    moving = np.array([row["moving_accuracy"] or np.nan for row in rows], float)
    own = np.array([row["accuracy"] for row in rows], float)
    changes = np.array([row.get("changes", 0) for row in rows])
    if 0 < changes.sum() <= MARKED:
        for at, width in zip(step[changes > 0], np.diff(step, prepend=0)[changes > 0]):
            left.axvline(at - width, color=style.FAINT, linewidth=style.THIN_PT, zorder=0)
    left.plot(step, 100 * own, color=style.FAINT, linewidth=style.THIN_PT, label="each row")
    left.plot(step, 100 * moving, color=style.BLUE, linewidth=style.LINE_PT, label="moving window")
    style.tidy(left, x="step", y="accuracy (%)")
    left.set_xlim(0, step[-1])
    _frame(left, chance)
    style.legend_above(left)
    if after:
        since, accuracy = np.array(after).T
        right.plot(since, 100 * accuracy, color=style.BLUE, linewidth=style.LINE_PT)
        style.tidy(right, x="steps after a change", title="mean over changes")
        right.set_xlim(left=0)
        _frame(right, chance)
    return fig


def _frame(ax: Axes, chance: float | None) -> None:
    if chance is not None:
        ax.axhline(100 * chance, color=style.GREY, linewidth=style.THIN_PT, linestyle=":")
    ax.set_ylim(0, 100)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
