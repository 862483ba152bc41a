"""The readout of a sample with several answers, each in a stretch of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from snnlab.analysis import style
from snnlab.analysis._time_axis import TIME, shade, times_ms


def answer_traces(
    ax: Axes,
    readout: np.ndarray,
    spans: Sequence[tuple[int, int]],
    targets: np.ndarray,
    predictions: np.ndarray,
    names: Sequence[str],
    *,
    step_ms: float,
    limits: tuple[float, float],
    x: str = TIME,
    y: str = "readout",
) -> None:
    """The readout of every class; where something is asked, the answer at the foot.

    In an asked stretch the true class is green and a wrong decision vermilion, all others are grey.
    Steps in which nothing is asked are shaded.

    Args:
        ax: drawn into.
        readout: ``(T, C)``.
        spans: first step and the step behind the last one of each of n stretches.
        targets: ``(n,)`` true classes; negative where nothing is asked.
        predictions: ``(n,)`` decisions.
        names: of the C classes.
        step_ms: length of a step.
        limits: smallest and largest value of the axis.
        x, y: axis labels; an empty ``x`` hides the numbers too.
    """
    n_steps = len(readout)
    at, silent = times_ms(n_steps, step_ms), np.ones(n_steps, bool)
    ax.plot(at, readout, color=style.FAINT, linewidth=0.7, zorder=2)
    for (start, stop), true, decided in zip(spans, targets, predictions, strict=True):
        if true < 0:
            continue
        here, right = slice(start, stop), true == decided
        silent[here] = False
        if not right:
            ax.plot(at[here], readout[here, decided], color=style.VERMILION, zorder=3)
        ax.plot(at[here], readout[here, true], color=style.GREEN, zorder=4)
        ax.axvspan(
            start * step_ms, stop * step_ms, 0.02, 0.13, linewidth=0.6, edgecolor="white",
            facecolor=style.GREEN if right else style.VERMILION, zorder=5,
        )  # fmt: skip
        ax.annotate(
            names[decided], ((start + stop) * step_ms / 2, 0.073), ha="center", va="center",
            xycoords=("data", "axes fraction"), fontsize=style.NOTE_PT - 1, color="white", zorder=6,
        )  # fmt: skip
    low, high = limits
    span = max(high - low, 1e-6)
    ax.set(xlim=(0, n_steps * step_ms), ylim=(low - 0.3 * span, high + 0.06 * span))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    shade(ax, silent, step_ms, "")
    style.tidy(ax, x=x, y=y, time=True)
    style.notes_right(ax, [(low - 0.22 * span, "answer", style.INK)])
