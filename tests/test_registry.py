"""Names, and entry points of other packages."""

from __future__ import annotations

import importlib
import os
import subprocess
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


OWN_DATA = """
import numpy as np
from snnlab.data import pack
from snnlab.data.registry import Dataset

def load(name, path):
    rng = np.random.default_rng(0)
    x = rng.random((40, 12, 7)) < float(open(path).read())
    return pack(name, x, np.arange(40) % 4, np.arange(40) >= 30)

WAVES = Dataset("a file with a rate", "own_data:load", files=True)
"""
USE = """
import sys
from snnlab import config as configs
from snnlab.problems.balanced import BalancedRSNN
from snnlab.problems.tasks import task_of
task = task_of("image-classification")
argv = ["--dataset", "waves", "--data_path", sys.argv[1], "--data_length", "12"]
config = configs.parse(task.config, argv, prog="p", description="", adapt=task.adapt)[0]
problem = task.build(config)
print(problem.dataset, problem.n_in, problem.n_out, problem.n_steps, len(problem.test.labels))
print(configs.parse(BalancedRSNN, argv, prog="p", description="")[0].data.dataset)
"""


def test_a_package_brings_a_dataset(tmp_path: Path) -> None:
    """Every task of recordings takes it, with the options of recordings."""
    info = tmp_path / "own_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own_data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[snnlab.datasets]\nwaves = own_data:WAVES\n")
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    (tmp_path / "rate.txt").write_text("0.2")
    source = Path(__file__).resolve().parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "rate.txt")], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(source)])},
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["waves", "7", "4", "12", "10", "waves"]
