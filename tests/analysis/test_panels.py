"""Panels show what they are given, where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from snnlab.analysis import figures, style
from snnlab.analysis._panels import activity
from snnlab.analysis._time_axis import period_lines


@pytest.fixture
def ax():
    return style.figure(4.0, 2.0).subplots()


def spikes_of(rng: np.random.Generator, n_steps: int, n: int, p: float = 0.1) -> np.ndarray:
    return (rng.random((n_steps, n)) < p).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---------------------------------------------------------------------- raster


@pytest.mark.parametrize(("n_steps", "n"), [(20, 3), (200, 2312), (1000, 40)])
def test_raster_shows_exactly_the_spikes(ax, rng, n_steps: int, n: int) -> None:
    spikes, dt = spikes_of(rng, n_steps, n, 0.02), 0.5
    (line,) = figures.raster(ax, spikes, dt)
    shown = np.zeros_like(spikes)
    step = np.asarray(line.get_xdata()) / dt - 0.5
    np.testing.assert_allclose(step, step.round(), atol=1e-9)
    shown[step.round().astype(int), np.asarray(line.get_ydata()).astype(int)] += 1
    np.testing.assert_array_equal(shown, spikes)
    assert ax.get_xlim() == (0, n_steps * dt)
    assert ax.get_ylim() == (-0.5, n - 0.5)
    assert ax.get_xlabel() == "time (ms)"


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (("OFF", "ON"), (style.OFF, style.ON)),
        (("E", "I"), (style.VERMILION, style.BLUE)),
        (("left", "right"), style.CYCLE[:2]),
    ],
)
def test_raster_colours_and_names_groups(ax, rng, names, colours) -> None:
    spikes, groups = spikes_of(rng, 50, 10, 0.3), ((names[0], 4), (names[1], 6))
    below, above = figures.raster(ax, spikes, 1.0, groups=groups)
    assert len(below.get_xdata()) == spikes[:, :4].sum()
    assert len(above.get_xdata()) == spikes[:, 4:].sum()
    assert (below.get_color(), above.get_color()) == tuple(colours)
    assert np.asarray(above.get_ydata()).min() >= 4
    notes = {text.get_text(): text for text in ax.texts}
    assert list(notes) == list(names)
    assert [text.get_color() for text in notes.values()] == list(colours)
    assert [text.xy[1] for text in notes.values()] == [1.5, 6.5]
    assert [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2
            and line.get_color() == style.FAINT] == [[3.5, 3.5]]  # fmt: skip


def test_periods_are_named_where_there_is_room(ax) -> None:
    cues = [(f"{name} {k}", 50) for k in range(7) for name in ("gap", "cue")]
    periods = (("fixation", 600), *cues, ("delay", 800), ("recall", 60))
    other = Figure().subplots()
    for one in (ax, other):
        one.set_xlim(0, 4320)
    period_lines([ax, other], periods, 2.0)
    assert [text.get_text() for text in ax.texts] == ["fixation", "gap / cue", "delay", "recall"]
    assert [round(text.xy[0]) for text in ax.texts[:3]] == [600, 1900, 3400]
    assert not other.texts
    ends = np.cumsum([2 * steps for _, steps in periods])[:-1]
    for one in (ax, other):
        assert [line.get_xdata()[0] for line in one.lines] == ends.tolist()
    period_lines([ax], (), 2.0)
    assert len(ax.texts) == 4


def test_values_are_a_picture_and_counts_are_not(ax, rng) -> None:
    counts = rng.integers(0, 4, (30, 5)) * 2.5
    assert len(activity(ax, counts, 2.0)) == 1
    levels = rng.integers(0, 17, (8, 8)) / 16  # of brightness: few, and no counts
    np.testing.assert_array_equal(activity(ax, levels, 1.0, graded=True).get_array(), levels.T)
    values = rng.random((30, 5))
    image = activity(ax, values, 2.0)
    np.testing.assert_array_equal(image.get_array(), values.T)
    assert image.get_extent() == [0, 60, -0.5, 4.5]
    assert ax.get_ylim() == (-0.5, 4.5)


def test_empty_raster_says_so(ax) -> None:
    (line,) = figures.raster(ax, np.zeros((30, 4)), 2.0)
    assert len(line.get_xdata()) == 0
    assert [t.get_text() for t in ax.texts] == ["no spikes"]
    assert ax.get_xlim() == (0, 60.0)


# ------------------------------------------------------------------- membranes


def test_representative_neurons() -> None:
    spikes = np.zeros((10, 6))
    for neuron, count in enumerate([0, 4, 9, 0, 1, 2]):
        spikes[:count, neuron] = 1
    assert figures.representative(spikes, 2).tolist() == [2, 4]
    assert figures.representative(spikes, 4).tolist() == [2, 1, 5, 4]
    assert figures.representative(spikes, 5).tolist() == [2, 1, 5, 4, 0]
    assert len(figures.representative(spikes, 99)) == 6
    assert figures.representative(np.zeros((3, 2)), 1).tolist() == [0]


@pytest.mark.parametrize("threshold", [None, 1.0, "per neuron", "per step"])
def test_membrane_traces(ax, rng, threshold) -> None:
    spikes, v = spikes_of(rng, 40, 6), rng.normal(size=(40, 6))
    per = {"per neuron": np.linspace(1, 2, 6), "per step": np.full((40, 6), 1.5)}
    level = per.get(threshold, threshold)
    artists = figures.membrane_traces(ax, v, spikes, level, 3, step_ms=0.5, neurons=[4, 0, 2])
    assert len(artists) == 3 * (2 if level is None else 3)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["4", "0", "2"]
    each = 2 if level is None else 3
    for lane, neuron in enumerate([4, 0, 2]):
        trace, marks = artists[lane * each], artists[lane * each + 1]
        np.testing.assert_allclose(np.diff(trace.get_ydata()), np.diff(v[:, neuron]), atol=1e-12)
        assert len(marks.get_segments()) == spikes[:, neuron].sum()
        low, high = ax.get_ylim()
        assert low < trace.get_ydata().min()
        assert trace.get_ydata().max() < high
    tops = [np.asarray(artists[lane * each].get_ydata()) for lane in range(3)]
    assert tops[0].min() > tops[1].max() > tops[1].min() > tops[2].max()
    assert [t.get_text() for t in ax.texts] == ([] if level is None else ["threshold"])


def test_constant_membranes_have_room(ax) -> None:
    figures.membrane_traces(ax, np.zeros((9, 2)), np.zeros((9, 2)), None, 3, step_ms=1.0)
    assert len(ax.get_yticks()) == 2
    assert np.ptp(ax.get_ylim()) > 1


# -------------------------------------------------------------------- readouts


def test_running_decisions() -> None:
    readout = np.array([[9.0, 0.0], [0.0, 1.0], [0.0, 1.0], [5.0, 0.0]])
    assert figures.running_decisions(readout).tolist() == [0, 0, 0, 0]
    scored = np.array([False, True, True, True])
    assert figures.running_decisions(readout, scored).tolist() == [-1, 1, 1, 0]


def test_readout_names_truth_and_prediction(ax, rng) -> None:
    readout = rng.normal(size=(50, 4)).cumsum(axis=0)
    scored = np.arange(50) >= 20
    lines = figures.readout_traces(ax, readout, 1, 3, ("a", "b", "c", "d"), scored, step_ms=2.0)
    for c, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_ydata(), readout[:, c])
    colours = [line.get_color() for line in lines]
    assert colours == [style.FAINT, style.GREEN, style.FAINT, style.VERMILION]
    words = {t.get_text() for t in ax.texts}
    assert {"true b", "predicted d", "decision so far", "not scored"} <= words
    assert ax.get_xlim() == (0, 100.0)
    assert ax.get_ylim()[0] < readout.min()
    assert ax.get_ylim()[1] > readout.max()


def test_a_right_prediction_is_green_and_named_once(ax, rng) -> None:
    lines = figures.readout_traces(ax, rng.normal(size=(9, 3)), 2, 2, step_ms=1.0)
    assert lines[2].get_color() == style.GREEN
    words = [t.get_text() for t in ax.texts]
    assert "true 2" in words
    assert not any("predicted" in word for word in words)


def test_names_from_data_are_no_formulas(ax) -> None:
    """matplotlib would take what stands between two $ for one, and fail at this."""
    names = (r"$\frac$", "b" * 500)
    running = np.zeros(6, int)
    figures.readout_traces(ax, np.zeros((6, 2)), 1, 0, names, step_ms=1.0, running=running)
    ax.figure.canvas.draw()
    words = {t.get_text() for t in ax.texts}
    assert {r"predicted \$\frac\$", "true " + "b" * 23 + "…"} <= words


def test_the_strip_follows_a_given_decision(ax) -> None:
    running = np.array([-1, -1, 0, 0, 0, 1])
    figures.readout_traces(ax, np.zeros((6, 2)), 1, 1, step_ms=1.0, running=running)
    spans = [(p.get_x(), p.get_width()) for p in ax.patches]
    assert spans == [(2.0, 3.0), (5.0, 1.0)]


# ---------------------------------------------------------------------- images


def test_event_image_inks() -> None:
    cells = np.zeros((2, 3, 2))
    cells[0, 0, 1], cells[0, 1, 0], cells[1, 2, 1] = 4, 4, 2
    image = figures.event_image(style.figure(2, 2).subplots(), cells, full=4.0)
    rgb = np.asarray(image.get_array())
    np.testing.assert_allclose(rgb[0, 0], to_rgb(style.ON))
    np.testing.assert_allclose(rgb[0, 1], to_rgb(style.OFF))
    np.testing.assert_allclose(rgb[1, 0], 1.0)
    np.testing.assert_allclose(rgb[1, 2], 1 - 0.5 * (1 - np.array(to_rgb(style.ON))))


@pytest.mark.parametrize("polarities", [1, 2])
def test_event_image_without_events_is_white(polarities: int) -> None:
    image = figures.event_image(style.figure(2, 2).subplots(), np.zeros((4, 5, polarities)))
    assert np.asarray(image.get_array()).shape == (4, 5, 3)
    assert np.asarray(image.get_array()).min() == 1.0


# ----------------------------------------------------------------------- notes


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([1.0], [1.0]),
        ([0.0, 5.0], [0.0, 5.0]),
        ([1.0, 1.0], [0.5, 1.5]),
        ([0.0, 5.0, 5.0], [0.0, 4.5, 5.5]),
        ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]),
    ],
)
def test_notes_that_touch_move_apart(heights, expected) -> None:
    np.testing.assert_allclose(style.spread(heights, 1.0), expected)
