"""A few recordings in N-MNIST's layout: two digits, two events each, at 50 and 200 of 310 ms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TIMES_US = np.array([50_000, 200_000])


def write_nmnist(root: Path) -> Path:
    """4 + 2 recordings of each of the digits 0 and 1."""
    for split, n in (("Train", 4), ("Test", 2)):
        for digit in (0, 1):
            (root / split / str(digit)).mkdir(parents=True)
            for k in range(n):
                x, y, t = np.full(2, 3 + 20 * digit), np.full(2, k), TIMES_US
                event = np.stack([x, y, 128 + (t >> 16), t >> 8 & 255, t & 255], 1)
                path = root / split / str(digit) / f"{k}.bin"
                path.write_bytes(event.astype(np.uint8).tobytes())
    return root
