"""Names, and entry points of other packages."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from snnlab.errors import UsageError
from snnlab.experiment.task import Task
from snnlab.problems.tasks import TASKS, task_of
from snnlab.registry import Registry

OWN = {"pi": 3.14, "tau": "math:tau", "text": "string:digits", "gone": "math:nothing"}


def numbers() -> Registry[float]:
    return Registry("number", "snnlab.numbers", float, OWN)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes an installed package with these entry points of ``snnlab.numbers``."""

    def make(name: str, lines: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[snnlab.numbers]\n{lines}\n")

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield make
    importlib.invalidate_caches()


def test_own_names() -> None:
    table = numbers()
    assert table.names() == ("pi", "tau", "text", "gone")
    assert table.get("pi") == 3.14
    assert table.get("tau") == pytest.approx(6.2832, abs=1e-4)
    with pytest.raises(UsageError, match=r"no number 'tua'.*did you mean 'tau'.*valid: pi, tau"):
        table.get("tua")
    with pytest.raises(UsageError, match="number 'text': its entry is a str, not a float"):
        table.get("text")
    with pytest.raises(AttributeError):  # of this package: a bug
        table.get("gone")


def test_a_package_joins(package) -> None:
    package("other", "e = math:e\nbad = no_such_module:x\nraises = math:nothing\nint = math:gcd")
    table = numbers()
    assert table.names()[-4:] == ("e", "bad", "raises", "int")
    assert table.get("e") == pytest.approx(2.7183, abs=1e-4)
    for name, value in (("bad", "no_such_module"), ("raises", "math")):
        with pytest.raises(UsageError, match=f"'{name}': its entry point {value}") as caught:
            table.get(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not a float"):
        table.get("int")


@pytest.mark.parametrize("taken", ["pi", "e"])
def test_a_name_that_is_taken_is_refused(package, taken: str) -> None:
    package("one", "e = math:e")
    package("two", f"{taken} = math:pi")
    with pytest.raises(UsageError, match=f"two entries for the number '{taken}'"):
        numbers().names()


def test_every_task_is_there_and_says_what_it_needs() -> None:
    root = Path(__file__).resolve().parents[1]
    for name in TASKS.names():
        task = task_of(name)
        assert isinstance(task, Task)
        assert 2 <= len(task.examples) <= 3
        assert list((root / "configs" / task.files).glob("*.yaml"))
    with pytest.raises(UsageError, match="no task 'images'"):
        task_of("images")


@pytest.mark.parametrize("name", TASKS.names())
def test_examples_of_the_help_are_valid(name: str) -> None:
    from snnlab.config import parse

    task = task_of(name)
    for flags in task.examples:
        argv = flags.split()
        made, _ = parse(task.config, argv, prog="p", description="", adapt=task.adapt)
        assert isinstance(made, task.config)
