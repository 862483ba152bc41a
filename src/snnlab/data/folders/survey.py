"""What a folder's recordings have in common: sensor, longest recording, labels; found once.

A store of events is made for a sensor and a time window. Both are read from the recordings, in a
pass of their own, and kept in the cache by the content of the files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from snnlab.data.cache import cache_errors, cached_folder
from snnlab.data.download import say
from snnlab.data.folders.layout import Layout
from snnlab.data.folders.read import ClassNames, Item, items
from snnlab.data.manifest import is_intact, write_manifest
from snnlab.data.speech.audio import read_audio
from snnlab.errors import UsageError

VERSION = 1
_FILES = ("survey.json", "labels.npy", "splits.npy", "ends.npy")


@dataclasses.dataclass
class Survey:
    """Of all recordings of a folder, in the order of :func:`~.read.items`.

    Attributes:
        size: width and height that all events fit into; that of the files, where they state one.
        stated: whether a file states it.
        polarities: 1 or 2.
        units: what times were taken for.
        names: of the classes; empty: their numbers.
        n_events: of all.
        labels, splits: ``(n,)``.
        ends_us: ``(n,)`` the time behind the last event, 0 where there is none.
    """

    size: tuple[int, int] = (0, 0)
    stated: bool = False
    polarities: int = 1
    units: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    n_events: int = 0
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    splits: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    ends_us: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def take(self, item: Item) -> None:
        """Widen what is common by a recording; labels, splits and ends are :meth:`index`'s."""
        events = item.events
        width, height = self.size
        width, height = max(width, events.size[0]), max(height, events.size[1])
        self.stated |= events.size != (0, 0)
        if len(events.time_us):
            width = max(width, int(events.x.max()) + 1)
            height = max(height, int(events.y.max()) + 1)
        self.size = width, height
        self.polarities = max(self.polarities, events.polarities)
        self.n_events += len(events.time_us)
        if events.unit not in self.units and len(events.time_us):
            self.units = (*self.units, events.unit)

    def index(self, labels: Iterable[int], splits: Iterable[int], ends_us: Iterable[int]) -> None:
        """Set what there is of each recording."""
        self.labels = np.array(list(labels), np.int64)
        self.splits = np.array(list(splits), np.int64)
        self.ends_us = np.array(list(ends_us), np.int64)

    @property
    def longest_us(self) -> int:
        """A whole number of ms that holds all recordings."""
        return max(1, -(-int(self.ends_us.max(initial=0)) // 1000)) * 1000

    @property
    def n_classes(self) -> int:
        return len(self.names) or int(self.labels.max(initial=0)) + 1


def end_of(item: Item) -> int:
    """The time behind the last event in us, 0 where there is none."""
    return int(item.events.time_us.max()) + 1 if len(item.events.time_us) else 0


def survey(layout: Layout, unit: str, source: str) -> Survey:
    """What all recordings of a layout have in common, kept in the cache.

    Args:
        layout: of the folder.
        unit: ``--time_unit``.
        source: sum of the files.

    Raises:
        UsageError: a file that cannot be used, or times in several units.
    """
    facts = {"version": VERSION, "source": source, "unit": unit, "layout": layout.sum}

    def complete(folder: Path) -> bool:
        return is_intact(folder, facts, _FILES)

    def fill(folder: Path) -> None:
        say(f"looking through {layout.root} once, for its sensor and longest recording")
        found = _heard(layout) if layout.kind == "sound" else _read(layout, unit)
        with cache_errors(folder):
            told = {k: v for k, v in dataclasses.asdict(found).items() if k not in
                    ("labels", "splits", "ends_us")}  # fmt: skip
            (folder / _FILES[0]).write_text(json.dumps(told), encoding="utf-8")
            for name, array in zip(_FILES[1:], (found.labels, found.splits, found.ends_us)):
                np.save(folder / name, array, allow_pickle=False)
            write_manifest(folder, facts, _FILES)

    folder = cached_folder("folders", layout.kind, facts, complete, fill)
    told: dict[str, Any] = json.loads((folder / _FILES[0]).read_text("utf-8"))
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    made = Survey(**kept)
    made.index(*(np.load(folder / name, allow_pickle=False) for name in _FILES[1:]))
    return made


def _read(layout: Layout, unit: str) -> Survey:
    found, names = Survey(), ClassNames()
    labels: list[int] = []
    splits: list[int] = []
    ends: list[int] = []
    first: dict[str, str] = {}
    for item in items(layout, unit, names):
        found.take(item)
        if len(item.events.time_us):
            first.setdefault(item.events.unit, item.name)
        labels.append(item.label)
        splits.append(item.split)
        ends.append(end_of(item))
    if len(found.units) > 1:
        told = ", ".join(f"of {name} {unit}" for unit, name in first.items())
        raise UsageError(f"times are in several units: {told}; --time_unit says which")
    found.index(labels, splits, ends)
    found.names = layout.names or (names.keys or ())
    if not found.n_events:
        raise UsageError(f"{layout.root}: {len(labels)} recordings, and no event in any of them")
    return found


def _heard(layout: Layout) -> Survey:
    """Of sound: nothing but its length; the cochlea's channels are the sensor."""
    from snnlab.data.folders.sound import CHANNELS

    found = Survey(size=(CHANNELS, 1), stated=True, names=layout.names, units=("s (of sound)",))
    ends = []
    for source in layout.sources:
        samples, hz = read_audio(source.path)
        ends.append(-(-len(samples) * 10**6 // hz))
    found.index((s.label for s in layout.sources), (s.split for s in layout.sources), ends)
    return found
