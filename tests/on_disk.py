"""Small recordings in the layouts of the real datasets, sound or with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np


def event(x: int = 5, y: int = 5, p: int = 1, t: int = 1000) -> bytes:
    """An event of N-MNIST's format."""
    return bytes([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255])


def nmnist(root: Path, digits: Sequence[int] = (0, 1), n: int = 3, content: bytes = b"") -> Path:
    """``n`` recordings of each digit and split below ``root``."""
    for split in ("Train", "Test"):
        for digit in digits:
            folder = root / split / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(n):
                own = content or event(digit, k, t=1000 + k) * 20
                (folder / f"{k:05}.bin").write_bytes(own)
    return root


def shd(
    path: Path,
    edit: Callable[[h5py.File], object] | None = None,
    keys: Sequence[str] | None = ("a", "b", "c"),
    scale: float = 1.0,
    n: int = 12,
) -> Path:
    """A file in SHD's layout; recordings of label k are 40 spikes in the k-th third of the units.

    Args:
        path: of the file.
        edit: changes it before it is closed.
        keys: class names.
        scale: times are in s times this.
        n: recordings; labels are 0, 1, 2, 0 and so on.
    """
    rng = np.random.default_rng(7)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (n,), h5py.vlen_dtype("f4"))
        units = file.create_dataset("spikes/units", (n,), h5py.vlen_dtype("u2"))
        for i in range(n):
            times[i] = np.sort(rng.random(40) * 0.8 * scale).astype("f4")
            units[i] = (i % 3 * 230 + rng.integers(0, 220, 40)).astype("u2")
        file["labels"] = np.arange(n, dtype="u2") % 3
        if keys is not None:
            file["extra/keys"] = np.array([key.encode() for key in keys])
        if edit:
            edit(file)
    return path


def shd_pair(root: Path, edit: Callable[[h5py.File], object] | None = None, **both) -> Path:
    """``shd_train.h5``, edited, and a sound ``shd_test.h5``."""
    shd(root / "shd_train.h5", edit, **both)
    shd(root / "shd_test.h5", **both)
    return root
