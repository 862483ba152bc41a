"""The confusion matrix of a classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from snnlab.analysis import style
from snnlab.analysis.recording import shown_name

#: Inches of a cell: at most, at least with numbers in it, and of all cells together.
LARGE, SMALL, WHOLE = 0.8, 0.36, 16.0
#: Inches of a letter of a name, about.
LETTER = 0.062


def confusion_figure(
    counts: np.ndarray, class_names: Sequence[str] = (), *, split: str = "test"
) -> Figure:
    """True classes by predictions: counts, and their shares of the row.

    Blue is right, orange wrong. A colour grows with the share to the power of 0.4, so that one of
    a hundred is seen. The row of a class without samples is grey.

    Args:
        counts: ``(C, C)`` samples of a true class (row) with a prediction (column).
        class_names: C names; the class numbers where empty.
        split: name of what was classified.

    Raises:
        ValueError: another shape.
    """
    n_classes = len(counts)
    if counts.shape != (n_classes, n_classes) or not n_classes:
        raise ValueError(f"counts {counts.shape}, needed: (C, C)")
    if len(class_names) not in (0, n_classes):
        raise ValueError(f"{len(class_names)} names for {n_classes} classes")
    names = [shown_name(n) for n in class_names] or [str(c) for c in range(n_classes)]
    of_row = counts.sum(1)
    share = counts / np.maximum(of_row, 1)[:, None]
    cell = min(max(SMALL, min(LARGE, 5.0 / n_classes)), WHOLE / n_classes)
    longest = LETTER * max(map(len, names))
    upright = longest > 0.9 * cell
    side = cell * n_classes
    beside = longest + LETTER * len(f" ({of_row.max()})") + 0.45
    below = (longest if upright else 0.1) + 0.75
    fig = style.figure(max(side + beside, 3.3), side + below)
    ax = fig.subplots()
    ax.imshow(_colours(share, of_row), interpolation="nearest")
    if cell >= SMALL:
        for row, column in np.argwhere(counts):
            part = share[row, column]
            dark = row == column and part > 0.6  # black is read better on orange
            ax.text(
                column, row, f"{counts[row, column]}\n{part:.{0 if part == 1 else 1}%}",
                fontsize=style.NOTE_PT, color="white" if dark else style.BLACK, ha="center",
                va="center", linespacing=1.1, in_layout=False,
            )  # fmt: skip
    ticks = np.arange(0, n_classes, max(1, round(0.12 / cell)))
    style.tidy(ax, x="predicted", y=f"true ({split} samples)")
    ax.set_xticks(ticks, [names[k] for k in ticks], rotation=90 if upright else 0)
    ax.set_yticks(ticks, [f"{names[k]} ({of_row[k]})" for k in ticks])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.add_patch(
        Rectangle((-0.5, -0.5), n_classes, n_classes, fill=False, color=style.INK,
                  linewidth=style.THIN_PT, clip_on=False)
    )  # fmt: skip
    right, total = int(np.trace(counts)), int(counts.sum())
    title = f"{split}: {right} of {total} right ({right / max(total, 1):.1%})"
    fig.suptitle(title, fontsize=style.TITLE_PT, color=style.INK)
    return fig


def _colours(share: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    """``(C, C, 3)``, from white at 0 to the full colour at 1."""
    strength = share[..., None] ** 0.4
    wrong = np.asarray(to_rgb(style.VERMILION))
    full = np.where(np.eye(len(share), dtype=bool)[..., None], to_rgb(style.BLUE), wrong)
    colours = 1.0 + strength * (full - 1.0)
    colours[of_row == 0] = to_rgb(style.SHADE)
    return colours
