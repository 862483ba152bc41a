"""Datasets of events: recordings, packed cache, loader, input streams.

Public names are loaded when they are first used: a worker process that cuts batches imports
this package, and must not load JAX with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnlab.data.augment import Augment
    from snnlab.data.build import Data, build_data, data_of
    from snnlab.data.config import DataConfig
    from snnlab.data.event_digits import load_event_digits
    from snnlab.data.features import build_features
    from snnlab.data.loader import Batch, Loader
    from snnlab.data.recordings import load_recordings
    from snnlab.data.speech.spoken_digits import load_spoken_digits
    from snnlab.data.store import EventStore, Sensor, StoreWriter, cache_root, cached
    from snnlab.data.stream import DenseStream, EventStream, Stream
    from snnlab.data.transform import Transform

_HOME = {
    "Augment": "augment",
    "Batch": "loader",
    "Data": "build",
    "DataConfig": "config",
    "DenseStream": "stream",
    "EventStore": "store",
    "EventStream": "stream",
    "Loader": "loader",
    "Sensor": "store",
    "StoreWriter": "store",
    "Stream": "stream",
    "Transform": "transform",
    "build_data": "build",
    "build_features": "features",
    "cache_root": "store",
    "cached": "store",
    "data_of": "build",
    "load_event_digits": "event_digits",
    "load_recordings": "recordings",
    "load_spoken_digits": "speech.spoken_digits",
}

__all__ = [
    "Augment", "Batch", "Data", "DataConfig", "DenseStream", "EventStore", "EventStream",
    "Loader", "Sensor", "StoreWriter", "Stream", "Transform", "build_data", "build_features",
    "cache_root", "cached", "data_of", "load_event_digits", "load_recordings", "load_spoken_digits",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"snnlab.data.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
