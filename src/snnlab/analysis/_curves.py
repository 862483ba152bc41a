"""Learning curves of one run or of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snnlab.analysis import style
from snnlab.scores import Score, score_of

Rows = Sequence[Mapping[str, Any]]
Measure = Callable[[Mapping[str, Any]], Any]
Dashes = Literal["-", "--"]
SPLITS = {"train": style.INK, "val": style.BLUE}
RATE_DASHES: dict[str, Dashes] = {"train": "-", "val": "--"}


def learning_curves(
    metrics: Rows | Sequence[Rows],
    *,
    best_epoch: int | Sequence[int] | None = None,
    rate_label: str = "firing rate (Hz)",
) -> Figure:
    """Loss, score (accuracy, normalised error) and firing rates over the epochs.

    Args:
        metrics: rows of ``metrics.jsonl``, or such rows of several seeds: then the mean of the
            seeds with a band of one standard deviation. A row has ``epoch``, ``split``
            (``train``, ``val`` or ``test``) and what was measured of ``loss``, the score by its
            name (``accuracy`` is a fraction) and ``firing_rates`` (one per hidden layer). Rows of
            no epoch are left out. A panel without measurements is not drawn.
        best_epoch: the epoch that was kept, per seed; by default that of the best validation
            score, of equal scores the one with less loss, of equal ones the first; without scores
            that of the lowest loss.
        rate_label: label of the firing rates, with the unit of ``firing_rates``.

    Raises:
        ValueError: no row has anything to draw.
    """
    runs = _as_runs(metrics)
    layers = max((len(r.get("firing_rates") or ()) for run in runs for r in run), default=0)
    score = score_of(row for run in runs for row in run)
    measured = [
        name
        for name in ("loss", score.name)
        if any(_at(run, split, value_of(name)) for run in runs for split in SPLITS)
    ]
    panels = measured + (["rates"] if layers else [])
    if not panels:
        raise ValueError("metrics hold no loss, score or firing rates of train or val")
    bests = _bests(runs, score, best_epoch)
    fig = style.figure(2.5 * len(panels) + 0.4, 2.15)
    axes = dict(zip(panels, fig.subplots(1, len(panels), squeeze=False)[0]))
    labels = {"loss": "loss", score.name: score.axis}
    best = "best epoch" if len(runs) == 1 else "best epoch per seed"
    for name in measured:
        ax, scale = axes[name], score.scale if name == score.name else 1.0
        value = value_of(name, scale)
        drawn = [curve(ax, runs, s, value, SPLITS[s]) for s in SPLITS]
        handles = [line for line in drawn if line is not None]
        marks = _mark_best(ax, runs, bests, value, best)
        style.tidy(ax, x="epoch", y=labels[name])
        if name == measured[0]:  # the others show the same
            style.legend_above(ax, handles + marks)
    if "rates" in axes:
        _rates(axes["rates"], runs, layers, rate_label)
    if score.name in axes:
        _test_title(axes[score.name], runs, score, above_legend=measured[0] == score.name)
    for name, ax in axes.items():
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        if name == score.name and not score.rises:
            ax.set_yscale("log")  # an error falls by factors
            style.log_ticks(ax.yaxis)
        else:
            ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.margins(x=0.03)
    return fig


def _as_runs(metrics: Rows | Sequence[Rows]) -> list[Rows]:
    """One list of rows per seed."""
    several = len(metrics) > 0 and not isinstance(metrics[0], Mapping)
    return cast(list[Rows], list(metrics) if several else [metrics])


def value_of(name: str, scale: float = 1.0) -> Measure:
    """Row -> its value of ``name`` (of a list, the mean of what was measured), or ``None``."""

    def of(row: Mapping[str, Any]) -> float | None:
        found = row.get(name)
        if isinstance(found, list | tuple):
            measured = [float(v) for v in found if v is not None]
            found = sum(measured) / len(measured) if measured else None
        return None if found is None else scale * float(found)

    return of


def _rate(layer: int) -> Measure:
    def of(row: Mapping[str, Any]) -> float | None:
        rates = row.get("firing_rates") or ()
        return float(rates[layer]) if layer < len(rates) else None

    return of


def _at(run: Rows, split: str, measure: Measure) -> dict[int, float]:
    """Epoch -> value; the last row of an epoch counts (a resumed run may repeat one)."""
    return {
        int(row["epoch"]): measure(row)
        for row in run
        if row.get("split") == split and row.get("epoch") is not None and measure(row) is not None
    }


def over_epochs(
    runs: Sequence[Rows], split: str, measure: Measure
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, and of the runs that have one there mean and standard deviation (n - 1)."""
    found = [_at(run, split, measure) for run in runs]
    epochs = np.array(sorted(set().union(*found)), dtype=int)
    table = np.array([[run.get(int(e), np.nan) for e in epochs] for run in found])
    present = np.isfinite(table)
    n = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, table, 0.0).sum(axis=0) / n
    spread = np.sqrt((np.where(present, table - mean, 0.0) ** 2).sum(axis=0) / np.maximum(n - 1, 1))
    return epochs, np.where(present.any(axis=0), mean, np.nan), spread


