"""NIR files: HDF5, read as what somebody else may have written.

Before anything is made of a file it is walked through: groups and arrays of numbers and texts
alone, by hard links, no deeper and no larger than a network needs. Links, external and virtual
data, references and objects are refused; nothing in a file is ever run.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab.devices import require_memory
from snnlab.errors import UsageError, shown
from snnlab.exchange.packages import require_nir

if TYPE_CHECKING:
    import nir

#: Depth of groups, their members in all, and bytes of one text.
DEEPEST, MOST, LONGEST_TEXT = 12, 20_000, 1_000_000


def write(path: str | Path, graph: nir.NIRGraph) -> Path:
    """Write a graph, whole or not at all.

    Args:
        path: file; one that is there is replaced.
        graph: of the package ``nir``.

    Raises:
        UsageError: it cannot be written.
    """
    package, path = require_nir(), Path(path).expanduser()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        scratch.touch()  # the system's own words, where a file cannot be made
        package.write(scratch, graph)
        scratch.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {shown(path, 200)}: {shown(_reason(error))}") from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return path


def read(path: str | Path) -> nir.NIRGraph:
    """The graph of a file.

    Raises:
        UsageError: it cannot be read, is no NIR file, holds what a network does not need, or does
            not fit together; or the package ``nir`` is missing.
    """
    import h5py

    package, path = require_nir(), Path(path).expanduser()
    name = f"NIR file {shown(path, 200)}"
    if not path.is_file():
        what = "it is no plain file" if path.exists() else "there is no such file"
        raise UsageError(f"cannot read {name}: {what}")
    try:
        if not h5py.is_hdf5(path):
            path.open("rb").close()  # the reason, where it cannot be read at all
            raise UsageError(f"{name}: it is no HDF5 file, which NIR files are")
        with h5py.File(path, "r", locking=False) as file:
            if not isinstance(file.get("node"), h5py.Group) or "version" not in file:
                raise UsageError(f"{name}: it holds no graph of NIR")
            _Walk(name).through(file, 0)
        graph = package.read(path)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {name}: {shown(_reason(error), 150)}") from None
    except Exception as error:  # whatever nir makes of a graph that does not fit together
        reason = shown(str(error) or type(error).__name__, 200)
        raise UsageError(f"{name}: its graph does not fit together ({reason})") from error
    if not isinstance(graph, package.NIRGraph):
        raise UsageError(f"{name}: it holds a single {type(graph).__name__}, and no graph")
    return graph


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


class _Walk:
    """What a file may hold.

    Raises:
        UsageError: it holds something else.
    """

    def __init__(self, name: str) -> None:
        self.name, self.members, self.bytes = name, 0, 0

    def refuse(self, where: str, what: str) -> UsageError:
        return UsageError(f"{self.name}: '{shown(where)}' is {what}")

    def through(self, group: Any, depth: int) -> None:
        import h5py

        if depth > DEEPEST:
            raise self.refuse(group.name, f"deeper than {DEEPEST} groups")
        for key in group:
            self.members += 1
            where = f"{group.name.rstrip('/')}/{key}"
            if self.members > MOST:
                raise UsageError(f"{self.name}: more than {MOST:,} members")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise self.refuse(where, "a link to elsewhere")
            member = group[key]
            if isinstance(member, h5py.Group):
                self.through(member, depth + 1)
            elif isinstance(member, h5py.Dataset):
                self.array(where, member)
            else:
                raise self.refuse(where, "no array")

    def array(self, where: str, data: Any) -> None:
        import h5py

        if data.is_virtual or data.external:
            raise self.refuse(where, "kept in another file")
        if data.shape is None:
            raise self.refuse(where, "empty")
        text = h5py.check_string_dtype(data.dtype)
        if text is None and data.dtype.kind not in "fiub":
            raise self.refuse(where, f"of a type that is no number or text ({data.dtype})")
        self.bytes += data.nbytes
        require_memory(2.0 * self.bytes, f"what {self.name} holds")
        words = where.rpartition("/")[2] in ("type", "version", "edges") or "/metadata/" in where
        if text is not None and not words:
            raise self.refuse(where, "a text, and no number")
        if text is not None and (data.size > MOST or data.nbytes > 16 * LONGEST_TEXT):
            raise self.refuse(where, "too long a text")
