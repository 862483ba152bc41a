"""Sweeps over tasks and rules: named axes, refused cells, several processes, table and page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filelock
import pytest
import scipy.stats

from snnlab.errors import UsageError
from snnlab.experiment import sweep_command, sweep_file
from snnlab.experiment.comparison import Outcome
from snnlab.experiment.page import BEGIN, END
from snnlab.experiment.statistics import holm, paired_p

#: Scores of three seeds; the rule "big" is refused, "bad" fails.
TASK = """
import json, pathlib, sys
flags = dict(a[2:].split("=") for a in sys.argv[1:] if "=" in a)
if flags["method"] == "big":
    sys.stderr.write("a warning" + chr(10) + "task: error: --method big: too large" + chr(10))
    sys.exit(2)
if flags["method"] == "bad":
    sys.exit(1)
where = pathlib.Path(flags.get("filepath") or flags["resume"])
where.mkdir(parents=True)
better = {"bptt": 0.0, "worse": -0.2, "alike": 0.0}[flags["method"]]
for seed, score in enumerate((0.7, 0.75, 0.8)):
    one = where / f"seed-{seed}"
    one.mkdir()
    score += better + (0.01 * (seed - 1) if flags["method"] == "alike" else 0.001 * seed)
    name, sign = ("nmse", -1) if "error" in flags else ("accuracy", 1)
    rows = [{"epoch": 1, "split": "val", name: 0.5, "loss": 1.0},
            {"epoch": 1, "split": "test", name: sign * score}]
    (one / "metrics.jsonl").write_text("".join(json.dumps(r) + chr(10) for r in rows))
    (one / "results.json").write_text(json.dumps({
        "seed": seed, "test_" + name: sign * score, "ms_per_step": 0.25, "training_bytes": 12345,
        "gradient": {"cosine": {"start": 0.5, "during": 0.25 * (seed + 1), "end": None}}}))
(where / "results.json").write_text(json.dumps({"failed": 0, "tau": flags.get("tau")}))
"""
SWEEP = """
runs:
  first one: {task: task.py}
  second: {task: other.py, error: 1}
grid:
  rule:
    BPTT: {method: bptt}
    a worse one: {method: worse, tau: 3}
    alike: {method: alike}
    large: {method: big}
against: [BPTT]
refused: keep
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name in ("task.py", "other.py"):
        (tmp_path / name).write_text(TASK)
    (tmp_path / "s.yaml").write_text(SWEEP)
    return tmp_path / "s.yaml"


def run(path: Path, *argv: str) -> int:
    out = path.parent / "out"
    return sweep_command.main("x", "", ["--sweep", str(path), "--filepath", str(out), *argv])


def test_runs_cross_tasks_with_named_points(sweep: Path) -> None:
    found = sweep_file.members_of(sweep_file.read_sweep(sweep), {"second:y": "7", "z": "1"})
    assert [m.name for m in found][:2] == ["first one, BPTT", "first one, a worse one"]
    assert (found[1].task, found[4].task) == ("task.py", "other.py")
    assert found[1].arguments == ["--method=worse", "--tau=3", "--z=1"]
    assert found[4].arguments == ["--error=1", "--method=bptt", "--z=1", "--y=7"]
    assert (found[1].column, found[1].point) == ("first one", {"rule": "a worse one"})


