"""``--dataset gesture``: DVS Gesture (Amir et al. 2017), 11 gestures on 128 x 128 pixels.

Two layouts are known: the published files, ``user01_fluorescent.aedat`` (AEDAT 3.1) beside
``user01_fluorescent_labels.csv`` with ``trials_to_train.txt`` and ``trials_to_test.txt`` (without
these lists the users 24 to 29 are the test, as there); and what tonic downloads, cut into gestures
in ms: ``ibmGestureTrain/user01_fluorescent/0.npy`` and ``ibmGestureTest/...``. Each gesture is a
recording. ``trials`` that a list names and that are not there are an error.

The published image classification bins them by tonic's ``ToFrame(n_time_bins=data_length)`` and
makes every bin with an event 1: ``--bins recording --binary_bins 1``, the defaults of the task for
this dataset.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from snnlab.data.cache import cache_root
from snnlab.data.download import download
from snnlab.data.folders.aedat import SUFFIXES
from snnlab.data.folders.labels import TRIALS
from snnlab.data.folders.layout import Layout, Source, find
from snnlab.data.folders.load import folder_store
from snnlab.data.recordings import EXPECTED
from snnlab.data.sources import chosen, listing
from snnlab.data.store import TEST, TRAIN, EventStore
from snnlab.errors import UsageError

if TYPE_CHECKING:
    from snnlab.data.config import DataConfig

SIZE = (128, 128)
#: In the order of the published numbers, 1 to 11.
NAMES = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise",
    "right_arm_counter_clockwise", "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll",
    "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
_NUMBERS = tuple(range(1, len(NAMES) + 1))
_FIRST_TEST_USER = 24
_PLACES = ("", "DvsGesture", "DVSGesture", "DVS128Gesture", "gesture")
_CUT = {"ibmGestureTrain": TRAIN, "ibmGestureTest": TEST}


def load_gesture(name: str, config: DataConfig) -> EventStore:
    """The cached store of DVS Gesture.

    Args:
        name: of the dataset.
        config: ``data_path`` (empty: downloaded into the cache folder) and ``window_ms``.

    Raises:
        UsageError: no data and no download, or files that cannot be used.
    """
    root = chosen(config.data_path) if config.data_path else cache_root() / "data"
    layout = find_gestures(root)
    if layout is None and not config.data_path:
        download(name, root, ["Train", "Test"], EXPECTED[name])
        layout = find_gestures(root)
    if layout is None:
        raise UsageError(f"no gesture data in {root}; expected {EXPECTED[name]}")
    if {TRAIN, TEST} - {source.split for source in layout.sources}:
        raise UsageError(f"gesture: {layout.root} holds recordings of one split alone")
    return folder_store(layout, config, name, SIZE)


def find_gestures(root: Path) -> Layout | None:
    """The recordings below a folder, in one of the two layouts; ``None``: there are none.

    Raises:
        UsageError: a layout that is not whole.
    """
    for place in dict.fromkeys(root / name for name in _PLACES):
        if not place.is_dir():
            continue
        if any(path.suffix.lower() in SUFFIXES for path in listing(place)):
            return _published(place)
        if any((place / name).is_dir() for name in _CUT):
            return _cut(place)
    return None


def _published(place: Path) -> Layout:
    layout = find(place)
    unknown = [n for n in layout.numbers if n not in _NUMBERS]
    if unknown:
        raise UsageError(f"{place}: class {unknown[0]} in a table; expected 1 to {len(NAMES)}")
    sources = layout.sources
    if not any((place / name).is_file() for name in TRIALS.values()):
        sources = tuple(
            dataclasses.replace(s, split=TEST if _user(s.path) >= _FIRST_TEST_USER else TRAIN)
            for s in sources
        )
        sources = tuple(sorted(sources, key=lambda s: (s.split, s.path.name)))
    return dataclasses.replace(layout, sources=sources, names=NAMES, numbers=_NUMBERS)


def _user(path: Path) -> int:
    found = re.match(r"user(\d+)", path.name)
    if not found:
        raise UsageError(f"{path}: the name gives no user, and there is no {TRIALS['Train']}")
    return int(found[1])


def _cut(place: Path) -> Layout:
    sources = []
    for name, split in _CUT.items():
        there = listing(place / name) if (place / name).is_dir() else []
        for path in (p for folder in there if folder.is_dir() for p in listing(folder)):
            if path.suffix.lower() != ".npy":
                continue
            if not path.stem.isdecimal() or int(path.stem) >= len(NAMES):
                raise UsageError(f"{path}: the name gives no class of 0 to {len(NAMES) - 1}")
            sources.append(Source(path, split, int(path.stem)))
    return Layout(place, "npy", tuple(sources), NAMES)
