"""Checkpoints that were written before there were scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import runs
from snnlab.training.migration import migrated

OLD = {
    "format": 1,
    "progress": {"epoch": 2, "best_epoch": 1, "best_accuracy": 0.75, "best_loss": 0.5},
    "averages": {"samples": 8.0, "loss": 4.0, "correct": 6.0, "rates": None, "grad_norm": 1.0},
}


def test_accuracy_becomes_the_score() -> None:
    found = migrated(OLD)
    assert found["progress"] == {"epoch": 2, "best_epoch": 1, "best_score": 0.75, "best_loss": 0.5}
    assert found["averages"] == {
        "samples": 8.0, "loss": 4.0, "measures": {"accuracy": [6.0, 8.0]}, "rates": None,
        "grad_norm": 1.0,
    }  # fmt: skip
    none = {**OLD["progress"], "best_epoch": 0, "best_accuracy": -1.0}
    assert migrated({**OLD, "progress": none, "averages": None})["progress"]["best_score"] is None
    assert migrated(found) is found


def aged(checkpoint: Path) -> None:
    """Write a checkpoint's ``meta.json`` as it was before, with its sum."""
    path = checkpoint / "meta.json"
    meta = json.loads(path.read_text())
    best = meta["progress"].pop("best_score")
    meta["progress"]["best_accuracy"] = -1.0 if best is None else best
    if meta["averages"]:
        right, samples = meta["averages"].pop("measures")["accuracy"]
        assert samples == meta["averages"]["samples"]
        meta["averages"]["correct"] = right
    lines = [x for x in meta["config"].splitlines(True) if not x.strip().startswith("loss_")]
    meta |= {"format": 1, "config": "".join(lines)}
    path.write_text(json.dumps(meta))
    sums = (checkpoint / "SHA256SUMS").read_text().splitlines()
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = [f"{new}  meta.json" if x.endswith("  meta.json") else x for x in sums]
    (checkpoint / "SHA256SUMS").write_text("".join(f"{x}\n" for x in sums))


@pytest.mark.parametrize(
    ("problem", "flags"),
    [
        pytest.param("match", [], marks=pytest.mark.slow),
        ("balanced", ["--method", "diag", "--fix-tau-rec", "--fix-tau-out"]),
    ],
)
def test_an_earlier_run_goes_on(problem: str, flags: list[str], tmp_path: Path) -> None:
    """Inside an epoch, too; the balanced task's loss is then the one that its method had."""
    own = [*flags, "--checkpoint_every", "1", "--max_to_keep", "9"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    runs.call(problem, *own, "--filepath", str(whole))
    runs.call(problem, *own, "--filepath", str(run))
    for checkpoint in (run / "checkpoints").iterdir():
        if checkpoint.name in ("2", "3") or checkpoint.name.startswith(("2-", "1-batch-2")):
            import shutil

            shutil.rmtree(checkpoint)
        else:
            aged(checkpoint)
    assert (run / "checkpoints" / "1-batch-1").is_dir()
    (run / "config.yaml").unlink()
    (run / "results.json").unlink()
    assert runs.call(problem, "--resume", str(run)) == 0
    runs.assert_same(run, whole)
