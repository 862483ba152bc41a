"""Run folders as a researcher leaves them: several seeds, one that failed, one that is damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from run_folders import checkpoint, config_of, run_folder

#: A name that is HTML, Markdown and too long.
NASTY = "<script>alert('x')</script>&\"|*`a`_[b](c)" + "-very-long-name" * 8
CLASSES = ("no", "yes", "<b>may|be</b>")
ACCURACIES = (0.81, 0.86, 0.88)


def seed_folder(path: Path, seed: int, accuracy: float, **options: Any) -> Path:
    """A run that has finished, with rows of two epochs, predictions and a figure."""
    rng = random.Random(seed)
    results = {
        "score": "accuracy", "test_accuracy": accuracy, "val_accuracy": accuracy, "best_epoch": 2,
        "epochs": 2, "seconds": 10.0 + seed, "compile_seconds": 4.0, "n_parameters": 40,
        "test_loss": 0.5, "seed": seed, "firing_rates": [10.0 + seed, None], "warnings": [],
        "test_accuracy_by_class": dict.fromkeys(CLASSES), "test_samples": 50,
        "test_accuracy_wilson95": [accuracy - 0.1, accuracy + 0.1],
        "costs": {"definitions": "<i>of a paper</i>", "synaptic_operations": 1000.0 + seed,
                  "activation_sparsity_by_layer": [0.5, 0.25], "membrane_updates": None,
                  "reasons": {"membrane_updates": "not <counted>"}},
    }  # fmt: skip
    run_folder(path, results=results, seed=seed, epochs=2, **options)
    rows = []
    for epoch in (1, 2):
        row = {"epoch": epoch, "loss": 1.0 / epoch + 0.1 * seed, "accuracy": accuracy * epoch / 2,
               "firing_rates": [9.0 + epoch, None]}  # fmt: skip
        rows += [{**row, "split": "train", "grad_norm": 3.0 / epoch}, {**row, "split": "val"}]
    rows.append({"epoch": 2, "split": "test", "accuracy": accuracy})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["split,index,label,prediction"]
    for k in range(50):
        label = CLASSES[k % 3]
        lines.append(f"test,{k},{label},{label if rng.random() < accuracy else CLASSES[0]}")
    (path / "predictions.csv").write_text("\n".join(lines) + "\n")
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:20] = (0, 114, 178)
    Image.fromarray(picture).save(path / "figures" / "test-samples.png")
    return path


def desk(home: Path) -> list[Path]:
    """What is reported: 3 of 4 seeds of one experiment, a sweep, what is damaged, what goes on."""
    trials = run_folder(home / "trials", trials=4, epochs=2)
    for seed, accuracy in enumerate(ACCURACIES):
        seed_folder(trials / f"seed-{seed}", seed, accuracy)
    config = config_of("image-classification", epochs=2)
    weights = {"map.weight": np.linspace(-1, 2, 40, dtype=np.float32)}
    checkpoint(trials / "seed-0", 2, 0, config, "image-classification", weights)
    run_folder(trials / "seed-3", results={"error": "diverged in\nepoch 2", "seed": 3}, seed=3,
               epochs=2)  # fmt: skip
    sweep = home / "sweep"
    for seed in (0, 1):
        seed_folder(sweep / f"diag-{seed}", seed, 0.5 + 0.1 * seed, method="diag", lr=0.25)
    Image.fromarray(np.full((30, 90, 3), 200, np.uint8)).save(sweep / "comparison.png")
    (home / "comparison.png").write_bytes(b"of something else")
    (sweep / "sweep.yaml").write_text("diag-0: []\ndiag-1: []\nnever: []\n")
    seed_folder(home / NASTY.replace("/", "%"), 5, 0.7, exp_name="a", n_rec=7)
    damaged = seed_folder(home / "damaged", 0, 0.9, n_rec=8)
    (damaged / "results.json").write_text('{"test_accuracy": 0.')
    (damaged / "config.yaml").write_text("a: [")
    (damaged / "metrics.jsonl").write_bytes(b"\xff\xfe\n[1]\n{")
    (damaged / "predictions.csv").write_text("a,b\n1,2\n")
    (damaged / "figures" / "test-samples.png").write_bytes(b"\x89PNG no more")
    going = run_folder(home / "going", (1, 0), (2, 3), n_rec=9)
    (going / "checkpoints" / "2-batch-3" / "state" / "a").write_bytes(b"other")
    return [trials, sweep, home / NASTY.replace("/", "%"), damaged, going]
