"""Learning curves, confusion matrices, activity and distributions: the pictures of a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnlab.analysis._curves import Measure, over_epochs, value_of
from snnlab.experiment.comparison import MOST_LINES
from snnlab.experiment.statistics import spread_of
from snnlab.report.blocks import Chart, Charts, Folded, Image, Section, Table
from snnlab.report.found import Experiment, Seed, number, predicted
from snnlab.report.statistics import Confusion, confusion_of
from snnlab.report.svg import WRITTEN, Line, confusion, curves, histogram
from snnlab.scores import NMSE, SCORES, wilson

#: Figures of a folder that are drawn here from its numbers.
DRAWN = ("learning-curves.png", "confusion.png")
#: Figures of an experiment, bytes of one, and dots of one across.
MOST_FIGURES, LARGEST, WIDEST_IMAGE = 6, 20_000_000, 1600


def learning(experiments: Sequence[Experiment]) -> Section:
    """Loss, score, rate, balance and gradients over epochs, with bands."""
    panels: dict[str, tuple[tuple[str, ...], Measure]] = {"loss": (("val", "train"),
                                                                   value_of("loss"))}  # fmt: skip
    for score in SCORES.values():
        panels[score.axis] = (("val", "train"), value_of(score.name, score.scale))
    panels["firing rate (Hz)"] = (("val",), value_of("firing_rates"))
    panels["balance"] = (("val",), value_of("balance"))
    panels["gradient norm"] = (("train",), value_of("grad_norm"))
    drawn = [one for one in experiments if any(seed.rows for seed in one.seeds)]
    blocks: list[object] = []
    for begin in range(0, len(drawn), MOST_LINES):
        part = drawn[begin : begin + MOST_LINES]
        charts = []
        for label, (splits, measure) in panels.items():
            lines = [line for k, one in enumerate(part) for line in _lines(k, one, splits, measure)]
            if any(np.isfinite(line.y).any() for line in lines):
                log = label in (NMSE.axis, "gradient norm")
                charts.append(Chart(label, curves(lines, label, log=log,
                                                  zero=label.startswith("firing"))))  # fmt: skip
        if charts:
            note = "Bands and bars: one standard deviation over seeds. Dotted or hollow: training; "
            note += "else validation"
            note += ", and training of the gradients." if len(charts) > 1 else "."
            legend = [(k, f"{one.name} ({len(one.seeds)})") for k, one in enumerate(part)]
            more = f" ({begin + 1} to {begin + len(part)})" if len(drawn) > MOST_LINES else ""
            figures = [path for one in part for folder in one.folders
                       if (path := folder / "figures" / DRAWN[0]).is_file()]  # fmt: skip
            title = f"Over epochs{more}; in brackets the seeds"
            blocks.append(Charts(title, charts, legend, note, figures=figures))
    return Section("curves", "Learning curves", blocks)


def _lines(k: int, one: Experiment, splits: Sequence[str], measure: Measure) -> list[Line]:
    def safe(row: Any) -> float | None:
        try:
            found = measure(row)
        except (TypeError, ValueError):  # what no run writes
            return None
        return found if number(found) is not None else None

    found = []
    for split in splits:
        epochs, mean, sd = over_epochs([s.rows for s in one.seeds], split, safe)
        if len(epochs):
            found.append(Line(k, epochs, mean, sd, dotted=split != splits[0]))
    return found


def classes(experiments: Sequence[Experiment]) -> Section:
    """Confusion matrix and accuracy of each class."""
    blocks: list[object] = []
    for one in experiments:
        rows = predicted(one)
        if not rows:
            continue
        known = one.first.results.get("test_accuracy_by_class")
        names = [str(name) for name in known] if isinstance(known, dict) else []
        seen = confusion_of(rows, names)
        n, right = int(seen.counts.sum()), int(np.trace(seen.counts))
        seeds = sum(bool(seed.predictions) for seed in one.seeds)
        text = f"{right} of {n} right ({right / n:.1%})"
        text += f", {seeds} seeds together" if seeds > 1 else ""
        note = (
            "Blue is right, orange wrong, by the share of the row. Classes are numbered as below."
        )
        if len(seen.names) <= WRITTEN:
            note += " A number counts samples."
        folded, title = len(experiments) > 2, f"{one.name}: {text}"
        chart = Charts(
            "" if folded else title, [Chart("", confusion(seen.counts, seen.names))], note=note,
            figures=[path] if (path := one.first.path / "figures" / DRAWN[1]).is_file()
            else (),
        )  # fmt: skip
        mine = [chart, _by_class(one, seen)]
        blocks += [Folded(title, mine)] if folded else mine
    return Section("classes", "Classes", blocks)


def _by_class(one: Experiment, seen: Confusion) -> Table:
    each = [confusion_of(seed.predictions, seen.names).counts
            for seed in one.seeds if seed.predictions]  # fmt: skip
    several = len(each) > 1
    rows = []
    for k, name in enumerate(seen.names):
        total, right = int(seen.counts[k].sum()), int(seen.counts[k, k])
        wrong = np.where(np.arange(len(seen.names)) == k, -1, seen.counts[k])
        most = int(wrong.argmax())
        taken = (
            f"{seen.names[most]} ({int(wrong[most])})" if len(wrong) > 1 and wrong[most] else "-"
        )
        if several:
            spread = spread_of([float(c[k, k] / c[k].sum()) for c in each if c[k].sum()])
            more = "-" if spread is None or spread.sd is None else f"{spread.sd:.1%}"
        else:
            low, high = wilson(right, total)
            more = f"{low:.1%} to {high:.1%}" if total else "-"
        share = f"{right / total:.1%}" if total else "-"
        rows.append([str(k + 1), name, f"{right} of {total}", share, more, taken])
    columns = ["number", "class", "right", "accuracy", "sd over seeds" if several else
               "95 % interval", "most often taken for"]  # fmt: skip
    return Table(f"Accuracy of each class, {one.name}", columns, rows)


def activity(experiments: Sequence[Experiment], problems: list[str]) -> Section:
    """The figures of the run folders: rasters, membranes, readouts, currents.

    Args:
        experiments: of each the figures of one seed.
        problems: figures that cannot be read are added.
    """
    blocks: list[object] = []
    for one in experiments:
        seed, mine = one.first, []
        for path in _figures(seed):
            try:
                source = embedded(path)
            except (OSError, ValueError, SyntaxError) as error:  # PIL's for what is no picture
                problems.append(f"{path}: {error}")
                continue
            where = f"{one.name}, seed {seed.seed}" if len(one.seeds) > 1 else one.name
            alt = f"{_shows(path)} of {where}"
            mine.append(Image(f"{where}: {_shows(path)}", alt, source, path))
        folded = bool(mine) and bool(blocks) and len(experiments) > 2  # the first one is open
        blocks += [Folded(f"{one.name}, seed {seed.seed}", mine)] if folded else mine
    return Section("activity", "Activity", blocks)


def overviews(experiments: Sequence[Experiment], problems: list[str]) -> list[Image]:
    """What sweeps and searches drew of their runs, each once.

    Args:
        experiments: of them.
        problems: figures that cannot be read are added.
    """
    homes = dict.fromkeys(path.resolve().parent for one in experiments for path in one.folders)
    found = []
    for path in (home / name for home in homes for name in ("comparison.png", "search.png")):
        if not (path.parent / "sweep.yaml").is_file() or not path.is_file():
            continue
        try:
            what = f"{path.parent.name}: {_shows(path)}"
            found.append(Image(what, what, embedded(path), path))
        except (OSError, ValueError, SyntaxError) as error:  # PIL's for what is no picture
            problems.append(f"{path}: {error}")
    return found


def _figures(seed: Seed) -> list[Path]:
    found = [path for folder in ("figures", "sim", "probe", "")
             for path in sorted((seed.path / folder).glob("*.png"))]  # fmt: skip
    found = [path for path in found if path.name not in DRAWN and path.stat().st_size <= LARGEST]
    return found[:MOST_FIGURES]


def _shows(path: Path) -> str:
    """What a figure shows, by its name."""
    known = {
        "test-samples": "test samples: input, spikes, membranes, readout and decision over time",
        "integrator": "input, state, spikes and currents over time",
        "probe": "what the trained network keeps over the delay",
        "comparison": "the runs of the sweep side by side",
        "search": "what the search tried and found",
    }
    return known.get(path.stem, path.stem.replace("-", " "))


def embedded(path: Path) -> str:
    """A picture as a data URI: 256 colours, at most :data:`WIDEST_IMAGE` dots across.

    Raises:
        OSError, ValueError: it is no picture.
    """
    from PIL import Image as pillow

    with pillow.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST_IMAGE:
        height = max(1, round(picture.height * WIDEST_IMAGE / picture.width))
        picture = picture.resize((WIDEST_IMAGE, height), pillow.Resampling.LANCZOS)
    small = picture.quantize(256, method=pillow.Quantize.FASTOCTREE, dither=pillow.Dither.NONE)
    out = io.BytesIO()
    small.save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def distributions(experiments: Sequence[Experiment]) -> Section:
    """Histograms of weights, rates of layers and norms of gradients over the last epoch."""
    blocks: list[object] = []
    for one in experiments:
        charts, rows = [], []
        saved = [seed.weights for seed in one.seeds]
        for name in dict.fromkeys(name for weights in saved for name in weights):
            parts = [weights[name] for weights in saved if name in weights]
            values = np.concatenate([part.ravel() for part in parts])
            values = values[np.isfinite(values)]
            if len(values) < 2:
                continue
            shape = " x ".join(map(str, parts[0].shape))
            mean, sd = f"{values.mean():.3g}", f"{values.std():.3g}"
            label = f"{name} of {one.name}: mean {mean}, standard deviation {sd}"
            charts.append(Chart(name, histogram(values, label)))
            rows.append([name, shape, mean, sd, f"{values.min():.3g}", f"{values.max():.3g}",
                         f"{np.mean(values == 0):.1%}"])  # fmt: skip
        if charts:
            n = sum(map(bool, saved))
            title = f"Parameters of {one.name}{f', {n} seeds together' if n > 1 else ''}"
            folded = len(experiments) > 2
            columns = ["parameter", "shape", "mean", "sd", "lowest", "highest", "zeros"]
            mine = [Charts("" if folded else title, charts, small=True),
                    Table(f"Values of the parameters of {one.name}", columns, rows)]  # fmt: skip
            blocks += [Folded(title, mine)] if folded else mine
    rates = [row for one in experiments for row in _rates(one)]
    if rates:
        columns = ["run", "layer", "rate in the test (Hz)", "sd over seeds", "lowest", "highest"]
        blocks.append(Table("Firing rate of each layer", columns, rates))
    norms = [row for one in experiments if (row := _norms(one))]
    if norms:
        columns = ["run", "first epoch", "last epoch", "lowest", "highest"]
        note = "Mean over an epoch of the norm of all gradients together, before clipping."
        blocks.append(Table("Norm of the gradients, all seeds", columns, norms, note))
    return Section("distributions", "Weights, rates, gradients", blocks)


def _rates(one: Experiment) -> list[list[str]]:
    measured = [seed.results.get("firing_rates") for seed in one.seeds]
    each = [rates for rates in measured if isinstance(rates, list)]
    rows = []
    for layer in range(max(map(len, each), default=0)):
        found = [number(rates[layer]) for rates in each if layer < len(rates)]
        values = [value for value in found if value is not None]
        spread = spread_of(values)
        if spread is not None:
            sd = "-" if spread.sd is None else f"{spread.sd:.2f}"
            rows.append([one.name, str(layer + 1), f"{spread.mean:.2f}", sd, f"{min(values):.2f}",
                         f"{max(values):.2f}"])  # fmt: skip
    return rows


def _norms(one: Experiment) -> list[str]:
    each = [[n for row in seed.rows if (n := number(row.get("grad_norm"))) is not None]
            for seed in one.seeds]  # fmt: skip
    each = [norms for norms in each if norms]
    if not each:
        return []
    every = [norm for norms in each for norm in norms]
    ends = [sum(norms[k] for norms in each) / len(each) for k in (0, -1)]
    return [one.name, *(f"{value:.3g}" for value in (*ends, min(every), max(every)))]
