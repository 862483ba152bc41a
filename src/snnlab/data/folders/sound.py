"""Sound of one's own as spikes: the artificial cochlea of :mod:`snnlab.data.speech.cochlea`."""

from __future__ import annotations

import functools

import numpy as np

from snnlab.data.download import say
from snnlab.data.folders.layout import Layout
from snnlab.data.folders.recorded import slices
from snnlab.data.speech.audio import read_audio
from snnlab.data.store import StoreWriter

#: Of the cochlea; SHD's.
CHANNELS = 700


def parameters() -> dict[str, float]:
    """All that the spikes of a sound depend on."""
    import dataclasses

    from snnlab.data.speech.cochlea import Cochlea

    return dataclasses.asdict(Cochlea())


def write_sound(
    writer: StoreWriter, layout: Layout, ends_us: np.ndarray, splits: np.ndarray, slice_us: int
) -> None:
    """Encode all recordings, neighbours in length side by side.

    Args:
        writer: of the store.
        layout: of a folder of sound.
        ends_us, splits: ``(n,)`` length and split of each source.
        slice_us: length of slices, 0 for none.

    Raises:
        UsageError: a file that is no sound.
    """
    from snnlab.data.speech.cochlea import Cochlea
    from snnlab.data.speech.convert import Tally, encode

    tally = Tally()
    sounds = [functools.partial(read_audio, source.path) for source in layout.sources]
    seconds = [float(end) / 1e6 for end in ends_us]
    say(f"{sum(seconds):,.0f} s of sound go through a cochlea of {CHANNELS} channels, once")
    for item in encode(sounds, seconds, Cochlea(), tally):
        times_us = (item.times_s * 1e6).astype(np.int64)
        label = layout.sources[item.place].label
        split = int(splits[item.place])
        for times, units in slices(times_us, item.units.astype(np.int64), slice_us):
            writer.add(times, units, np.array([len(times)]), [label], split, item.place)
    say(str(tally))
