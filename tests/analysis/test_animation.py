"""The film of a sample: the future is faint, the last frame is the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from snnlab.analysis import figures
from snnlab.analysis._animation import DPI, FAINT, MOST_FRAMES
from snnlab.analysis.recording import Recording


def recording(n_steps: int) -> Recording:
    """Inputs of many values, which are drawn as a picture."""
    shape = (n_steps, 2)
    inputs = np.random.default_rng(0).random((*shape, 6))
    return Recording(
        inputs=inputs, spikes=(np.ones((*shape, 4)),),
        membrane=(np.zeros((*shape, 4)),), readout=np.zeros((*shape, 2)),
        targets=np.array([0, 1]), predictions=np.array([1, 1]), dt_ms=1.0,
        input_groups=(("left", 3), ("right", 3)),
    )  # fmt: skip


@pytest.mark.parametrize("n_steps", [7, 200])
def test_time_goes_on_from_frame_to_frame(tmp_path: Path, n_steps: int) -> None:
    path = figures.animate(recording(n_steps), 1, tmp_path / "new" / "film.gif")
    assert [p.name for p in path.parent.iterdir()] == ["film.gif"]
    fig = figures.sample_figure(recording(n_steps), 1)
    fig.set_dpi(DPI)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    whole = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    box = fig.axes[0].get_window_extent()
    rows = slice(len(whole) - round(box.y1), len(whole) - round(box.y0))
    frames = min(n_steps, MOST_FRAMES)
    with Image.open(path) as film:
        assert film.n_frames == frames
        assert film.info["loop"] == 0
        for k in range(frames):
            film.seek(k)
            frame = np.asarray(film.convert("RGB"), float)
            now = round(box.x0 + box.width * (k + 1) / frames)
            past, future = slice(round(box.x0) + 2, now - 3), slice(now + 3, round(box.x1) - 2)
            ink = 255 - whole[rows]
            if past.stop > past.start:
                assert np.abs(255 - frame[rows, past] - ink[:, past]).mean() < 8
            if future.stop > future.start:
                assert np.abs(255 - frame[rows, future] - FAINT * ink[:, future]).mean() < 8
                assert ink[:, future].mean() > 50, "there is something to come"
    assert np.abs(frame - whole).mean() < 6


def test_a_sample_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        figures.animate(recording(5), 2, tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())
