"""Every config of the memory tasks builds, with and without its smoke override."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnlab import config as configs
from snnlab.problems.delayed_match import LongTermDependency
from snnlab.problems.evidence import CobaEI

ROOT = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = [
    (kind, path)
    for folder, kind in (("long-term-dependency", LongTermDependency), ("coba-ei", CobaEI))
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if path.stem != "smoke"
]


@pytest.mark.parametrize(("kind", "path"), CONFIGS, ids=[p.stem for _, p in CONFIGS])
@pytest.mark.parametrize("smoke", [False, True], ids=["full", "smoke"])
def test_a_config_is_valid_and_documented(kind: type, path: Path, smoke: bool) -> None:
    argv = ["--config", str(path)] + ["--config", str(path.with_name("smoke.yaml"))] * smoke
    config = configs.parse(kind, argv, prog="x", description="")[0]
    assert config.training.epochs == (2 if smoke else config.training.epochs)
    head = path.read_text(encoding="utf-8").split("learner:")[0]
    for word in ("# command:", "# smoke:", "# expected:"):
        assert word in head


def test_every_experiment_has_a_config() -> None:
    names = ["bptt", "d-rtrl", "es-d-rtrl", "coba", "cuba", "two-cores"]
    assert sorted(p.stem for _, p in CONFIGS) == sorted(names)
