"""The one way to draw each thing. Plain numpy arrays in, a matplotlib ``Figure`` out.

Panels draw into given axes; figures are complete. Nothing touches pyplot's state, so figures
may be drawn in any thread and need no closing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from snnlab.analysis import style
from snnlab.analysis._animation import animate
from snnlab.analysis._comparison import comparison_figure, dependence_figure, dependence_grid
from snnlab.analysis._confusion import confusion_figure
from snnlab.analysis._crossed import crossed_figure
from snnlab.analysis._curves import learning_curves
from snnlab.analysis._integrator import integrator_figure
from snnlab.analysis._panels import (
    event_image,
    membrane_traces,
    raster,
    readout_traces,
    representative,
    running_decisions,
)
from snnlab.analysis._samples import sample_figure, samples_figure
from snnlab.analysis._scaling import Panel, exponent, scaling_figure
from snnlab.analysis._search import Dot, Slice, search_figure
from snnlab.analysis._stream import stream_figure

__all__ = [
    "Dot",
    "Panel",
    "Slice",
    "animate",
    "comparison_figure",
    "confusion_figure",
    "crossed_figure",
    "dependence_figure",
    "dependence_grid",
    "event_image",
    "exponent",
    "integrator_figure",
    "learning_curves",
    "membrane_traces",
    "raster",
    "readout_traces",
    "representative",
    "running_decisions",
    "sample_figure",
    "samples_figure",
    "save",
    "scaling_figure",
    "search_figure",
    "stream_figure",
]


def save(fig: Figure, path: str | Path, *, pdf: bool = False) -> list[Path]:
    """Write ``fig`` as PNG, 150 dots per inch, and on demand as PDF beside it.

    Args:
        fig: what to write.
        path: of the PNG, with or without ``.png``; its folder is made.
        pdf: write ``.pdf`` too.

    Returns:
        The files written.
    """
    base = Path(path)
    if base.suffix in (".png", ".pdf"):
        base = base.with_suffix("")
    base.parent.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, dict[str, Any]] = {"png": {"dpi": style.DPI}}
    if pdf:
        kinds["pdf"] = {"dpi": 300, "metadata": {"CreationDate": None}}
    made = []
    for kind, options in kinds.items():
        part = base.parent / f".{base.name}.{kind}.part"  # a figure is there whole or not at all
        fig.savefig(part, format=kind, **options)
        made.append(part.replace(base.parent / f"{base.name}.{kind}"))
    return made
