"""Models in tasks that were not made for them: they learn something in a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runs import call


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


def test_adaptive_neurons_classify_images(tmp_path: Path) -> None:
    flags = (
        "--model", "adLIF", "--method", "diag", "--n_rec", "32", "--batch_size", "64",
        "--data_length", "20", "--downsample", "2",
    )  # fmt: skip
    assert call("image", *flags, "--devices", "cpu", "--filepath", str(tmp_path / "r")) == 0
    found = losses(tmp_path / "r")
    assert found[-1] < 0.95 * found[0]
    assert found[-1] < 2.25  # chance: log 10 = 2.303


@pytest.mark.parametrize("method", ["diag", "bptt"])
def test_pathway_neurons_accumulate_cues(tmp_path: Path, method: str) -> None:
    """Under both forms of the summed readout."""
    flags = (
        "--model", "alif-delta", "--balance", "0", "--balance_refit", "0", "--track-balance", "0",
        "--dataset-scale", "1", "--neurons", "24", "--samples", "24", "--batch-size", "12",
        "--tau_a", "500", "--method", method, "--devices", "cpu",
    )  # fmt: skip
    assert call("balanced", *flags, "--filepath", str(tmp_path / "r")) == 0
    found = losses(tmp_path / "r")
    assert len(found) == 3
    assert found[-1] < found[0]
