"""What checkpoints of earlier versions held otherwise."""

from __future__ import annotations

from typing import Any

#: Formats that can be read. 1: of accuracy alone, before there were scores.
READ = (1, 2)


def migrated(meta: dict[str, Any]) -> dict[str, Any]:
    """``meta.json`` of any format in ``READ``, in the newest."""
    if meta["format"] != 1:
        return meta
    progress, averages = dict(meta["progress"]), meta["averages"]
    best = progress.pop("best_accuracy")
    progress["best_score"] = best if progress["best_epoch"] else None
    if averages is not None:
        averages = dict(averages)
        averages["measures"] = {"accuracy": [averages.pop("correct"), averages["samples"]]}
    return {**meta, "format": READ[-1], "progress": progress, "averages": averages}
