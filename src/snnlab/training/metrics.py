"""``metrics.jsonl``: one JSON object for each epoch and split."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """``value`` for JSON, which has no NaN and no infinity: they become ``null``."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsFile:
    """Rows of a run; every row is on disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(_line(row))
            out.flush()
            os.fsync(out.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """All rows of an epoch; anything else, such as a line cut off by a crash, is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and {"epoch", "split"} <= row.keys():
                rows.append(row)
        return rows

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the file: a resumed run begins with the rows that its checkpoint holds."""
        write_atomically(self.path, "".join(map(_line, rows)))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(finite(row), allow_nan=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, path)
