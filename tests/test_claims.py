"""Published claims: their files, their runs, the verdict. The task is a script that only writes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import yaml

from light import without_jax
from snnlab.cli import main as cli
from snnlab.cli import run as runs
from snnlab.errors import UsageError
from snnlab.experiment import claims, verdicts
from snnlab.experiment.sweep_file import members_of
from snnlab.problems.tasks import TASKS, read

TASK = """
import json, pathlib, sys
flags = dict(a[2:].split("=") for a in sys.argv[1:] if "=" in a)
if flags["seed"] == "9":
    sys.exit(3)
where = pathlib.Path(flags["filepath"])
where.mkdir(parents=True)
(where / "seen").write_text(" ".join(sys.argv[1:]))
value = float(flags["x"]) + 0.01 * int(flags["seed"])
row = {"epoch": 1, "split": "test", "accuracy": value}
(where / "metrics.jsonl").write_text(json.dumps(row) + chr(10))
(where / "results.json").write_text(json.dumps({"mse": value, "firing_rates": [value, 3 * value]}))
"""
CLAIM = """# A | title
published: 90 %
source: a paper
minutes: 60
sweep:
  task: task.py
  runs: {a: {x: 0.9}, b: {x: 0.3}}
  grid: {seed: [0, 1]}
checks:
  - {measure: test_accuracy, of: a, within: [[0.9, 1.0]]}
