"""Every YAML in ``configs/`` loads, and its head says what it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from snnlab.config import parse
from snnlab.experiment.sweep_file import members_of, read_sweep
from snnlab.problems.tasks import TASKS
from snnlab.search.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - set(SWEEPS))
#: Folder of ``configs/`` -> config type.
TYPES = {
    "balanced": "balanced:BalancedRSNN",
    "coba-ei": "evidence:CobaEI",
    "image-classification": "image_classification:ImageClassification",
    "long-term-dependency": "delayed_match:LongTermDependency",
    "pattern-generation": "pattern_generation:PatternGeneration",
}


def read(path: Path, *argv: str) -> tuple[type, Any]:
    """The config type of a file's folder, and the config of a command."""
    name, _, kind = TYPES[path.relative_to(ROOT / "configs").parts[0]].partition(":")
    module = importlib.import_module(f"snnlab.problems.{name}")
    adapt = getattr(module, "defaults", getattr(module, "adapt", None))
    config, _ = parse(getattr(module, kind), [*argv], prog="test", description="", adapt=adapt)
    return getattr(module, kind), config


def test_there_are_configs() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_config_loads_and_has_a_head(path: Path) -> None:
    kind, config = read(path, "--config", str(path))
    assert isinstance(config, kind)
    has_a_head(path)


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
    assert file.task in TASKS
    if file.search is not None:
        assert Plan.of(path, file).space  # refuses what no trial could be
        return
    for member in members_of(file, {}):
        argv = [str(ROOT / a) if a.endswith(".yaml") else a for a in member.arguments]
        kind, config = read(ROOT / "configs" / member.configs[0].removeprefix("configs/"), *argv)
        assert isinstance(config, kind)
