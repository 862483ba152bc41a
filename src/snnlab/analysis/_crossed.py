"""Names on columns, such as rules on tasks: the score of each, and its cosine to BPTT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from snnlab.analysis import style

#: Panels of a row.
WIDE = 4


class Cell(NamedTuple):
    """One name on one column.

    Attributes:
        mean, low, high: of the score, as it is shown.
        cosine: to BPTT's gradient, mean over training and seeds; ``None`` if not measured.
        axis: label of the score.
    """

    mean: float
    low: float
    high: float
    cosine: float | None
    axis: str


def crossed_figure(
    columns: Mapping[str, Mapping[str, Cell]], names: Sequence[str], against: Sequence[str] = ()
) -> Figure:
    """For each column the scores by name, and below them cosine against score.

    Points of the lower panels carry the number that stands before the name in the upper ones.

    Args:
        columns: title -> name -> cell.
        names: all of them, from top to bottom.
        against: names whose score is drawn as a line.
    """
    titles = list(columns)
    rows = [titles[k : k + WIDE] for k in range(0, len(titles), WIDE)]
    wide = min(WIDE, len(titles))
    tall, low = 0.16 * len(names) + 0.7, 2.1
    has_cosine = [
        any(c.cosine is not None for t in row for c in columns[t].values()) for row in rows
    ]
    heights = [h for measured in has_cosine for h in ([tall, low] if measured else [tall])]
    fig = style.figure(2.2 * wide + 1.6, sum(heights))
    axes = fig.subplots(len(heights), wide, squeeze=False, height_ratios=heights)
    line = 0
    for row, measured in zip(rows, has_cosine, strict=True):
        for k in range(wide):
            if k < len(row):
                _scores(axes[line][k], columns[row[k]], names, against, row[k], k == 0)
                if measured:
                    _scatter(axes[line + 1][k], columns[row[k]], names, against)
            else:
                axes[line][k].set_axis_off()
                if measured:
                    axes[line + 1][k].set_axis_off()
        line += 1 + measured
    return fig


def _colours(against: Sequence[str]) -> dict[str, str]:
    return dict(zip(against, (style.BLUE, style.VERMILION, style.GREEN), strict=False))


def _scores(
    ax: Any, cells: Mapping[str, Cell], names: Sequence[str], against: Sequence[str], title: str,
    named: bool,
) -> None:  # fmt: skip
    colours = _colours(against)
    for name, colour in colours.items():
        if name in cells:
            ax.axvline(cells[name].mean, color=colour, linewidth=style.THIN_PT, alpha=0.6)
    for k, name in enumerate(names):
        if name not in cells:
            ax.annotate("–", (0.5, k), xycoords=("axes fraction", "data"), ha="center", va="center",
                        fontsize=style.TICK_PT, color=style.GREY)  # fmt: skip
            continue
        cell, colour = cells[name], colours.get(name, style.INK)
        ax.plot([cell.low, cell.high], [k, k], color=colour, linewidth=style.LINE_PT)
        ax.plot([cell.mean], [k], "o", color=colour, markersize=3)
    ax.set_ylim(len(names) - 0.5, -0.5)
    labels = [f"{k + 1}  {name}" if named else str(k + 1) for k, name in enumerate(names)]
    ax.set_yticks(range(len(names)), labels)
    axis = next(iter(cells.values())).axis
    style.tidy(ax, x=f"test {axis}", title=title)
    ax.margins(x=0.06)


def _scatter(
    ax: Any, cells: Mapping[str, Cell], names: Sequence[str], against: Sequence[str]
) -> None:
    colours = _colours(against)
    for k, name in enumerate(names):
        cell = cells.get(name)
        if cell is None or cell.cosine is None:
            continue
        ax.annotate(str(k + 1), (cell.cosine, cell.mean), ha="center", va="center",
                    fontsize=style.TICK_PT, color=colours.get(name, style.INK))  # fmt: skip
        ax.plot([cell.cosine], [cell.mean], "o", color=style.SHADE, markersize=8, zorder=0)
    style.tidy(ax, x="cosine to BPTT, during", y=f"test {next(iter(cells.values())).axis}")
    ax.margins(x=0.12, y=0.12)
