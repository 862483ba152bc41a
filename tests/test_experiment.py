"""Whole runs on a small problem: what they leave, how they resume, how they refuse."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import snnlab
from snnlab.errors import UsageError
from snnlab.experiment.command import command
from snnlab.problems.image_classification import ImageClassification, build
from snnlab.runs import RunFolder
from snnlab.scores import ACCURACY, interval_of_test, wilson

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "--downsample", "4", "--data_length", "10", "--n_rec", "12", "--n_layer", "1",
    "--batch_size", "256", "--epochs", "2", "--method", "expsm_diag", "--lr", "0.02",
    "--lr_schedule", "constant", "--aug_shift", "0",
]  # fmt: skip
RESULTS = {
    "test_accuracy", "val_accuracy", "best_epoch", "epochs", "seconds", "compile_seconds",
    "n_parameters", "firing_rates", "method", "backend", "dataset", "seed", "bin_ms", "dt_ms",
}  # fmt: skip


def task(*args: str) -> int:
    return command(ImageClassification, build, prog="task", description="", argv=list(args))


def saved_state(run: Path, epoch: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path in the file, read without snnlab."""
    import orbax.checkpoint as ocp

    tree = ocp.StandardCheckpointer().restore(
        (run / "checkpoints" / str(epoch) / "state").resolve()
    )
    import jax

    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "four"
    task(*SMALL, "--epochs", "4", "--filepath", str(run))
    return run


def test_run_folder_is_complete(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results) >= RESULTS
    assert results["test_accuracy"] > 0.2  # chance is 0.1
    assert results["epochs"] == 4
    assert results["n_parameters"] == (162 + 12) * 12 + 12 * 10
    assert (results["method"], results["dataset"]) == ("expsm_diag", "event-digits")
    assert results["warnings"] == []
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(r["epoch"], r["split"]) for r in rows[:-1]] == [
        (e, s) for e in (1, 2, 3, 4) for s in ("train", "val")
    ]
    assert rows[-1]["split"] == "test"
    assert rows[-1]["samples"] == 360
    best = max((r for r in rows if r["split"] == "val"), key=lambda r: (r["accuracy"], -r["loss"]))
    assert results["best_epoch"] == best["epoch"]
    assert results["val_accuracy"] == best["accuracy"]
    text = (finished / "config.yaml").read_text()
    assert yaml.safe_load(text)["model"]["n_rec"] == 12
    for fact in ("commit", "jax", "braintrace", "python"):
        assert f"# {fact}: " in text
    for name in ("confusion.png", "learning-curves.png", "test-samples.png"):
        assert (finished / "figures" / name).stat().st_size > 10_000
    assert "started" in (finished / "log.txt").read_text()


def test_predictions_are_those_of_the_test_set(finished: Path) -> None:
    run = snnlab.load(finished)
    rows, results = run.predictions, run.results
    labels = build(run.config).test.labels
    assert [row["index"] for row in rows] == list(range(360))
    assert [row["label"] for row in rows] == [str(label) for label in labels]
    assert {row["split"] for row in rows} == {"test"}
    right = [row["label"] == row["prediction"] for row in rows]
    assert results["test_accuracy"] == np.mean(right)
    assert results["test_samples"] == 360
    assert results["test_accuracy_wilson95"] == list(wilson(sum(right), 360))
    mine = {str(k): float(np.mean(np.array(right)[labels == k])) for k in range(10)}
    assert results["test_accuracy_by_class"] == pytest.approx(mine)


