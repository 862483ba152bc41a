"""Small runs of every problem, and what two runs must share to be the same run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Problem -> script and flags of a run of some seconds; of three epochs, so that things carry over.
TINY = {
    "image": (
        "task-image-classification.py",
        "--downsample 4 --data_length 8 --n_rec 10 --n_layer 1 --batch_size 256 --epochs 3 "
        "--method expsm_diag --lr 0.02 --lr_schedule cosine --aug_shift 1",
    ),
    "match": (
        "task-rsnn-long-term-dependency.py",
        "--t_fixation 0 --t_sample 30 --t_delay 10 --t_test 30 --n_rec 10 --tau_neu 10 --tau_syn "
        "10 --tau_I2 100 --batch_size 8 --epoch_batches 4 --val_batches 2 --test_batches 1 "
        "--epochs 3 --etrace_decay 0.9 --method expsm_diag --n_show 2 --lr 0.01",
    ),
    "balanced": (
        "task-balanced-rsnn.py",
        "--neurons 8 --samples 12 --batch-size 4 --dataset-scale 800 --n-epochs 3 --repeat 1 "
        "--balance --balance_refit --track-balance",
    ),
    "patterns": (
        "task-pattern-generation.py",
        "--t_trial 60 --frequencies 20,50 --noise_rate 100 --n_in 10 --n_rec 10 --n_out 2 "
        "--epoch_batches 4 --epochs 3 --method diag",
    ),
    "memory": (
        "task-working-memory.py",
        "--dataset copy --t_symbol 8 --t_delay 6 --n_symbol 2 --n_kind 3 --n_group 3 --n_rec 10 "
        "--batch_size 8 --epoch_batches 4 --val_batches 2 --test_batches 1 --epochs 3 --n_show 2 "
        "--lr 0.01 --method diag",
    ),
    "evidence": (
        "task-coba-ei-rsnn.py",
        "--n_cue 3 --t_interval 5 --t_cue 10 --t_delay 5 --t_recall 10 --n_group 5 --cue_rate 200 "
        "--n_rec 20 --tau_neu 10 --tau_syn 5 --tau_I2 100 --batch_size 8 --epoch_batches 4 "
        "--val_batches 2 --test_batches 1 --epochs 3 --n_show 2 --method diag",
    ),
}
#: What a clock decides, and what the cache of compiled programs does not know.
TIMED = {"seconds", "compile_seconds", "ms_per_step", "training_bytes"}
ROOT = Path(__file__).resolve().parents[1]


def command_of(problem: str) -> list[str]:
    script, flags = TINY[problem]
    return [sys.executable, str(ROOT / "tasks" / script), "--devices", "cpu", *flags.split()]


def call(problem: str, *flags: str) -> int:
    """The command in this process: its exit code."""
    import importlib.util

    script, own = TINY[problem]
    spec = importlib.util.spec_from_file_location("task", ROOT / "tasks" / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before, sys.argv = sys.argv, [script, *([] if "--resume" in flags else own.split()), *flags]
    try:
        return module.main()
    finally:
        sys.argv = before


def state_of(run: Path, epoch: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, the newest, by its path in the file, read without snnlab."""
    import jax
    import orbax.checkpoint as ocp

    newest = max((p for p in (run / "checkpoints").iterdir() if p.name.isdigit()),
                 key=lambda p: int(p.name))  # fmt: skip
    chosen = newest if epoch is None else newest.parent / str(epoch)
    tree = ocp.StandardCheckpointer().restore((chosen / "state").resolve())
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in TIMED}


def assert_same(run: Path, whole: Path) -> None:
    """Final state, rows of metrics and results are equal bit for bit."""
    mine, wanted = state_of(run), state_of(whole)
    assert list(mine) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)
    rows = [
        [_timeless(json.loads(line)) for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (run, whole)
    ]
    assert rows[0] == rows[1]
    results = [_timeless(json.loads((f / "results.json").read_text())) for f in (run, whole)]
    assert results[0] == results[1]
    assert (run / "figures" / "test-samples.png").is_file()
