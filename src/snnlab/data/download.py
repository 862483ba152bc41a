"""Downloading datasets through tonic and torchvision, which check the MD5 sum."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from snnlab.errors import UsageError, missing, one_line

#: Dataset -> its class in tonic or torchvision, and the folder that this one makes.
_TONIC = {"nmnist": "NMNIST", "shd": "SHD", "ssc": "SSC", "gesture": "DVSGesture"}
_VISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
#: CIFAR-10 without pickles, which torchvision's class would unpack: its address and MD5 sum.
_BINARY = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
)  # fmt: skip
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
        root: gets a subfolder with the package's name of the dataset.
        splits: ``Train``, ``Test`` and so on.
        expected: the files that would do, for messages.

    Raises:
        UsageError: it cannot be downloaded, or not be written.
    """
    package = "tonic.datasets" if name in _TONIC else "torchvision.datasets"
    kind = _TONIC.get(name) or _VISION[name]
    target = root / kind
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
    if needed := missing(*(("tonic", "data") if name in _TONIC else ("torchvision", "vision"))):
        raise UsageError(f"no {name} data in {root}; to download it needs {needed}, or {advice}")
    say(f"no {name} data in {root}; downloading it through {package.partition('.')[0]}")
    try:
        with _no_hang(60), _whole_or_nothing(target):
            (_by_tonic if name in _TONIC else _by_torchvision)(name, root, splits)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(
            f"no {name} data in {root}, and {package}.{kind} could not "
            f"download it ({one_line(str(error)) or type(error).__name__}); {advice}; {STAND_IN}"
        ) from None


def _by_tonic(name: str, root: Path, splits: list[str]) -> None:
    import tonic.datasets

    source: Callable[..., object] = getattr(tonic.datasets, _TONIC[name])
    for split in splits:
        part = {"split": split.lower()} if name == "ssc" else {"train": split == "Train"}
        source(save_to=str(root), **part)


def _by_torchvision(name: str, root: Path, splits: list[str]) -> None:
    import torchvision.datasets
    from torchvision.datasets.utils import download_url

    if name == "cifar10":
        url, md5 = _BINARY
        download_url(url, str(root / _VISION[name]), md5=md5)
        return
    source: Callable[..., object] = getattr(torchvision.datasets, _VISION[name])
    for split in splits:
        source(str(root), train=split == "Train", download=True)
