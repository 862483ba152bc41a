"""Sweep files, their runs and their comparison. The task is a small script that only writes."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import pytest

from snnlab.errors import UsageError
from snnlab.experiment import sweep_command, sweep_file
from snnlab.experiment.comparison import Outcome, spread, table

TASK = """
import json, pathlib, sys
flags = dict(a[2:].split("=") for a in sys.argv[1:] if "=" in a)
where = pathlib.Path(flags.get("filepath") or flags["resume"])
if flags["x"] == "3":
    sys.exit(2)
where.mkdir(parents=True, exist_ok="resume" in flags)
(where / "seen").write_text(" ".join(sys.argv[1:]))
for seed in (0, 1):
    one = where / f"seed-{seed}"
    one.mkdir()
    rows = [{"epoch": 0, "split": "initial", "balance": [0.1, None]}] + [
        {"epoch": e, "split": "val", "accuracy": 0.5 + 0.1 * e * (1 - seed), "loss": 1.0,
         "firing_rates": [1.0, 3.0], "balance": [0.2, None]} for e in (1, 2)
    ] + [{"epoch": 2, "split": "test", "accuracy": 0.25 * float(flags["x"])}]
    (one / "metrics.jsonl").write_text("".join(json.dumps(r) + chr(10) for r in rows))
(where / "results.json").write_text(json.dumps({"seconds": [3.0, 4.0], "failed": 0}))
"""
SWEEP = """
task: task.py
options: {y: 5, flag: true}
runs:
  first: {z: 1}
  second one: {config: own.yaml, y: 6}
grid:
  x: [1, 2]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "own.yaml").write_text("")
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


def run(path: Path, *argv: str) -> int:
    out = path.parent / "out"
    return sweep_command.main("x", "", ["--sweep", str(path), "--filepath", str(out), *argv])


def test_runs_are_all_combinations_with_the_flags_of_file_run_grid_and_command(sweep: Path) -> None:
    found = sweep_file.members_of(sweep_file.read_sweep(sweep), {"y": "7"})
    assert [m.name for m in found] == [
        "first, x 1", "first, x 2", "second one, x 1", "second one, x 2",
    ]  # fmt: skip
    assert found[2].arguments == ["--config", "own.yaml", "--y=7", "--flag=true", "--x=1"]
    assert found[2].slug == "second-one-x-1"


def test_every_run_is_made_once_and_compared(sweep: Path, capfd: pytest.CaptureFixture) -> None:
    assert run(sweep) == 0
    out = sweep.parent / "out"
    assert (out / "second-one-x-2" / "seen").read_text().startswith("--config own.yaml --y=6")
    table = (out / "table.md").read_text()
    # Best epochs 2 and 1 of accuracies (0.6, 0.7) and (0.5, 0.5); a constant current is not scored.
    assert (
        "| first, x 2 | 2 | 60.0 ± 14.1 | 60.0 ± 14.1 | 50.0 ± 0.0 | 2 ± 1 | 2.00 ± 0.00 |" in table
    )
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [float(r["test_accuracy"]) for r in rows] == [0.25, 0.5, 0.25, 0.5]
    assert float(rows[0]["initial_balance"]) == pytest.approx(0.1)
    assert float(rows[0]["seconds"]) == 7.0
    before = (out / "first-x-1" / "seen").stat().st_mtime_ns
    assert run(sweep) == 0
    assert (out / "first-x-1" / "seen").stat().st_mtime_ns == before
    assert capfd.readouterr().out.count("done before") == 4


def test_an_array_job_runs_one_and_collect_none(sweep: Path) -> None:
    out = sweep.parent / "out"
    assert run(sweep, "--index", "1") == 0
    assert [p.name for p in out.iterdir() if p.is_dir()] == ["first-x-2"]
    assert not (out / "table.md").exists()
    assert run(sweep, "--collect") == 0
    assert "| first, x 1 (not run) | 0 |" in (out / "table.md").read_text()


def test_a_failure_does_not_stop_the_others(sweep: Path) -> None:
    sweep.write_text(SWEEP.replace("[1, 2]", "[3, 1]"))
    assert run(sweep) == 1
    assert (sweep.parent / "out" / "second-one-x-1" / "results.json").exists()


def test_an_interrupted_run_is_resumed_or_kept_aside(sweep: Path) -> None:
    out = sweep.parent / "out"
    run(sweep, "--index", "0")
    (out / "first-x-1" / "results.json").unlink()
    run(sweep, "--index", "0")
    assert (out / "first-x-1.interrupted-1" / "seed-0").is_dir()
    (out / "first-x-1" / "results.json").unlink()
    for seed in (0, 1):
        (out / "first-x-1" / f"seed-{seed}" / "metrics.jsonl").unlink()
        (out / "first-x-1" / f"seed-{seed}").rmdir()
    (out / "first-x-1" / "checkpoints" / "3").mkdir(parents=True)
    run(sweep, "--index", "0")
    assert "--resume=" in (out / "first-x-1" / "seen").read_text()


