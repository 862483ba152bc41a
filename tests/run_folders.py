"""Run folders written by hand: no network is trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from snnlab import config as configs
from snnlab.problems.tasks import TASKS
from snnlab.training.migration import READ


def config_of(task: str = "image-classification", **options: Any) -> Any:
    about = TASKS[task]
    given = configs.gather(about.config, [], options)
    return configs.resolve(about.config, given, adapt=about.adapt)


def checkpoint(
    run: Path, epoch: int, batch: int, config: Any, task: str, best: dict[str, Any] | None = None
) -> Path:
    """A whole checkpoint, but for the arrays; with ``best``, the best parameters, these."""
    folder = run / "checkpoints" / (f"{epoch}-batch-{batch}" if batch else str(epoch))
    folder.mkdir(parents=True)
    if best is None:
        (folder / "state").mkdir()
        (folder / "state" / "a").write_bytes(b"numbers")
    else:
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as saver:
            saver.save((folder / "state").resolve(), {"best": best})
    meta = {"format": READ[-1], "place": [epoch, batch], "config": configs.to_yaml(config),
            "task": task, "progress": {"best_epoch": 1} if best else {},
            "averages": None}  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n"
            for p in files]  # fmt: skip
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def run_folder(
    path: Path, *places: tuple[int, int], task: str = "image-classification",
    results: dict[str, Any] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """A run folder with checkpoints, and results if it has finished."""
    config = config_of(task, **options)
    path.mkdir(parents=True)
    facts = {"snnlab": "0.1.0", "commit": "abc", "jax": "0.9.2", "written": "2026-01-02"}
    (path / "config.yaml").write_text(configs.to_yaml(config, facts))
    for place in places:
        checkpoint(path, *place, config, task)
    if results is not None:
        (path / "results.json").write_text(json.dumps(results))
        (path / "figures").mkdir()
        (path / "figures" / "test-samples.png").write_bytes(b"")
        rows = [
            {"epoch": 1, "split": "val", "accuracy": results.get("val_accuracy"), "loss": 1.0},
            {"epoch": 1, "split": "test", "accuracy": results.get("test_accuracy")},
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / "metrics.jsonl").write_text(text)
    return path
