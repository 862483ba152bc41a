"""Datasets of events: recordings, packed cache, loader, input streams.

Public names are loaded when they are first used: a worker process that cuts batches imports
this package, and must not load JAX with it.
"""

from typing import TYPE_CHECKING

from snnlab.lazy import exports

if TYPE_CHECKING:
    from snnlab.data.arrays import pack as pack
    from snnlab.data.augment import Augment as Augment
    from snnlab.data.batch import Batch as Batch
    from snnlab.data.batch import Splits as Splits
    from snnlab.data.batch import Targets as Targets
    from snnlab.data.build import Data as Data
    from snnlab.data.build import build_data as build_data
    from snnlab.data.build import data_of as data_of
    from snnlab.data.cache import cache_root as cache_root
    from snnlab.data.config import DataConfig as DataConfig
    from snnlab.data.event_digits import load_event_digits as load_event_digits
    from snnlab.data.features import build_features as build_features
    from snnlab.data.loader import Loader as Loader
    from snnlab.data.recordings import load_recordings as load_recordings
    from snnlab.data.speech.spoken_digits import load_spoken_digits as load_spoken_digits
    from snnlab.data.store import EventStore as EventStore
    from snnlab.data.store import Sensor as Sensor
    from snnlab.data.store import StoreWriter as StoreWriter
    from snnlab.data.store import cached as cached
    from snnlab.data.stream import DenseStream as DenseStream
    from snnlab.data.stream import EventStream as EventStream
    from snnlab.data.stream import Stream as Stream
    from snnlab.data.transform import Transform as Transform
else:
    __getattr__ = exports(
        __name__,
        {
            "arrays": ("pack",),
            "augment": ("Augment",),
            "batch": ("Batch", "Splits", "Targets"),
            "build": ("Data", "build_data", "data_of"),
            "cache": ("cache_root",),
            "config": ("DataConfig",),
            "event_digits": ("load_event_digits",),
            "features": ("build_features",),
            "loader": ("Loader",),
            "recordings": ("load_recordings",),
            "speech.spoken_digits": ("load_spoken_digits",),
            "store": ("EventStore", "Sensor", "StoreWriter", "cached"),
            "stream": ("DenseStream", "EventStream", "Stream"),
            "transform": ("Transform",),
        },
    )
