"""The figure of the sandbox: input, state, spikes and currents on one time axis."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from snnlab.analysis import style
from snnlab.analysis._panels import marks, raster

STEP = "time (steps)"
NEAR = 600  # steps of the close look at the currents
MANY_POINTS = 4000  # a line of more is drawn through the extremes of each of so many stretches


def integrator_figure(
    *,
    inputs: np.ndarray,
    x: np.ndarray,
    decoded: np.ndarray,
    spike_steps: np.ndarray,
    spike_neurons: np.ndarray,
    n: int,
    n_dim: int,
    input_raster: bool = False,
    currents: tuple[np.ndarray, np.ndarray] | None = None,
    neuron: int = 0,
) -> Figure:
    """Input, state of the linear system beside the decoded one, raster, currents of a neuron.

    Args:
        inputs: ``(T, J)`` without noise.
        x, decoded: ``(T, J)``.
        spike_steps, spike_neurons: ``(n_spikes,)`` each.
        n: neurons.
        n_dim: dimensions drawn.
        input_raster: draw the input as spikes.
        currents: ``(T,)`` excitation and inhibition of a neuron, low-passed, if measured.
        neuron: which one.
    """
    n_steps = len(inputs)
    heights = {"input": 0.9, "state": 1.5, "spikes": 1.5}
    if currents is not None:
        heights["current"] = 1.1
        if n_steps > 2 * NEAR:
            heights["near"] = 1.2
    fig = style.figure(6.4, sum(heights.values()) + 0.5)
    drawn = fig.subplots(len(heights), 1, gridspec_kw={"height_ratios": list(heights.values())})
    axes = dict(zip(heights, drawn))
    last = [name for name in heights if name != "near"][-1]
    labels = {name: STEP if name == last else "" for name in heights}
    if input_raster:
        raster(axes["input"], inputs, 1.0, x=labels["input"], y="input")
    else:
        ends = [
            (_line(axes["input"], inputs[:, d], _colour(d), 1.2), f"$c_{{{d + 1}}}$", _colour(d))
            for d in range(n_dim)
        ]
        _finish(axes["input"], n_steps, labels["input"], "input")
        style.notes_right(axes["input"], ends if n_dim > 1 else [])
    _state(axes["state"], x, decoded, n_dim, labels["state"])
    marks(axes["spikes"], spike_steps, spike_neurons, (n_steps, n), 1.0, x=labels["spikes"])
    if currents is not None:
        _currents(axes["current"], *currents, 0, labels["current"], f"current, neuron {neuron}")
        style.legend_above(axes["current"], _legend())
    if currents is not None and "near" in axes:
        start = int(np.argmax(np.abs(inputs[:, 0]) == np.abs(inputs[:, 0]).max()))
        start = min(start, n_steps - NEAR)
        part = slice(start, start + NEAR)
        axes["current"].axvspan(start, start + NEAR, color=style.SHADE, linewidth=0, zorder=0)
        _currents(axes["near"], currents[0][part], currents[1][part], start, STEP, "shaded part")
    fig.align_ylabels(list(drawn))
    return fig


def _colour(dim: int) -> str:
    return style.INK if dim == 0 else style.CYCLE[(dim + 1) % len(style.CYCLE)]


def _state(ax: Axes, x: np.ndarray, decoded: np.ndarray, n_dim: int, label: str) -> None:
    """The linear system as a broad pale line, what the spikes decode as a thin one on it."""
    ends = []
    for d in range(n_dim):
        _line(ax, x[:, d], style.FAINT, 3.2)
        colour = style.BLUE if d == 0 else style.CYCLE[(d + 1) % len(style.CYCLE)]
        ends.append((_line(ax, decoded[:, d], colour, 0.8), f"$x_{{{d + 1}}}$", colour))
    _finish(ax, len(x), label, "state")
    style.notes_right(ax, ends if n_dim > 1 else [])
    style.legend_above(
        ax,
        [
            Line2D([], [], color=style.FAINT, linewidth=3.2, label="linear system"),
            Line2D([], [], color=style.BLUE, linewidth=1.1, label="decoded from spikes"),
        ],
    )


def _currents(
    ax: Axes, exc: np.ndarray, inh: np.ndarray, start: int, x: str, y: str
) -> None:  # fmt: skip
    """Excitation and mirrored inhibition: in balance the lines lie on each other."""
    _line(ax, exc, style.BLUE, 2.4, start)
    _line(ax, -inh, style.VERMILION, 0.7, start)
    ax.set_xlim(start, start + len(exc))
    ax.margins(y=0.08)
    style.tidy(ax, x=x, y=y, time=True)


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=style.BLUE, linewidth=2.4, label="excitation"),
        Line2D([], [], color=style.VERMILION, linewidth=0.9, label="−inhibition"),
    ]


def _line(ax: Axes, y: np.ndarray, colour: str, width: float, start: int = 0) -> float:
    """A line over the steps; returns its last value."""
    at, shown = envelope(np.asarray(y, float))
    ax.plot(start + at + 0.5, shown, color=colour, linewidth=width, solid_joinstyle="round")
    return float(y[-1])


def envelope(y: np.ndarray, most: int = MANY_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values that draw ``y (T,)`` alike: the extremes of each of ``most / 2`` stretches.

    All steps where there are at most ``most``.
    """
    n_steps = len(y)
    if n_steps <= most:
        return np.arange(n_steps), y
    size = -(-n_steps // (most // 2))
    rows = -(-n_steps // size)
    padded = np.full(rows * size, y[-1])
    padded[:n_steps] = y
    table = padded.reshape(rows, size)
    found = np.stack([table.argmin(1), table.argmax(1)], 1) + size * np.arange(rows)[:, None]
    steps = np.unique(np.minimum(found, n_steps - 1))
    return steps, y[steps]


def _finish(ax: Axes, n_steps: int, x: str, y: str) -> None:
    ax.set_xlim(0, n_steps)
    ax.margins(y=0.08)
    style.tidy(ax, x=x, y=y, time=True)
