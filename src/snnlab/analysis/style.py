"""How every figure looks: sizes, colours, axes.

matplotlib's object interface only: no pyplot, so no global figure list and no changed
``rcParams``; every size is given to the artist that has it. Colours are those of Okabe and Ito
(2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

DPI = 150
TITLE_PT, LABEL_PT, TICK_PT, NOTE_PT = 9.0, 8.0, 7.0, 6.5
LINE_PT, THIN_PT = 1.1, 0.7

BLACK, BLUE, VERMILION, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE, YELLOW = "#E69F00", "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY, FAINT, SHADE = "#3A3A3A", "#808080", "#B8B8B8", "#EFEFEF"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
ON, OFF = BLUE, VERMILION


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches that lays itself out."""
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.03, wspace=0.03, hspace=0.02)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def height_pt(ax: Axes) -> float:
    """About how tall the axes are, in points (exact once the figure is laid out)."""
    fig = ax.get_figure(root=True)
    return 72.0 * ax.get_position().height * (fig.get_figheight() if fig else 3.0)


def width_pt(ax: Axes) -> float:
    """About how wide the axes are, in points."""
    fig = ax.get_figure(root=True)
    return 72.0 * ax.get_position().width * (fig.get_figwidth() if fig else 4.0)


#: Colours of groups that have one of their own: events of a sensor; E red, I blue, as in the field.
OF_GROUP = {"ON": ON, "OFF": OFF, "E": VERMILION, "I": BLUE}


def of_groups(groups: Sequence[tuple[str, int]]) -> list[str]:
    """The colour of each of some named groups; of no group the one of all."""
    free = [colour for colour in CYCLE if colour not in OF_GROUP.values()]
    if not groups:
        return [INK]
    names = list(dict.fromkeys(name for name, _ in groups))
    if not any(name in OF_GROUP for name in names):
        free = list(CYCLE)
    colour = {name: OF_GROUP.get(name, free[k % len(free)]) for k, name in enumerate(names)}
    return [colour[name] for name, _ in groups]


def tidy(ax: Axes, *, x: str = "", y: str = "", title: str = "", time: bool = False) -> Axes:
    """Axes without chart junk, labelled.

    Args:
        ax: changed and returned.
        x, y: axis labels, with their units.
        title: left-aligned title.
        time: the axis below is time; without ``x``, its numbers are those of the axes below.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=INK, linewidth=THIN_PT)
    ax.tick_params(labelsize=TICK_PT, color=INK, labelcolor=INK, width=THIN_PT, length=2.5, pad=2)
    ax.yaxis.get_offset_text().set(fontsize=TICK_PT, color=INK)
    if time and not x:
        ax.tick_params(axis="x", labelbottom=False)
    ax.set_xlabel(x, fontsize=LABEL_PT, color=INK, labelpad=2)
    ax.set_ylabel(y, fontsize=LABEL_PT, color=INK, labelpad=3)
    if title:
        ax.set_title(title, fontsize=TITLE_PT, color=INK, loc="left", pad=4)
    return ax


def log_ticks(axis: Axis) -> None:
    """At least two numbers on an axis of logarithms, however narrow what it shows is."""
    low, high = axis.get_view_interval()
    decades = float(np.log10(high / low))
    few: Locator = LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=7)
    axis.set_major_locator(MaxNLocator(nbins=4) if decades < 1.0 else few)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def notes_right(ax: Axes, notes: Iterable[tuple[float, str, str]]) -> None:
    """Words beside the right end of the axes; ``(height in data, text, colour)`` each.

    Notes that would touch are moved apart, by least squares.
    """
    low, high = ax.get_ylim()
    room = 1.25 * NOTE_PT * (high - low) / height_pt(ax)
    wanted = sorted((min(max(height, low), high), text, colour) for height, text, colour in notes)
    for height, (_, text, colour) in zip(spread([h for h, _, _ in wanted], room), wanted):
        ax.annotate(
            text, (1.0, height), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", ha="left", fontsize=NOTE_PT, color=colour,
            annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], room: float) -> list[float]:
    """The ascending ``heights``, moved as little as possible to be ``room`` apart."""
    groups: list[list[float]] = []  # isotonic regression of heights[i] - i * room: pool violators
    for i, height in enumerate(heights):
        groups.append([height - i * room])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    level = [_mean(group) for group in groups for _ in group]
    return [base + i * room for i, base in enumerate(level)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def legend_above(ax: Axes, handles: Iterable | None = None) -> None:
    """A frameless legend in one row above the axes, where no data is."""
    made = list(handles) if handles is not None else ax.get_legend_handles_labels()[0]
    ax.legend(
        handles=made, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=max(len(made), 1),
        frameon=False, fontsize=TICK_PT, labelcolor=INK, borderaxespad=0.15, handlelength=1.4,
        columnspacing=1.0, handletextpad=0.4,
    )  # fmt: skip
