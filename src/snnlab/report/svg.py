"""Small charts as SVG inside the page: crisp, a few kB, in the colours of the reader's theme.

Colours are classes of the page's style sheet. Names of runs stay out of the pictures: a chart has
numbers, and a legend beside it, as text that wraps, says whose they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, MaxNLocator

from snnlab.analysis.style import spread

#: Of the page, and of cells that are right and wrong (Okabe and Ito's, brighter in the dark).
THEMES = {
    "light": {"page": "#ffffff", "right": "#0072b2", "wrong": "#d55e00"},
    "dark": {"page": "#14171b", "right": "#56b4e9", "wrong": "#f0903c"},
}
#: Colours that the style sheet has for lines.
COLOURS = 7
WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 10, 34
INSET = 6  # of the first and the last epoch


class Line(NamedTuple):
    """A line of a chart, and its band.

    Attributes:
        number: of the legend; it has its colour.
        x, y: points; ``y`` may hold NaN.
        half: of the height of its band; zeros for none.
        dotted: whether it is drawn dotted, without its number.
    """

    number: int
    x: np.ndarray
    y: np.ndarray
    half: np.ndarray
    dotted: bool = False


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _label(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0e}"


def _open(label: str, width: float, height: float, most: bool = False) -> str:
    """The begin of a picture; with ``most`` it is never shown larger than it is."""
    size = f'class="fit" width="{width:g}" ' * most
    return (
        f'<svg {size}viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>"
    )


def curves(lines: Sequence[Line], label: str, *, log: bool = False, zero: bool = False) -> Markup:
    """Lines over epochs, with bands.

    Args:
        lines: of them at least one has a point.
        label: of the axis, and what a screen reader says.
        log: whether the axis is logarithmic.
        zero: whether the axis begins at 0.
    """
    xs = np.concatenate([line.x for line in lines]).astype(float)
    ends = [line.y + sign * line.half for line in lines for sign in (-1, 1)]
    ys = np.concatenate([*ends, *(line.y for line in lines)])
    ys = ys[np.isfinite(ys)]
    log = log and bool(np.all(np.concatenate([ln.y[np.isfinite(ln.y)] for ln in lines]) > 0))
    if log:
        ys = ys[ys > 0]
    low, high = (float(ys.min()), float(ys.max())) if len(ys) else (0.0, 1.0)
    if zero:
        low = min(low, 0.0)
    if log:
        ticks = [t for t in LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)
                 if 0.8 * low <= t <= 1.25 * high]  # fmt: skip
        ticks = ticks[:: 1 + len(ticks) // 8]
        low, high = min([low, *ticks]), max([high, *ticks])
    else:
        ticks = list(MaxNLocator(nbins=4).tick_values(low, high))
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    first, last = float(xs.min()), float(xs.max())
    across = MaxNLocator(nbins=6, integer=True, min_n_ticks=1).tick_values(first, last)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at_x(value: float) -> float:
        share = 0.5 if first == last else (value - first) / (last - first)
        return LEFT + INSET + (wide - 2 * INSET) * share

    def at_y(value: float) -> float:
        if log:
            value, bottom, top = (math.log(max(v, 1e-300)) for v in (value, low, high))
        else:
            bottom, top = low, high
        share = 0.5 if top == bottom else (value - bottom) / (top - bottom)
        return TOP + tall * (1 - min(max(share, 0.0), 1.0))

    out = [_open(f"{label} over epochs", WIDTH, HEIGHT)]
    for tick in ticks:
        at = _n(at_y(tick))
        out.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 5}" y="{at}" dy=".35em" class="end">{_label(tick)}</text>')
    for tick in across:
        if first <= tick <= last:
            out.append(f'<text x="{_n(at_x(tick))}" y="{HEIGHT - BOTTOM + 14}" class="mid">'
                       f"{_label(tick)}</text>")  # fmt: skip
    out.append(f'<text x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 4}" class="mid">epoch</text>')
    finals = []
    for line in lines:
        ok = np.isfinite(line.y)
        if not ok.any():
            continue
        xs, mean, half = line.x[ok], line.y[ok], line.half[ok]
        colour = f"c{line.number % COLOURS}"
        if half.any() and not line.dotted and len(xs) <= 2:
            out += [f'<path class="line {colour}" d="M{_n(at_x(a))} {_n(at_y(b - h))}'
                    f'V{_n(at_y(b + h))}"/>' for a, b, h in zip(xs, mean, half)]  # fmt: skip
        elif half.any() and not line.dotted:
            edge = [f"{_n(at_x(a))} {_n(at_y(b + h))}" for a, b, h in zip(xs, mean, half)]
            edge += [f"{_n(at_x(a))} {_n(at_y(b - h))}" for a, b, h in zip(xs, mean, half)][::-1]
            out.append(f'<path class="band {colour}" d="M{"L".join(edge)}Z"/>')
        points = [f"{_n(at_x(a))} {_n(at_y(b))}" for a, b in zip(xs, mean)]
        hollow = " hollow" if line.dotted else ""
        if len(xs) <= 3:
            out += [f'<circle class="{colour}{hollow}" cx="{p.split()[0]}" cy="{p.split()[1]}" '
                    'r="3"/>' for p in points]  # fmt: skip
        dotted = " dotted" if line.dotted else ""
        if len(xs) > 2:  # two points are two points
            out.append(f'<path class="line{dotted} {colour}" d="M{"L".join(points)}"/>')
        if not line.dotted:
            finals.append((at_y(float(mean[-1])), at_x(float(xs[-1])), line.number))
    finals.sort()
    for y, (_, x, which) in zip(spread([f[0] for f in finals], 11.0), finals):
        out.append(f'<text class="key c{which % COLOURS}" x="{_n(x + 6)}" y="{_n(y)}" dy=".35em">'
                   f"{which + 1}</text>")  # fmt: skip
    return Markup("".join(out) + "</svg>")


def dots(
    values: Sequence[float], limits: tuple[float, float], label: str,
    interval: tuple[float, float] | None,
) -> Markup:  # fmt: skip
    """A value of each seed as a ring, their mean as a stroke, its interval as a bar."""
    low, high = limits
    width, height = 320, 22

    def at(value: float) -> str:
        return _n(8 + (width - 16) * min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0))

    out = [_open(label, width, height), f'<path class="grid" d="M8 11H{width - 8}"/>']
    if interval:
        a, b = map(at, interval)
        out.append(f'<path class="interval" d="M{a} 11H{b}"/>')
    out += [f'<circle class="ring" cx="{at(v)}" cy="11" r="4"/>' for v in values]
    mean = at(sum(values) / len(values))
    return Markup("".join(out) + f'<path class="mean" d="M{mean} 3V19"/></svg>')


def histogram(values: np.ndarray, label: str, bins: int = 40) -> Markup:
    """How often values occur; the limits of the axis below."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    width, height, foot = 240, 96, 16
    step, tall = width / bins, (height - foot - 4) / max(int(counts.max()), 1)
    path = "".join(
        f"M{_n(k * step)} {height - foot}v{_n(-max(c * tall, 1.0))}h{_n(step)}V{height - foot}z"
        for k, c in enumerate(counts.tolist()) if c
    )  # fmt: skip
    out = [_open(label, width, height), f'<path class="bars" d="{path}"/>',
           f'<path class="axis" d="M0 {height - foot}H{width}"/>']  # fmt: skip
    if low < 0 < high:
        x = _n(width * -low / (high - low))
        out.append(f'<path class="zero" d="M{x} 0V{height - foot}"/>')
        if 0.2 < -low / (high - low) < 0.8:
            out.append(f'<text x="{x}" y="{height - 3}" class="mid">0</text>')
    out.append(f'<text x="0" y="{height - 3}">{_label(low)}</text>')
    out.append(f'<text x="{width}" y="{height - 3}" class="end">{_label(high)}</text>')
    return Markup("".join(out) + "</svg>")


