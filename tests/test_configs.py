"""Every YAML in ``configs/`` loads, and its head says what it is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from snnlab.config import parse
from snnlab.experiment.sweeps import members_of, read_sweep

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - set(SWEEPS))
#: Folder of ``configs/`` -> config type.
TYPES = {
    "balanced": "balanced:BalancedRSNN",
    "coba-ei": "evidence:CobaEI",
    "image-classification": "image_classification:ImageClassification",
    "long-term-dependency": "delayed_match:LongTermDependency",
}


def config_type(path: Path) -> type:
    module, _, name = TYPES[path.relative_to(ROOT / "configs").parts[0]].partition(":")
    return getattr(importlib.import_module(f"snnlab.problems.{module}"), name)


def test_there_are_configs() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_config_loads_and_has_a_head(path: Path) -> None:
    kind = config_type(path)
    config, _ = parse(kind, ["--config", str(path)], prog="test", description="")
    assert isinstance(config, kind)
    has_a_head(path)


def has_a_head(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("# command:", "# expected:", "# source:"):
        assert any(line.startswith(word) for line in head), f"{word} is missing"
    assert str(path.relative_to(ROOT)) in " ".join(head)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_run_of_a_sweep_is_valid(path: Path) -> None:
    has_a_head(path)
    file = read_sweep(path)
    assert (ROOT / file.task).is_file()
    for member in members_of(file, {}):
        kind = config_type(ROOT / "configs" / member.configs[0].removeprefix("configs/"))
        argv = [str(ROOT / a) if a.endswith(".yaml") else a for a in member.arguments]
        assert isinstance(parse(kind, argv, prog="test", description="")[0], kind)
