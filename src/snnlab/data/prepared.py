"""Datasets by name: what they need, what the cache holds of them, and how it gets there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnlab.data.cache import cache_root
from snnlab.data.config import DataConfig
from snnlab.data.images import files
from snnlab.data.manifest import read_manifest
from snnlab.data.recordings import EXPECTED
from snnlab.data.registry import AUDIO, DATASETS, IMAGE_FILES, IMAGES
from snnlab.data.sources import chosen
from snnlab.data.speech import corpora
from snnlab.data.store import TEST, TRAIN, VALID, EventStore
from snnlab.errors import UsageError, missing, nearest, shown
from snnlab.registry import load

_SPLITS = {TRAIN: "training", VALID: "validation", TEST: "test"}


class Prepared(NamedTuple):
    """A store of the cache.

    Attributes:
        path: its folder.
        n: recordings.
        bytes: on disk.
    """

    path: Path
    n: int
    bytes: int


def names() -> dict[str, str]:
    """Name -> what it is, of all that ``--dataset`` takes."""
    return {**{name: about.summary for name, about in DATASETS.items()}, **AUDIO, **IMAGES}


def needs(name: str) -> str:
    """What has to be there before it can be prepared; empty if nothing."""
    if name == "spoken-digits":
        return missing("espeakng_loader", "speech")
    if name in AUDIO:
        return f"--data_path, a folder with {corpora.EXPECTED[name]}"
    if name in IMAGE_FILES:
        by = missing("torchvision", "vision")
        expected = files.EXPECTED[name]
        return f"a download{' by ' * bool(by)}{by}, or --data_path, a folder with {expected}"
    if name in IMAGES:
        return ""
    if name in EXPECTED:
        by = missing("tonic", "data")
        return f"a download{' by ' * bool(by)}{by}, or --data_path, a folder with {EXPECTED[name]}"
    if name == "folder":
        return "--data_path, recordings by class (snnlab data check FOLDER)"
    return "--data_path, its files" if DATASETS[name].files else ""


def prepared(name: str) -> list[Prepared]:
    """The stores of a dataset that the cache holds; their files are not summed."""
    found = []
    kind = "features" if name in AUDIO else "events"
    for path in sorted((cache_root() / kind).glob("[!.]*/")):
        manifest = read_manifest(path) or {}
        own = manifest.get("sensor", {}).get("name", path.name.rpartition("-")[0])
        if own == name and (path / "labels.npy").is_file():
            labels = np.load(path / "labels.npy", mmap_mode="r", allow_pickle=False)
            size = sum(file.stat().st_size for file in path.iterdir())
            found.append(Prepared(path, len(labels), size))
    return found


def prepare(name: str, data_path: str = "") -> str:
    """Make the cache of a dataset, unless it is there; what it holds, in a line.

    Raises:
        UsageError: no such dataset, files that cannot be used, or ``data_path`` where none is read.
    """
    if name not in names():
        raise UsageError(
            f"no dataset '{shown(name)}'{nearest(name, names())}; valid: {', '.join(names())}"
        )
    if name in AUDIO:
        root = chosen(data_path) if data_path else cache_root() / "data"
        corpus = corpora.find_corpus(name, root)
        from snnlab.data.features import feature_store

        features = feature_store(name, corpus)
        return _told(features.path, features.split, len(corpus.keys), f"{len(features.frames):,} "
                     "frames")  # fmt: skip
    if data_path and name not in IMAGE_FILES and not (name in DATASETS and DATASETS[name].files):
        raise UsageError(f"--data_path: {name} is made, not read")
    if name in IMAGES:
        images = files.read_images(name, data_path)
        n = [int((images.split == k).sum()) for k in (TRAIN, TEST)]
        return f"{n[0]:,} training + {n[1]:,} test images, 10 classes, read as they are"
    about = DATASETS[name]
    config = DataConfig(dataset=name, data_path=data_path)
    store: EventStore = load(about.load)(*about.arguments(name, config))
    events = f"{len(store.events):,} events"
    return _told(store.path, store.split, store.sensor.n_classes, events)


def _told(path: Path, split: np.ndarray, n_classes: int, what: str) -> str:
    parts = [f"{n:,} {word}" for k, word in _SPLITS.items() if (n := int((split == k).sum()))]
    return f"{' + '.join(parts)} recordings, {n_classes} classes, {what}; {path}"
