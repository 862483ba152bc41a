"""The packed event cache: recordings decoded once, then memory-mapped.

A store is a folder of ``.npy`` files and a manifest:

``events.npy``   one unsigned integer an event, ``time_us << address_bits | address``; 32 bits
                 where they suffice (N-MNIST 20 + 12, SHD 22 + 10), else 64
``offsets.npy``  ``(n + 1,) int64``; recording ``i`` is ``events[offsets[i]:offsets[i + 1]]``
``labels.npy``   ``(n,) int32``
``split.npy``    ``(n,) uint8``, 0 = train, 1 = test, 2 = validation, where there is one
``groups.npy``   ``(n,) int32``, where recordings are slices: which have one origin
``manifest.json`` format, sensor, key (sums of the source), class names, counts, sums

An address is ``(polarity * height + y) * width + x``, the order of tonic's frames. Events of a
recording are in time order. Nothing is ever pickled: arrays are opened with
``allow_pickle=False`` and a store travels to another process as its path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnlab.data.cache import cache_errors, cached_folder
from snnlab.data.manifest import digest, is_intact, read_manifest, write_manifest
from snnlab.errors import UsageError

FORMAT = 2
TRAIN, TEST, VALID = 0, 1, 2
_ARRAYS = ("events", "offsets", "labels", "split")
_FILES = tuple(f"{name}.npy" for name in _ARRAYS)
_GROUPS = "groups.npy"
#: A name in the key of stores whose recordings are slices of longer ones.
GROUPED = "slice_us"


@dataclasses.dataclass(frozen=True)
class Sensor:
    """What the recordings were made with.

    Attributes:
        name: dataset.
        height, width, polarities: address space; SHD is 1 x 700 x 1.
        n_classes: labels are ``0 <= label < n_classes``; 0: as many as the recordings say.
        window_us: length that the time bins divide; later events are dropped and counted.
        saccade_us: length of the first saccade, 0 where there are none.
        resolution_us: coarsest step of the source's time stamps within the window.
        flippable: whether a mirrored recording keeps its label.
    """

    name: str
    height: int
    width: int
    polarities: int
    n_classes: int
    window_us: int
    saccade_us: int = 0
    resolution_us: float = 1.0
    flippable: bool = False

    @property
    def n_addresses(self) -> int:
        return self.height * self.width * self.polarities

    @property
    def address_bits(self) -> int:
        return max(1, (self.n_addresses - 1).bit_length())

    @property
    def packed_dtype(self) -> np.dtype[Any]:
        """uint32 if an address and twice the window fit, else uint64."""
        span = (2 * self.window_us).bit_length()
        return np.dtype(np.uint32 if span + self.address_bits <= 32 else np.uint64)


class EventStore:
    """Recordings of one dataset, or a subset of them, memory-mapped.

    Args:
        path: folder of the store.
        indices: recordings of this view, all of them by default.

    Attributes:
        class_names: where the recordings have names for their classes.
        content: sum of all events, labels and splits, whatever they were read from.
        groups: ``(n,)`` of slices, equal for those of one origin; ``None`` where all stand alone.
        notes: lines for the user on how the recordings were read, if there are any.

    Raises:
        UsageError: the folder is no store.
    """

    def __init__(self, path: str | Path, indices: np.ndarray | None = None) -> None:
        self.path = Path(path)
        manifest = read_manifest(self.path)
        if manifest is None or manifest["format"] != FORMAT:
            raise UsageError(f"{self.path} is no store of events, or is damaged")
        self.manifest: dict[str, Any] = manifest
        self.sensor = Sensor(**manifest["sensor"])
        self.class_names: tuple[str, ...] = tuple(manifest["class_names"])
        self.notes: tuple[str, ...] = tuple(manifest.get("notes", ()))
        self.content = digest([manifest["sums"], manifest["class_names"]])[:32]
        arrays = {
            name: np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
        self.events: np.ndarray = arrays["events"]
        n = len(arrays["labels"])
        self.indices = np.arange(n) if indices is None else np.asarray(indices, np.int64)
        self.starts: np.ndarray = np.asarray(arrays["offsets"][:-1])[self.indices]
        self.ends: np.ndarray = np.asarray(arrays["offsets"][1:])[self.indices]
        self.labels: np.ndarray = np.asarray(arrays["labels"])[self.indices]
        self.split: np.ndarray = np.asarray(arrays["split"])[self.indices]
        self.groups: np.ndarray | None = None
        if GROUPED in manifest["key"]:
            groups = np.load(self.path / _GROUPS, mmap_mode="r", allow_pickle=False)
            self.groups = np.asarray(groups)[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __reduce__(self) -> tuple[Any, ...]:
        return EventStore, (str(self.path), self.indices)

    def subset(self, indices: np.ndarray) -> EventStore:
        """A view of the recordings ``indices`` (positions in this view)."""
        return EventStore(self.path, self.indices[np.asarray(indices)])

    def decode(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(time_us, address)`` of packed events, in the packed type."""
        bits = self.sensor.address_bits
        kind = packed.dtype.type
        return packed >> kind(bits), packed & kind((1 << bits) - 1)

    def ends_before(self, time_us: int) -> np.ndarray:
        """Per recording, the end of its events earlier than ``time_us``: ``(n,) int64``.

        A bisection of all recordings at once; events are in time order.
        """
        limit = min(time_us << self.sensor.address_bits, np.iinfo(self.events.dtype).max)
        low, high = self.starts.copy(), self.ends.copy()
        while True:
            open_ = np.flatnonzero(low < high)
            if not len(open_):
                return low
            middle = (low[open_] + high[open_]) // 2
            before = self.events[middle] < self.events.dtype.type(limit)
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]

    def events_of(self, i: int) -> np.ndarray:
        """Recording ``i`` as tonic returns it.

        Returns:
            structured array of int64: ``x, y, t, p`` (t in us, p 0 or 1) as
            ``tonic.datasets.NMNIST``; on a sensor of one line ``t, x, p`` with p = 1 as
            ``tonic.datasets.SHD``.
        """
        t, address = self.decode(np.asarray(self.events[self.starts[i] : self.ends[i]]))
        s = self.sensor
        if s.height == 1 and s.polarities == 1:
            out = np.empty(len(t), [("t", int), ("x", int), ("p", int)])
            out["t"], out["x"], out["p"] = t, address, 1
            return out
        out = np.empty(len(t), [("x", int), ("y", int), ("t", int), ("p", int)])
        out["t"], out["x"] = t, address % s.width
        out["y"], out["p"] = address // s.width % s.height, address // (s.width * s.height)
        return out


