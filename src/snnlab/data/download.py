"""Downloading datasets through tonic, which shows progress and checks the MD5 sum."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from snnlab.errors import UsageError, missing, one_line

#: Dataset -> its class in tonic, and the folder that this one makes.
_TONIC = {"nmnist": "NMNIST", "shd": "SHD", "ssc": "SSC", "gesture": "DVSGesture"}
STAND_IN = "--dataset event-digits needs no files"


def say(message: str) -> None:
    """A line about slow work, on standard error."""
    print(f"snnlab: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _no_hang(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[None]:
    """Remove what an interrupted download left, since half a zip would look like data."""
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        for new in set(folder.iterdir()) - before:
            shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def download(name: str, root: Path, splits: list[str], expected: str) -> None:
    """Fetch a dataset into ``root``, a folder of the cache.

    Args:
        name: dataset.
        root: gets a subfolder with tonic's name of the dataset.
        splits: ``Train``, ``Test`` and so on.
        expected: the files that would do, for messages.

    Raises:
        UsageError: it cannot be downloaded, or not be written.
    """
    target = root / _TONIC[name]
    advice = f"put {expected} into {target}, or give their folder by --data_path"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"no {name} data in {root}, and it cannot be written ({error.strerror}); {advice}; "
            f"{STAND_IN}"
        ) from None
    if not os.access(target, os.W_OK):
        raise UsageError(
            f"no {name} data in {root}, and it cannot be written; {advice}; {STAND_IN}"
        )
    if package := missing("tonic", "data"):
        raise UsageError(f"no {name} data in {root}; to download it needs {package}, or {advice}")
    import tonic.datasets

    source: Callable[..., object] = getattr(tonic.datasets, _TONIC[name])
    say(f"no {name} data in {root}; downloading it through tonic")
    try:
        with _no_hang(60), _whole_or_nothing(target):
            for split in splits:
                part = {"split": split.lower()} if name == "ssc" else {"train": split == "Train"}
                source(save_to=str(root), **part)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(
            f"no {name} data in {root}, and tonic.datasets.{_TONIC[name]} could not "
            f"download it ({one_line(str(error)) or type(error).__name__}); {advice}; {STAND_IN}"
        ) from None
