"""A look at a folder of one's own, or a file of it, file by file: one bad file hides no other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from snnlab.data.findings import MOST_TOLD, Found, Part, hear
from snnlab.data.folders.gesture import find_gestures
from snnlab.data.folders.layout import HDF5, KINDS, Layout, Source, find
from snnlab.data.folders.read import ClassNames, Item, of_source
from snnlab.data.folders.survey import Survey
from snnlab.data.sources import listing
from snnlab.data.store import TEST, TRAIN, VALID
from snnlab.errors import UsageError

_SPLITS = {TRAIN: "training", VALID: "validation", TEST: "test"}
_WORDS = {
    "npz": "numpy's .npz", "bin": ".bin of 5 bytes an event", "AEDAT": "AEDAT",
    "gestures": "AEDAT with tables of labels", "npy": "DVS Gesture as tonic keeps it",
    "h5": "HDF5 in SHD's layout", "sound": "sound",
}  # fmt: skip


def look(path: Path) -> Iterator[Found]:
    """What a folder (or one file) holds that ``--dataset folder`` or ``gesture`` reads as events.

    Raises:
        UsageError: files whose places say no class, or several kinds of them.
    """
    if path.is_file():
        kind = "h5" if path.name.lower().endswith(HDF5) else KINDS.get(path.suffix.lower(), "")
        if kind in ("npz", "AEDAT", "h5"):
            source = Source(path, TRAIN, 0)
            layout = Layout(
                path.parent, kind, (source,), () if kind == "h5" else (path.parent.name,)
            )
            yield Found(f"a recording, {_WORDS[kind]}", "", _parts(layout))
        return
    if _holds_gestures(path) and (gestures := find_gestures(path)):
        kind, use, layout = "DVS Gesture", "gesture", gestures
    else:
        try:
            kind, use, layout = "recordings by class", "folder", find(path)
        except UsageError as error:
            if str(error).startswith("no recordings in"):
                return
            raise
    text = f"{kind}, {_WORDS[layout.kind]}"
    parts = _heard(layout) if layout.kind == "sound" else _parts(layout)
    if all(part.name != _SPLITS[TEST] for part in parts):
        most = Counter(label for part in parts for label in part.labels).most_common(1)
        if most and most[0][1] < 2:
            parts[-1].problems.append(
                f"{path}: no class has a second recording, for the test split"
            )
    yield Found(text, f"--dataset {use} --data_path {path}", parts)


def _holds_gestures(path: Path) -> bool:
    """Whether a folder has DVS Gesture's names: files by user, or tonic's folders."""
    places = (path, *(p for p in listing(path) if p.is_dir()))
    return any(
        [*place.glob("user*_labels.csv")] or (place / "ibmGestureTrain").is_dir()
        for place in places
    )


def _parts(layout: Layout) -> list[Part]:
    parts: dict[int, Part] = {}
    common, names, wrong = Survey(), ClassNames(), 0
    starts: list[float] = []

    def part_of(split: int) -> Part:
        return parts.setdefault(split, Part(_SPLITS[split], "events", math.inf))

    for source in layout.sources:
        part = part_of(source.split)
        try:
            for item in of_source(layout, source, "auto", names):
                _take(part, item, layout, names)
                common.take(item)
                if len(item.events.time_us):
                    starts.append(float(item.events.time_us.min()) / 1000)
        except UsageError as error:
            wrong += 1
            if wrong <= MOST_TOLD:
                part.problems.append(str(error))
    last = next(reversed(parts.values()))
    if wrong > MOST_TOLD:
        more = wrong - MOST_TOLD
        last.problems.append(f"{layout.root}: and {more} more file{'s' * (more > 1)}")
    if len(common.units) > 1:
        last.problems.append(f"times are in several units, {', '.join(common.units)}: --time_unit")
    if common.n_events:
        last.told += _common(common, parts, starts, layout)
    return list(parts.values())


def _heard(layout: Layout) -> list[Part]:
    """Of sound: samples in the place of events."""
    parts: dict[int, Part] = {}
    for source in layout.sources:
        part = parts.setdefault(source.split, Part(_SPLITS[source.split], "samples", math.inf))
        hear(part, source.path, layout.names[source.label])
    return list(parts.values())


def _take(part: Part, item: Item, layout: Layout, names: ClassNames) -> None:
    known = layout.names or names.keys or ()
    label = known[item.label] if known else str(item.label)
    times = item.events.time_us
    part.add(times, np.array([len(times)]), [label])


def _common(
    common: Survey, parts: dict[int, Part], starts: list[float], layout: Layout
) -> list[str]:
    """Lines of what holds for all recordings."""
    width, height = common.size
    places = f"{width} channels" if height == 1 else f"sensor {width} x {height}"
    how = "stated by the files" if common.stated else "found; --sensor_size gives it"
    polarity = "both polarities" if common.polarities > 1 else "no polarity"
    told = [f"all: {places} ({how}), {polarity}; times in {', '.join(common.units)}"]
    ends = np.array([end for part in parts.values() for end in part.ends_ms if end])
    median = float(np.median(ends))
    if n := int((ends > 2 * median).sum()):
        told.append(
            f"all: {n} end behind twice the median, the last at {ends.max():,.0f} ms, which all "
            f"are then read to; --window_ms {2 * median:.0f} ends earlier"
        )
    if n := int((np.array(starts) > median / 2).sum()):
        told.append(f"all: {n} have their first event behind half of the median's end")
    if TEST not in parts:
        told.append("all: no test split; --test_fraction of these is kept for the test")
    if layout.others:
        told.append(f"all: {layout.others} other files are passed over")
    return told
