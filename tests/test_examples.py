"""The programs of ``examples/``: short, with public names alone, and doing what they say."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
#: Modules of snnlab whose names are public.
PUBLIC = {"snnlab", "snnlab.data", "snnlab.learners"}


def numbers(text: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


def falls(text: str) -> bool:
    losses = numbers(text, r"loss ([\d.]+)")
    return len(losses) >= 3 and losses[-1] < 0.25 * losses[0]


CHECKS = {
    "own_network": falls,
    "own_neuron": lambda text: (
        len(found := numbers(text, r"BPTT ([\d.]+)")) == 5 and min(found) > 0.95
    ),
    "own_rule": lambda text: (
        (found := numbers(text, r"D-RTRL ([\d.]+)"))[1] < 1e-4 < 0.1 < found[2]
    ),
    "own_data": lambda text: (
        len(set(found := numbers(text, r"(?:test|Hz,) accuracy ([\d.]+)"))) == 1 and found[0] > 0.7
    ),
    "online_stream": falls,
}


def test_there_are_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_it_is_short_and_uses_public_names(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 40
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    found = {
        module
        for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom)
                       else [alias.name for alias in node.names])
        if module.startswith("snnlab")
    }  # fmt: skip
    assert found
    assert found <= PUBLIC


@pytest.mark.parametrize("name", CHECKS)
def test_it_does_what_it_says(
    name: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert CHECKS[name](shown), shown
    assert not list(tmp_path.iterdir())