def test_the_table_compares_over_seeds_and_says_why_cells_are_empty(
    sweep: Path, capfd: pytest.CaptureFixture
) -> None:
    page = sweep.parent / "page.md"
    page.write_text(f"before\n{BEGIN}\nof another sweep\n{END}\nbehind\n")
    assert run(sweep, "--page", str(page)) == 0
    out = sweep.parent / "out"
    text = (out / "table.md").read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()[::-1]}
    half = scipy.stats.t.ppf(0.975, 2) * 5.1 / 3**0.5
    assert f"| 75.1 [{75.1 - half:.1f}, {75.1 + half:.1f}] ·" in rows["BPTT"]
    assert "55.1 [" in rows["a worse one"]
    assert rows["a worse one"].count("−") == 2
    assert rows["a worse one"].rstrip(" |").endswith("−")
    assert rows["alike"].count("≈") == 2
    assert rows["large"] == "| large | – (1) | – (1) |"
    assert "1. --method big: too large" in text
    assert "first one (%) | second (normalised MSE)" in text
    assert "| BPTT | 0.50 / 0.50 / – |" in text
    assert "| BPTT | 12.3 | 12.3 |" in text
    assert "| BPTT | 250 | 250 |" in text
    assert (out / "comparison.png").stat().st_size > 10_000
    made = page.read_text()
    assert made.startswith(f"before\n{BEGIN}\n\n![page](page.png)\n\n**Test score**")
    assert made.endswith(f"{END}\nbehind\n")
    assert "of another sweep" not in made
    assert (sweep.parent / "page.png").is_file()
    capfd.readouterr()
    assert run(sweep, "--page", str(page)) == 0
    assert page.read_text() == made
    said = capfd.readouterr().out
    assert said.count("done before") == 6
    assert "refused before" not in said  # it is asked again
    # What was refused may be asked with other flags; what is done may not.
    sweep.write_text(SWEEP.replace("{method: big}", "{method: alike, tau: 4}"))
    assert run(sweep, "--only", "first-one-large") == 0
    assert (out / "first-one-large" / "results.json").is_file()
    assert not (out / "first-one-large" / "refused.txt").exists()
    with pytest.raises(UsageError, match="holds 'first-one-bptt' with other flags"):
        run(sweep, "--set", "error=0.5")


KEPT = (
    "task: toy\nrefused: keep\nruns: {a: {}, b: {x: 1}}\ngrid: {rule: {one: {m: 1}, two: {m: 2}}}\n"
)


@pytest.mark.parametrize(("of", "wrong"), [
    (lambda argv: argv == ["--x=1", "--m=2"], ""),
    (lambda argv: "--x=1" in argv, "run 'b, one': no such value"),
    (lambda argv: "--m=2" in argv, "run 'a, two': no such value"),
    (lambda argv: True, "run 'a, one': no such value"),
])  # fmt: skip
def test_what_is_wrong_with_all_of_a_column_or_a_row_is_no_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of: Any, wrong: str
) -> None:
    """A typo is to be mended, and not written down as what a rule cannot do."""
    (tmp_path / "s.yaml").write_text(KEPT)

    def read(_: str, argv: Any) -> None:
        if of(list(argv)):
            raise UsageError("no such value")

    argv = ["--sweep", str(tmp_path / "s.yaml"), "--filepath", str(tmp_path / "out"), "--list"]
    if wrong:
        with pytest.raises(UsageError, match=wrong):
            sweep_command.main("x", "", argv, tasks=("toy",), read=read)
        return
    assert sweep_command.main("x", "", argv, tasks=("toy",), read=read) == 0
    assert capsys.readouterr().out.count("refused") == 1


def test_a_refusal_that_nothing_is_compared_with_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(KEPT + "left_out: {b: {one: it takes an hour}}\n")

    def read(_: str, argv: Any) -> None:
        if list(argv) == ["--x=1", "--m=2"]:
            raise UsageError("no such value")

    argv = ["--sweep", str(tmp_path / "s.yaml"), "--filepath", str(tmp_path / "out"), "--list"]
    assert sweep_command.main("x", "", argv, tasks=("toy",), read=read) == 0
    assert capsys.readouterr().out.count("refused") == 2


def test_without_runs_a_page_stays_as_it_is(sweep: Path) -> None:
    page = sweep.parent / "page.md"
    page.write_text(f"{BEGIN}\nfigures\n{END}\n")
    with pytest.raises(UsageError, match="--collect: no run of this sweep is done"):
        run(sweep, "--collect", "--page", str(page))
    assert "figures" in page.read_text()
    assert not (sweep.parent / "out").exists()


