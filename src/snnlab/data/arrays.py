"""Recordings of one's own from numpy arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from snnlab.data.store import TEST, TRAIN, EventStore, Sensor, StoreWriter, cached
from snnlab.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def pack(
    name: str,
    x: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    *,
    bin_ms: float = 1.0,
    class_names: Sequence[str] = (),
) -> EventStore:
    """Spike trains as a dataset: packed into the cache once, and known by their content.

    ``snnlab.train("image-classification", recordings=pack(...), data_length=T)`` trains on them.

    Args:
        name: of the dataset, for folders and figures.
        x: ``Int[ndarray, "N T n_in"]`` or ``Bool``: spikes of N recordings in each of T bins.
        labels: ``Int[ndarray, "N"]``, classes from 0 on.
        test: ``Bool[ndarray, "N"]``: the recordings of the test set; the others are for training
            and validation.
        bin_ms: length of a bin.
        class_names: where there are names.

    Raises:
        UsageError: shapes or types that do not fit, or no recording of one kind.
    """
    spikes, classes, held = np.asarray(x), np.asarray(labels), np.asarray(test)
    n = len(spikes)
    if spikes.ndim != 3 or not spikes.size or classes.shape != (n,) or held.shape != (n,):
        raise UsageError(
            f"x, labels and test have shapes {spikes.shape}, {classes.shape}, {held.shape}; "
            "needed: (N, T, n_in), (N,), (N,)"
        )
    if spikes.dtype.kind not in "biu" or classes.dtype.kind not in "iu" or held.dtype.kind != "b":
        raise UsageError(
            f"x, labels and test are {spikes.dtype}, {classes.dtype}, {held.dtype}; needed: whole "
            "numbers or bool, whole numbers, bool"
        )
    if spikes.min() < 0 or classes.min() < 0:
        raise UsageError("x and labels must not be below 0")
    if held.all() or not held.any():
        raise UsageError("test must hold some of the recordings, and not all")
    bin_us = round(1000 * bin_ms)
    if bin_us < 1:
        raise UsageError(f"bin_ms {bin_ms:g}: must be at least 0.001")
    n_classes = max(int(classes.max()) + 1, len(class_names))
    sensor = Sensor(name, 1, spikes.shape[2], 1, n_classes, window_us=spikes.shape[1] * bin_us)
    content = hashlib.sha256()
    for part in (spikes, classes, held):
        content.update(f"{part.shape} {part.dtype}".encode())
        content.update(np.ascontiguousarray(part).tobytes())

    def write(writer: StoreWriter) -> None:
        writer.classes(n_classes, class_names)
        for chosen, split in ((~held, TRAIN), (held, TEST)):
            part = spikes[chosen].astype(np.int64)
            owner, step, line = np.nonzero(part)
            times = np.repeat(step * bin_us + bin_us // 2, part[owner, step, line])
            lines = np.repeat(line, part[owner, step, line])
            writer.add(times, lines, part.sum((1, 2)), classes[chosen], split)

    return cached(sensor, {"content": content.hexdigest(), "classes": list(class_names)}, write)
