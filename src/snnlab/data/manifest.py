"""The manifest of a folder of the cache: what it holds, and the sums of its files.

``manifest.json`` has the facts that the folder was asked for, the SHA-256 of each file, and one of
itself. A folder is used only if all of it agrees; else it is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.data.sources import file_sum, read_bytes
from snnlab.errors import UsageError

NAME = "manifest.json"
_MOST = 1 << 20  # bytes; ours have a few thousand


def canonical(facts: Any) -> str:
    """JSON text that is equal for equal facts, and tells 1, 1.0 and true apart."""
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def digest(facts: Any) -> str:
    """SHA-256 of facts."""
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> None:
    """Write down what ``folder`` holds; it is complete after this."""
    manifest = {**facts, "sums": {name: file_sum(folder / name) for name in files}}
    text = json.dumps({**manifest, "sum": digest(manifest)}, indent=1, sort_keys=True)
    (folder / NAME).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest as it was written, or ``None``: none is there, or it is damaged."""
    try:
        manifest = json.loads(read_bytes(folder / NAME, _MOST))
        if not isinstance(manifest, dict):
            return None
        own = manifest.pop("sum", None)
        return manifest if own == digest(manifest) else None
    except (UsageError, ValueError, RecursionError):
        return None


def is_intact(folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> bool:
    """Whether ``folder`` was written to its end for these facts, and nothing of it has changed."""
    manifest = read_manifest(folder)
    if manifest is None or any(
        name not in manifest or canonical(manifest[name]) != canonical(fact)
        for name, fact in facts.items()
    ):
        return False
    try:
        return bool(manifest.get("sums") == {name: file_sum(folder / name) for name in files})
    except UsageError:
        return False
