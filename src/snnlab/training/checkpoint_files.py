"""Checkpoints of a run: whole, summed, and each enough to go on from or to finish with.

A checkpoint is a folder ``<epoch>`` (taken after an epoch and its evaluation) or
``<epoch>-batch-<n>`` (that many epochs, then n batches of the next)::

    state/       orbax: all that training changes, and ``best``, the best epoch's parameters
    meta.json    the rest: config, progress, rows of metrics, position in the data
    SHA256SUMS   of every file, as ``sha256sum -c SHA256SUMS`` reads them

It is written under another name and renamed, so it is there whole or not at all. It is read only
if every sum is right: a file that was damaged, deleted or added makes it no checkpoint, and the
newest sound one before it takes its place.

A writer (:mod:`snnlab.training.checkpoint_writer`) belongs to the process that holds the run's
lock. A reader (:mod:`snnlab.training.checkpoints`) changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from pathlib import Path

from snnlab.errors import one_line

SUMS = "SHA256SUMS"
_NAME = re.compile(r"(\d+)(?:-batch-(\d+))?")
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where in a run a state was taken: epochs done, then batches of the next one."""

    epoch: int
    batch: int = 0

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.epoch}-batch-{self.batch}" if self.batch else str(self.epoch)

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.batch} batches" if self.batch else "")

    @classmethod
    def of(cls, name: str) -> Place | None:
        """The place that a folder is named after; ``None`` for any other folder."""
        found = _NAME.fullmatch(name)
        place = cls(int(found[1]), int(found[2] or 0)) if found and len(name) < 40 else None
        return place if place and place.name == name else None


START = Place(0)


def places(folder: Path) -> list[Place]:
    """The checkpoints of a folder by name, in order; none of them is looked into."""
    try:
        found = [Place.of(entry.name) for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(place for place in found if place)


def files_of(folder: Path) -> list[Path]:
    """All but the file of sums, in order."""
    return sorted(p for p in folder.rglob("*") if not p.is_dir() and p != folder / SUMS)


def sum_of(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as source:
        while block := source.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; empty if every file is as it was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines(keepends=True)
        wanted = {}
        for line in lines:
            found = re.fullmatch(r"([0-9a-f]{64})  ([^\n]+)\n", line)
            if not found:
                return f"{SUMS} is damaged"
            wanted[found[2]] = found[1]
        if "meta.json" not in wanted or len(wanted) < 2:
            return f"{SUMS} is damaged"
        there = {p.relative_to(folder).as_posix(): p for p in files_of(folder)}
        for name in sorted({*wanted, *there}):
            if name not in there:
                return f"{name} is missing"
            if name not in wanted:
                return f"{name} does not belong to it"
            if not there[name].is_file() or sum_of(there[name]) != wanted[name]:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return one_line(str(error))
    return ""


def sync(path: Path) -> None:
    """Make what was written last a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
