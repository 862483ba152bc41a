"""A silent network and gradients that are all zero: one line each, once in a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from recorded import write_nmnist
from snnlab import config as configs
from snnlab.experiment.command import command
from snnlab.problems import balanced, image_classification
from snnlab.training.alarms import alarms, new_alarms
from snnlab.training.averages import Averages
from snnlab.training.progress import show_rates

KIND = image_classification.ImageClassification
SMALL = [
    "--dataset", "nmnist", "--data_length", "10", "--n_rec", "4", "--n_layer", "1", "--batch_size",
    "4", "--val_fraction", "0.25", "--devices", "cpu", "--V_th", "1e4", "--spk_fun", "boxcar",
]  # fmt: skip
NAMES = ("layer 1 (lif-delta)", "layer 2 (lif-delta)")
ADVICE = "raise --ff_scale (now 10) or lower --V_th (now 10000)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nmnist(tmp_path_factory.mktemp("nmnist"))


def parsed(kind: Any = KIND, *flags: str) -> Any:
    adapt = balanced.defaults if kind is balanced.BalancedRSNN else image_classification.adapt
    return configs.parse(kind, list(flags), prog="x", description="", adapt=adapt)[0]


def row(epoch: int, rates: list[float], grad_norm: float | None = 1.0, **more: Any) -> dict:
    made = {"epoch": epoch, "split": "train", "loss": 2.3, "firing_rates": rates, **more}
    return made if grad_norm is None else {**made, "grad_norm": grad_norm}


# ---------------------------------------------------------------- the decision


def test_a_network_that_lives_gives_no_alarm() -> None:
    rows = [{"epoch": 0, "split": "initial"}, row(1, [1e-7, 3.0], 1e-30)]
    assert alarms(rows, NAMES, parsed()) == []


def test_what_is_wrong_and_what_to_do() -> None:
    rows = [row(1, [2.0, 1.0]), row(2, [2.0, 0.0]), row(3, [0.0, 0.0], 0.0)]
    silent, flat = alarms(rows, NAMES, parsed(KIND, "--V_th", "0.5"))
    ways = "raise --ff_scale (now 10)", "lower --V_th (now 0.5)"
    assert silent == (
        "layer 2 (lif-delta) was silent throughout epoch 2, not one output but 0: "
        + " or ".join(ways)
    )
    assert flat == (
        "all gradients were zero throughout epoch 3, nothing was learned: "
        f"{', '.join(ways)} or take --spk_fun s2nn, whose gradient is zero nowhere"
    )


def test_each_comes_once() -> None:
    rows: list[dict] = []
    told = []
    for epoch, rates, norm in ((1, [0.0, 1.0], 1.0), (2, [0.0, 0.0], 0.0), (3, [0.0, 0.0], 0.0)):
        rows.append(row(epoch, rates, norm))
        told.append(len(new_alarms(rows, 1, NAMES, parsed())))
    assert told == [1, 1, 0]


def test_the_advice_has_the_options_of_the_task() -> None:
    flags = ["--model", "RLIF", "--single-spike", "--balance", "--nu", "2"]
    config = parsed(balanced.BalancedRSNN, *flags, "--dataset-scale", "3")
    (text,) = alarms([row(1, [0.0])], ["layer 1 (RLIF)"], config)
    assert text.endswith(": raise --dataset_scale (now 3) or lower --nu (now 2)")


def test_a_loss_that_has_nothing_left_is_no_alarm() -> None:
    assert alarms([row(9, [1.0, 1.0], 0.0, loss=0.0)], NAMES, parsed()) == []


@pytest.mark.parametrize(
    ("split", "place"),
    [("val", "on the validation set after epoch 2"), ("test", "on the test set")],
)
def test_silence_outside_of_training_counts_too(split: str, place: str) -> None:
    rows = [row(2, [1.0, 1.0]), row(2, [0.0, 1.0], None, split=split)]
    (text,) = alarms(rows, NAMES, parsed())
    assert text.startswith(f"layer 1 (lif-delta) was silent {place}, ")


def test_a_rate_is_zero_only_without_a_spike() -> None:
    """One spike of 200 neurons in 60,000 recordings of 0.3 s."""
    totals = Averages()
    rate = 1 / (200 * 60_000 * 0.3)
    totals.add({"count": 4, "loss": 1.0, "measures": {}, "rates": [rate, 0.0], "grad_norm": 0.5})
    made = totals.row(1, "train")
    assert made["firing_rates"] == [pytest.approx(rate, rel=1e-5), 0.0]
    assert made["grad_norm"] == 0.5
    assert show_rates({"firing_rates": [12.34, 0.0834, 0.0]}) == "rate 12.3/0.083/0 Hz"


# ---------------------------------------------------------------- runs


def run(*flags: str) -> None:
    command(KIND, image_classification.build, prog="task", description="", argv=list(flags))


def warned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("warning: ")]


def results(path: Path) -> dict[str, Any]:
    return json.loads((path / "results.json").read_text())


def test_a_silent_run_says_so_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """On the console, in log.txt and in results.json; also when it is resumed."""
    data, where = ["--data_path", str(folder)], tmp_path / "run"
    run(*SMALL, *data, "--epochs", "2", "--filepath", str(where))
    lines = warned(capsys.readouterr().out)
    assert lines == [
        f"warning: {NAMES[0]} was silent throughout epoch 1, not one output but 0: {ADVICE}",
        "warning: all gradients were zero throughout epoch 1, nothing was learned: "
        f"{ADVICE.replace(' or', ',')} or take --spk_fun s2nn, whose gradient is zero nowhere",
    ]
    run("--resume", str(where), "--epochs", "3")
    assert warned(capsys.readouterr().out) == []
    texts = [line.removeprefix("warning: ") for line in lines]
    assert results(where)["warnings"] == texts
    log = (where / "log.txt").read_text()
    assert [log.count(f"WARNING {text}") for text in texts] == [1, 1]
    run(*SMALL, *data, "--mode", "sim", "--filepath", str(tmp_path / "sim"))
    (line,) = warned(capsys.readouterr().out)
    assert line.startswith(f"warning: {NAMES[0]} was silent in this batch, ")


def test_each_of_several_seeds_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(*SMALL, "--data_path", str(folder), "--epochs", "1", "--trials", "2", "--vmap_trials",
        "yes", "--filepath", str(tmp_path / "run"))  # fmt: skip
    lines = warned(capsys.readouterr().out)
    starts = [line.split(":")[1].strip() for line in lines]
    assert starts == ["seed 0", "seed 0", "seed 1", "seed 1"]
    all_of_them = results(tmp_path / "run")["warnings"]
    assert [f"warning: {text}" for text in all_of_them] == lines
    assert len(results(tmp_path / "run" / "seed-1")["warnings"]) == 2


def test_a_config_without_such_options_has_advice_too() -> None:

    @dataclasses.dataclass(frozen=True)
    class Bare:
        pass

    (text,) = alarms([row(1, [0.0])], ["layer 1"], Bare())
    assert text.endswith(": give it larger input weights")
