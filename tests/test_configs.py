"""Every YAML in ``configs/`` loads, and its head says what it is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from snnlab.config import parse

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
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
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("# command:", "# expected:", "# source:"):
        assert any(line.startswith(word) for line in head), f"{word} is missing"
    assert str(path.relative_to(ROOT)) in " ".join(head)
