"""Several experiments side by side: over epochs, or over one of their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from snnlab.analysis import style
from snnlab.analysis._curves import Measure, Rows, curve, value_of
from snnlab.scores import SCORES

#: Panels: label -> (splits, measure, the part of a row that is the axis).
PANELS: dict[str, tuple[tuple[str, ...], Measure, str]] = {
    **{f"validation {s.axis}": (("val",), value_of(s.name, s.scale), "epoch")
       for s in SCORES.values()},
    "firing rate (Hz)": (("val",), value_of("firing_rates"), "epoch"),
    "balance": (("initial", "val"), value_of("balance"), "epoch"),
    "accuracy, moving window (%)": (("train",), value_of("moving_accuracy", 100.0), "step"),
}  # fmt: skip


def comparison_figure(experiments: Mapping[str, Sequence[Rows]]) -> Figure:
    """Validation score, firing rate and balance over the epochs, a colour per experiment; of
    streams the moving accuracy over the steps.

    Args:
        experiments: name -> rows of ``metrics.jsonl`` of each of its seeds. Drawn are the mean
            of the seeds and a band of one standard deviation; rates and balance are averaged
            over layers, and epoch 0 is the untrained network. A panel that nothing was measured
            for is not drawn.

    Raises:
        ValueError: no experiment has anything to draw.
    """
    panels = {
        label: part for label, part in PANELS.items()
        if any(_found(rows, part) for runs in experiments.values() for rows in runs)
    }  # fmt: skip
    if not panels:
        raise ValueError("no experiment has rows of a validation set, or of a stream")
    fig = style.figure(2.7 * len(panels) + 1.2, 2.5)
    colours = dict(zip(experiments, style.CYCLE * len(experiments), strict=False))
    for ax, (label, (splits, measure, x)) in zip(
        fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, runs in experiments.items():
            joined = [
                [{**row, "split": "val", "epoch": row[x]} for row in rows
                 if row.get("split") in splits and x in row]
                for rows in runs
            ]  # fmt: skip
            curve(ax, joined, "val", measure, colours[name])
        style.tidy(ax, x=x, y=label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        if x == "step":
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.margins(x=0.03)
        if label.startswith("firing"):
            ax.set_ylim(bottom=0)
    _legend(fig, colours)
    return fig


def _found(rows: Rows, part: tuple[tuple[str, ...], Measure, str]) -> bool:
    splits, measure, x = part
    return any(row.get("split") in splits and x in row and measure(row) is not None for row in rows)


#: Letters of a name up to which it stands beside the panels; longer ones stand below.
LONG = 24


def _legend(fig: Figure, colours: Mapping[str, str]) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=style.LINE_PT, label=name)
        for name, colour in colours.items()
    ]
    below = max(map(len, colours)) > LONG
    if below:
        fig.set_figheight(fig.get_figheight() + len(colours) * 1.6 * style.TICK_PT / 72)
    fig.legend(
        handles=handles, loc="outside lower left" if below else "outside right center",
        frameon=False, fontsize=style.TICK_PT, labelcolor=style.INK, handlelength=1.4,
    )  # fmt: skip


#: Settings up to which each has a tick of its own.
MOST_TICKS = 7
#: Name -> (setting, values of the seeds) points.
Lines = Mapping[str, Sequence[tuple[float, Sequence[float]]]]


def dependence_figure(lines: Lines, x: str, y: str, joined: bool = True) -> Figure:
    """How a measure depends on a setting: mean and standard deviation over seeds.

    Args:
        lines: name -> (setting, values of the seeds) points.
        x, y: axis labels.
        joined: whether the setting is a quantity, of which there is something between two points.
    """
    fig = style.figure(4.2, 2.6)
    ax: Any = fig.subplots()
    colours = dict(zip(lines, style.CYCLE * len(lines), strict=False))
    _dependence(ax, lines, colours, joined)
    style.tidy(ax, x=x, y=y)
    _legend(fig, colours)
    return fig


def dependence_grid(
    columns: Mapping[str, Mapping[str, Lines]], x: str, *, words: Sequence[str] = (),
    log_x: bool = False, log_y: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Several measures, a row each, of several things, a column each; see
    :func:`dependence_figure`.

    Args:
        columns: title -> label of a measure -> lines; rows share their axis.
        x: axis label of the setting.
        words: what stands at the settings 0, 1, ..., in the place of numbers; then no line joins
            them.
        log_x: settings on a logarithmic axis.
        log_y: measures on a logarithmic axis.

    Raises:
        ValueError: nothing to draw.
    """
    rows = list(dict.fromkeys(label for panels in columns.values() for label in panels))
    names = list(dict.fromkeys(
        name for panels in columns.values() for lines in panels.values() for name in lines
    ))  # fmt: skip
    if not names:
        raise ValueError("no line to draw")
    fig = style.figure(2.3 * len(columns) + 1.4, 1.9 * len(rows) + 0.3)
    colours = dict(zip(names, style.CYCLE * len(names), strict=False))
    grid = fig.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    for j, (title, panels) in enumerate(columns.items()):
        for i, label in enumerate(rows):
            ax = grid[i, j]
            _dependence(ax, panels.get(label, {}), colours, joined=not words)
            last = i == len(rows) - 1
            style.tidy(
                ax, x=x if last else "", y=label if j == 0 else "", title=title if i == 0 else ""
            )
            if label in log_y:
                ax.set_yscale("log")
            ax.margins(x=0.08)
            places = [at for lines in panels.values() for p in lines.values() for at, _ in p]
            settings = sorted(set(places))
            if words:
                ax.set_xticks(range(len(words)), words, rotation=20, ha="right")
                continue
            if log_x:
                ax.set_xscale("log")
            if len(settings) <= MOST_TICKS:
                ax.set_xticks(settings, [f"{at:g}" for at in settings])
                ax.xaxis.set_minor_formatter(NullFormatter())
    _legend(fig, colours)
    return fig


def _dependence(ax: Any, lines: Lines, colours: Mapping[str, str], joined: bool = True) -> None:
    """What is no number has nothing between its points, and two points are two points."""
    for name, points in lines.items():
        ordered = sorted(points)
        ax.errorbar(
            [at for at, _ in ordered], [np.mean(v) for _, v in ordered],
            [np.std(v, ddof=1) if len(v) > 1 else 0.0 for _, v in ordered],
            color=colours[name], linewidth=style.LINE_PT, marker="o", markersize=3, capsize=2,
            linestyle="-" if joined and len(ordered) > 2 else "none",
        )  # fmt: skip
