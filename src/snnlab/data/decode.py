"""Decoding of N-MNIST's ``.bin``, vectorised over many recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnlab.data.store import Sensor
from snnlab.errors import UsageError

_OVERFLOW_ROW, _OVERFLOW_US = 240, 1 << 13


def decode_bin(
    blobs: Sequence[bytes], names: Sequence[str], sensor: Sensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode recordings in N-MNIST's format.

    Five bytes an event: x, y, then polarity (1 bit) and time in us (23 bits, big endian). An
    event with y = 240 is none, it adds 8192 us to itself and all later times (the rule of
    Orchard's reader and of ``tonic.io.read_mnist_file``).

    Args:
        blobs: content of each file.
        names: of each file, for messages.
        sensor: that the coordinates must fit.

    Returns:
        Times in us and addresses ``(n_events,)``, and events of each recording ``(n,)``.

    Raises:
        UsageError: a length that is no multiple of 5, or coordinates outside the sensor.
    """
    sizes = np.array([len(b) for b in blobs], np.int64)
    broken = np.flatnonzero(sizes % 5)
    if len(broken):
        k = broken[0]
        raise UsageError(
            f"{names[k]} is truncated: {sizes[k]} bytes are no multiple of 5 bytes an event"
        )
    raw = np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, 5)
    owner = np.repeat(np.arange(len(blobs)), sizes // 5)
    x, y = raw[:, 0].astype(np.int32), raw[:, 1].astype(np.int32)
    p = (raw[:, 2] >> 7).astype(np.int32)
    word = raw[:, 2:].astype(np.int64)
    t = ((word[:, 0] & 127) << 16) | (word[:, 1] << 8) | word[:, 2]
    overflow = y == _OVERFLOW_ROW
    if overflow.any():
        passed = np.concatenate([[0], np.cumsum(overflow)])
        before = passed[np.concatenate([[0], np.cumsum(sizes // 5)])[:-1]]
        t = t + _OVERFLOW_US * (passed[1:] - before[owner])
        x, y, p, t, owner = (column[~overflow] for column in (x, y, p, t, owner))
    outside = np.flatnonzero((x >= sensor.width) | (y >= sensor.height))
    if len(outside):
        k = outside[0]
        raise UsageError(
            f"{names[owner[k]]}: event at x={x[k]}, y={y[k]} lies outside the "
            f"{sensor.width} x {sensor.height} sensor"
        )
    address = (p * sensor.height + y) * sensor.width + x
    return t, address, np.bincount(owner, minlength=len(blobs))