def curve(
    ax: Axes,
    runs: Sequence[Rows],
    split: str,
    measure: Measure,
    colour: str,
    dashes: Dashes = "-",
) -> Line2D | None:
    """Mean over the runs, with a band of one standard deviation if they are several.

    Two points are drawn as two points with bars: hollow ones where a line would be dashed.
    """
    epochs, mean, spread = over_epochs(runs, split, measure)
    if not len(epochs):
        return None
    joined = len(epochs) > 2
    (line,) = ax.plot(
        epochs, mean, color=colour, linestyle=dashes if joined else "none", label=split,
        linewidth=style.LINE_PT, marker="o" if len(epochs) <= 3 else None, markersize=3,
        markerfacecolor="white" if dashes == "--" and not joined else colour, zorder=3,
    )  # fmt: skip
    if len(runs) > 1 and not joined:
        ax.vlines(epochs, mean - spread, mean + spread, color=colour, linewidth=style.THIN_PT)
    elif len(runs) > 1:
        ax.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    return line


def _bests(
    runs: Sequence[Rows], score: Score, given: int | Sequence[int] | None
) -> list[int | None]:
    if given is not None:
        return [given] * len(runs) if isinstance(given, int) else list(given)
    bests: list[int | None] = []
    for run in runs:
        scores = _at(run, "val", value_of(score.name))
        losses = _at(run, "val", value_of("loss"))
        ranks = {e: score.rank(v, losses.get(e, 0.0)) for e, v in scores.items()}
        ranks = ranks or {e: (-loss, 0.0) for e, loss in losses.items()}
        bests.append(max(ranks, key=lambda e: (ranks[e], -e)) if ranks else None)
    return bests


def _mark_best(
    ax: Axes, runs: Sequence[Rows], bests: Sequence[int | None], measure: Measure, label: str
) -> list[Line2D]:
    """A ring around the validation value of each run's best epoch."""
    points = [
        (best, _at(run, "val", measure)[best])
        for run, best in zip(runs, bests)
        if best is not None and best in _at(run, "val", measure)
    ]
    if not points:
        return []
    at, height = zip(*points)
    return ax.plot(
        at, height, linestyle="none", marker="o", markersize=5, markerfacecolor="none",
        markeredgecolor=style.VERMILION, markeredgewidth=1.1, label=label, zorder=5,
        clip_on=False,
    )  # fmt: skip


def _rates(ax: Axes, runs: Sequence[Rows], layers: int, label: str) -> None:
    """A colour per layer; training solid, validation dashed."""
    ends: list[tuple[float, str, str]] = []
    for layer in range(layers):
        colour = style.CYCLE[layer % len(style.CYCLE)]
        for split, dashes in RATE_DASHES.items():
            line = curve(ax, runs, split, _rate(layer), colour, dashes)
            if line is not None and (not ends or ends[-1][1] != f"layer {layer + 1}"):
                ends.append((float(np.asarray(line.get_ydata())[-1]), f"layer {layer + 1}", colour))
    style.tidy(ax, x="epoch", y=label)
    ax.set_ylim(0, 1.06 * ax.get_ylim()[1])
    style.notes_right(ax, ends)
    joined = max(len(line.get_xdata()) for line in ax.lines) > 2  # type: ignore[arg-type]
    style.legend_above(
        ax,
        [
            Line2D(
                [],
                [],
                color=style.INK,
                linestyle=dashes if joined else "none",
                label=split,
                linewidth=style.LINE_PT,
                marker=None if joined else "o",
                markersize=3,
                markerfacecolor="white" if dashes == "--" else style.INK,
            )
            for split, dashes in RATE_DASHES.items()
            if any(_at(run, split, _rate(k)) for run in runs for k in range(layers))
        ],
    )


def _test_title(ax: Axes, runs: Sequence[Rows], score: Score, above_legend: bool) -> None:
    """The test score in words, above the panel."""
    tests = [
        [row for row in run if row.get("split") == "test" and row.get(score.name) is not None]
        for run in runs
    ]
    found = [score.scale * float(rows[-1][score.name]) for rows in tests if rows]
    if not found:
        return
    digits, unit = (1, " %") if score.percent else (4, "")
    text = f"test {np.mean(found):.{digits}f}{unit}"
    if len(found) > 1:
        sd = np.std(found, ddof=1)
        text = f"test {np.mean(found):.{digits}f} ± {sd:.{digits}f}{unit} ({len(found)} seeds)"
    pad = 16.0 if above_legend else 4.0
    ax.set_title(text, loc="right", fontsize=style.LABEL_PT, color=style.INK, pad=pad)
