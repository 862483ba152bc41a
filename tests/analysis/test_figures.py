"""Complete figures: panels, alignment, files, and no global state."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from snnlab.analysis import figures, style
from snnlab.analysis.recording import Recording, SensorShape


def recording(
    n_steps: int = 30, layers: int = 1, batch: int = 2, sensor: SensorShape | None = None,
    p: float = 0.1,
) -> Recording:  # fmt: skip
    rng = np.random.default_rng(1)
    n_in = sensor.size if sensor else 12
    shape = (n_steps, batch)
    return Recording(
        inputs=(rng.random((*shape, n_in)) < p) * 1.0,
        spikes=tuple((rng.random((*shape, 7 + k)) < p) * 1.0 for k in range(layers)),
        membrane=tuple(rng.normal(size=(*shape, 7 + k)) for k in range(layers)),
        readout=rng.normal(size=(*shape, 3)),
        targets=np.arange(batch) % 3,
        predictions=np.arange(batch) % 2,
        dt_ms=2.0,
        sensor=sensor,
        scored=np.arange(n_steps) >= n_steps // 3,
        thresholds=(1.0,) * layers,
    )


GRID = SensorShape(6, 5, 2)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("n_steps", [20, 1000])
def test_a_sample_has_a_panel_for_each_stage(layers: int, n_steps: int) -> None:
    rec = recording(n_steps, layers)
    fig = figures.sample_figure(rec, 1)
    labels = [ax.get_ylabel() for ax in fig.axes]
    hidden = [f"layer {k + 1}" for k in range(layers)]
    membrane = [f"layer {layers}, membrane"] if layers else []
    assert labels == ["input", *hidden, *membrane, "readout"]
    assert fig.axes[0].get_title(loc="left") == "true 1, predicted 1"
    assert fig.axes[-1].get_xlabel() == "simulated time (ms)"
    assert not fig.get_supxlabel()


def test_a_sample_with_several_answers() -> None:
    """Each at the foot of its stretch; where nothing is asked the panel is shaded."""
    rec = dataclasses.replace(
        recording(30), spans=((5, 10), (10, 20), (25, 30)),
        targets=np.array([[0, -1, 2], [1, 1, 1]]),
        predictions=np.array([[0, 1, 1], [1, 1, 1]]),
    )  # fmt: skip
    wrong, right = (figures.sample_figure(rec, k) for k in (0, 1))
    assert wrong.axes[0].get_title(loc="left") == "true 0 2, predicted 0 1"
    assert right.axes[0].get_title(loc="left") == "true 1 1 1, predicted 1 1 1"
    foot = [text.get_text() for text in wrong.axes[-1].texts]
    assert foot[:2] == ["0", "1"]
    blocks = [p for p in wrong.axes[-1].patches if p.get_facecolor()[:3] == to_rgb(style.SHADE)]
    assert [(p.get_x(), p.get_x() + p.get_width()) for p in blocks] == [(0, 10), (20, 50)]
    with pytest.raises(
        ValueError, match=r"targets, predictions has shape \(2,\), needed: \(2, 3\)"
    ):
        dataclasses.replace(rec, targets=np.zeros(2, int))


def test_a_recording_is_drawn_in_its_own_time(tmp_path: Path) -> None:
    """30 steps of 2 ms simulated are 30 bins of 5 ms; both lengths stand in the figure."""
    rec = dataclasses.replace(recording(sensor=GRID), bin_ms=5.0)
    fig = figures.samples_figure(rec, [0, 1])
    figures.save(fig, tmp_path / "x")
    assert {ax.get_xlim() for ax in fig.axes} == {(0.0, 150.0)}
    assert [ax.get_xlabel() for ax in fig.axes[-2:]] == ["recorded time (ms)"] * 2
    assert fig.get_supxlabel() == "a step: 5 ms recorded, 2 ms simulated"
    same = figures.sample_figure(dataclasses.replace(rec, bin_ms=2.0), 0)
    assert (same.axes[-1].get_xlabel(), same.get_supxlabel()) == ("recorded time (ms)", "")


def test_panels_share_the_time_axis(tmp_path: Path) -> None:
    fig = figures.sample_figure(recording(layers=3, sensor=GRID), 0)
    figures.save(fig, tmp_path / "x")  # lays the figure out
    boxes = [ax.get_position() for ax in fig.axes]
    assert len({(round(b.x0, 6), round(b.x1, 6)) for b in boxes}) == 1
    assert {ax.get_xlim() for ax in fig.axes} == {(0.0, 60.0)}
    tops = [b.y0 for b in boxes]
    assert tops == sorted(tops, reverse=True)


@pytest.mark.parametrize(("n_frames", "drawn"), [(1, 1), (6, 6), (99, 30)])
def test_event_images_of_a_sensor(n_frames: int, drawn: int) -> None:
    fig = figures.sample_figure(recording(sensor=GRID), 0, n_frames=n_frames)
    assert len(fig.axes[0].child_axes) == drawn


def test_a_line_sensor_has_no_image() -> None:
    fig = figures.sample_figure(recording(sensor=SensorShape(1, 60, 1)), 0)
    assert fig.axes[0].get_ylabel() == "input"


def test_the_sample_drawn_is_the_one_asked_for() -> None:
    rec = recording(layers=2)
    for index in (0, 1):
        ax = figures.sample_figure(rec, index).axes[2]
        assert len(ax.lines[0].get_xdata()) == rec.spikes[1][:, index].sum()


def test_several_samples_are_columns_that_compare() -> None:
    rec = recording(layers=1, batch=4)
    fig = figures.samples_figure(rec, [3, 0, 2])
    assert len(fig.axes) == 4 * 3
    titles = [ax.get_title(loc="left") for ax in fig.axes[:3]]
    assert titles == ["true 0, predicted 1", "true 0, predicted 0", "true 2, predicted 0"]
    assert len({ax.get_ylim() for ax in fig.axes[-3:]}) == 1
    assert [ax.get_ylabel() for ax in fig.axes[:3]] == ["input", "", ""]


def test_long_names_do_not_meet(tmp_path: Path) -> None:
    """Titles of neighbouring columns, names of periods and the title above them."""
    names = (
        "walking the dog quickly",
        "a very long gesture name indeed",
        "hand clapping, both hands",
    )
    rec = dataclasses.replace(
        recording(60, 1, 3), class_names=names, periods=(("fixation", 20), ("delay", 40)),
        populations=((("E", 5), ("I", 2)),), input_groups=(("a group", 6), ("another one", 6)),
    )  # fmt: skip
    fig = figures.samples_figure(rec, [0, 1, 2])
    FigureCanvasAgg(fig).draw()
    renderer = fig.canvas.get_renderer()
    tops = fig.axes[:3]
    titles = [ax._left_title.get_window_extent(renderer) for ax in tops]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(titles))
    for ax, title in zip(tops, titles, strict=True):
        words = {text.get_text(): text.get_window_extent(renderer) for text in ax.texts}
        assert {"fixation", "delay", "a group", "another one"} == set(words)
        assert words["delay"].y1 < title.y0
        assert words["fixation"].x1 < words["delay"].x0
    layer = [text.get_text() for text in fig.axes[3].texts]
    assert layer == ["E", "I"]
    notes = [text.get_text() for text in fig.axes[-1].texts]
    assert {"predicted", "true"} <= set(notes)
    # Names leave the panels their room: two thirds of their column.
    width = renderer.width / len(tops)
    assert all(ax.get_window_extent(renderer).width > 0.6 * width for ax in fig.axes)
    assert titles[-1].x1 <= renderer.width


def test_two_points_are_two_points() -> None:
    two, three = (figures.learning_curves([rows(n), rows(n, shift=0.3)]) for n in (2, 3))
    of = {n: {line.get_label(): line for line in fig.axes[0].lines} for n, fig in
          ((2, two), (3, three))}  # fmt: skip
    assert of[2]["val"].get_linestyle() == "None"
    assert of[3]["val"].get_linestyle() == "-"
    assert not [c for c in two.axes[0].collections if isinstance(c, PolyCollection)]
    assert [c for c in three.axes[0].collections if isinstance(c, PolyCollection)]
    points = {"a": [(1, [50.0, 60.0]), (2, [70.0])], "b": [(1, [4.0]), (2, [4.0]), (4, [8.0])]}
    (ax,) = figures.dependence_figure(points, "repeat", "test (%)").axes
    assert [c.lines[0].get_linestyle() for c in ax.containers] == ["None", "-"]


@pytest.mark.parametrize(("name", "below"), [("diag", False), ("a name longer than others", True)])
def test_long_names_of_experiments_stand_below_the_panels(name: str, below: bool) -> None:
    fig = figures.comparison_figure({name: [rows()], "b": [rows(shift=0.1)]})
    FigureCanvasAgg(fig).draw()
    legend = fig.legends[0].get_window_extent()
    panels = [ax.get_window_extent() for ax in fig.axes]
    if below:
        assert legend.y1 <= min(panel.y0 for panel in panels)
    else:
        assert legend.x0 >= max(panel.x1 for panel in panels)


def test_readouts_that_follow_targets(tmp_path: Path) -> None:
    """Curves over curves, all within the axes; the error of the scored steps in the title."""
    rec = recording()
    wanted = rec.readout + 0.5
    rec = dataclasses.replace(rec, targets=wanted, predictions=None)
    fig = figures.samples_figure(rec, [0, 1])
    last = fig.axes[-1]
    drawn = [line.get_ydata() for line in last.lines]
    np.testing.assert_array_equal(drawn, [*wanted[:, 1].T, *rec.readout[:, 1].T])
    low, high = last.get_ylim()
    assert low < min(map(np.min, drawn))
    assert high > max(map(np.max, drawn))
    counts = wanted[10:, 1]
    error = 0.25 * counts.size / (counts**2).sum()
    assert fig.axes[1].get_title(loc="left") == f"normalised MSE {error:.4f}"
    figures.save(fig, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.00178, 0.00449), (2.1, 4.9), (0.1, 0.3), (8e-4, 0.02), (1e-4, 0.1), (1e-6, 9)],
)
def test_a_logarithmic_axis_has_numbers_however_narrow_it_is(low: float, high: float) -> None:
    fig = style.figure(2.5, 2.1)
    ax = fig.subplots()
    ax.plot([low, high], [1, 2])
    ax.set_xscale("log")
    style.log_ticks(ax.xaxis)
    FigureCanvasAgg(fig).draw()
    at = ax.xaxis.get_majorticklocs()
    shown = [f"{x:g}" for x in at if ax.get_xlim()[0] <= x <= ax.get_xlim()[1]]
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert set(shown) <= set(labels)
    assert 2 <= len(shown) <= 8
    boxes = [text.get_window_extent() for text in ax.get_xticklabels() if text.get_text() in shown]
    boxes = sorted((box for box in boxes if box.width), key=lambda box: box.x0)
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_curves_of_an_error_are_logarithmic() -> None:
    rows = [{"epoch": e, "split": s, "nmse": 2.0**-e + (s == "val") * (e == 3)}
            for e in (1, 2, 3) for s in ("train", "val")]  # fmt: skip
    rows.append({"epoch": 2, "split": "test", "nmse": 0.123})
    (ax,) = figures.learning_curves(rows).axes
    assert (ax.get_ylabel(), ax.get_yscale()) == ("normalised MSE", "log")
    assert ax.get_title(loc="right") == "test 0.1230"
    ring = next(line for line in ax.lines if line.get_label() == "best epoch")
    assert list(ring.get_xdata()) == [2]  # the lowest of validation


def test_a_silent_network_is_drawn(tmp_path: Path) -> None:
    fig = figures.sample_figure(recording(layers=2, sensor=GRID, p=0.0), 0)
    words = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert words.count("no spikes") == 3
    figures.save(fig, tmp_path / "x")


def test_samples_that_are_not_there() -> None:
    with pytest.raises(IndexError, match="sample 2: the recording has 2"):
        figures.sample_figure(recording(), 2)
    with pytest.raises(IndexError):
        figures.sample_figure(recording(), -1)
    with pytest.raises(ValueError, match="no sample"):
        figures.samples_figure(recording(), [])


# ------------------------------------------------------------- learning curves


def rows(n: int = 6, layers: int = 2, shift: float = 0.0, test: bool = True) -> list[dict]:
    made = [
        {
            "epoch": e, "split": split, "loss": 2.0 / (e + 1) + shift + 0.1 * (split == "val"),
            "accuracy": min(0.5 + 0.1 * e, 0.8), "firing_rates": [5.0 + k for k in range(layers)],
        }
        for e in range(n)
        for split in ("train", "val")
    ]  # fmt: skip
    return made + ([{"epoch": 3, "split": "test", "accuracy": 0.75 + shift}] if test else [])


def test_curves_of_one_run() -> None:
    fig = figures.learning_curves(rows())
    loss, accuracy, rates = fig.axes
    assert [ax.get_ylabel() for ax in fig.axes] == ["loss", "accuracy (%)", "firing rate (Hz)"]
    train, val, best = loss.lines
    np.testing.assert_allclose(train.get_ydata(), [2.0 / (e + 1) for e in range(6)])
    np.testing.assert_allclose(val.get_ydata(), [2.0 / (e + 1) + 0.1 for e in range(6)])
    assert list(best.get_xdata()) == [5]  # of those with the highest accuracy the least loss
    np.testing.assert_allclose(best.get_ydata(), [2.0 / 6 + 0.1])
    assert accuracy.get_title(loc="right") == "test 75.0 %"
    assert len(rates.lines) == 4
    assert not any(ax.collections for ax in fig.axes)


def test_curves_of_several_seeds_have_mean_and_spread() -> None:
    fig = figures.learning_curves([rows(shift=0.0), rows(shift=0.2)])
    loss, accuracy, _ = fig.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [2.0 / (e + 1) + 0.1 for e in range(6)])
    band = loss.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(2.1 + np.std([0.0, 0.2], ddof=1))
    assert len(loss.lines[2].get_xdata()) == 2
    assert accuracy.get_title(loc="right") == "test 85.0 ± 14.1 % (2 seeds)"


def test_seeds_of_different_length() -> None:
    fig = figures.learning_curves([rows(3), rows(6)])
    assert len(fig.axes[0].lines[0].get_xdata()) == 6


def test_best_epoch_may_be_given_and_falls_back_to_the_loss() -> None:
    assert list(figures.learning_curves(rows(), best_epoch=1).axes[0].lines[2].get_xdata()) == [1]
    only_loss = [{k: r[k] for k in ("epoch", "split", "loss")} for r in rows(test=False)]
    fig = figures.learning_curves(only_loss)
    assert len(fig.axes) == 1
    assert list(fig.axes[0].lines[2].get_xdata()) == [5]


def test_curves_without_validation_and_of_one_epoch(tmp_path: Path) -> None:
    fig = figures.learning_curves([r for r in rows(1) if r["split"] != "val"])
    assert len(fig.axes[0].lines) == 1
    figures.save(fig, tmp_path / "x")


def test_a_repeated_epoch_counts_once() -> None:
    again = {"epoch": 0, "split": "train", "loss": 7.0}
    fig = figures.learning_curves([*rows(2), again])
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), [7.0, 1.0])


@pytest.mark.parametrize("metrics", [[], [[]], [{"epoch": 1, "split": "test", "loss": 1.0}]])
def test_nothing_to_draw(metrics) -> None:
    with pytest.raises(ValueError, match="metrics hold no loss"):
        figures.learning_curves(metrics)


# --------------------------------------------------------------- files, state


@pytest.mark.parametrize("name", ["a/b/fig", "fig.png", "fig.pdf", "run-0.5"])
def test_save(tmp_path: Path, name: str) -> None:
    fig = style.figure(2.0, 1.0)
    fig.subplots()
    png, pdf = figures.save(fig, tmp_path / name, pdf=True)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert pdf.read_bytes()[:5] == b"%PDF-"
    assert png.stem == pdf.stem == Path(name).name.removesuffix(".png").removesuffix(".pdf")
    assert [p.suffix for p in figures.save(fig, tmp_path / name)] == [".png"]


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    files = [
        figures.save(figures.sample_figure(recording(sensor=GRID), 0), tmp_path / name)[0]
        for name in ("a", "b")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_drawing_changes_no_setting(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figures.save(figures.sample_figure(recording(sensor=GRID), 0), tmp_path / "x")
    figures.save(figures.learning_curves(rows()), tmp_path / "y")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, snnlab.analysis.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("n_classes", [1, 2, 10, 35])
def test_a_confusion_matrix_is_readable(n_classes: int) -> None:
    """Every number stands inside its cell, and no name on another."""
    counts = np.random.default_rng(0).integers(0, 2, (n_classes, n_classes))
    counts += np.diag(np.arange(n_classes) + 1234)
    counts[n_classes // 2] *= n_classes == 1  # a class without samples
    names = [f"a long name of a class {k}" for k in range(n_classes)]
    fig = figures.confusion_figure(counts, names)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    (ax,) = fig.axes
    found = np.zeros_like(counts)
    for text in ax.texts:
        column, row = (int(x) for x in text.get_position())
        number, percent = text.get_text().split("\n")
        found[row, column] = int(number)
        share = counts[row, column] / counts[row].sum()
        assert float(percent.removesuffix("%")) == pytest.approx(100 * share, abs=0.051)
        box = text.get_window_extent()
        low, high = ax.transData.transform([(column - 0.5, row + 0.5), (column + 0.5, row - 0.5)])
        assert (low <= box.p0).all(), text.get_text()
        assert (box.p1 <= high).all(), text.get_text()
    np.testing.assert_array_equal(found, counts)
    image = np.asarray(ax.images[0].get_array())
    there = counts.any(1)
    light = image.sum(2)[there]
    assert (light[counts[there] > 0] < 2.92).all()  # one of a thousand can be seen
    assert (light[counts[there] == 0] == 3).all()
    for axis in (ax.xaxis, ax.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) == n_classes
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        assert all(fig.bbox.x0 <= b.x0 and b.x1 <= fig.bbox.x1 for b in boxes)


def test_a_confusion_matrix_of_many_classes_has_no_numbers() -> None:
    fig = figures.confusion_figure(np.eye(200, dtype=int))
    assert max(fig.get_size_inches()) < 20
    assert not fig.axes[0].texts
    assert len(fig.axes[0].get_yticks()) < 200


@pytest.mark.parametrize(
    ("counts", "names", "message"),
    [(np.eye(2)[:1], (), r"\(1, 2\)"), (np.eye(2), ("a",), "1 names for 2 classes")],
)
def test_what_is_no_confusion_matrix(counts: np.ndarray, names: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.confusion_figure(counts, names)
