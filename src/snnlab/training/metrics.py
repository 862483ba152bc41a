"""``metrics.jsonl``: one JSON object for each epoch and split."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricsFile:
    """Rows of a run; every row is on disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows (a line cut off by a crash is dropped)."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def keep_until(self, epoch: int) -> None:
        """Drop the rows of later epochs and of the test set: a resumed run writes them again."""
        kept = [r for r in self.rows() if r["epoch"] <= epoch and r["split"] != "test"]
        write_atomically(self.path, "".join(json.dumps(r) + "\n" for r in kept))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, path)
