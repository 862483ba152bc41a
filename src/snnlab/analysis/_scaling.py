"""How cost grows with size: log-log lines with their fitted exponents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from snnlab.analysis import style

Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Lines over one quantity.

    Attributes:
        x, y: axis labels with units.
        lines: name -> (x, y) points, both positive.
    """

    x: str
    y: str
    lines: Mapping[str, Points]


def exponent(points: Points) -> float:
    """``p`` of the power law ``y ~ x^p`` fitted by least squares to the logarithms.

    ``nan`` for fewer than two different ``x``.
    """
    x, y = np.log(np.asarray(points, float)).T
    if len(np.unique(x)) < 2:
        return float("nan")
    return float(np.polyfit(x, y, 1)[0])


def scaling_figure(panels: Sequence[Panel]) -> Figure:
    """A log-log panel each; the legend gives the exponent fitted to every line.

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
        for name, points in panel.lines.items():
            x, y = np.asarray(points, float).T
            ax.plot(
                x, y, marker="o", markersize=3, linewidth=style.LINE_PT, color=colours[name],
                label=f"{name}: {exponent(points):.2f}",
            )  # fmt: skip
        ticks = sorted({x for points in panel.lines.values() for x, _ in points})
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())
        style.tidy(ax, x=panel.x, y=panel.y)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
        ax.legend(
            title="exponent", title_fontsize=style.NOTE_PT, fontsize=style.NOTE_PT,
            loc="upper left", frameon=False, labelcolor=style.INK, handlelength=1.2,
            borderaxespad=0.1,
        )  # fmt: skip
    return fig
