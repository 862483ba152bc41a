"""Writing SHD's layout (Cramer et al. 2020): what tonic, snnlab and everybody's h5py loop read.

``spikes/times``   n x variable length float16, s
``spikes/units``   n x variable length uint16, channel
``labels``         n uint16
``extra/keys``     class names, bytes
``extra/speaker``  n uint16
``extra/meta_info/name``  names of the speakers, bytes (SHD has gender, age, height there)
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from snnlab.data.sources import regular
from snnlab.errors import UsageError, one_line


class Item(NamedTuple):
    """One recording: spikes ``(n_spikes,)`` in s and channels, for ``place`` of the file."""

    place: int
    times_s: np.ndarray
    units: np.ndarray


def check_output(path: Path) -> None:
    """Refuse a place that cannot be written, before the work.

    Raises:
        UsageError: a folder, a file that is no HDF5, or no folder to hold it.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; expected the name of the .h5 file to write")
    try:
        there = path.exists()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {one_line(error.strerror or str(error))}") from None
    if there:
        regular(path)
    if there and not h5py.is_hdf5(path):
        raise UsageError(f"{path} exists and is no HDF5 file; it is not overwritten")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission in {path.parent}")


def write_shd(
    path: Path,
    items: Iterable[Item],
    labels: Sequence[int],
    speakers: Sequence[int],
    keys: Sequence[str],
    names: Sequence[str],
) -> None:
    """Write a file whole or not at all: into a temporary neighbour that is renamed at the end.

    Args:
        path: of the file; replaced if it is an HDF5 file.
        items: every recording once, in any order; consumed as they are written.
        labels, speakers: ``(n,)`` each, indices into ``keys`` and ``names``.
        keys: class names.
        names: of the speakers.

    Raises:
        UsageError: it cannot be written.
    """
    check_output(path)
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    n = len(labels)
    try:
        with h5py.File(scratch, "w") as file:
            times = file.create_dataset("spikes/times", (n,), h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (n,), h5py.vlen_dtype(np.uint16))
            file["labels"] = np.asarray(labels, np.uint16)
            file["extra/keys"] = _bytes(keys)
            file["extra/speaker"] = np.asarray(speakers, np.uint16)
            file["extra/meta_info/name"] = _bytes(names)
            for item in items:
                times[item.place] = item.times_s.astype(np.float16)
                units[item.place] = item.units.astype(np.uint16)
        os.replace(scratch, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {one_line(str(error))}") from None
    finally:
        scratch.unlink(missing_ok=True)


def _bytes(names: Sequence[str]) -> np.ndarray:
    return np.array([name.encode() for name in names], dtype="S")