# ---------------------------------------------------------------------- writing


class StoreWriter:
    """Appends decoded recordings to a store that is being built."""

    def __init__(self, folder: Path, sensor: Sensor) -> None:
        self.sensor = sensor
        self._folder = folder
        self._file = open(folder / "events.npy", "wb")  # noqa: SIM115
        self._count = 0
        self._lengths: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._split: list[np.ndarray] = []
        self._names: tuple[str, ...] = ()
        self._notes: list[str] = []
        self._groups: list[np.ndarray] = []
        self._header()

    def _header(self) -> None:
        # numpy reserves room in a version 1.0 header, so that it can be rewritten in place
        # when the array has grown.
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self.sensor.packed_dtype),
                "fortran_order": False,
                "shape": (self._count,),
            },
        )

    def classes(self, n: int, names: Sequence[str] = ()) -> None:
        """The number of classes and their names, of a sensor that has left them open."""
        self.sensor = dataclasses.replace(self.sensor, n_classes=n)
        self._names = tuple(names)

    def note(self, line: str) -> None:
        """Keep a line for the user with the store."""
        self._notes.append(line)

    def add(
        self,
        times_us: np.ndarray,
        addresses: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray | Sequence[int],
        split: int | np.ndarray,
        group: int = 0,
    ) -> None:
        """Append recordings.

        Args:
            times_us: ``(n_events,)`` >= 0; put into time order within a recording, keeping
                the order of equal times. Times beyond the packed range are stored as its end,
                which lies outside of every window.
            addresses: ``(n_events,)`` in ``[0, sensor.n_addresses)``.
            lengths: ``(n,)`` events of each recording.
            labels: ``(n,)`` in ``[0, sensor.n_classes)``.
            split: TRAIN, TEST or VALID, for all or one each.
            group: of all of them, where they are slices of one.

        Raises:
            ValueError: something is no integer, or out of its range; nothing is cast.
        """
        times_us = _integers("times", times_us)
        addresses = _integers("addresses", addresses, self.sensor.n_addresses)
        lengths = _integers("lengths", lengths)
        labels = _integers("labels", labels, self.sensor.n_classes)
        if not len(times_us) == len(addresses) == lengths.sum() or len(labels) != len(lengths):
            raise ValueError(
                f"{len(times_us)} times, {len(addresses)} addresses, {lengths.sum()} events of "
                f"{len(lengths)} recordings, {len(labels)} labels"
            )
        dtype = self.sensor.packed_dtype
        bits = self.sensor.address_bits
        top = np.iinfo(dtype).max >> bits
        t = np.minimum(times_us.astype(np.uint64), np.uint64(top))
        owner = np.repeat(np.arange(len(lengths)), lengths)
        late = (t[1:] < t[:-1]) & (owner[1:] == owner[:-1])
        if late.any():
            order = np.lexsort((t, owner))
            t, addresses = t[order], addresses[order]
        packed = (t << np.uint64(bits)) | addresses.astype(np.uint64)
        with cache_errors(self._folder):
            self._file.write(packed.astype(dtype).tobytes())
        self._count += len(packed)
        self._lengths.append(np.asarray(lengths, np.int64))
        self._labels.append(np.asarray(labels, np.int32))
        self._split.append(np.broadcast_to(np.asarray(split, np.uint8), (len(lengths),)))
        self._groups.append(np.full(len(lengths), group, np.int32))

    def close(self) -> None:
        self._file.close()

    def finish(self, key: Mapping[str, Any]) -> None:
        """Write the index and the manifest; the store is complete after this."""
        with cache_errors(self._folder):
            self._header()
            self._file.close()
            lengths = np.concatenate(self._lengths or [np.zeros(0, np.int64)])
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
            arrays = {
                "offsets": offsets,
                "labels": np.concatenate(self._labels or [np.zeros(0, np.int32)]),
                "split": np.concatenate(self._split or [np.zeros(0, np.uint8)]),
            }
            if GROUPED in key:
                arrays["groups"] = np.concatenate(self._groups or [np.zeros(0, np.int32)])
            for name, array in arrays.items():
                np.save(self._folder / f"{name}.npy", array, allow_pickle=False)
            facts = {
                **_facts(self.sensor, key),
                "class_names": self._names,
                "n_recordings": len(lengths),
                "n_events": self._count,
                **({"notes": self._notes} if self._notes else {}),
            }
            write_manifest(self._folder, facts, _files(key))


