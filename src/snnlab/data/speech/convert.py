"""A folder of recordings -> a file in SHD's layout."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from snnlab.data.sources import expanded
from snnlab.data.speech.audio import prepare, read_audio
from snnlab.data.speech.cochlea import BATCH, Cochlea
from snnlab.data.speech.folder import LAYOUTS, list_recordings
from snnlab.data.speech.format import Item, check_output, write_shd

PROG = "snnlab.data.speech"
_WINDOW_S = 1.4  # what snnlab's reader of SHD keeps


@dataclasses.dataclass
class Tally:
    """What was encoded: seconds of each recording, spikes of each, wall-clock seconds."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    spikes: list[int] = dataclasses.field(default_factory=list)
    wall_s: float = 0.0

    def __str__(self) -> str:
        total, n = sum(self.seconds), np.array(self.spikes)
        return (
            f"{total:.1f} s of sound in {self.wall_s:.1f} s "
            f"({total / max(self.wall_s, 1e-9):.1f} times real time), "
            f"{n.mean():.0f} spikes a recording ({n.min()} to {n.max()})"
        )


def encode(
    sounds: Sequence[Callable[[], tuple[np.ndarray, int]]],
    lengths_s: Sequence[float],
    model: Cochlea,
    tally: Tally,
) -> Iterator[Item]:
    """Spikes of recordings, neighbours in length side by side.

    Args:
        sounds: give ``(samples, rate)`` when called; called once each.
        lengths_s: of each.
        model: the cochlea.
        tally: filled in as recordings are done.
    """
    order = sorted(range(len(sounds)), key=lambda i: lengths_s[i])
    for first in range(0, len(order), BATCH):
        part = order[first : first + BATCH]
        begin = time.perf_counter()
        spikes = model.spikes([prepare(*sounds[i]()) for i in part])
        tally.wall_s += time.perf_counter() - begin
        for i, (times, units) in zip(part, spikes):
            tally.seconds.append(lengths_s[i])
            tally.spikes.append(len(times))
            yield Item(i, times, units)


def convert(folder: Path, out: Path, classes: Sequence[str] = ()) -> str:
    """Encode the recordings of ``folder`` into ``out``.

    Returns:
        A summary for people.

    Raises:
        UsageError: a folder, a recording or an output that cannot be used; nothing is written.
    """
    check_output(out)
    found = list_recordings(folder, classes)
    # Every file is read before the work starts, so that a bad one is not found after it.
    lengths = [len(samples) / hz for samples, hz in map(read_audio, found.files)]
    tally = Tally()
    sounds = [functools.partial(read_audio, path) for path in found.files]
    items = encode(sounds, lengths, Cochlea(), tally)
    write_shd(out, items, found.labels, found.speakers, found.keys, found.names)
    late = sum(s > _WINDOW_S for s in lengths)
    return (
        f"{out}: {len(lengths)} recordings, {len(found.keys)} classes, {len(found.names)} "
        f"speakers; {tally}"
        + (f"; {late} longer than the {_WINDOW_S} s that snnlab reads" if late else "")
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROG}",
        description="Turn recordings into spikes of an artificial cochlea (700 channels), in the "
        "layout of the Spiking Heidelberg Digits.",
        epilog=LAYOUTS + "\n\nTo train on the result, name two such files shd_train.h5 and "
        "shd_test.h5 and give their folder:\n  --dataset shd --data_path FOLDER",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="IN_FOLDER", help="folder of recordings")
    parser.add_argument("out", metavar="OUT.h5", help="file to write")
    parser.add_argument(
        "--classes",
        default="",
        help="comma list of sub-folders in the order of their labels (equal in two files)",
    )
    given = parser.parse_args(sys.argv[1:] if argv is None else argv)
    classes = [c.strip() for c in given.classes.split(",") if c.strip()]
    print(convert(expanded(given.folder, "IN_FOLDER"), expanded(given.out, "OUT.h5"), classes))
    return 0
