"""``snnlab info`` and ``snnlab compare``: read from run folders, without JAX, changing nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from light import without_jax
from run_folders import run_folder
from snnlab.cli import main as cli
from snnlab.cli.compare import aligned
from snnlab.cli.info import described
from snnlab.errors import UsageError
from snnlab.runs import RunFolder

DONE = {"score": "accuracy", "test_accuracy": 0.9, "val_accuracy": 0.95, "best_epoch": 1,
        "epochs": 2, "seconds": 12.3, "warnings": ["too few spikes"]}  # fmt: skip


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }  # fmt: skip


def test_info_of_every_state(tmp_path: Path) -> None:
    run_folder(tmp_path / "done", (1, 0), (2, 0), results=DONE, epochs=2, n_rec=9)
    going = run_folder(tmp_path / "going", (3, 0), (3, 12), method="diag")
    (going / "checkpoints" / "3-batch-12" / "state" / "a").write_bytes(b"number!")
    run_folder(tmp_path / "failed", (1, 0), results={"error": "diverged in\nepoch 2", **DONE})
    counted = {**DONE, "test_accuracy_wilson95": [0.85, 0.93], "test_samples": 200}
    run_folder(tmp_path / "counted", (2, 0), results=counted, epochs=2)
    run_folder(tmp_path / "early")
    run_folder(tmp_path / "trained", (2, 0), epochs=2)
    run_folder(tmp_path / "drawn", mode="sim")
    run_folder(tmp_path / "seeds", results={"test_accuracy": 0.8, "test_accuracy_sd": 0.01,
                                            "score": "accuracy"}, trials=2)  # fmt: skip
    run_folder(tmp_path / "seeds" / "seed-0", (2, 0), results=DONE, epochs=2)
    run_folder(tmp_path / "seeds" / "seed-1", (1, 0), epochs=2)
    run_folder(tmp_path / "sweep" / "one", (1, 0))
    (tmp_path / "sweep" / "sweep.yaml").write_text("one: []\n")
    before = contents(tmp_path)
    names = ["done", "going", "failed", "early", "trained", "drawn", "seeds", "sweep", "counted"]
    found = without_jax("snnlab", [f"info {tmp_path / name}" for name in names])
    assert [(code, error) for code, _, error in found] == [(0, "")] * len(names)
    said = {name: out for name, (_, out, _) in zip(names, found)}
    assert contents(tmp_path) == before
    assert "image-classification, bptt, event-digits" in said["done"]
    assert "snnlab 0.1.0, commit abc, jax 0.9.2, 2026-01-02" in said["done"]
    assert "  n_rec: 9  # default 256" in said["done"]
    assert "finished after 2 of 2 epochs" in said["done"]
    assert "test accuracy 90.00%, validation accuracy 95.00%, best epoch 1, 12 s" in said["done"]
    interval = "(95% interval 85.00 to 93.00%, 200 samples)"
    assert f"test accuracy 90.00% {interval}, validation" in said["counted"]
    assert "too few spikes" in said["done"]
    assert (
        f"train on   snnlab run image-classification --resume {tmp_path}/done --epochs 4"
        in (said["done"])
    )
    assert "interrupted after epoch 3 and 12 batches, of 14 epochs" in said["going"]
    assert "checkpoint epoch 3 and 12 batches: damaged, state/a is damaged" in said["going"]
    assert "           epoch 3: whole" in said["going"]
    assert f"go on      snnlab run image-classification --resume {tmp_path}/going" in said["going"]
    assert "failed: diverged in epoch 2" in said["failed"]
    assert "ended before its first checkpoint" in said["early"]
    assert "not tested yet" in said["trained"]
    assert "drawn, not trained (--mode sim)" in said["drawn"]
    assert "go on" not in said["drawn"]
    assert "2 of 2 seeds were begun" in said["seeds"]
    assert "seed-1  interrupted after epoch 1, of 2 epochs" in said["seeds"]
    assert "test accuracy 80.00% ± 1.00%" in said["seeds"]
    assert "go on" in said["seeds"]
    assert "one  interrupted after epoch 1" in said["sweep"]


def test_a_run_that_is_trained_is_in_use(tmp_path: Path) -> None:
    folder = RunFolder(run_folder(tmp_path / "run", (1, 0)))
    assert not folder.in_use
    folder.lock()
    assert folder.in_use
    folder.unlock()
    assert not folder.in_use


def test_compare_says_what_was_asked_otherwise(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", (1, 0), results=DONE, lr=0.1)
    other = {**DONE, "test_accuracy": 0.5}
    two = run_folder(tmp_path / "two", results=other, method="expsm_diag", model="alif-delta",
                     beta=2.0)  # fmt: skip
    lines = [f"compare {one} {two}", f"compare {one}", f"compare {one} {tmp_path / 'three'}"]
    both, alone, missing = without_jax("snnlab", lines)
    assert (both[0], both[2]) == (0, "")
    text = [line.split() for line in both[1].splitlines()]
    assert text[0][:2] == ["run", "seeds"]
    assert ["option", "one", "two"] in text
    assert ["method", "bptt", "expsm_diag"] in text
    assert ["lr", "0.1", "0.002"] in text
    assert ["beta", "-", "2.0"] in text
    assert not {"vjp_method", "tau_a"} & {row[0] for row in text if row}, "nobody asked for these"
    assert "90.0" in both[1]
    assert "50.0" in both[1]
    assert "seed " not in both[1], "equal options are left out"
    assert (alone[0], missing[0]) == (2, 2)
    assert "two or more" in alone[2]
    assert "holds no run" in missing[2]


def test_compare_writes_where_it_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("a", "b"):
        run_folder(tmp_path / "runs" / name, results=DONE)
        run_folder(tmp_path / "more" / name, results=DONE)
    (tmp_path / "runs" / "sweep.yaml").write_text("{}\n")
    assert cli.main(["compare", str(tmp_path / "runs"), "--filepath", str(tmp_path / "out")]) == 0
    assert "asked the same" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"table.md", "results.csv"}
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "below"):
        with pytest.raises(UsageError, match=rf"cannot write to {folder}: "):
            cli.main(["compare", str(tmp_path / "runs"), "--filepath", str(folder)])
    assert file.read_text() == "mine"
    with pytest.raises(UsageError, match="given twice"):
        cli.main(["compare", str(tmp_path / "runs"), str(tmp_path / "runs" / "a")])
    assert cli.main(["compare", *(str(tmp_path / f / "a") for f in ("runs", "more"))]) == 0
    assert str(tmp_path / "more" / "a") in capsys.readouterr().out


def test_a_table_is_aligned() -> None:
    assert aligned("| run | n |\n|---|---|\n| a\\|b | 10 |\n") == "run   n\na\\|b  10"


def test_an_analysis_of_gradients_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("compare:\n  rules: diag\n")
    (tmp_path / "gradients.csv").write_text("")
    lines = described(tmp_path)
    assert "task       gradient-analysis" in lines
    assert lines[-1] == f"go on      snnlab run gradient-analysis --resume {tmp_path}"