"""


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    path = tmp_path / "mine.yaml"
    path.write_text(CLAIM)
    return path


def reproduce(path: Path, *argv: str) -> int:
    out = path.parent / "out"
    return cli.main(["reproduce", str(path), "--filepath", str(out), *argv])


def verdict_of(path: Path) -> dict:
    return json.loads((path.parent / "out" / "mine" / "verdict.json").read_text())


def checked(path: Path, *checks: str) -> list[bool]:
    """Which checks hold for the runs that are there."""
    head = CLAIM[: CLAIM.index("checks:")]
    path.write_text(f"{head}checks:\n" + "".join(f"  - {check}\n" for check in checks))
    assert reproduce(path, "--judge") == 0
    return [check["holds"] for check in verdict_of(path)["checks"]]


def test_runs_are_done_once_and_judged(claim: Path, capfd: pytest.CaptureFixture) -> None:
    assert reproduce(claim, "--judge") == 0
    assert "verdict    not run (0 of 4 runs)" in capfd.readouterr().out
    assert not (claim.parent / "out").exists()
    assert reproduce(claim, "--index", "0") == 0
    assert reproduce(claim, "--judge") == 0
    found = verdict_of(claim)
    assert (found["verdict"], found["runs_done"], found["runs"]) == ("unfinished", 1, 4)
    before = (claim.parent / "out" / "mine" / "a-seed-0" / "seen").stat().st_mtime_ns
    assert reproduce(claim) == 0
    assert (claim.parent / "out" / "mine" / "a-seed-0" / "seen").stat().st_mtime_ns == before
    found = verdict_of(claim)
    assert found["verdict"] == "reproduced"
    (one,) = found["checks"]
    # Student's t of one degree of freedom, 12.706, times sd / sqrt(2) = 0.005
    assert (one["n"], one["mean"]) == (2, pytest.approx(0.905))
    assert one["interval_low"] == pytest.approx(0.905 - 12.7062 * 0.005, abs=1e-4)
    text = (claim.parent / "out" / "mine" / "verdict.md").read_text()
    assert (
        "| `mine`: A \\| title | 90 % (a paper) | test accuracy: 90.0%, 91.0%; mean 90.5%" in text
    )
    out = capfd.readouterr().out
    assert "4 runs, about 4.0 h of one core" in out
    assert "wanted     mean 90.0% to 100.0%: yes" in out
    assert "verdict    reproduced (4 of 4 runs)" in out


def test_what_a_check_may_ask(claim: Path) -> None:
    reproduce(claim)
    asked = {
        "{measure: test_accuracy, of: b, within: [[0.9, 1.0]]}": False,
        "{measure: test_accuracy, within: [[0.6, 0.61]]}": True,  # the mean of all
        "{measure: test_accuracy, statistic: every, within: [[0.8, 1.0]]}": False,
        "{measure: test_accuracy, statistic: every, within: [[0.8, 1.0], [0.2, 0.4]]}": True,
        "{measure: test_accuracy, statistic: some, within: [[0.8, 1.0]]}": True,
        "{measure: test_accuracy, statistic: some, within: [[0.5, 0.8]]}": False,
        "{measure: test_accuracy, statistic: best, within: [[0.904, 0.906]]}": True,
        "{measure: mse, of: b, over: a, within: [[0.33, 0.35]]}": True,
        "{measure: mse, of: b, over: a, within: [[0.9, 1.0]]}": False,
        "{measure: firing_rates, of: a, within: [[1.8, 1.82]]}": True,  # 2 x, the mean over layers
        "{measure: initial_rate, within: [[0, 9]]}": False,  # of --mode sim alone
        "{measure: none_such, within: [[-.inf, .inf]]}": False,
    }
    assert checked(claim, *asked) == list(asked.values())
    twice = ["{measure: mse, statistic: best, within: [[0, 1]]}"] * 2
    assert checked(claim, *twice) == [True, True]
    text = (claim.parent / "out" / "mine" / "verdict.md").read_text()
    assert "| mse: a 0.905, b 0.305 |" in text  # what several checks say is said once


def test_one_run_refutes_what_every_run_has_to_do(claim: Path) -> None:
    """And none of two proves it."""
    claim.write_text(CLAIM.replace("of: a,", "statistic: every,"))
    for index, word in (("0", "unfinished"), ("2", "not reproduced")):
        assert reproduce(claim, "--index", index) == 0
        assert reproduce(claim, "--judge") == 0
        assert verdict_of(claim)["verdict"] == word
    assert verdict_of(claim)["runs_done"] == 2
    text = (claim.parent / "out" / "mine" / "verdict.md").read_text()
    assert "| 2 of 4 runs: test accuracy: 90.0%, 30.0%;" in text


def test_a_run_that_fails_is_told(claim: Path) -> None:
    claim.write_text(CLAIM.replace("[0, 1]", "[0, 9]"))
    assert reproduce(claim) == 1
    assert verdict_of(claim)["verdict"] == "unfinished"
    claim.write_text(CLAIM)
    reproduce(claim)
    results = claim.parent / "out" / "mine" / "a-seed-0" / "results.json"
    results.write_text('{"error": "not finite"}')
    reproduce(claim)
    assert verdict_of(claim)["runs_failed"] == 1


def test_of_a_seed_that_one_run_has_there_is_no_ratio(claim: Path) -> None:
    reproduce(claim, "--only", "a-seed-1,b-seed-0,b-seed-1")
    asked = "{measure: mse, of: b, over: a, within: [[0.34, 0.341]]}"
    assert checked(claim, asked) == [True]  # 0.31 / 0.91
    assert len(verdict_of(claim)["checks"][0]["values"]) == 1


def test_ratios_are_of_seeds_and_a_silent_network_divides_by_zero() -> None:
    assert verdicts._divided([1.0, 4.0], [2.0, 2.0]) == [0.5, 2.0]
    assert verdicts._divided([1.0, 3.0], [4.0]) == [0.5]
    assert verdicts._divided([1.0], [0.0]) == [math.inf]
    check = claims.Check(measure="mse", of="a", over="b", within=[(0, 1)])
    assert verdicts.Judged(check, [math.inf, 1.0], False).spread is None
    assert "no value" in verdicts.Judged(check, [], False).words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "mapping"),
        (CLAIM.replace("minutes: 60", "minute: 60"), "minute: no such key; valid: published"),
        (CLAIM.replace("of: a", "on: a"), "checks.0.on: no such key; valid: measure"),
        (CLAIM.replace("minutes: 60", "minutes: 0"), "minutes: must be greater than 0"),
        (CLAIM.replace("minutes: 60", "minutes: .inf"), "minutes: must be a finite number"),
        (CLAIM.replace("a paper", '"a\\nb"'), "source: must be printable text of one line"),
        (re.sub(r"sweep:\n(  .*\n)+", "sweep: 3\n", CLAIM), "sweep: must be a mapping with task"),
        (CLAIM.replace("[[0.9, 1.0]]", "[]"), "within: must have at least 1 item"),
        (CLAIM.replace("{measure: test_accuracy, of: a, within: [[0.9, 1.0]]}", "3"), "a mapping"),
        (CLAIM.replace("published: 90 %\n", ""), "published: is missing"),
        (CLAIM.replace("of: a", "of: c"), "no run 'c'"),
        (CLAIM.replace("[0.9, 1.0]", "[1.0, 0.9]"), "a range is"),
        (CLAIM.replace("of: a", "over: a"), "over: divides"),
        (CLAIM.replace("task: task.py", "tusk: task.py"), "sweep, tusk: no such key"),
        (CLAIM.replace("task: task.py", "task: none.py"), "no script none.py"),
        (re.sub(r"sweep:\n(  .*\n)+", "sweep: sandbos\n", CLAIM), "did you mean 'sandbox'"),
        (
            re.sub(r"  runs.*\n  grid.*", "  search: {n_trials: 1, space: {x: [1, 2]}}", CLAIM),
            "not by a search",
        ),
        (CLAIM.replace("  runs:", "  refused: keep\n  runs:"), "all runs of a claim count"),
        ("{", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_and_writes_nothing(claim: Path, text: str, message: str) -> None:
    claim.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        reproduce(claim)
    assert "\n" not in str(error.value)
    assert not (claim.parent / "out").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sandbux"], "no claim 'sandbux' (did you mean 'sandbox'?)"),
        (["none.yaml"], "none.yaml"),
        (["list", "--judge"], "takes --filepath alone"),
        (["sandbox", "--index", "10"], "10 runs, 0 to 9"),
        (["sandbox", "--index", "-1"], "counted from 0"),
        (["sandbox", "--index", "1", "--judge"], "not allowed with"),
        (["sandbox", "--only", "x"], "no such run"),
        (["sandbox", "--filepth", "x"], "unknown flag --filepth (did you mean '--filepath'?)"),
    ],
)
def test_a_wrong_command_is_one_line(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        cli.main(["reproduce", *argv])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", claims.names())
def test_every_claim_is_valid(name: str) -> None:
    """Its file, each of its runs, and its head."""
    claim = claims.find(name)
    head = claim.path.read_text(encoding="utf-8").splitlines()[:2]
    assert head[0] == f"# {claim.title}"
    assert head[1].startswith(f"# command:  snnlab reproduce {name}")
    for member in members_of(claim.file, {}):
        assert claim.file.task in runs.names()
        if claim.file.task in TASKS:
            made = read(claim.file.task, member.arguments)
            assert getattr(made.run, "published", True)


def test_list_and_table_have_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    where = ["--filepath", str(tmp_path)]
    assert cli.main(["reproduce", *where]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == sorted(claims.names())
    assert all(" not run " in line for line in listed)
    assert cli.main(["reproduce", "table", *where]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| claim | published | here | verdict |"
    assert [yaml.safe_load(row.split("`")[1]) for row in rows] == sorted(claims.names())
    assert "10 runs, about 3 min of one core: `snnlab reproduce sandbox` |" in "\n".join(rows)
    assert not list(tmp_path.iterdir())


def test_a_claim_about_the_runs_of_another_has_their_folder(tmp_path: Path) -> None:
    one, other = claims.find("cue-rates"), claims.find("cue-accuracy")
    assert one.runs == "cue-accuracy"
    assert one.file == other.file
    runs = members_of(one.file, {})
    for member, rate in zip(runs, (10.0, 1.0, 1.0, 1.0, 0.01), strict=True):
        folder = tmp_path / "cue-accuracy" / member.slug
        folder.mkdir(parents=True)
        row = {"epoch": 1, "split": "val", "accuracy": 0.9, "firing_rates": [rate]}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "results.json").write_text('{"failed": 0}')
    argv = ["reproduce", "cue-rates", "--judge", "--filepath", str(tmp_path)]
    assert cli.main(argv) == 0
    found = json.loads((tmp_path / "cue-rates" / "verdict.json").read_text())
    assert (found["verdict"], found["checks"][0]["values"]) == ("reproduced", [0.001])


def test_a_claim_is_read_without_jax() -> None:
    (code, out, _), (wrong, nothing, error) = without_jax(
        "snnlab", ["reproduce sandbox --list", "reproduce sandbux"]
    )
    assert code == 0
    assert "9  to do" in out
    assert (wrong, nothing) == (2, "")
    assert error.count("\n") == 1


def test_the_folder_of_a_dataset_goes_to_every_run(claim: Path) -> None:
    assert reproduce(claim, "--data-path", str(claim.parent), "--only", "a-seed-0") == 0
    seen = (claim.parent / "out" / "mine" / "a-seed-0" / "seen").read_text()
    assert f"--data_path={claim.parent}" in seen


def test_a_run_that_diverged_counts_what_the_claim_says(claim: Path) -> None:
    assert reproduce(claim) == 0
    run = claim.parent / "out" / "mine" / "a-seed-1"
    (run / "results.json").write_text(json.dumps({"error": "not finite"}))
    (run / "metrics.jsonl").unlink()
    reproduce(claim, "--judge")
    assert verdict_of(claim)["checks"][0]["values"] == [0.9]
    claim.write_text(CLAIM.replace("of: a,", "of: a, diverged: 0.5,"))
    reproduce(claim, "--judge")
    check = verdict_of(claim)["checks"][0]
    assert check["values"] == [0.9, 0.5]
    assert check["seeds_diverged"] == 1
    assert not check["holds"]
    text = (claim.parent / "out" / "mine" / "verdict.md").read_text()
    assert "n = 2, of which 1 diverged, counted as 50.0%" in text
