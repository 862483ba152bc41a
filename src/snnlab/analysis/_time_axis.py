"""The axis over time that panels share: where a step is, periods of a trial, shaded stretches.

Step t is at its middle, ``(t + 0.5) * step_ms``, and the axis spans ``[0, T * step_ms]``, so
panels of one recording align. A step lasts ``step_ms`` of recorded time where there are
recordings, and else of simulated time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from snnlab.analysis import style
from snnlab.analysis.recording import Parts, shown_name

TIME = "time (ms)"
RECORDED, SIMULATED = "recorded time (ms)", "simulated time (ms)"


def times_ms(n_steps: int, step_ms: float) -> np.ndarray:
    """``(T,)`` the middle of each step."""
    return (np.arange(n_steps) + 0.5) * step_ms


def period_lines(axes: Sequence[Axes], periods: Parts, step_ms: float) -> None:
    """The borders of the periods of a trial in all panels, and their names above the first one.

    Short periods in a row share one name, which is left out where it does not fit either.
    """
    if not periods:
        return
    ends = np.cumsum([0, *(steps for _, steps in periods)]) * step_ms
    for ax in axes:
        for end in ends[1:-1]:
            ax.axvline(end, color=style.FAINT, linewidth=style.THIN_PT, linestyle=(0, (1, 2)),
                       zorder=1)  # fmt: skip
    top, free = axes[0], -np.inf
    letter = 0.62 * style.NOTE_PT * float(ends[-1]) / style.width_pt(top)
    for name, start, stop in _names_that_fit(periods, ends, letter):
        wide = letter * len(name)
        left = (start + stop - wide) / 2
        if stop == ends[-1] and wide > stop - start:  # there is room at the right of the panel
            left = start
        if left < free:
            continue
        free = left + wide + letter
        top.annotate(
            name, (left + wide / 2, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=style.NOTE_PT, color=style.GREY,
            annotation_clip=False,
        )  # fmt: skip


def _names_that_fit(
    periods: Parts, ends: np.ndarray, letter: float
) -> list[tuple[str, float, float]]:
    """Names with start and stop; of short periods in a row the words of their names, once each."""
    found: list[tuple[str, float, float]] = []
    short: list[tuple[str, float, float]] = []

    def close() -> None:
        words = dict.fromkeys(name.rstrip(" 0123456789") for name, _, _ in short)
        joined = " / ".join(words)
        if short and letter * len(joined) <= short[-1][2] - short[0][1]:
            found.append((joined, short[0][1], short[-1][2]))
        short.clear()

    for (name, _), start, stop in zip(periods, ends[:-1].tolist(), ends[1:].tolist()):
        here = (shown_name(name), start, stop)
        if letter * len(name) > stop - start and stop < ends[-1]:
            short.append(here)
            continue
        close()
        found.append(here)
    close()
    return found


def runs(values: np.ndarray) -> list[tuple[int, int]]:
    """``(start, stop)`` of every run of equal values."""
    cuts = [0, *(np.nonzero(np.diff(values))[0] + 1).tolist(), len(values)]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def shade(ax: Axes, mask: np.ndarray, step_ms: float, words: str = "not scored") -> None:
    """Shade the steps of a mask ``(T,)``; in a long stretch stands why."""
    for start, stop in runs(mask):
        if mask[start]:
            ax.axvspan(start * step_ms, stop * step_ms, color=style.SHADE, linewidth=0, zorder=0)
            share = (stop - start) / len(mask)
            if share > max(0.2, 0.62 * style.NOTE_PT * len(words) / style.width_pt(ax)):
                remark(ax, words, (start + stop) / (2 * len(mask)), 0.93)


def remark(ax: Axes, text: str, x: float, y: float) -> None:
    """A grey remark at a fraction of the axes."""
    ax.annotate(
        text, (x, y), xycoords="axes fraction", ha="center", va="center",
        fontsize=style.NOTE_PT, color=style.GREY,
    )  # fmt: skip
