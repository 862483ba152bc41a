"""What a search found: the best trial so far, and the metric over each option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snnlab.analysis import style

#: State -> colour and marker of a trial.
MARKS = {"complete": (style.BLUE, "o"), "pruned": (style.ORANGE, "v"), "failed": (style.GREY, "x")}
COLUMNS = 3


class Dot(NamedTuple):
    """A trial.

    Attributes:
        number: of the trial.
        state: of :data:`MARKS`.
        value: metric; of a pruned one the last that was seen, of a failed one ``None``.
        point: option -> value.
    """

    number: int
    state: str
    value: float | None
    point: dict[str, Any]


class Slice(NamedTuple):
    """An option.

    Attributes:
        name: of it.
        log: whether its axis is logarithmic.
        choices: its values, where it has no axis of numbers.
        importance: share of the metric's variance, if that could be told.
    """

    name: str
    log: bool = False
    choices: tuple[str, ...] = ()
    importance: float | None = None


def search_figure(
    dots: Sequence[Dot], slices: Sequence[Slice], y: str, rises: bool, scale: float = 1.0
) -> Figure:
    """The best metric so far over the trials, and each trial's metric over each option.

    Args:
        dots: the trials, in order.
        slices: the options.
        y: label of the metric.
        rises: whether a high metric is better.
        scale: factor of what is shown.

    Returns:
        A figure of ``1 + len(slices)`` panels.
    """
    panels = 1 + len(slices)
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    fig = style.figure(2.5 * columns + 0.3, 2.1 * rows + 0.35)
    axes: Any = fig.subplots(rows, columns, squeeze=False, sharey=True).flat
    for ax in axes[panels:]:
        ax.set_axis_off()
    known = [d for d in dots if d.value is not None]
    history = axes[0]
    _dots(history, known, [float(d.number) for d in known], scale)
    done = [
        (d.number, scale * d.value) for d in known if d.state == "complete" and d.value is not None
    ]
    if done:
        best = (np.maximum if rises else np.minimum).accumulate([value for _, value in done])
        last = dots[-1].number
        history.step(
            [*(number for number, _ in done), last], [*best, best[-1]], where="post",
            color=style.INK, linewidth=style.LINE_PT, zorder=1,
        )  # fmt: skip
    for d in dots:
        if d.value is None:
            history.plot(
                d.number, 0.02, marker="x", color=style.GREY, markersize=4, clip_on=False,
                transform=history.get_xaxis_transform(),
            )  # fmt: skip
    history.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    style.tidy(history, x="trial", y=y, title="best so far")
    for k, (ax, part) in enumerate(zip(axes[1:], slices), start=1):
        _slice(ax, part, [d for d in known if part.name in d.point], scale)
        share = "" if part.importance is None else f"importance {part.importance:.2f}"
        style.tidy(ax, x=part.name, y=y if k % columns == 0 else "", title=share)
        if k % columns:
            ax.tick_params(axis="y", labelleft=False)
    states = [s for s in MARKS if any(d.state == s for d in dots)]
    handles = [
        Line2D([], [], linestyle="none", marker=MARKS[s][1], color=MARKS[s][0], markersize=4,
               label=s) for s in states
    ]  # fmt: skip
    fig.legend(
        handles=handles, loc="outside upper right", ncols=len(handles), frameon=False,
        fontsize=style.TICK_PT, labelcolor=style.INK, handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip
    return fig


def _slice(ax: Any, part: Slice, dots: Sequence[Dot], scale: float) -> None:
    if part.choices:
        at = [float(part.choices.index(str(d.point[part.name]))) for d in dots]
        apart = [
            0.3 * (0.618034 * d.number % 1.0 - 0.5) for d in dots
        ]  # so that none hides another
        _dots(ax, dots, [a + b for a, b in zip(at, apart)], scale)
        ax.set_xticks(range(len(part.choices)), part.choices)
        ax.set_xlim(-0.5, len(part.choices) - 0.5)
        if len("".join(part.choices)) > 26:
            ax.tick_params(axis="x", rotation=30)
        return
    if part.log:
        ax.set_xscale("log")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    _dots(ax, dots, [float(d.point[part.name]) for d in dots], scale)
    if part.log:
        style.log_ticks(ax.xaxis)


def _dots(ax: Any, dots: Sequence[Dot], at: Sequence[float], scale: float) -> None:
    for state, (colour, marker) in MARKS.items():
        mine = [(x, scale * d.value) for x, d in zip(at, dots)
                if d.state == state and d.value is not None]  # fmt: skip
        if mine:
            ax.plot(*zip(*mine), linestyle="none", marker=marker, color=colour, markersize=3.5)