def test_what_the_file_leaves_out_is_a_cell_with_its_reason(sweep: Path) -> None:
    text = SWEEP.replace("method: big", "method: bad")
    sweep.write_text(text + "left_out: {second: {large: it takes an hour}}")

    def read(*_: object) -> None:
        pass

    out = sweep.parent / "out"
    argv = ["--sweep", str(sweep), "--filepath", str(out)]
    assert (
        sweep_command.main("x", "", [*argv, "--only", "second-large,second-bptt"], read=read) == 0
    )
    table = (out / "table.md").read_text()
    assert "1. not run\n2. it takes an hour" in table
    assert "| large | – (1) | – (2) |" in table


def test_what_fails_is_no_refusal(sweep: Path) -> None:
    sweep.write_text(SWEEP.replace("method: big", "method: bad"))
    assert run(sweep, "--only", "second-large") == 1
    assert not Outcome.of(sweep.parent / "out" / "second-large").refused
    sweep.write_text(SWEEP.replace("refused: keep", ""))
    (sweep.parent / "out").rename(sweep.parent / "before")
    assert run(sweep, "--only", "second-large") == 1
    assert not (sweep.parent / "out" / "second-large").exists()


def test_another_process_may_be_at_a_run(sweep: Path, capfd: pytest.CaptureFixture) -> None:
    out = sweep.parent / "out"
    assert run(sweep, "--only", "second-bptt") == 0
    with filelock.FileLock(out / ".second-alike.lock"):
        assert run(sweep, "--only", "second-alike,second-a-worse-one") == 0
    assert "second, alike: another process is at it" in capfd.readouterr().out
    assert not (out / "second-alike").exists()
    assert (out / "second-a-worse-one" / "results.json").is_file()


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        (SWEEP.replace("{task: task.py}", "{}"), [], "task is missing"),
        (SWEEP.replace("[BPTT]", "[BPT]"), [], "against: BPT is no name"),
        (SWEEP.replace("refused: keep", "refused: no"), [], "refused"),
        (SWEEP.replace("{method: bptt}", "3"), [], "grid.rule"),
        (SWEEP.replace("{method: bptt}", "{method: bptt, 'a b': 1}"), [], "'a b' is no name"),
        (SWEEP.replace("grid:", "grid:\n  net: {a: {n: 1}}"), [], "net and rule have names"),
        (SWEEP.replace("error: 1", "tau: 1"), [], "tau is set for run 'second'"),
        (SWEEP + "left_out: {second: {BPT: no}}", [], "left_out: second, BPT: no such run"),
        (SWEEP, ["--set", "tau=1"], "tau is set for run"),
        (SWEEP, ["--set", "secnd:y=1"], "no run 'secnd'.*did you mean 'second'"),
        (SWEEP, ["--set", "second:filepath=a"], "given by the sweep itself"),
        (SWEEP, ["--page", "none.md"], "no page that can be read"),
        (SWEEP, ["--page", "task.py"], "needs one line <!-- sweep -->"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_run(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, text: str, argv: list[str], message: str
) -> None:
    sweep.write_text(text)
    monkeypatch.chdir(sweep.parent)
    with pytest.raises(UsageError, match=message):
        run(sweep, *argv)
    assert not (sweep.parent / "out").exists()


def test_paired_tests_and_their_correction() -> None:
    a, b = {0: 0.71, 1: 0.75, 2: 0.8, 3: 0.7}, {0: 0.7, 1: 0.72, 2: 0.81, 3: 0.66, 9: 0.1}
    wanted = scipy.stats.ttest_rel([a[s] for s in range(4)], [b[s] for s in range(4)]).pvalue
    assert paired_p(a, b) == pytest.approx(wanted, rel=1e-12)
    assert paired_p(a, {0: 1.0}) is None
    assert paired_p({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) == 1.0
    assert paired_p({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}) == 0.0
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )  # the example of Holm 1979


def test_a_table_of_rows_that_are_damaged(tmp_path: Path) -> None:
    for text in ('{"gradient": 3, "costs": []}', '{"gradient": {"cosine": 1}, "seed": 0}'):
        (tmp_path / "results.json").write_text(text)
        assert Outcome.of(tmp_path).numbers() == {}
    (tmp_path / "results.json").write_text(json.dumps({"test_accuracy": 0.5, "seed": 3}))
    assert Outcome.of(tmp_path).tested() == {3: 0.5}
