"""Single test samples: input, activity and decision on one time axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnlab.analysis import style
from snnlab.analysis._answers import answer_traces
from snnlab.analysis._panels import (
    activity,
    event_image,
    following_traces,
    full_count,
    membrane_traces,
    readout_traces,
)
from snnlab.analysis._time_axis import RECORDED, SIMULATED, period_lines
from snnlab.analysis.recording import Recording, event_counts
from snnlab.scores import NMSE

#: Letters of a title in one line: as many as a column of several has room for.
LONGEST_TITLE = 38
#: Letters of a class beside its line, where they take room from the panel: the title has them too.
LONGEST_NOTE = 12


def sample_figure(
    recording: Recording, index: int, *, n_show: int = 3, n_frames: int = 6
) -> Figure:
    """One test sample: event images, input raster, a raster per layer, membranes, readout.

    Args:
        recording: what the network did.
        index: which sample of its batch.
        n_show: membrane traces, of the last hidden layer.
        n_frames: event images, each of its share of the time.

    Raises:
        IndexError: the batch has no sample ``index``.
    """
    return _figure(recording, [index], n_show, n_frames, column_in=5.6)


def samples_figure(
    recording: Recording, indices: Sequence[int], *, n_show: int = 3, n_frames: int = 3
) -> Figure:
    """Some test samples side by side, a column each; arguments as :func:`sample_figure`."""
    return _figure(recording, list(indices), n_show, n_frames, column_in=3.1)


def _figure(
    rec: Recording, indices: list[int], n_show: int, n_frames: int, column_in: float
) -> Figure:
    if not indices:
        raise ValueError("no sample to show")
    for index in indices:
        if not 0 <= index < rec.batch_size:
            raise IndexError(f"sample {index}: the recording has {rec.batch_size}")
    images = rec.sensor is not None and min(rec.sensor.height, rec.sensor.width) > 1
    rows = {"image": min(0.95 * column_in / n_frames, 1.0)} if images else {}
    rows["input"] = 1.15
    rows |= {f"layer {k + 1}": 0.95 for k in range(len(rec.spikes))}
    if rec.spikes:
        rows["membrane"] = max(1.25, 0.32 + 0.3 * n_show)
    rows["readout"] = 1.25
    fig = style.figure(column_in * len(indices) + 0.7, sum(rows.values()) + 0.9)
    grid = fig.subplots(
        len(rows), len(indices), squeeze=False, gridspec_kw={"height_ratios": list(rows.values())}
    )
    shown = [rec.readout[:, indices]]
    if rec.predictions is None:
        shown.append(rec.targets[:, indices])
    limits = (  # the same for all, so that samples compare
        float(min(part.min() for part in shown)), float(max(part.max() for part in shown)),
    )  # fmt: skip
    for column, index in enumerate(indices):
        axes = dict(zip(rows, grid[:, column]))
        _column(axes, rec, index, n_show, n_frames, limits, first=column == 0)
    fig.align_ylabels(grid[:, 0])
    if rec.bin_ms is not None and not math.isclose(rec.bin_ms, rec.dt_ms):
        fig.supxlabel(
            f"a step: {rec.bin_ms:.4g} ms recorded, {rec.dt_ms:.4g} ms simulated",
            fontsize=style.NOTE_PT, color=style.GREY,
        )  # fmt: skip
    return fig


def _column(
    axes: dict[str, Axes],
    rec: Recording,
    index: int,
    n_show: int,
    n_frames: int,
    limits: tuple[float, float],
    first: bool,
) -> None:
    """Fill the panels of one sample; only the first column names and numbers its rows."""

    def named(text: str) -> str:
        return text if first else ""

    inputs, dt = rec.inputs[:, index], rec.step_ms
    if "image" in axes:
        _frames(axes["image"], rec, index, n_frames)
    activity(
        axes["input"], inputs, dt, graded=rec.graded, groups=rec.groups, x="", y=named("input")
    )
    for k, spikes in enumerate(rec.spikes):
        own = rec.populations[k] if rec.populations else ()
        activity(
            axes[f"layer {k + 1}"],
            spikes[:, index],
            dt,
            groups=own,
            x="",
            y=named(f"layer {k + 1}"),
        )
    if rec.spikes:
        last = len(rec.spikes) - 1
        membrane_traces(
            axes["membrane"], rec.membrane[last][:, index], rec.spikes[last][:, index],
            rec.threshold(last, index), n_show, step_ms=dt, x="",
            y=named(f"layer {last + 1}, membrane"),
        )  # fmt: skip
    title, right = _readout(axes["readout"], rec, index, limits, named("readout"))
    for row, ax in axes.items():
        if not first and row not in ("image", "membrane"):  # neurons differ, the rest is the same
            ax.tick_params(axis="y", labelleft=False)
    period_lines([ax for row, ax in axes.items() if row != "image"], rec.periods, dt)
    top = next(iter(axes.values()))
    above = bool(rec.periods) and "image" not in axes
    top.set_title(
        title, loc="left", fontsize=style.TITLE_PT, color=style.INK if right else style.VERMILION,
        pad=6.0 + above * 1.3 * style.NOTE_PT,
    )  # fmt: skip


def _readout(
    ax: Axes, rec: Recording, index: int, limits: tuple[float, float], y: str
) -> tuple[str, bool]:
    """Draw the readout of a sample; what it came to in words, and whether that is right."""
    x = SIMULATED if rec.bin_ms is None else RECORDED
    readout = rec.readout[:, index]
    if rec.predictions is None:
        wanted = rec.targets[:, index]
        following_traces(
            ax, readout, wanted, rec.scored, step_ms=rec.step_ms, limits=limits, x=x, y=y
        )
        counts = slice(None) if rec.scored is None else rec.scored
        error = np.sum((readout - wanted)[counts] ** 2) / np.sum(wanted[counts] ** 2)
        return f"{NMSE.words} {NMSE.show(float(error))}", True
    if rec.spans:
        true, decided = rec.targets[index], rec.predictions[index]
        names = [rec.name(c) for c in range(readout.shape[-1])]
        answer_traces(
            ax, readout, rec.spans, true, decided, names, step_ms=rec.step_ms, limits=limits, x=x,
            y=y,
        )  # fmt: skip
        asked = true >= 0
        told = [" ".join(names[c] for c in of[asked]) for of in (true, decided)]
        return _title(*told), bool((true == decided)[asked].all())
    target, prediction = int(rec.targets[index]), int(rec.predictions[index])
    short = all(len(rec.name(label)) <= LONGEST_NOTE for label in (target, prediction))
    readout_traces(
        ax, readout, target, prediction, rec.class_names, rec.scored, step_ms=rec.step_ms,
        limits=limits, named=short, x=x, y=y,
    )  # fmt: skip
    return _title(rec.name(target), rec.name(prediction)), target == prediction


def _title(true: str, predicted: str) -> str:
    """What a sample is and was taken for, in two lines where one is too short."""
    title = f"true {true}, predicted {predicted}"
    return title.replace(", predicted", ",\npredicted") if len(title) > LONGEST_TITLE else title


def _frames(ax: Axes, rec: Recording, index: int, n_frames: int) -> None:
    """Event images of equal shares of the time, each above its share."""
    assert rec.sensor is not None
    n_frames = max(1, min(n_frames, rec.n_steps))
    parts = np.array_split(rec.inputs[:, index], n_frames)
    counts = [event_counts(part, rec.sensor) for part in parts]
    full, width = full_count(counts), 1.0 / n_frames
    for k, cells in enumerate(counts):
        event_image(ax.inset_axes(((k + 0.02) * width, 0.0, 0.96 * width, 1.0)), cells, full=full)
    ax.set(xlim=(0, rec.n_steps * rec.step_ms), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
