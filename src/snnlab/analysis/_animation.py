"""A sample's figure as a film: what is still to come is faint, a line is the present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from snnlab.analysis import style
from snnlab.analysis._samples import sample_figure
from snnlab.analysis.recording import Recording

#: Pictures at most, seconds of all, of the last one alone; dots per inch.
MOST_FRAMES, SECONDS, LAST_SECONDS, DPI = 60, 6.0, 2.0, 100
#: Share of its colour that the future has.
FAINT = 0.15


def animate(recording: Recording, index: int, path: str | Path) -> Path:
    """Write the figure of a test sample as an animated GIF, and return its path.

    Every frame is the whole figure, so that axes and names stay where they are; a network of T
    steps has at most :data:`MOST_FRAMES` frames, in all :data:`SECONDS` and a rest.

    Args:
        recording: what the network did.
        index: which sample of its batch.
        path: of the file, which is there whole or not at all.

    Raises:
        IndexError: the batch has no sample ``index``.
    """
    fig = sample_figure(recording, index)
    fig.set_dpi(DPI)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    height = len(picture)
    ends = np.linspace(0, recording.n_steps, min(recording.n_steps, MOST_FRAMES) + 1)[1:]
    panels = [ax for ax in fig.axes if ax.get_xlim() == (0, recording.n_steps * recording.step_ms)]
    frames = []
    for end in ends:
        frame = picture.copy()
        for ax in panels:
            box = ax.get_window_extent()
            low, high = height - round(box.y1), height - round(box.y0)
            now = round(float(ax.transData.transform((end * recording.step_ms, 0))[0]))
            future = frame[low:high, now : round(box.x1) + 1]
            future[:] = 255 - FAINT * (255 - future.astype(float))
            frame[low:high, now - 1 : now + 1] = np.round(255 * np.asarray(to_rgb(style.GREY)))
        frames.append(Image.fromarray(frame))
    palette = _palette(picture)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    each = round(1000 * SECONDS / len(small))
    small[0].save(
        part, format="GIF", save_all=True, append_images=small[1:], loop=0,
        duration=[each] * (len(small) - 1) + [round(1000 * LAST_SECONDS)],
    )  # fmt: skip
    return part.replace(target)


def _palette(picture: np.ndarray) -> Image.Image:
    """One for all frames: of the figure's colours and the faint ones, the frequent ones exact.

    The rest is quantised by colours, not by dots: the name of a group is a few dots.
    """
    found, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    frequent = found[np.argsort(-counts, kind="stable")[:48]]
    faint = np.round(255 - FAINT * (255.0 - found)).astype(np.uint8)
    exact = np.unique(np.concatenate([frequent, faint[np.argsort(-counts)[:48]]]), axis=0)
    others = np.unique(np.concatenate([found, faint]), axis=0)
    rest = Image.fromarray(others[None]).quantize(256 - len(exact)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*exact.ravel().tolist(), *rest][: 3 * 256])
    return palette
