"""Zip archives, read as a stream: no member is ever in memory as a whole unless it is small.

An archive is refused if the name of a member could leave a folder (absolute, ``..``, a drive
letter), if a member is a symbolic link, and if what it unpacks to is implausible: more than
``RATIO`` times its size (above a few MiB), or larger than a limit. zipfile itself never yields more
bytes than a member declares, and checks the CRC.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from snnlab.data.sources import hidden, reason, regular
from snnlab.errors import UsageError, one_line

MEMBER_LIMIT = 8 << 30
TOTAL_LIMIT = 64 << 30
RATIO, SMALL = 200, 4 << 20
DIRECTORY_LIMIT = 16 << 20  # zipfile takes some ten times as much memory; N-MNIST has 6 MB
_BLOCK = 1 << 20
_END64 = 56 + 20  # bytes of the two records of large archives that stand before the last one
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for GiB to unpack
#: What zipfile raises on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip


class Archive:
    """An archive whose members passed the checks.

    Attributes:
        members: its files in order of their names, without folders and hidden files.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file
        self.members = _checked(path, file.infolist())

    def check_name(self, member: zipfile.ZipInfo) -> None:
        """Refuse a member whose name in the directory is not that at its place.

        Raises:
            UsageError: so it is, or the member is not there.
        """
        with _readable(self.path), self._file.open(member):
            pass

    def blocks(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """The content of a member, piece by piece.

        Raises:
            UsageError: it is damaged.
        """
        with _readable(self.path), self._file.open(member) as stream:
            while block := stream.read(_BLOCK):
                yield block

    def read(self, member: zipfile.ZipInfo, most: int) -> bytes:
        """The content of a member of at most ``most`` bytes.

        Raises:
            UsageError: it is damaged, or larger.
        """
        if member.file_size > most:
            raise UsageError(
                f"{self.path}: member '{member.filename}' is too large for a recording: "
                f"{member.file_size} bytes, at most {most}"
            )
        return b"".join(self.blocks(member))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """A zip archive.

    Raises:
        UsageError: it cannot be opened, is truncated, or has an unsafe member.
    """
    regular(path)
    with contextlib.ExitStack() as stack:
        with _readable(path):
            _check_directory(path)
            file = stack.enter_context(zipfile.ZipFile(path))
        yield Archive(path, file)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """One line of what zipfile says while it reads ``path``."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    except _DAMAGE as error:
        raise UsageError(f"{path} is no readable zip file: {one_line(str(error))[:200]}") from None


def _check_directory(path: Path) -> None:
    """Refuse an archive whose directory would fill the memory: zipfile reads it as a whole."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - 22 - _END64))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        return  # zipfile says what is wrong
    claimed = struct.unpack_from("<I", tail, end + 12)[0]
    if end >= _END64 and tail.startswith(b"PK\6\6", end - _END64):
        claimed = struct.unpack_from("<Q", tail, end - _END64 + 40)[0]
    if claimed > DIRECTORY_LIMIT:
        raise UsageError(f"{path} has a directory of {claimed} bytes, more than is plausible")


def _checked(path: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    total, seen, size = 0, set(), path.stat().st_size
    for info in members:
        name, member = PurePosixPath(info.filename.replace("\\", "/")), one_line(info.filename)
        if name.is_absolute() or ".." in name.parts or ":" in info.filename:
            raise UsageError(f"{path}: member '{member}' leaves the archive's folder")
        if not info.filename:
            raise UsageError(f"{path} is no readable zip file: a member has no name")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UsageError(f"{path}: member '{member}' is a symbolic link")
        if name in seen:
            raise UsageError(f"{path} holds two members '{member}'")
        seen.add(name)
        if info.compress_type not in _METHODS:
            raise UsageError(
                f"{path}: member '{member}' is packed by method {info.compress_type}; "
                "expected deflate, or stored"
            )
        if info.compress_size > size:
            raise UsageError(f"{path} is no readable zip file: '{member}' is larger than it")
        total += info.file_size
        if (
            info.file_size > min(MEMBER_LIMIT, max(SMALL, RATIO * info.compress_size))
            or total > min(TOTAL_LIMIT, max(SMALL, RATIO * size))
        ):  # fmt: skip
            raise UsageError(
                f"{path}: member '{member}' unpacks from {info.compress_size} to "
                f"{info.file_size} bytes ({total} so far), more than is plausible"
            )
    kept = [
        info for info in members
        if not info.filename.endswith("/") and not any(map(hidden, info.filename.split("/")))
    ]  # fmt: skip
    return sorted(kept, key=lambda info: info.filename)