@pytest.mark.parametrize(
    ("argv", "text", "message"),
    [
        (["--index", "4"], SWEEP, "4 runs, 0 to 3"),
        (["--only", "secnd one, x 1"], SWEEP, "no such run"),
        (["--set", "epochs"], SWEEP, "NAME=VALUE"),
        ([], SWEEP.replace("task.py", "none.py"), "no script none.py"),
        ([], SWEEP.replace("own.yaml", "none.yaml"), "no config none.yaml"),
        ([], SWEEP.replace("[1, 2]", "[]"), "empty"),
        ([], SWEEP.replace("z: 1", "z: [1]"), "go into grid"),
        ([], SWEEP.replace("z: 1", "filepath: a"), "given by the sweep"),
        ([], SWEEP.replace("second one", "First?"), "share the folder"),
        ([], SWEEP + "more: 1\n", "more"),
        ([], SWEEP.replace("y: 5", "y: {a: 1}"), "options.y: must be a number"),
        ([], "[]", "mapping"),
        ([], "task: x\ngrid: {a: 3}", "grid.a: must be a list of values, or a mapping of names"),
        ([], "task: x\ngrid: {a: {b: {c: {d: 1}}}}", "grid.a.b.c: must be a number"),
        ([], "task: x\ngrid: {a: [{d: 1}]}", "grid.a.0: must be a number"),
        ([], "{", "not valid YAML"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    sweep: Path, argv: list[str], text: str, message: str
) -> None:
    sweep.write_text(text)
    with pytest.raises(UsageError, match=message):
        run(sweep, *argv)
    assert not (sweep.parent / "out").exists()


def test_a_folder_keeps_to_its_flags(sweep: Path) -> None:
    run(sweep, "--index", "0")
    with pytest.raises(UsageError, match="with other flags"):
        run(sweep, "--set", "y=9")
    (sweep.parent / "out2").mkdir()
    (sweep.parent / "out2" / "mine").touch()
    with pytest.raises(UsageError, match="is no sweep"):
        sweep_command.main(
            "x", "", ["--sweep", str(sweep), "--filepath", str(sweep.parent / "out2")]
        )


def test_seeds_in_one_program_share_their_time(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"seconds": [3.0, 4.0], "vmapped": True}))
    assert Outcome.of(tmp_path).numbers()["seconds"] == [4.0]
    assert spread([0.5], 100) == "50.0"
    assert spread([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SWEEP.replace("[1, 2]", f"[{', '.join(map(str, range(1001)))}]"), "2,002 runs; at most"),
        (SWEEP.replace("z: 1", "config: [own.yaml, [a]]"), "config must be a path or a list"),
        (SWEEP.replace("z: 1", "config: 3"), "config must be a path or a list"),
        (SWEEP.replace("z: 1", "z z: 1"), "'z z' is no name of a flag"),
        (SWEEP.replace("z: 1", "x: 1"), "x is set .* and varied by the grid"),
        (
            SWEEP.replace("first", "Table.md").replace("grid:\n  x: [1, 2]", ""),
            "uses the name tabl",
        ),
        (SWEEP.replace("first", '"a\\nb"'), "printable"),
        (SWEEP.replace("y: 5", "y-y: 5, y_y: 6"), "y_y is given twice"),
        (SWEEP.replace("task.py", '"a\\0b"'), "task: must be printable"),
        (SWEEP.replace("task.py", "a" * 300), "longer than a file system takes"),
        (SWEEP.replace("[1, 2]", "1"), "grid.x: "),
        (SWEEP.replace("[1, 2]", "[0777]"), "0777 may mean two things"),
        ("runs: [1]\ntask: task.py", "sweep .*, runs: "),
    ],
)
def test_sweep_files_that_would_cost_or_mean_nothing(sweep: Path, text: str, message: str) -> None:
    sweep.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        run(sweep)
    assert len(str(error.value)) < 400
    assert not (sweep.parent / "out").exists()


def test_a_grid_is_counted_before_it_is_expanded(sweep: Path) -> None:
    lists = "\n".join(f"  g{k}: [{', '.join(map(str, range(100)))}]" for k in range(4))
    sweep.write_text(f"task: task.py\ngrid:\n{lists}\n")
    began = time.perf_counter()
    with pytest.raises(UsageError, match="100,000,000 runs; at most 2,000"):
        run(sweep)
    assert time.perf_counter() - began < 2


def test_set_does_not_override_what_the_grid_varies(sweep: Path) -> None:
    with pytest.raises(UsageError, match=r"x is set .* varied by the grid"):
        run(sweep, "--set", "x=7")
    with pytest.raises(UsageError, match="--only does not apply to --index 0"):
        run(sweep, "--index", "0", "--only", "first, x 1")


