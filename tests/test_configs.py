"""Every YAML in ``configs/`` loads, and its head says what it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from snnlab.cli import run
from snnlab.config import parse
from snnlab.config_files import is_of
from snnlab.experiment.published import check_published
from snnlab.experiment.sweep_file import members_of, read_sweep
from snnlab.experiment.task import Task
from snnlab.problems import gradient_analysis
from snnlab.problems.tasks import TASKS
from snnlab.search.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
CLAIMS = (ROOT / "configs" / "reproduce").glob("*.yaml")  # tests/test_claims.py
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - {*SWEEPS, *CLAIMS})


def task_of(path: Path) -> Task:
    """The task of a file."""
    return next(task for _, task in TASKS.items() if is_of(path, task.files))


def read(path: Path, *argv: str) -> tuple[type, Any]:
    """The config type of a file's task, and the config of a command."""
    if is_of(path, gradient_analysis.FILES):
        kind, adapt = gradient_analysis.GradientAnalysis, gradient_analysis.adapt
    else:
        kind, adapt = task_of(path).config, task_of(path).adapt
    config, _ = parse(kind, [*argv], prog="test", description="", adapt=adapt)
    return kind, config


def test_there_are_configs() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_config_loads_and_has_a_head(path: Path) -> None:
    kind, config = read(path, "--config", str(path))
    assert isinstance(config, kind)
    has_a_head(path)


def test_every_published_command_has_a_config() -> None:
    """With ``published: true``, and what the command says; the table of its task holds for it."""
    files = [path for path in FILES if path.parent.name == "published"]
    of = Counter(task_of(path).files for path in files)
    assert of == {
        "balanced": 5, "coba-ei": 3, "image-classification": 11, "long-term-dependency": 5,
    }  # fmt: skip
    for path in files:
        _, config = read(path, "--config", str(path))
        table = task_of(path).published
        assert config.run.published
        check_published(table, config)
        assert not table.differing(config)
        assert run._task_of(["--config", f"published/{path.stem}"]) in TASKS


def has_a_head(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("# command:", "# expected:", "# source:"):
        assert any(line.startswith(word) for line in head), f"{word} is missing"
    folder = path.parent.name
    command = (
        f"snnlab sweep {path.stem}" if folder == "sweeps" else f"--config {folder}/{path.stem}"
    )
    assert command in " ".join(head)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_run_of_a_sweep_is_valid(path: Path) -> None:
    has_a_head(path)
    file = read_sweep(path)
    if file.search is not None:
        assert file.task in TASKS
        assert Plan.of(path, file).space  # refuses what no trial could be
        return
    for member in members_of(file, {}):
        if member.left_out:
            continue
        task = TASKS.get(member.task)
        argv = [str(ROOT / a) if a.endswith(".yaml") else a for a in member.arguments]
        config, _ = parse(task.config, argv, prog="test", description="", adapt=task.adapt)
        assert isinstance(config, task.config)
