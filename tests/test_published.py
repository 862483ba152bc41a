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


#: What the published programs have, read in their sources; a table that is changed shows here.
IMAGES = {
    "bins": "recording", "binary_bins": False, "trainable": "map_bias", "weight_L1_at": "step",
    "weight_L2_as": "decay", "spk_reg_of": "population", "v_reg_square": True,
}  # fmt: skip
MATCH = {
    "out_scale": 6.0, "V_init": "threshold", "trainable": "map_bias", "epoch_batches": 1,
    "goal_of": "smoothed", "acc_th": 0.95, "tau_o": 10.0, "weight_L1_at": "step",
    "weight_L2_as": "decay", "spk_reg_of": "population", "v_reg_square": True, "diff_spike": False,
}  # fmt: skip
EVIDENCE = {
    "sparsity": 0.1, "weight_scale": "plain", "dale": "sums", "trainable": "map_bias",
    "out_scale": 2.0, "tau_I2_of": "all", "A1": 0.01, "tau_I1": 50.0, "A2": 1.0, "Ath": 1.0,
    "tau_th": 100.0, "Ath_acts": "all", "th_step": "euler", "V_init": "uniform", "tau_o": 10.0,
    "epoch_batches": 1, "lr_gamma": 0.9, "acc_th": 0.9, "goal_of": "smoothed",
    "weight_L1_at": "step", "w_ei_ratio": 4.0, "n_rec": 200, "ff_scale": 1.0, "rec_scale": 0.5,
    "tau_mem": 100.0, "tau_syn": 10.0, "tau_I2": 1000.0, "epochs": 10_001, "lr_step": 5,
}  # fmt: skip
BALANCED = {
    "lr_min": 1e-6, "balance_samples": 0, "tau_rec": "1900,2100", "tau_out": "5,25",
    "quantize_as": "affine", "gauss_on": "drive", "surrogate_of": "spikes",
}  # fmt: skip
ONE_STEP = {"vjp_method": "multi-step", "chunk_size": 1}
#: Options without effect have their default: what gives them one.
PENALTIES = tuple(
    word for name in ("weight_L1", "weight_L2", "spk_reg_factor", "v_reg_factor")
    for word in (f"--{name}", "0.01")
)  # fmt: skip
BALANCE = ("--track_balance", "--single_spike", "--quantize", "4.0", "--gauss", "0.1")


@pytest.mark.parametrize(("task", "argv", "wanted"), [
    ("image-classification", (*NMNIST, *PENALTIES, "--lr_milestones", "3"),
     {**IMAGES, "first_saccade": True, "lr_gamma": 0.2, "loss_reduction": "mean"}),
    ("image-classification", ("--dataset", "shd", "--method", "expsm_diag", *PENALTIES),
     {**IMAGES, "loss_reduction": "sum", "vjp_method": "single-step"}),
    ("image-classification", ("--dataset", "gesture", *PENALTIES), {**IMAGES, "binary_bins": True}),
    ("long-term-dependency", ("--ff_scale", "6", "--method", "bptt", *PENALTIES),
     {**MATCH, "loss_reduction": "mean"}),
    ("long-term-dependency", ("--ff_scale", "6", "--method", "diag", *PENALTIES),
     {**MATCH, "loss_reduction": "sum", "vjp_method": "single-step"}),
    ("long-term-dependency", (), {"ff_scale": 10.0, "out_scale": 10.0, "rec_scale": 2.0}),
    ("coba-ei", ("--method", "bptt", *PENALTIES[:2]), {**EVIDENCE, "loss_reduction": "mean"}),
    *(
        ("coba-ei", ("--method", name, *PENALTIES[:2]),
         {**EVIDENCE, **ONE_STEP, "loss_reduction": "sum"})
        for name in ("diag", "expsm_diag")
    ),
    ("balanced-rsnn", BALANCE, BALANCED),
    ("balanced-rsnn", ("--dataset", "shd", *BALANCE),
     {**BALANCED, "binary_bins": False, "bins": "edges"}),
])  # fmt: skip
def test_published_values(task: str, argv: tuple[str, ...], wanted: dict[str, Any]) -> None:
    made = configs.flat(parsed(task, "--published", *argv))
    assert {name: made[name] for name in wanted} == wanted


def test_what_is_turned_off_differs_though_its_size_is_free() -> None:
    table = of("coba-ei")
    assert not table.differing(parsed("coba-ei", "--published", "--lr_step", "7", "--n_rec", "20"))
    made = parsed("coba-ei", "--published", "--lr_step", "0", "--acc_th", "0")
    assert set(table.differing(made)) == {"lr_step", "acc_th"}
    assert {"lr_step", "acc_th"} <= set(table.differing(parsed("coba-ei")))


def test_a_second_published_program() -> None:
    """Settings of the tutorial are as published too; those of both programs, mixed, are not."""
    table, tutorial = of("long-term-dependency"), "published/long-term-dependency-tutorial-bptt"
    made = parsed("long-term-dependency", "--config", tutorial)
    assert not table.differing(made)
    mixed = parsed("long-term-dependency", "--config", tutorial, "--ff_scale", "6")
    assert set(table.differing(mixed)) == {"ff_scale"}
    command = "published/long-term-dependency-bptt"
    assert not table.differing(parsed("long-term-dependency", "--config", command))
    made = parsed("long-term-dependency", "--config", command, "--out_scale", "2")
    assert table.differing(made) == {"out_scale": (2.0, 6.0)}


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
    assert "out_scale: 10.0" in path.read_text()
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
    ("image-classification", (*NMNIST, "--model", "gif-delta"), "--model lif-delta, alif-delta"),
    ("image-classification", (*NMNIST, "--method", "eprop"), "--method bptt, diag, expsm_diag"),
    ("long-term-dependency", ("--model", "lif-delta"), "--model gif"),
    ("balanced-rsnn", ("--method", "diag"), "--dataset cue, shd, ssc with --method bptt"),
    ("balanced-rsnn", ("--model", "CuBaLIF"), "--model LIF, adLIF, RLIF, RadLIF"),
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
    said = "2 settings differ from the published experiment (--published; docs/fidelity.md)"
    assert first == f"starting, expsm_diag, seed 0; {said}"
    found = json.loads((run / "results.json").read_text())
    assert found["epochs"] == 1
    assert 0.05 <= found["goal_score"] <= 1.0
    assert "trainable: map_bias" in (run / "config.yaml").read_text()
    with pytest.raises(UsageError, match=r"its smoothed accuracy of .* reached --acc_th 0\.05"):
        call("match", "--devices", "cpu", "--resume", str(run))
