"""Files in SHD's layout: read by a process of its own (:mod:`.shd_child`), checked here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from snnlab import interrupts
from snnlab.data import archives
from snnlab.data.cache import cache_errors, cache_root
from snnlab.data.sources import regular
from snnlab.data.store import Sensor
from snnlab.data.units import FRACTIONS, UNITS_US, WHOLE
from snnlab.errors import UsageError, nearest, one_line

_LATEST_S = 1e9  # later times are as late, and would not fit into us


class Part(NamedTuple):
    """Some recordings: times in us and units ``(n_events,)``, events and labels ``(n,)``."""

    times_us: np.ndarray
    units: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


def _member(archive: archives.Archive, name: str) -> zipfile.ZipInfo:
    """The one ``.h5`` of an archive; of several the one with this name.

    Raises:
        UsageError: there is none.
    """
    inside = [m for m in archive.members if m.filename.lower().endswith(".h5")]
    named = [m for m in inside if len(inside) == 1 or m.filename.rpartition("/")[2] == name]
    if len(named) != 1:
        raise UsageError(f"{archive.path} holds {len(inside)} .h5 files instead of one")
    return named[0]


def packed_h5(path: Path, name: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The name that a packed file has among unpacked ones, and its content.

    Raises:
        UsageError: see :func:`unpacked`.
    """
    with archives.opened(path) as archive:
        yield name, archive.blocks(_member(archive, name))


@contextlib.contextmanager
def unpacked(path: Path, name: str = "") -> Iterator[Path]:
    """A file as it is, or the ``.h5`` of a zip archive, in the cache folder meanwhile.

    Args:
        path: ``.h5``, or ``.zip``.
        name: of the file that is meant where an archive holds several.

    Raises:
        UsageError: an archive that cannot be read, or a cache folder that cannot be written.
    """
    if path.suffix.lower() != ".zip":
        regular(path)
        yield path
        return
    root = cache_root()
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(archives.opened(path))
        member = _member(archive, name)
        with cache_errors(root / "unpacked"):
            root.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(prefix=".unpacked-", dir=root)
            stack.enter_context(interrupts.leaving(undo=made.cleanup))
            target = Path(stack.enter_context(made)) / "file.h5"
            with open(target, "wb") as sink:
                for block in archive.blocks(member):
                    sink.write(block)
        yield target


class ShdFile:
    """An open file in SHD's layout.

    Attributes:
        keys: class names, where it has them.
        unit: of its times, once :meth:`parts` has given some, and how that is known.
    """

    unit = "s (the layout's)"

    def __init__(self, path: Path, stream: IO[bytes], process: subprocess.Popen[bytes] | None,
                 said: IO[bytes] | None) -> None:  # fmt: skip
        self.path, self._stream, self._process, self._said = path, stream, process, said
        keys = self._head()["keys"]
        self.keys: tuple[str, ...] | None = None if keys is None else tuple(keys)

    def _head(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        head: dict[str, Any] = json.loads(line)
        if "refused" in head:
            raise UsageError(head["refused"])
        return head

    def _ended(self) -> Exception:
        """What it means that the process has said no more."""
        code = self._process.wait() if self._process else 0
        if code == -getattr(signal, "SIGPROF", 0):
            return UsageError(f"{self.path} is damaged: a part of it cannot be read to its end")
        if code < 0:
            return UsageError(f"{self.path} is damaged: the HDF5 library failed (signal {-code})")
        text = ""
        if self._said:
            self._said.seek(0)
            text = self._said.read().decode(errors="replace")
        return RuntimeError(f"reading {self.path} failed (exit code {code}):\n{text}")

    def parts(self, sensor: Sensor, n_classes: int, time_unit: str = "s") -> Iterator[Part]:
        """Its recordings. Times become whole us, cut off as in tonic.

        Args:
            sensor: its width bounds the units.
            n_classes: bounds the labels.
            time_unit: one of ``UNITS_US``, or ``"auto"``: us where they are whole numbers.

        Raises:
            UsageError: damaged, or labels, times or units that are none.
        """
        first = 0
        while "end" not in (head := self._head()):
            labels, lengths, times, units = (self._array(*a) for a in head["arrays"])
            own = np.arange(first, first + len(labels))
            owner = np.repeat(own, lengths)
            label = self._whole("label", labels, own, n_classes)
            unit = self._whole("unit", units, owner, sensor.width)
            with np.errstate(invalid="ignore"):  # a signalling NaN is refused below
                seconds = times.astype(np.float64)
            wrong = np.flatnonzero(~(np.isfinite(seconds) & (seconds >= 0)))
            if len(wrong):
                k = wrong[0]
                raise UsageError(
                    f"{self.path}: time {seconds[k]} s of recording {owner[k]} is no time"
                )
            if time_unit == "auto":
                whole = times.dtype.kind in "iu"
                time_unit = WHOLE if whole else FRACTIONS
                self.unit = f"{time_unit} ({'whole numbers' if whole else 'fractions'})"
            elif first == 0 and time_unit != "s":
                self.unit = f"{time_unit} (--time_unit)"
            factor = UNITS_US[time_unit]
            us = (np.minimum(seconds, _LATEST_S * 1e6 / factor) * factor).astype(np.int64)
            yield Part(us, unit, lengths, label)
            first += len(labels)

    def _array(self, dtype: str, count: int) -> np.ndarray:
        kind = np.dtype(dtype)
        content = self._stream.read(count * kind.itemsize)
        if len(content) < count * kind.itemsize:
            raise self._ended()
        return np.frombuffer(content, kind)

    def _whole(self, what: str, values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
        """``values`` as int64 in ``[0, n)``, nothing cut off."""
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~((values >= 0) & (values < n)))
        if len(wrong):
            k = wrong[0]
            raise UsageError(
                f"{self.path}: {what} {values[k]} of recording {owner[k]} is not one of 0..{n - 1}"
            )
        whole = values.astype(np.int64)
        wrong = np.flatnonzero(whole != values)
        if len(wrong):
            k = wrong[0]
            raise UsageError(
                f"{self.path}: {what} {values[k]} of recording {owner[k]} is no whole number"
            )
        return whole


@contextlib.contextmanager
def opened_shd(path: Path, name: str = "") -> Iterator[ShdFile]:
    """A file in SHD's layout, ``.h5`` or ``.h5.zip``; ``name`` as of :func:`unpacked`.

    Raises:
        UsageError: it is missing, damaged, or laid out in another way.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(unpacked(path, name))
        said = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "snnlab.data.shd_child", os.path.abspath(file), str(path)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            start_new_session=True,  # Ctrl-C is for the program, which ends this one below
            env={
                **os.environ, "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
            },
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield ShdFile(path, process.stdout, process, said)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def class_map(
    path: Path, own: Sequence[str] | None, train: Sequence[str] | None
) -> np.ndarray | None:
    """What a file's labels are among the classes of the training file, ``(n_own,)`` by name.

    Args:
        path: for messages.
        own, train: class names of the file and of the training file.

    Returns:
        ``None``: labels are what they are.

    Raises:
        UsageError: a class that the training file has not.
    """
    if own is None or train is None or tuple(own) == tuple(train):
        return None
    places = {name: label for label, name in enumerate(train)}
    for name in own:
        if name not in places:
            known = one_line(", ".join(list(train)[:20]))[:200]
            raise UsageError(
                f"{path}: class '{name[:40]}' of extra/keys is none of the training file's: "
                f"{known}{nearest(name, train)}"
            )
    return np.array([places[name] for name in own], np.int64)
