"""``make results-check``: its rows are what the pages say, and its verdict can fail."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snnlab.cli import main as cli

ROOT = Path(__file__).resolve().parents[1]


def _module() -> ModuleType:
    path = ROOT / "docs" / "results" / "check.py"
    spec = importlib.util.spec_from_file_location("results_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check = _module()
ROWS = check.rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_page_says_so(row: Any) -> None:
    text = " ".join((ROOT / row.page).read_text(encoding="utf-8").replace("#", " ").split())
    assert row.quote in text, f"{row.page} does not say: {row.quote}"
    there = check.NUMBER.findall(row.quote)
    missing = [x for x in row.told if f"{x:,.{row.digits}f}" not in there]
    assert not missing, f"{missing} are not in the quote"
    assert 0 < row.tolerance() < abs(row.centre) / 2
    assert set(row.seeds) <= set(row.values) or not row.values


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_command_is_one(row: Any, capsys: pytest.CaptureFixture) -> None:
    words = shlex.split(row.command)
    assert words[0] == "snnlab"
    if words[1] == "run":
        assert cli.main([*words[1:], f"--seed={row.again[0]}", "--dry_run"]) == 0
    else:
        assert words[1:3] == ["bench", "cell"]
        json.loads(words[words.index("--job") + 1])


def test_they_are_cheap() -> None:
    """Two minutes of a core a run; ten minutes in all on two."""
    assert max(row.seconds for row in ROWS) <= 120
    assert sum(row.seconds * len(row.again) for row in ROWS) <= 1200


def row_of(**changes: Any) -> Any:
    base = {"name": "a", "page": "p", "quote": "q", "read": ("y",), "seconds": 1}
    return check.Row(**{**base, "command": "snnlab run x", **changes})


def test_how_far_a_mean_may_be_off() -> None:
    """2.58 s sqrt(1/n + 1/k) and half a digit; s from the seeds, or the samples of the test set."""
    quote = "90.0 / 92.0 / 94.5 %"
    of_seeds = row_of(quote=quote, values={0: 90.0, 1: 92.0, 2: 94.5}, seeds=(0,))  # s 2.2546
    assert of_seeds.tolerance() == pytest.approx(0.05 + 2.5758 * 2.2546 * (4 / 3) ** 0.5, 1e-4)
    alike = row_of(values={0: 96.0, 1: 96.0}, factor=100, samples=50)  # s 2.7713
    assert alike.tolerance() == pytest.approx(0.5 + 2.5758 * 2.7713, 1e-4)
    given = row_of(quote="(1.31 ± 0.06)e-3", mean=1.31, sd=0.06, n=10, seeds=(3, 4))
    assert given.tolerance() == pytest.approx(0.005 + 2.5758 * 0.06 * 0.6**0.5, 1e-4)
    of_bytes = row_of(quote="T 2,000: 1.00, 64 %", mean=1.0, within=0.01)
    assert of_bytes.tolerance() == pytest.approx(0.005 + 0.01)


def test_a_figure_that_does_not_come_back_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Exit code 1; a command that fails is told too, and others go on."""
    read = ("y", {"of": "b"}, "z")
    right = row_of(name="right", quote="0.90, 0.91", values={0: 0.9, 1: 0.91}, read=read)
    rows = [right, check.dataclasses.replace(right, name="wrong", quote="0.50, 0.51",
                                      values={0: 0.5, 1: 0.51}),
            check.dataclasses.replace(right, name="fails", command="snnlab run none"),
            check.dataclasses.replace(right, name="without", recordings="none.zip")]  # fmt: skip
    monkeypatch.setattr(check, "rows", lambda: rows)
    left = {"y": [{"of": "a", "z": 1.0}, {"of": "b", "z": 0.905}]}

    def run(command: list[str], **how: Any) -> Any:
        code = int("none" in command)
        told = "refused" if code else json.dumps(left)
        return check.subprocess.CompletedProcess(command, code, told * (not code), told * code)

    monkeypatch.setattr(check.subprocess, "run", run)
    assert check.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("right (p): holds: 0.91 / 0.91 in seeds 0 / 1;") for line in lines)
    assert any(line.startswith("wrong (p): DOES NOT HOLD: 0.91") for line in lines)
    assert any(line.startswith("fails (p): DOES NOT RUN: refused") for line in lines)
    assert any(line.startswith("without (p): not run") for line in lines)
    assert lines[-1] == "1 of 3 rows hold"
    assert check.main(["--only", "right"]) == 0
