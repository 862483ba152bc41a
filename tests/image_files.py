"""scikit-learn's digits in the published layouts of MNIST and CIFAR-10."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` digits of 28 x 28 ``uint8``: each pixel a block of 3 x 3, two dark ones around."""
    images, labels = load_digits(return_X_y=True)
    small = (images[:n].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return np.pad(small.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2))), labels[:n]


def write_idx(folder: Path, n_train: int, n_test: int, packed: bool = False) -> Path:
    """MNIST's four files."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits(n_train + n_test)
    for split, part in (("train", slice(n_train)), ("t10k", slice(n_train, None))):
        for what, rank, array in (("images", 3, images[part]), ("labels", 1, labels[part])):
            head = bytes([0, 0, 8, rank]) + struct.pack(f">{rank}I", *array.shape)
            raw = head + array.astype(np.uint8).tobytes()
            path = folder / f"{split}-{what}-idx{rank}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(raw))
            else:
                path.write_bytes(raw)
    return folder


def write_cifar(folder: Path, n: int) -> Path:
    """CIFAR-10's six binary files of ``n`` images each; a class is a place of a bright square."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(6):
        labels = np.arange(n) % 10
        images = rng.integers(10, 50, (n, 3, 32, 32))
        for image, label in zip(images, labels):
            x, y = label % 5 * 6, label // 5 * 16
            image[:, y + 2 : y + 14, x : x + 6] += 180
        rows = np.concatenate([labels[:, None], images.reshape(n, -1)], 1).astype(np.uint8)
        name = "test_batch.bin" if k == 5 else f"data_batch_{k + 1}.bin"
        (folder / name).write_bytes(rows.tobytes())
    return folder