#: Classes up to which cells have numbers, and names.
WRITTEN = 14


def _white(kind: str, strength: float) -> str:
    """The classes of a number on a cell: in which themes it is read better in white than black."""
    found = ""
    for theme, name in (("light", " white"), ("dark", " night")):
        page, full = (to_rgb(THEMES[theme][what]) for what in ("page", kind))
        mixed = [strength * f + (1 - strength) * p for p, f in zip(page, full, strict=True)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in mixed]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        found += name if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else ""  # WCAG 2.1, 1.4.3
    return found


def confusion(counts: np.ndarray, names: Sequence[str]) -> Markup:
    """True classes by predictions; classes by their numbers, which the table beside it explains.

    Blue is right, orange wrong; a colour grows with the share of the row to the power of 0.4.
    """
    n = len(counts)
    share = counts / np.maximum(counts.sum(1), 1)[:, None]
    cell, edge = min(300 / n, 44.0), 34
    side = cell * n
    size = edge + max(side, 90) + 4  # room for the words
    right = int(np.trace(counts))
    label = f"confusion matrix, {right} of {int(counts.sum())} right"
    out = [_open(label, size, edge + max(side, 70) + 4, most=True)]
    for row, column in np.argwhere(counts).tolist():
        part = float(share[row, column])
        strength = part**0.4
        kind = "right" if row == column else "wrong"
        x, y = edge + column * cell, edge + row * cell
        told = f"true {names[row]}, predicted {names[column]}: {counts[row, column]}, {part:.1%}"
        out.append(f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(cell)}" '
                   f'height="{_n(cell)}" fill-opacity="{strength:.2f}">'
                   f"<title>{escape(told)}</title></rect>")  # fmt: skip
        if n <= WRITTEN:
            classes = f"mid on{_white(kind, strength)}"
            middle = f'x="{_n(x + cell / 2)}" y="{_n(y + cell / 2)}"'
            out.append(f'<text class="{classes}" {middle} dy=".35em">{counts[row, column]}</text>')
    out.append(f'<rect class="frame" x="{edge}" y="{edge}" width="{_n(side)}" '
               f'height="{_n(side)}"/>')  # fmt: skip
    every = max(1, math.ceil(n / 20))
    for k in range(0, n, every):
        place = _n(edge + (k + 0.5) * cell)
        out.append(f'<text class="mid" x="{place}" y="{edge - 5}">{k + 1}</text>')
        out.append(f'<text class="end" x="{edge - 4}" y="{place}" dy=".35em">{k + 1}</text>')
    over, beside = _n(edge + max(side, 90) / 2), _n(edge + max(side, 70) / 2)
    out.append(f'<text class="mid" x="{over}" y="11">predicted class</text>')
    turned = f'transform="translate(10 {beside}) rotate(-90)"'
    out.append(f'<text class="mid" {turned}>true class</text>')
    return Markup("".join(out) + "</svg>")