def _integers(what: str, given: Any, end: int | None = None) -> np.ndarray:
    values = np.asarray(given)
    if not values.size:
        return values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} are {values.dtype}, needed: integers")
    if values.min() < 0 or (end is not None and values.max() >= end):
        raise ValueError(
            f"{what} of {values.min()} to {values.max()}, needed: 0 "
            + ("or more" if end is None else f"to {end - 1}")
        )
    return values


def _facts(sensor: Sensor, key: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "sensor": dataclasses.asdict(sensor), "key": dict(key)}


def _files(key: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_FILES, _GROUPS) if GROUPED in key else _FILES


def is_complete(path: Path, sensor: Sensor, key: Mapping[str, Any]) -> bool:
    """Whether ``path`` holds the store of ``sensor`` and ``key``, whole and unchanged."""
    if not sensor.n_classes:
        try:
            own: Any = (read_manifest(path) or {})["sensor"]["n_classes"]
        except (KeyError, TypeError):
            return False
        if not isinstance(own, int) or own < 1:
            return False
        sensor = dataclasses.replace(sensor, n_classes=own)
    return is_intact(path, _facts(sensor, key), _files(key))


def cached(
    sensor: Sensor, key: Mapping[str, Any], write: Callable[[StoreWriter], None]
) -> EventStore:
    """The store of ``key``, built by ``write`` unless a complete one is there.

    Args:
        sensor: of the recordings; part of the key.
        key: JSON-able facts that the content depends on: version, source, parameters.
        write: adds all recordings to the writer it is given.

    Raises:
        UsageError: the cache folder cannot be written, or ``write`` refuses its source.
    """

    def complete(path: Path) -> bool:
        return is_complete(path, sensor, key)

    def fill(scratch: Path) -> None:
        with cache_errors(scratch):
            writer = StoreWriter(scratch, sensor)
        try:
            write(writer)
            writer.finish(key)
        finally:
            writer.close()

    facts = _facts(sensor, key)
    return EventStore(cached_folder("events", sensor.name, facts, complete, fill))
