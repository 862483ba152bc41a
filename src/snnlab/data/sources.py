"""The files that a dataset is read from: regular ones only, and known by what is in them.

A dataset's identity is its content. Names, sizes and times of files do not tell two unpacked
archives apart, so the bytes are summed at every start (SHA-256, several files at once). Where the
system has the files in memory, the 70,000 of N-MNIST (1.4 GB) and the check of their store take
4 s on two cores, and large files like SHD's 0.5 s a GB; else it takes what reading them takes.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from snnlab.errors import UsageError, one_line

_THREADS, _BATCH = 8, 256  # a thread takes so many files at once
_SMALL = 1 << 20  # bytes that are read at once
_LONGEST = 80  # characters of a path that is shown as wrong


def expanded(given: str, what: str) -> Path:
    """A path that a user gave, with ``~`` resolved; ``what`` names it in messages.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise UsageError(f"{what} {_shown(given)}: there is no such user") from None


def _shown(given: str) -> str:
    return given if len(given) <= _LONGEST else f"{given[:_LONGEST]}..."


def chosen(data_path: str) -> Path:
    """What ``--data_path`` names; it is there.

    Raises:
        UsageError: no such place, or one that cannot be looked at.
    """
    root = expanded(data_path, "--data_path")
    try:
        os.stat(root)
    except FileNotFoundError:
        raise UsageError(
            f"--data_path {_shown(data_path)}: there is no such folder (recordings are downloaded "
            "only where no --data_path is given)"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--data_path {_shown(data_path)}: {reason(error)}") from None
    return root


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be used, in a few words."""
    why = error.strerror if isinstance(error, OSError) else None
    return one_line(why or str(error) or type(error).__name__)


def mode_of(path: Path) -> os.stat_result:
    """``os.stat`` behind all links.

    Raises:
        UsageError: not there, or a link that leads nowhere.
    """
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:
        what = "is a link that leads nowhere" if path.is_symlink() else "cannot be read"
        raise UsageError(f"{path} {what} ({reason(error)})") from None


def regular(path: Path) -> int:
    """Bytes of a regular file, never of a pipe or a device, which may have no end.

    Raises:
        UsageError: it is none.
    """
    info = mode_of(path)
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{path} is no regular file")
    return info.st_size


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file of at most ``most`` bytes.

    Raises:
        UsageError: it is none, is larger, or cannot be read.
    """
    size = regular(path)
    try:
        with open(path, "rb") as handle:
            content = handle.read(min(size, most) + 1)
            if len(content) > size:  # it grows
                content += handle.read(most + 1 - len(content))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    if len(content) > most:
        raise UsageError(
            f"{path} is too large for a recording: {max(size, len(content))} bytes, at most {most}"
        )
    return content


def hidden(name: str) -> bool:
    """Files that systems put beside one's own: ``.DS_Store``, macOS's ``._*``, ``__MACOSX``."""
    return name.startswith(".") or name == "__MACOSX"


def listing(folder: Path) -> list[Path]:
    """What is in a folder, in order of names, without :func:`hidden` files.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not hidden(name))
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {reason(error)}") from None
    return [folder / name for name in names]


def file_sum(path: Path) -> str:
    """SHA-256 of a regular file.

    Raises:
        UsageError: it cannot be read.
    """
    size = regular(path)
    try:
        with open(path, "rb", buffering=0) as handle:
            if size <= _SMALL:
                return hashlib.sha256(handle.read()).hexdigest()
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None


def content_sum(root: Path, files: Iterable[Path]) -> str:
    """One sum of files: of their content, and of their names below ``root`` (which say labels).

    Raises:
        UsageError: one cannot be read.
    """
    files = list(files)
    batches = [files[i : i + _BATCH] for i in range(0, len(files), _BATCH)]
    whole = hashlib.sha256()
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for batch, sums in zip(batches, pool.map(_sums, batches), strict=True):
            for path, own in zip(batch, sums, strict=True):
                whole.update(os.fsencode(path.relative_to(root)) + b"\0" + own.encode() + b"\n")
    return whole.hexdigest()


def _sums(files: list[Path]) -> list[str]:
    return [file_sum(path) for path in files]
