"""How cost grows with size: log-log lines with their fitted exponents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from snnlab.analysis import style

#: Of a line: ``(x, y)``, or ``(x, y, low, high)`` with the ends of its spread.
Points = Sequence[tuple[float, ...]]
#: Different ``x`` that an exponent needs.
FEWEST = 4


@dataclasses.dataclass(frozen=True)
class Panel:
    """Lines over one quantity.

    Attributes:
        x, y: axis labels with units.
        lines: name -> points, all numbers positive.
        spread: what the ends of a point's spread are, for a note; empty where there are none.
    """

    x: str
    y: str
    lines: Mapping[str, Points]
    spread: str = ""


def exponent(points: Points) -> float:
    """``p`` of the power law ``y ~ x^p`` fitted by least squares to the logarithms.

    ``nan`` for fewer than :data:`FEWEST` different ``x``: two points fit every power law.
    """
    x, y = np.log(np.asarray([point[:2] for point in points], float)).T
    if len(np.unique(x)) < FEWEST:
        return float("nan")
    return float(np.polyfit(x, y, 1)[0])


def scaling_figure(panels: Sequence[Panel]) -> Figure:
    """A log-log panel each; the legend gives the exponent fitted to every line of four points.

    Two points are drawn as two points, more are joined by a line.

    Raises:
        ValueError: nothing to draw.
    """
    if not panels:
        raise ValueError("no panel to draw")
    fig = style.figure(2.9 * len(panels), 2.7)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = dict(zip(names, style.CYCLE * len(names), strict=False))
    for ax, panel in zip(axes, panels, strict=True):
        ax.set(xscale="log", yscale="log")
        fitted = False
        for name, points in panel.lines.items():
            found = exponent(points)
            fitted |= bool(np.isfinite(found))
            ordered = sorted(points)
            x, y = np.asarray([point[:2] for point in ordered], float).T
            ends = np.asarray([(*point, *2 * point[1:2])[2:4] for point in ordered], float).T
            ax.errorbar(
                x, y, np.abs(ends - y), marker="o", markersize=3, linewidth=style.LINE_PT,
                linestyle="-" if len(x) > 2 else "none", elinewidth=style.THIN_PT, capsize=2,
                color=colours[name],
                label=name + (f": {round(found, 2) + 0.0:.2f}" if np.isfinite(found) else ""),
            )  # fmt: skip
        ax.margins(x=0.08)
        ticks = sorted({point[0] for points in panel.lines.values() for point in points})
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())
        style.tidy(ax, x=panel.x, y=panel.y)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
        ax.legend(
            title="exponent" if fitted else None, title_fontsize=style.NOTE_PT, loc="upper left",
            fontsize=style.NOTE_PT, frameon=False, labelcolor=style.INK, handlelength=1.2,
            borderaxespad=0.1,
        )  # fmt: skip
        if panel.spread:
            small = {"fontsize": style.NOTE_PT, "color": style.GREY}
            ax.set_title(panel.spread, loc="right", pad=3, **small)
    return fig