def test_results_are_kept_where_predictions_cannot_be_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A resume writes what is missing; the last line has the interval."""
    run = tmp_path / "run"

    def fails(self: RunFolder, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self.predictions))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_predictions", fails)
        with pytest.raises(UsageError, match=r"cannot write .*predictions\.csv: No space"):
            task(*SMALL, "--load_exp_folder", str(finished), "--only_do_testing", "--filepath",
                 str(run))  # fmt: skip
    found = json.loads((run / "results.json").read_text())
    assert found["test_samples"] == 360
    assert not (run / "predictions.csv").exists()
    capsys.readouterr()
    task("--resume", str(run))
    assert (run / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()
    assert interval_of_test(ACCURACY, found) in " ".join(capsys.readouterr().out.split())


def test_resume_is_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    """Two epochs, then two more, end with the same bits as four."""
    run = tmp_path / "two"
    task(*SMALL, "--filepath", str(run))
    task("--resume", str(run), "--epochs", "4")
    whole, parts = saved_state(finished, 4), saved_state(run, 4)
    assert list(whole) == list(parts)
    assert len(whole) > 8
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)
    for name in ("test_accuracy", "val_accuracy", "best_epoch", "test_loss"):
        got = [json.loads((f / "results.json").read_text())[name] for f in (finished, run)]
        assert got[0] == got[1], name
    assert len({(f / "predictions.csv").read_text() for f in (finished, run)}) == 1
    rows = (run / "metrics.jsonl").read_text().splitlines()
    kept = [r for r in map(json.loads, rows) if r["split"] != "test"]
    assert [r["epoch"] for r in kept] == [1, 1, 2, 2, 3, 3, 4, 4]
    one = (finished / "metrics.jsonl").read_text().splitlines()
    losses = [[json.loads(r)["loss"] for r in lines if '"val"' in r] for lines in (one, rows)]
    assert losses[0] == losses[1]


def test_a_run_is_never_overwritten(finished: Path) -> None:
    before = (finished / "results.json").read_bytes()
    with pytest.raises(UsageError, match=r"holds a run already.*--resume"):
        task(*SMALL, "--filepath", str(finished))
    assert (finished / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--n_rec", "13", "--lr", "0.5"], r"another experiment.*n_rec: 13 != 12.*lr: 0.5 != 0.02"),
        (["--epochs", "4"], "finished its 4 epochs"),
    ],
)
def test_resume_of_something_else(finished: Path, args: list[str], message: str) -> None:
    before = {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file()}
    with pytest.raises(UsageError, match=message):
        task("--resume", str(finished), *args)
    assert before == {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file()}


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run \(there is no config.yaml"):
        task("--resume", str(tmp_path))


def test_sim_draws_without_training(finished: Path, tmp_path: Path) -> None:
    before = sorted(p.name for p in (finished / "checkpoints").iterdir())
    task("--mode", "sim", "--resume", str(finished))
    assert (finished / "sim" / "test-samples.png").exists()
    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == before
    fresh = tmp_path / "sim"
    task(*SMALL, "--mode", "sim", "--filepath", str(fresh))
    assert (fresh / "figures" / "test-samples.png").exists()
    found = json.loads((fresh / "results.json").read_text())
    assert (found["mode"], found["split"], len(found["firing_rates"])) == ("sim", "sim", 1)
    assert not {"test_accuracy", "costs"} & set(found)


def test_a_diverging_run_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "nan"
    with pytest.raises(UsageError, match=r"epoch 1, batch .*checkpoint of epoch 0 is kept"):
        task(*SMALL, "--filepath", str(run), "--lr", "3e38", "--clip_norm", "0",
             "--optimizer", "sgd", "--spk_reset", "hard")  # fmt: skip
    assert saved_state(run, 0)
    assert "error" in json.loads((run / "results.json").read_text())


BAD = [
    (["--n_rek", "3"], "unknown flag --n_rek (did you mean 'n_rec'?)"),
    (["--model", "lif-detla"], "did you mean 'lif-delta'?"),
    (["--etrace_decay", "1.0", "--method", "expsm_diag"], "decay in [0, 1)"),
    (["--etrace_decay", "0.9", "--method", "bptt"], "no meaning with --method bptt"),
    (["--n_rec", "-3"], "--n_rec -3"),
    (["--data_length", "999999999"], "--data_length 999999999"),
    (["--devices", "gpu0"], "comma list of accelerator ids"),
    (["--warmup_ratio", "200", "--data_length", "8"], "leave none"),
    (["--filepath", "/proc/nowhere"], "cannot write to the run folder"),
    (["--config", "no-such.yaml"], "cannot read config no-such.yaml"),
    (["--dataset", "nmnist", "--data_path", "/no/such/folder"], "/no/such/folder"),
]


@pytest.mark.parametrize(("args", "message"), BAD, ids=[b[0][0] + b[0][1] for b in BAD])
def test_bad_input(args: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        task(*SMALL, *args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()  # nothing half-written


def test_the_script_from_another_folder(tmp_path: Path) -> None:
    """``--help``, ``--dry_run`` and an error, as a user sees them."""
    script = str(ROOT / "tasks" / "task-image-classification.py")

    def shell(*args: str):
        return subprocess.run(
            [sys.executable, script, *args], cwd=tmp_path, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    shown = shell("--help_all")
    assert shown.returncode == 0
    assert "--etrace_decay" in shown.stdout
    assert "ms" in shown.stdout
    dry = shell("--dry-run", "--n-rec", "77", "--method", "esd-rtrl")
    assert dry.returncode == 0
    resolved = yaml.safe_load(dry.stdout)
    assert resolved["model"]["n_rec"] == 77
    assert resolved["learner"]["method"] == "expsm_diag"
    bad = shell("--n_rec", "none")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert len(bad.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


SEED_COMMANDS = [
    f"--devices {device} --dataset {dataset} --data_length 400 --epoch 100 --n_layer 3 "
    f"--n_rec 512 --method {method} --model lif-delta --exp_name test-{dataset} --warmup_ratio 0."
    for dataset in ("nmnist", "shd")
    for device, method in enumerate(("bptt", "expsm_diag --etrace_decay 0.9", "diag"))
]


@pytest.mark.parametrize("line", SEED_COMMANDS)
def test_commands_of_the_seed_parse(line: str, capsys: pytest.CaptureFixture) -> None:
    assert task(*line.split(), "--dry_run") == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert resolved["training"]["epochs"] == 100
    assert resolved["model"]["n_rec"] == 512
    assert resolved["model"]["n_layer"] == 3
    assert resolved["data"]["data_length"] == 400
    assert resolved["run"]["exp_name"] == f"test-{resolved['data']['dataset']}"


def test_a_window_of_the_whole_sequence_is_refused_but_not_such_a_chunk(capsys) -> None:
    """A window is backpropagation inside; on a chunk the gradient does not depend."""
    whole = ["--method", "diag", "--chunk_size", "10", "--dry_run"]
    with pytest.raises(UsageError, match="such a window is plain BPTT"):
        task(*SMALL, *whole, "--vjp_method", "multi-step")
    assert task(*SMALL, *whole) == 0
    assert yaml.safe_load(capsys.readouterr().out)["learner"]["chunk_size"] == 10


# ---------------------------------------------------------------------- pretrained, given up


def test_a_new_run_starts_with_the_best_parameters_of_another(
    finished: Path, tmp_path: Path
) -> None:
    """Also with another optimiser; testing alone gives the other run's test accuracy."""
    flags = [*SMALL, "--load_exp_folder", str(finished)]
    task(*flags, "--optimizer", "sgd", "--epochs", "1", "--filepath", str(tmp_path / "on"))
    best = json.loads((finished / "results.json").read_text())
    name = next(k for k in saved_state(finished, best["best_epoch"]) if "params" in k)
    there = saved_state(finished, best["best_epoch"])[name]
    np.testing.assert_array_equal(saved_state(tmp_path / "on", 0)[name], there)
    assert not np.array_equal(saved_state(tmp_path / "on", 1)[name], there)
    task(*flags, "--only_do_testing", "--filepath", str(tmp_path / "test"))
    tested = json.loads((tmp_path / "test" / "results.json").read_text())
    assert tested["test_accuracy"] == best["test_accuracy"]
    assert tested["epochs"] == 0
    task("--resume", str(tmp_path / "on"), "--epochs", "2")
    assert json.loads((tmp_path / "on" / "results.json").read_text())["epochs"] == 2
    with pytest.raises(UsageError, match="a run goes on in its folder"):
        task("--resume", str(tmp_path / "on"), "--filepath", str(tmp_path / "elsewhere"))


