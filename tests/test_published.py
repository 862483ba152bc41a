"""``--published``: the settings of the published experiments, and what is said without them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runs import call
from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment import published
from snnlab.experiment.state import Progressed, stopped
from snnlab.problems.tasks import TASKS
from snnlab.scores import ACCURACY
from snnlab.training.config import TrainingConfig

NMNIST = ("--dataset", "nmnist")
WITH = [name for name, task in TASKS.items() if task.published]


def parsed(task: str, *argv: str) -> Any:
    kind = TASKS[task]
    return configs.parse(kind.config, argv, prog="p", description="", adapt=kind.adapt)[0]


def of(task: str) -> published.Published:
    found = TASKS[task].published
    assert found is not None
    return found


@pytest.mark.parametrize("task", WITH)
def test_a_table_names_options_and_values_that_are_valid(task: str) -> None:
    kind, table = TASKS[task].config, of(task)
    known = configs.entries(kind)
    for setting in table.settings:
        assert setting.option in known
        assert set(setting.when) <= set(known)
    for method in table.only.get("method", ("bptt", "diag", "expsm_diag")):
        argv = ["--published", "--method", method, *(NMNIST if task.startswith("image") else ())]
        made = parsed(task, *argv)
        published.check_published(table, made)
        assert table.differing(made) == {}
        assert published.line(table, made) == "settings as published"


def test_published_values_are_defaults() -> None:
    bptt = configs.flat(parsed("image-classification", "--published", *NMNIST))
    assert {name: bptt[name] for name in ("bins", "binary_bins", "first_saccade", "trainable")} == {
        "bins": "recording", "binary_bins": False, "first_saccade": True, "trainable": "map_bias",
    }  # fmt: skip
    assert bptt["loss_reduction"] == "mean"
    online = parsed("image-classification", "--published", *NMNIST, "--method", "d-rtrl")
    assert online.training.loss_reduction == "sum"
    assert parsed("image-classification", "--published", "0", *NMNIST).training == (
        parsed("image-classification", *NMNIST).training
    )


def test_published_hardware_of_balanced_networks() -> None:
    """What a drive's levels need, whole sequences, is chosen with them."""
    flags = ("--quantize_adc", "4.0", "--gauss", "0.1")
    there, here = parsed("balanced-rsnn", "--published", *flags), parsed("balanced-rsnn", *flags)
    assert (there.model.quantize_as, there.model.gauss_on) == ("affine", "drive")
    assert (here.model.quantize_as, here.model.gauss_on) == ("fixed-point", "weights")
    assert (there.learner.checkpoint_block, here.learner.checkpoint_block) == (0, 100)
    assert there.model.needs_sequences
    assert not here.model.needs_sequences
    assert {"quantize_as", "gauss_on"} <= set(of("balanced-rsnn").differing(here))


def test_flags_and_files_go_before_them(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("published: true\ndataset: shd\nbins: window\n")
    made = parsed("image-classification", "--config", str(tmp_path / "c.yaml"), "--trainable", "")
    assert (made.data.bins, made.model.trainable, made.data.binary_bins) == ("window", "", False)
    table = of("image-classification")
    assert set(table.differing(made)) == {"bins", "trainable"}
    said = "2 settings differ from the published experiment (--published; docs/fidelity.md)"
    assert published.line(table, made) == said


def test_a_written_config_says_what_it_resolved_to(tmp_path: Path) -> None:
    made = parsed("long-term-dependency", "--published", "--method", "diag")
    path = tmp_path / "config.yaml"
    path.write_text(configs.to_yaml(made))
    assert "out_scale: 2.0" in path.read_text()
    assert configs.build(TASKS["long-term-dependency"].config, configs.read_yaml(
        path, TASKS["long-term-dependency"].config)) == made  # fmt: skip


def test_without_effect_nothing_differs() -> None:
    """A factor of milestones differs only where there are milestones."""
    table = of("image-classification")
    there = parsed("image-classification", *NMNIST, "--lr_milestones", "3")
    assert "lr_gamma" in table.differing(there)
    assert "lr_gamma" not in table.differing(parsed("image-classification", *NMNIST))
    assert published.line(table, parsed("image-classification")) == ""


@pytest.mark.parametrize(("task", "argv", "message"), [
    ("image-classification", (), "--dataset nmnist, shd, gesture"),
    ("long-term-dependency", ("--model", "lif-delta"), "--model gif"),
    ("balanced-rsnn", ("--method", "diag"), "--dataset cue, shd, ssc with --method bptt"),
    ("pattern-generation", (), "no published experiment"),
    ("working-memory", (), "no published experiment"),
])  # fmt: skip
def test_refused_where_nothing_was_published(
    task: str, argv: tuple[str, ...], message: str
) -> None:
    made = parsed(task, "--published", *argv)
    with pytest.raises(UsageError, match=re.escape(message)):
        published.check_published(TASKS[task].published, made)


def test_the_goal_on_training_batches() -> None:
    """Smoothed as published: 0.8 of what was and 0.2 of the new score, from the first one on."""
    config = TrainingConfig(acc_th=0.6, goal_of="smoothed")
    progress = Progressed(best_score=1.0)
    for score, smoothed in ((0.5, 0.5), (0.75, 0.55), (0.75, 0.59), (0.75, 0.622)):
        assert not stopped(config, ACCURACY, progress)
        progress.trained(config, score)
        assert progress.training_score == pytest.approx(smoothed)
    assert stopped(config, ACCURACY, progress) == "goal"
    config = TrainingConfig(acc_th=0.6, goal_of="training")
    progress.trained(config, 0.5)
    assert not stopped(config, ACCURACY, progress)
    assert stopped(TrainingConfig(acc_th=0.6), ACCURACY, progress) == "goal"


@pytest.mark.slow
def test_a_published_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops at its goal on training batches, and has then finished."""
    run = tmp_path / "r"
    flags = ("--devices", "cpu", "--filepath", str(run), "--published", "--acc_th", "0.05")
    assert call("match", *flags, "--out_scale", "1", "--n_show", "1") == 0
    first = capsys.readouterr().out.splitlines()[0]
    said = "1 setting differs from the published experiment (--published; docs/fidelity.md)"
    assert first == f"starting, expsm_diag, seed 0; {said}"
    found = json.loads((run / "results.json").read_text())
    assert found["epochs"] == 1
    assert 0.05 <= found["goal_score"] <= 1.0
    assert "trainable: map_bias" in (run / "config.yaml").read_text()
    with pytest.raises(UsageError, match=r"its training accuracy of .* reached --acc_th 0\.05"):
        call("match", "--devices", "cpu", "--resume", str(run))
