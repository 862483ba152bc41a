"""Zip archives read in memory: nothing is extracted to disk.

A member is refused if its name could leave a folder (absolute, ``..``, a drive letter), if it
is a symbolic link, or if it is larger than a limit; zipfile itself never yields more bytes
than the declared size and checks the CRC.
"""

from __future__ import annotations

import contextlib
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from snnlab.errors import UsageError, one_line

MEMBER_LIMIT = 8 << 30
TOTAL_LIMIT = 64 << 30


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members passed the checks.

    Raises:
        UsageError: cannot be opened, truncated, a bad CRC while reading, or an unsafe member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive)
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{path} is no readable zip file: {one_line(str(error))}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {one_line(error.strerror or str(error))}") from None


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    total = 0
    for info in archive.infolist():
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in info.filename:
            member = one_line(info.filename)
            raise UsageError(f"{path}: member '{member}' leaves the archive's folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UsageError(f"{path}: member '{info.filename}' is a symbolic link")
        total += info.file_size
        if info.file_size > MEMBER_LIMIT or total > TOTAL_LIMIT:
            raise UsageError(
                f"{path}: member '{info.filename}' unpacks to {info.file_size} bytes "
                f"({total} so far), more than is plausible"
            )
