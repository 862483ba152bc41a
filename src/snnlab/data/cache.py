"""The cache folder, and folders in it that are whole or not there."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from snnlab import interrupts
from snnlab.data.manifest import digest
from snnlab.data.sources import expanded
from snnlab.errors import UsageError, one_line


def cache_root() -> Path:
    """``$SNNLAB_CACHE``, or the user's cache folder of ``snnlab``."""
    named = os.environ.get("SNNLAB_CACHE", "")
    return expanded(named, "SNNLAB_CACHE") if named else Path(platformdirs.user_cache_dir("snnlab"))


@contextlib.contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Make one line for the user of an ``OSError`` while ``folder`` of the cache is written."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write the cache folder {folder.parent} "
            f"({one_line(error.strerror or str(error))}); "
            "set SNNLAB_CACHE to a folder that can be written"
        ) from None


def cached_folder(
    kind: str,
    name: str,
    facts: Mapping[str, Any],
    complete: Callable[[Path], bool],
    fill: Callable[[Path], None],
) -> Path:
    """The folder ``<kind>/<name>-<digest of facts>`` of the cache, whole or not at all.

    Args:
        kind: folder of the cache.
        name: readable start of the folder's own name.
        facts: JSON-able; all that the content depends on.
        complete: whether a folder can be used as it is.
        fill: writes the content into the folder it is given, unless a complete one is there.

    Raises:
        UsageError: the cache folder cannot be written; ``fill`` may raise more.
    """
    final = cache_root() / kind / f"{name}-{digest(facts)[:16]}"
    if complete(final):
        return final
    scratch = final.with_name(f".{final.name}-{uuid.uuid4().hex[:8]}")
    with cache_errors(final):
        scratch.mkdir(parents=True)
    remove = functools.partial(shutil.rmtree, scratch, ignore_errors=True)
    try:
        with interrupts.leaving(undo=remove):
            fill(scratch)
            _publish(scratch, final, complete)
    finally:
        remove()
    return final


def _publish(scratch: Path, final: Path, complete: Callable[[Path], bool]) -> None:
    """Move a finished folder to its place in one step, over a broken one if need be."""
    with cache_errors(scratch):
        try:
            os.rename(scratch, final)
        except OSError:
            if complete(final):  # another process was faster
                return
            broken = scratch.with_name(f"{scratch.name}-broken")
            os.rename(final, broken)
            os.rename(scratch, final)
            if broken.is_dir() and not broken.is_symlink():
                shutil.rmtree(broken, ignore_errors=True)
            else:
                broken.unlink(missing_ok=True)
