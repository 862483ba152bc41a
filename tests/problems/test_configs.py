"""Every config of the memory tasks builds, with and without its smoke override."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from snnlab import config as configs
from snnlab.experiment.run import run
from snnlab.problems import delayed_match, evidence
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
    assert (config.training.epochs in (2, 3)) == smoke
    head = path.read_text(encoding="utf-8").split("learner:")[0]
    for word in ("# command:", "# smoke:", "# expected:"):
        assert word in head


def test_every_experiment_has_a_config() -> None:
    names = ["bptt", "d-rtrl", "es-d-rtrl", "es-d-rtrl-4000", "coba", "cuba", "two-cores"]
    assert sorted(p.stem for _, p in CONFIGS) == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "path"), CONFIGS, ids=[p.stem for _, p in CONFIGS])
def test_a_smoke_run_learns_above_chance(kind: type, path: Path, tmp_path: Path) -> None:
    """Chance is 1/2: 0.6 is more than four standard errors above it, over 512 test trials."""
    argv = ["--config", str(path), "--config", str(path.with_name("smoke.yaml"))]
    config = configs.parse(
        kind, [*argv, "--filepath", str(tmp_path / "run")], prog="x", description=""
    )[0]
    build = delayed_match.build if kind is LongTermDependency else evidence.build
    assert run(config, build(config), Console(quiet=True))["test_accuracy"] > 0.6
