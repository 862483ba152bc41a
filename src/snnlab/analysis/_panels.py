"""One axes each: raster, membrane traces, readout, event image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snnlab.analysis import style
from snnlab.analysis._time_axis import TIME, remark, runs, shade, times_ms
from snnlab.analysis.recording import Parts, shown_name

MANY_SPIKES = 3000  # above, a PDF holds the marks as an image
MANY_VALUES = 32  # different ones: more are no counts of spikes


def raster(
    ax: Axes,
    spikes: np.ndarray,
    step_ms: float,
    *,
    groups: Parts = (),
    x: str = TIME,
    y: str = "neuron",
) -> list[Line2D]:
    """A mark for every spike; of named groups each in its colour, with its name beside it.

    Args:
        ax: drawn into.
        spikes: ``(T, n)``, non-zero at a spike.
        step_ms: length of a step.
        groups: names and sizes of the groups of neurons, in order; empty: they are one.
        x, y: axis labels; an empty ``x`` hides the numbers too.

    Returns:
        One line of marks per group: x in ms, y the neuron.
    """
    step, neuron = np.nonzero(spikes)
    return marks(ax, step, neuron, spikes.shape, step_ms, groups=groups, x=x, y=y)


def activity(
    ax: Axes, values: np.ndarray, step_ms: float, *, graded: bool = False, **options: Any
) -> list[Line2D] | AxesImage:
    """A :func:`raster` of spikes or counts; a picture of values.

    Args:
        ax: drawn into.
        values: ``(T, n)``.
        step_ms: length of a step.
        graded: they are known to be values; else many different ones are taken for such.
        options: of :func:`raster`.

    Returns:
        The marks, or the picture: x in ms, y the row, dark the largest.
    """
    if not graded and len(np.unique(values)) <= MANY_VALUES:
        return raster(ax, values, step_ms, **options)
    n_steps, n = values.shape
    image = ax.imshow(
        values.T, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest",
        extent=(0, n_steps * step_ms, -0.5, n - 0.5),
    )  # fmt: skip
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    style.tidy(ax, x=options.get("x", TIME), y=options.get("y", "neuron"), time=True)
    _bands(ax, options.get("groups", ()))
    return image


def marks(
    ax: Axes,
    step: np.ndarray,
    neuron: np.ndarray,
    shape: tuple[int, int],
    step_ms: float,
    *,
    groups: Parts = (),
    x: str = TIME,
    y: str = "neuron",
) -> list[Line2D]:
    """:func:`raster` of a list of spikes: ``step`` and ``neuron`` of each, ``shape (T, n)``."""
    n_steps, n = shape
    at = times_ms(n_steps, step_ms)[step]
    group = np.repeat(np.arange(max(len(groups), 1)), [size for _, size in groups] or n)
    # A mark fills its row and its step, as far as the eye can tell rows apart.
    row = style.height_pt(ax) / max(n, 1)
    tall = row >= 1.5
    form: dict[str, Any] = {"marker": "s", "markersize": min(max(row, 0.9), 1.4)}
    if tall:
        form = {"marker": "|", "markersize": min(max(row * 0.85, 2.2), 7.0)}
    lines = []
    for which, colour in enumerate(style.of_groups(groups)):
        mine = group[neuron] == which
        lines += ax.plot(
            at[mine], neuron[mine], linestyle="none", color=colour,
            markeredgewidth=0.7 if tall else 0.0, rasterized=len(at) > MANY_SPIKES, **form,
        )  # fmt: skip
    ax.set(xlim=(0, n_steps * step_ms), ylim=(-0.5, n - 0.5))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    style.tidy(ax, x=x, y=y, time=True)
    _bands(ax, groups)
    if not len(step):
        remark(ax, "no spikes", 0.5, 0.5)
    return lines


def _bands(ax: Axes, groups: Parts) -> None:
    """A line between groups of rows, and their names at the right."""
    ends = np.cumsum([0, *(size for _, size in groups)])
    for end in ends[1:-1]:
        ax.axhline(end - 0.5, color=style.FAINT, linewidth=style.THIN_PT, zorder=1)
    middles = (ends[:-1] + ends[1:] - 1) / 2
    style.notes_right(
        ax,
        [(float(at), shown_name(name), colour)
         for at, (name, _), colour in zip(middles, groups, style.of_groups(groups))],
    )  # fmt: skip


def representative(spikes: np.ndarray, n_show: int) -> np.ndarray:
    """``n_show`` neurons of ``(T, n)`` spikes, from the most to the least active that fire.

    Evenly spaced in the order of activity; silent neurons only where too few fire.
    """
    counts = np.count_nonzero(spikes, axis=0)
    order = np.argsort(-counts, kind="stable")
    firing = order[: np.count_nonzero(counts)]
    n_show = min(n_show, len(order))
    if len(firing) <= n_show:
        return order[:n_show]
    return firing[np.linspace(0, len(firing) - 1, n_show).round().astype(int)]


def membrane_traces(
    ax: Axes,
    v: np.ndarray,
    spikes: np.ndarray,
    threshold: np.ndarray | float | None,
    n_show: int = 3,
    *,
    step_ms: float,
    neurons: Sequence[int] | None = None,
    x: str = TIME,
    y: str = "membrane, neuron",
) -> list[Artist]:
    """Membrane potentials, one lane a neuron, with threshold and spikes.

    Args:
        ax: drawn into.
        v: ``(T, n)`` membrane potential after the step's reset.
        spikes: ``(T, n)``, non-zero at a spike.
        threshold: what broadcasts to ``(T, n)``; drawn dashed. ``None`` draws none.
        n_show: lanes, unless ``neurons`` says which.
        step_ms: length of a step.
        neurons: indices to show, top to bottom; :func:`representative` ones by default.
        x, y: axis labels; an empty ``x`` hides the numbers too.

    Returns:
        Per lane the trace, the spikes and, with a threshold, its line.
    """
    n_steps = len(v)
    shown = representative(spikes, n_show) if neurons is None else np.asarray(neurons, int)
    at = times_ms(n_steps, step_ms)
    level = None if threshold is None else np.broadcast_to(threshold, v.shape)[:, shown]
    trace = v[:, shown]
    tops = trace if level is None else np.maximum(trace, level)
    low, high = (float(trace.min()), float(tops.max())) if trace.size else (0.0, 1.0)
    span = _span(low, high)
    mark, lane = 0.3 * span, 1.55 * span  # height of a spike, distance of two lanes
    artists: list[Artist] = []
    rests = []
    for row, neuron in enumerate(shown):
        base = (len(shown) - 1 - row) * lane - low
        top = high if level is None else level[:, row]
        fired = np.nonzero(spikes[:, neuron])[0]
        bottom = np.broadcast_to(top, (n_steps,))[fired] + base
        artists += ax.plot(at, trace[:, row] + base, color=style.BLUE, linewidth=0.9)
        artists.append(
            ax.vlines(at[fired], bottom, bottom + mark, color=style.INK, linewidth=0.7)
        )  # fmt: skip
        if level is not None:
            artists += ax.plot(
                at, level[:, row] + base, color=style.FAINT, linewidth=0.7, linestyle=(0, (4, 2))
            )
        rests.append(float(np.clip(0.0, low, high)) + base)
    ax.set(xlim=(0, n_steps * step_ms))
    ax.set_ylim(-0.12 * span, max(len(shown), 1) * lane - (lane - span - mark) + 0.05 * span)
    ax.set_yticks(rests, [str(int(i)) for i in shown])
    style.tidy(ax, x=x, y=y, time=True)
    if level is not None and len(shown):
        last = float(level[-1, 0]) + (len(shown) - 1) * lane - low
        style.notes_right(ax, [(last, "threshold", style.INK)])
    return artists


def running_decisions(readout: np.ndarray, scored: np.ndarray | None = None) -> np.ndarray:
    """``(T,)`` class with the largest mean of ``(T, C)`` over the scored steps so far, or -1."""
    mask = np.ones(len(readout), bool) if scored is None else np.asarray(scored, bool)
    total = np.cumsum(readout * mask[:, None], axis=0)
    return np.where(np.cumsum(mask) > 0, total.argmax(axis=1), -1)


def readout_traces(
    ax: Axes,
    readout: np.ndarray,
    target: int,
    prediction: int,
    class_names: Sequence[str] = (),
    scored: np.ndarray | None = None,
    *,
    step_ms: float,
    running: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    named: bool = True,
    x: str = TIME,
    y: str = "readout",
) -> list[Line2D]:
    """The readout of every class, and below it the decision so far.

    The true class is green, a wrong prediction vermilion, all others grey; a strip at the
    foot names the class that leads at each time. Steps that are not scored are shaded.

    Args:
        ax: drawn into.
        readout: ``(T, C)``.
        target: true class.
        prediction: final decision.
        class_names: C names; the class numbers where empty.
        scored: ``(T,)`` bool; all where ``None``.
        step_ms: length of a step.
        running: ``(T,)`` the decision so far, -1 for none; :func:`running_decisions` by default.
        limits: smallest and largest value of the axis; those of ``readout`` by default.
        named: say beside the lines which class the true and the predicted one are.
        x, y: axis labels; an empty ``x`` hides the numbers too.

    Returns:
        C lines, in the order of the classes.
    """
    n_steps, n_classes = readout.shape
    names = [shown_name(n) for n in class_names] or [str(c) for c in range(n_classes)]
    at = times_ms(n_steps, step_ms)
    colour = dict.fromkeys(range(n_classes), style.FAINT)
    colour[int(prediction)] = style.VERMILION
    colour[int(target)] = style.GREEN
    lines = []
    for c in range(n_classes):
        plain = colour[c] == style.FAINT
        lines += ax.plot(
            at, readout[:, c], color=colour[c], zorder=2 if plain else 3,
            linewidth=0.7 if plain else 1.5,
        )  # fmt: skip
    low, high = limits or (float(readout.min()), float(readout.max()))
    span = _span(low, high)
    ax.set(xlim=(0, n_steps * step_ms), ylim=(low - 0.3 * span, high + 0.06 * span))
    ticks = MaxNLocator(nbins=4).tick_values(low, low + span)
    ax.set_yticks([t for t in ticks if low - 0.05 * span <= t <= high + 0.05 * span])
    if scored is not None:
        shade(ax, ~np.asarray(scored, bool), step_ms)
    strip = running_decisions(readout, scored) if running is None else np.asarray(running)
    _strip(ax, strip, step_ms, names, colour)
    style.tidy(ax, x=x, y=y, time=True)
    ends = {int(prediction): "predicted", int(target): "true"}
    last = readout[-1]
    notes = [
        (float(last[c]), f"{what} {names[c]}" if named else what, colour[c])
        for c, what in ends.items()
    ]
    foot = ax.get_ylim()[0] + 0.075 * np.ptp(ax.get_ylim())
    style.notes_right(ax, [*notes, (float(foot), "decision so far", style.INK)])
    return lines


def following_traces(
    ax: Axes,
    readout: np.ndarray,
    targets: np.ndarray,
    scored: np.ndarray | None = None,
    *,
    step_ms: float,
    limits: tuple[float, float] | None = None,
    x: str = TIME,
    y: str = "readout",
) -> list[Line2D]:
    """Readouts in colours over the targets that they are to follow, grey and wider.

    Args:
        ax: drawn into.
        readout, targets: ``(T, C)``.
        scored: ``(T,)`` bool; steps that are not are shaded; all where ``None``.
        step_ms: length of a step.
        limits: smallest and largest value of the axis; those of both by default.
        x, y: axis labels; an empty ``x`` hides the numbers too.

    Returns:
        C lines of targets, then C of readouts.
    """
    n_steps, n_out = readout.shape
    at = times_ms(n_steps, step_ms)
    lines = ax.plot(at, targets, color=style.FAINT, linewidth=2.4, zorder=2)
    for k in range(n_out):
        colour = style.CYCLE[k % len(style.CYCLE)]
        lines += ax.plot(at, readout[:, k], color=colour, linewidth=0.9, zorder=3)
    both = np.concatenate([readout, targets])
    low, high = limits or (float(both.min()), float(both.max()))
    margin = 0.06 * _span(low, high)
    ax.set(xlim=(0, n_steps * step_ms), ylim=(low - margin, high + margin))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    if scored is not None:
        shade(ax, ~np.asarray(scored, bool), step_ms)
    style.tidy(ax, x=x, y=y, time=True)
    ends = [(float(targets[-1].max()), "target", style.GREY)] * (n_out <= 4)
    style.notes_right(ax, ends)
    return lines


def _span(low: float, high: float) -> float:
    return high - low if high - low > 1e-9 * max(abs(low), abs(high), 1e-3) else 1.0


def _strip(
    ax: Axes, running: np.ndarray, step_ms: float, names: list[str], colour: dict[int, str]
) -> None:
    """The leading class at each time, along the foot of the axes."""
    for start, stop in runs(running):
        leader = int(running[start])
        if leader < 0:
            continue
        ax.axvspan(
            start * step_ms, stop * step_ms, 0.02, 0.13, facecolor=colour[leader], linewidth=0.6,
            edgecolor="white", zorder=4,
        )  # fmt: skip
        if stop - start >= 0.03 * (1 + len(names[leader])) * len(running):
            ax.annotate(
                names[leader], ((start + stop) * step_ms / 2, 0.073), ha="center", va="center",
                xycoords=("data", "axes fraction"), fontsize=style.NOTE_PT - 1, zorder=5,
                color=style.INK if colour[leader] == style.FAINT else "white",
            )  # fmt: skip


def event_image(ax: Axes, cells: np.ndarray, *, full: float | None = None) -> AxesImage:
    """Accumulated events of a sensor: ON blue, OFF vermilion, both grey; more events, more ink.

    Args:
        ax: drawn into.
        cells: ``(H, W, 2)`` counts of OFF and ON, or ``(H, W, 1)``, drawn grey.
        full: count of full colour; the 99th percentile of the active pixels by default.
    """
    if full is None:
        full = full_count([cells])
    total = cells.sum(axis=2, keepdims=True)
    inks = np.array([to_rgb(c) for c in ((style.INK,), (style.OFF, style.ON))[cells.shape[2] - 1]])
    ink = (cells / np.maximum(total, 1e-9)) @ inks
    picture = 1.0 - np.clip(total / max(full, 1e-9), 0.0, 1.0) * (1.0 - ink)
    image = ax.imshow(picture, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(color=style.FAINT, linewidth=style.THIN_PT)
    return image


def full_count(images: Sequence[np.ndarray]) -> float:
    """The 99th percentile of the events of the active pixels of ``(H, W, P)`` counts."""
    sums = np.concatenate([cells.sum(axis=2).ravel() for cells in images])
    return float(np.percentile(sums[sums > 0], 99)) if sums.any() else 1.0
