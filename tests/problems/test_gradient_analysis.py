"""The gradient analysis: exact rules agree with BPTT, others do not; folders that go on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from snnlab.cli.run import main as snnlab_run
from snnlab.errors import UsageError
from snnlab.problems import gradient_rows
from snnlab.problems.gradient_analysis import command

#: One layer below a readout without memory: without recurrence D-RTRL is exact.
TINY = [
    "--n_in=12", "--n_out=3", "--n_rec=8", "--n_layer=1", "--tau_o=0", "--data_length=20",
    "--batch_size=3", "--rate=150", "--devices=cpu",
]  # fmt: skip


def run(folder: Path, *flags: str) -> Path:
    where = [] if "--resume" in flags else ["--filepath", str(folder)]
    assert command(prog="p", description="", argv=[*TINY, *flags, *where]) == 0
    return folder


def rows(folder: Path, name: str = "gradients.csv") -> list[dict[str, Any]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def refused(message: str, *flags: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        command(prog="p", description="", argv=[*TINY, *flags])
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(
        tmp_path_factory.mktemp("analysis") / "run", "--rules", "diag,rtrl",
        "--rec_scales", "2,0", "--trials", "2", "--jacobian_steps", "3",
        "--updates", "4", "--every", "2", "--trained_by", "bptt", "--lr", "0.1",
    )  # fmt: skip


def test_exact_rules_are_at_one_and_d_rtrl_with_recurrence_is_not(done: Path) -> None:
    found = [r for r in rows(done) if r["scope"] != "parameter" and not r["trained_by"]]
    assert {r["seed"] for r in found} == {"0", "1"}
    assert {r["name"] for r in found} == {"hidden", "layer 1", "readout"}
    for row in found:
        cosine, ratio = float(row["cosine"]), float(row["norm_ratio"])
        assert float(row["norm_bptt"]) > 1e-3
        exact = row["rule"] == "rtrl" or row["rec_scale"] == "0.0" or row["name"] == "readout"
        if exact:
            assert cosine == pytest.approx(1, abs=1e-5)
            assert ratio == pytest.approx(1, abs=1e-4)
        else:
            assert 0.2 < cosine < 0.999, row
    for row in rows(done, "layers.csv"):
        if row["layer"] == "layer 1":
            assert 0.01 < float(row["spikes_per_step"]) < 0.5
        share = float(row["own_norm"])
        assert share == pytest.approx(1) if row["rec_scale"] == "0.0" else 0 < share < 0.999


def test_results_have_means_and_deviations_over_seeds(done: Path) -> None:
    results = json.loads((done / "results.json").read_text())
    assert results["seeds"] == [0, 1]
    one = next(
        r for r in results["agreement"]
        if (r["rule"], r["rec_scale"], r["name"]) == ("diag", 2.0, "layer 1")
        and "trained_by" not in r
    )  # fmt: skip
    of_seeds = [
        float(r["cosine"]) for r in rows(done)
        if (r["rule"], r["rec_scale"], r["name"]) == ("diag", "2.0", "layer 1")
        and not r["trained_by"]
    ]  # fmt: skip
    assert one["cosine"] == pytest.approx(sum(of_seeds) / 2)
    assert one["cosine_n"] == 2
    assert one["cosine_sd"] == pytest.approx(abs(of_seeds[0] - of_seeds[1]) / 2**0.5)
    for name in ("cosine-rec_scale.png", "jacobian-rec_scale.png", "cosine-update.png"):
        assert (done / "figures" / name).stat().st_size > 10_000


def test_drift_in_a_network_that_bptt_trains(done: Path) -> None:
    drift = [r for r in rows(done) if r["trained_by"] and r["scope"] == "hidden"]
    assert {r["trained_by"] for r in drift} == {"bptt"}
    diag = [r for r in drift if r["rule"] == "diag" and r["seed"] == "0"]
    assert [r["update"] for r in diag] == ["0", "2", "4"]
    assert len({r["norm_bptt"] for r in diag}) == 3  # the network moves
    assert all(
        float(r["cosine"]) == pytest.approx(1, abs=1e-4) for r in drift if r["rule"] == "rtrl"
    )
    start = next(
        r for r in rows(done)
        if (r["rule"], r["rec_scale"], r["scope"], r["seed"]) == ("diag", "2.0", "hidden", "0")
    )  # fmt: skip
    assert not start["trained_by"]
    assert diag[0]["cosine"] == start["cosine"]


def test_what_is_there_is_not_computed_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, made = rows(done), []

    class Counted(gradient_rows.Subject):
        def __init__(self, config: Any, seed: int, compiled: Any) -> None:
            made.append((config.model.rec_scale, seed))
            super().__init__(config, seed, compiled)

    monkeypatch.setattr(gradient_rows, "Subject", Counted)
    assert snnlab_run("snnlab run", ["--resume", str(done)]) == 0  # the task is that of the folder
    assert made == []
    assert rows(done) == before
    run(done, "--resume", str(done), "--rec_scales", "2,1,0")
    assert made == [(1.0, 0), (1.0, 1)]
    after = rows(done)
    assert after[: len(before)] == before
    new = {(r["rule"], r["rec_scale"]) for r in after[len(before) :]}
    assert new == {("diag", "1.0"), ("rtrl", "1.0")}
    config = (done / "config.yaml").read_text()
    resume = ("--resume", str(done))
    refused("--rules diag: the folder has rtrl, and a list", *resume, "--rules", "diag")
    refused("--rec_scales 2,1: the folder has 0, and", *resume, "--rec_scales", "2,1")
    refused("the folder has seeds 0 to 1, and there may only be more", *resume, "--trials", "1")
    refused("the folder has seeds 0 to 1", *resume, "--seed", "1")
    refused("--updates 2: the folder has 4", *resume, "--updates", "2")
    assert (done / "config.yaml").read_text() == config  # nothing was cut off
    refused("goes on in its folder", "--resume", str(done), "--filepath", "elsewhere")
    refused("holds another experiment .*n_rec", "--resume", str(done), "--n_rec", "9")
    (done / "gradients.csv").write_text("a,b\n1,2\n")
    refused(r"gradients\.csv must be CSV with columns data_length", "--resume", str(done))


@pytest.mark.slow
def test_drift_while_each_rule_trains_its_own_feedback(tmp_path: Path) -> None:
    folder = run(
        tmp_path / "run", "--rules", "diag,eprop:feedback=adaptive", "--updates", "6", "--every",
        "3", "--lr", "0.1", "--jacobian_steps", "0",
    )  # fmt: skip
    drift = [r for r in rows(folder) if r["trained_by"] and r["scope"] == "hidden"]
    assert [r["update"] for r in drift] == 2 * ["0", "3", "6"]
    assert all(r["trained_by"] == r["rule"] for r in drift)
    assert len({r["norm_bptt"] for r in drift}) == 5  # from the same network on, apart


def test_a_rule_that_cannot_train_a_network_says_why(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "--rules", "tbptt:chunk_size=20", "--jacobian_steps", "0")
    (row,) = rows(folder)
    assert "plain BPTT" in row["refused"]
    (told,) = json.loads((folder / "results.json").read_text())["refused"]
    assert told["rule"] == "tbptt:chunk_size=20"


def test_data_that_are_missing_leave_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="there is no such folder"):
        command(
            prog="p", description="",
            argv=f"--dataset shd --data_path {tmp_path}/nowhere --filepath {folder}".split(),
        )  # fmt: skip
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rules foo", "--rules foo: no such rule"),
        ("--rules ,", "--rules: give at least one"),
        ("--rules diag:etrace_decay=0.9", "--etrace_decay 0.9 has no meaning with --method diag"),
        ("--rules diag:feedback=random", "--feedback does not apply to --method diag"),
        ("--rules diag:lr=1", "behind a colon stands OPTION=VALUE"),
        ("--lengths 20,0", "--lengths 0: --data_length 0: must be greater than 0"),
        ("--depths 1.5", "--depths 1.5: --n_layer 1.5"),
        ("--surrogates step", "--surrogates step: --spk_fun step: no such choice"),
        ("--models RLIF,x", "--models x: --model x: no such choice"),
        ("--models GRU", "--method diag is not defined for --model GRU"),
        ("--model RLIF --tau_mems 5", "--tau_mems does not apply to --model RLIF"),
        ("--rate 2000", "--rate 2000: at most one spike"),
        ("--updates 3 --every 4", "--every 4 is more than the --updates 3"),
        ("--lr 1", "--lr does not apply without --updates"),
        ("--resume /nonexistent", "holds no run"),
    ],
)
def test_bad_input_is_one_line(flags: str, message: str) -> None:
    refused(message, *flags.split())


def test_a_rule_that_some_models_have_not_is_told_and_the_others_compared(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "--rules", "diag", "--models", "lif-delta,GRU")
    found = {r["model"]: r for r in rows(folder)}
    assert found["lif-delta"]["cosine"]
    assert "not defined for --model GRU" in found["GRU"]["refused"]
    refused("not defined for --model GRU", "--rules", "diag", "--models", "GRU")