def test_a_long_name_has_a_short_folder(sweep: Path) -> None:
    long = "a" * 300
    sweep.write_text(SWEEP.replace("first", long).replace("second one", f"{long}b"))
    slugs = [m.slug for m in sweep_file.members_of(sweep_file.read_sweep(sweep), {})]
    assert len(set(slugs)) == 4
    assert max(map(len, slugs)) < 120


@pytest.mark.parametrize("text", ["[]", "a: 1", "a: [1]", "{", "a: &a [*a]"])
def test_a_plan_that_is_none(sweep: Path, text: str) -> None:
    (sweep.parent / "out").mkdir()
    (sweep.parent / "out" / "sweep.yaml").write_text(text)
    if text == "[]":  # an empty plan, as good as none
        assert run(sweep, "--index", "0") == 0
        return
    with pytest.raises(UsageError, match="plan"):
        run(sweep, "--index", "0")


def test_the_best_epoch_of_an_error_is_its_lowest(tmp_path: Path) -> None:
    rows = [{"epoch": e, "split": "val", "nmse": v} for e, v in enumerate((0.4, 0.2, 0.2, 0.3), 1)]
    rows.append({"epoch": 2, "split": "test", "nmse": 0.25})
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    outcome = Outcome.of(tmp_path)
    found = outcome.numbers()
    assert (found["best_epoch"], found["val_nmse"], found["last_val_nmse"]) == ([2], [0.2], [0.3])
    assert found["test_nmse"] == [0.25]
    text = table({"a": outcome}, {"a": found})
    assert "validation (normalised MSE)" in text
    assert "0.2500" in text
    assert "%" not in text


def test_of_epochs_with_equal_scores_the_best_is_that_of_the_run(tmp_path: Path) -> None:
    values = [(0.5, 0.9), (0.8, 0.4), (0.8, 0.3), (0.8, 0.3), (0.7, 0.1)]
    rows = [
        {"epoch": e, "split": "val", "accuracy": score, "loss": loss}
        for e, (score, loss) in enumerate(values, 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert Outcome.of(tmp_path).numbers()["best_epoch"] == [3]


def test_what_a_run_left_may_be_damaged(tmp_path: Path) -> None:
    rows = [
        '{"epoch": 1, "split": "val", "accuracy": null, "loss": null}',
        '{"epoch": 2, "split": "val", "accuracy": 0.5, "firing_rates": [null, 2.0]}',
        '{"split": "val", "accuracy": 1.0}', "[]", "null", "3", '{"epoch": 1, "split": []}',
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows))
    for text in ("[]", "null", "[" * 100_000, "\xff", '{"seconds": [null, "x", 3]}'):
        (tmp_path / "results.json").write_bytes(text.encode("latin-1"))
        found = Outcome.of(tmp_path).numbers()
        assert (found["val_accuracy"], found["best_epoch"], found["best_rate"]) == (
            [0.5],
            [2],
            [2.0],
        )
    assert found["seconds"] == [3.0]
    (tmp_path / "seed-x").mkdir()
    (tmp_path / "seed-1").touch()
    assert Outcome.of(tmp_path).rows


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("options: {lerning_rate: 0.1}", [], "run 'lr 0.1': unknown flag --lerning_rate"),
        ("options: {beta: 2.0}", [], "run 'lr 0.1': --beta does not apply"),
        ("config: own.yaml", [], "own.yaml"),
        ("options: {}", ["--set", "epochs=none"], "--epochs"),
        ("runs: {a: {}, b: {method: dig}}", [], "run 'b, lr 0.1': --method"),
    ],
)
def test_what_a_task_refuses_is_told_once_before_the_first_run(
    tmp_path: Path, text: str, argv: list[str], message: str
) -> None:
    from snnlab.cli import sweep as command

    path, out = tmp_path / "mine.yaml", tmp_path / "out"
    (tmp_path / "own.yaml").write_text("Learner: {lr_: 3}")
    path.write_text(f"task: image-classification\n{text}\ngrid: {{lr: [0.1, 0.2]}}\n")
    for more in ([], ["--list"]):
        with pytest.raises(UsageError, match=re.escape(message)):
            command.main("x", [str(path), f"--filepath={out}", *argv, *more])
    assert not out.exists()


def test_runs_that_are_done_are_not_checked_again(tmp_path: Path) -> None:
    from snnlab.cli import sweep as command

    path, out = tmp_path / "mine.yaml", tmp_path / "out"
    path.write_text("task: image-classification\nruns: {old: {an_option_of_before: 1}}\n")
    (out / "old").mkdir(parents=True)
    (out / "old" / "results.json").write_text("{}")
    assert command.main("x", [str(path), f"--filepath={out}", "--list"]) == 0


def test_runs_are_chosen_by_names_with_commas(sweep: Path) -> None:
    assert run(sweep, "--only", "second one, x 1, first, x 2") == 0
    done = {path.parent.name for path in (sweep.parent / "out").glob("*/seen")}
    assert done == {"second-one-x-1", "first-x-2"}
