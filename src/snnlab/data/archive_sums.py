"""What the files of an archive sum to, as if it were unpacked.

A dataset is known by the content of its files (:mod:`.sources`), packed or not. Summing what is
packed takes a pass through the archive, once: the cache then knows it by the archive's own sum.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from snnlab.data.cache import cached_folder
from snnlab.data.manifest import is_intact, write_manifest
from snnlab.data.sources import file_sum

_FILE = "sum.txt"


def unpacked_sum(
    path: Path, part: str, members: Callable[[], Iterable[tuple[str, Iterable[bytes]]]]
) -> str:
    """:func:`~snnlab.data.sources.content_sum` of files that are packed.

    Args:
        path: the archive.
        part: of it, such as ``Train``.
        members: gives name and content of each file, in the order of an unpacked folder.

    Raises:
        UsageError: the archive cannot be read, or the cache folder not be written.
    """
    facts = {"version": 1, "archive": file_sum(path), "part": part}

    def complete(folder: Path) -> bool:
        return is_intact(folder, facts, (_FILE,))

    def fill(folder: Path) -> None:
        whole = hashlib.sha256()
        for name, blocks in members():
            own = hashlib.sha256()
            for block in blocks:
                own.update(block)
            whole.update(os.fsencode(name) + b"\0" + own.hexdigest().encode() + b"\n")
        (folder / _FILE).write_text(whole.hexdigest(), encoding="ascii")
        write_manifest(folder, facts, (_FILE,))

    return (cached_folder("archives", path.stem, facts, complete, fill) / _FILE).read_text("ascii")