def test_seeds_in_one_program_start_with_loaded_parameters(finished: Path, tmp_path: Path) -> None:
    best = json.loads((finished / "results.json").read_text())["best_epoch"]
    task(*SMALL, "--load_exp_folder", str(finished), "--epochs", "1", "--trials", "2", "--lr",
         "1e-12", "--vmap_trials", "yes", "--filepath", str(tmp_path / "two"))  # fmt: skip
    there = saved_state(finished, best)
    name = next(k for k in there if "params" in k)
    for seed in (0, 1):
        after = saved_state(tmp_path / "two" / f"seed-{seed}", 1)[name]
        np.testing.assert_allclose(after, there[name], atol=1e-6)


def test_a_hopeless_run_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--pruning_epochs", "1", "--pruning_threshold", "1.0", "--plot_epoch_freq", "1"]
    task(*SMALL, *flags, "--seed", "-1", "--filepath", str(tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["epochs"], results["pruned"]) == (1, True)
    assert (tmp_path / "run" / "figures" / "epoch-1" / "val-samples.png").is_file()
    assert f"--seed -1: {results['seed']} drawn" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["run"]["seed"] >= 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only_do_testing"], "needs --load_exp_folder"),
        (["--pruning_epochs", "3"], "belong together"),
        (["--load_exp_folder", "/nowhere"], "holds no run"),
        (["--load_exp_folder", "a", "--resume", "b"], "one of the two"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        task(*SMALL, *flags, "--filepath", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_parameters_of_another_network_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another network"):
        task(*SMALL, "--n_rec", "13", "--load_exp_folder", str(finished), "--filepath",
             str(tmp_path / "run"))  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_log_tells_the_command_the_stages_and_no_metrics(finished: Path) -> None:
    lines = [line.split(" ", 3)[3] for line in (finished / "log.txt").read_text().splitlines()]
    assert lines[0].startswith("started: ")
    assert "jax " in lines[1]
    assert "recordings event-digits sha256" in lines[1]
    assert lines[2].startswith("image-classification: event-digits, 10 steps")
    assert [line.split(",")[0] for line in lines[3:7]] == [
        f"checkpoint of epoch {k}" for k in (1, 2, 3, 4)
    ]
    assert lines[7].startswith("test with the parameters of epoch ")
    assert lines[8] == "finished: results and figures are written"
    assert len(lines) == 9
