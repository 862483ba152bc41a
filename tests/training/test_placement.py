"""A batch split over devices gives what one gives: a process with eight devices of its CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnlab import sharding
from snnlab.data.batch import Targets
from snnlab.errors import UsageError
from snnlab.training.placement import Placement, Spread

SCRIPT = Path(__file__).resolve().parents[1] / "shards.py"
#: Of final parameters, of numbers of a batch, relative.
CLOSE = 1e-5
IMAGE = "--n_rec 16 --n_layer 2 --batch_size 8 --data_length 12 --val_fraction 0.17"
BALANCED = (
    "--model alif-delta --tau_a 500 --neurons 24 --samples 24 --batch-size 8 --balance 0 "
    "--balance_refit 0 --track-balance 0 --dataset-scale 1"
)
MATCH = (
    "--t_fixation 0 --t_sample 30 --t_delay 10 --t_test 30 --n_rec 24 --tau_neu 10 --tau_syn 10 "
    "--tau_I2 100 --batch_size 16 --epoch_batches 10 --val_batches 1 --test_batches 1 --n_show 2"
)
RATES = "--spk_reg_factor 1 --spk_reg_rate 30 --v_reg_factor 0.1"


def results(cases: list[list[Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the process says of each case, by its name."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(cases), str(tmp_path)],
        capture_output=True, text=True, timeout=3000, env=os.environ,
    )  # fmt: skip
    lines = [line[1:] for line in done.stdout.splitlines() if line.startswith("#")]
    assert done.returncode == 0, done.stderr[-3000:]
    return {found["case"]: found for found in map(json.loads, lines)}


def assert_same(found: dict[str, Any], count: int) -> None:
    assert found["moved"] > 1e-3  # it has learnt
    assert all(rate > 1 for rate in found["rates"])
    one = found[str(count)]
    assert one["params"] < CLOSE
    assert one["numbers"] < CLOSE
    assert one["test"] < CLOSE
    assert one["decisions"]


def test_eight_devices_are_one(tmp_path: Path) -> None:
    """With padding, dropout, regularisers of the batch's rates and traces that are kept; and with
    what an evaluation draws."""
    flags = f"{IMAGE} --n_layer 1 --method diag --chunk_size 5 --dropout 0.2 {RATES}"
    cases = [["all", "train", "image-classification", flags, [8], 4]]
    cases += [[f"{k} devices", "spread", k, 4] for k in (1, 3, 4)]
    noise = f"{IMAGE} {RULES['noise, D-RTRL']}"
    cases += [["noise", "train", "image-classification", noise, [2], 4]]
    every = results(cases, tmp_path)
    assert_same(every["noise"], 2)
    for k, used in ((1, 1), (3, 2), (4, 4)):  # as many devices as divide the seeds
        seeds = every[f"{k} devices"]
        assert seeds["devices"] == used
        assert seeds["state"] == [1.0, 3.0, 7.0, 13.0]  # (k + 1) k + 1
        assert seeds["total"] == [1.0, 5.0, 9.0, 13.0]
    found = every["all"]
    assert_same(found, 8)
    assert found["penalty"] > 1e-3
    assert sorted(set(found["samples"])) == [3.0, 8.0]
    assert found["8"]["traces"] == 1 / 8


RULES = {
    **{rule: f"--method {rule}" for rule in (
        "bptt", "diag", "expsm_diag", "eprop", "rflo", "decolle", "ottt", "otpe", "ostl",
        "ostl-without-h", "snap-1", "snap-2", "uoro", "rtrl", "immediate", "hybrid",
    )},
    "tbptt": "--method tbptt --chunk_size 4",
    "learned feedback": "--method eprop --feedback adaptive",
    "windows": "--method diag --vjp_method multi-step --chunk_size 4",
    "an update at every step": "--method diag --update_every 1",
    "an update every 5 steps": "--method diag --update_every 5",
    "chunks": "--method diag --chunk_size 3",
    "braintrace": "--method diag --backend braintrace",
    "braintrace, ES-D-RTRL": "--method expsm_diag --backend braintrace",
    "braintrace, windows":
        "--method diag --backend braintrace --vjp_method multi-step --chunk_size 4",
    "plain": f"--method bptt --backend plain --dropout 0.2 {RATES}",
    "remat": "--method bptt --remat 1",
    "mixed": "--method bptt --precision mixed",
    "sparse": "--method diag --connectivity 0.5",
    "sparch": "--method bptt --model RadLIF --normalization batchnorm --use_regularizers 1 "
        "--reg_fmin 0.2 --dropout 0.2 --bidirectional 1",
    "layerwise": f"--method bptt --backend layerwise {RATES}",
    "noise and levels": "--method bptt --model RadLIF --n_layer 1 --gauss 0.1 --gauss_on drive "
        "--quantize 5.0 --quantize_adc 5.0 --quantize_as affine",
    "noise, D-RTRL": "--method diag --model RadLIF --n_layer 1 --gauss 0.1 --gauss_on drive",
    "decay, clipping": "--method bptt --optimizer adamw --weight_decay 0.01 --weight_L2 0.001 "
        "--clip_norm 0.1",
    "loss at the end": "--method bptt --loss_steps end --loss mse",
    "loss of the sum": "--method diag --loss_of sum",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4, 8])
def test_every_learner(count: int, tmp_path: Path) -> None:
    cases = [
        [name, "train", "image-classification", f"{IMAGE} {flags}", [count], 20]
        for name, flags in RULES.items()
    ]
    found = results(cases, tmp_path)
    for name in RULES:
        assert_same(found[name], count)


@pytest.mark.slow
def test_tasks_and_memory(tmp_path: Path) -> None:
    """Generated trials; sequences to follow; one trial, which cannot be split; traces of a size."""
    large = "--n_rec 128 --batch_size 16 --data_length 12 --val_fraction 0.17 --chunk_size 3"
    cases = [
        ["match", "train", "long-term-dependency", f"{MATCH} --method expsm_diag", [2, 4, 8], 20],
        ["cue", "train", "balanced-rsnn", f"{BALANCED} --method diag", [2, 4, 8], 6],
        ["one trial", "train", "pattern-generation", "--n_rec 10", [2], 1],
        ["large", "train", "image-classification", f"{large} --method diag", [2, 4, 8], 2],
        ["brainscale", "train", "image-classification",
            f"{IMAGE} --method diag --backend brainscale", [2], 1],
    ]  # fmt: skip
    found = results(cases, tmp_path)
    for count in (2, 4, 8):
        for name in ("match", "cue", "large"):
            assert_same(found[name], count)
        assert found["large"][str(count)]["traces"] == 1 / count
        # The gradient is whole on each device: a sixteenth of the traces of 16 samples.
        assert found["large"][str(count)]["temp"] < 1 / count + 1.5 / 16
    assert "a batch of one sample cannot be split" in found["one trial"]["2"]["refused"]
    assert "largest value over the samples" in found["brainscale"]["2"]["refused"]


@pytest.mark.slow
def test_neurons_are_split(tmp_path: Path) -> None:
    """Traces, weights and optimiser of each device are 1/N; what has none is refused."""
    image = "--batch_size 8 --data_length 12 --val_fraction 0.17 --n_rec 128"
    rules = {
        "traces": "--method diag --chunk_size 3 --n_layer 2",
        "updates": "--method diag --update_every 4 --dropout 0.2",
        "smoothed": f"--method expsm_diag {RATES}",
        "odd": "--method diag --n_rec 10",
        "bptt": "--method bptt",
        "sparse": "--method diag --connectivity 0.5",
    }
    cases = [
        [name, "train", "image-classification", f"{image} {flags}", [4], 20, "neurons"]
        for name, flags in rules.items()
    ]
    found = results(cases, tmp_path)
    for name in ("traces", "updates", "smoothed"):
        assert_same(found[name], 4)
    assert found["traces"]["4"]["temp"] < 0.3
    for name, line in (
        ("odd", "layers of 10 neurons cannot be split evenly over 4 devices"),
        ("bptt", "splits what online rules of --backend snnlab remember"),
        ("sparse", "not with sparse maps"),
    ):
        assert line in found[name]["4"]["refused"]


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path: Path) -> None:
    flags = f"{MATCH} --method diag --epoch_batches 3"
    found = results([["runs", "resume", "long-term-dependency", flags]], tmp_path)["runs"]
    assert found["same"] == {"params": 0.0, "equal": True, "devices": 4}
    for name, devices in (("other", 2), ("one", None)):
        assert 0 < found[name]["params"] < CLOSE
        assert found[name]["devices"] == devices


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "used"), [(4, 4), (3, 3)])
def test_seeds_are_spread_over_devices(trials: int, used: int, tmp_path: Path) -> None:
    flags = f"{MATCH} --method expsm_diag --epochs 2 --epoch_batches 3"
    cases = [["seeds", "seeds", "long-term-dependency", flags, trials]]
    found = results(cases, tmp_path)["seeds"]
    assert found["vmapped"] == [True] * trials
    assert found["devices"] == [used] * trials
    assert max(found["params"]) < CLOSE


# ---------------------------------------------------------------------- in this process


def test_a_batch_that_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="batch of 6 cannot be split evenly over 4 devices"):
        Placement([FakeDevice()] * 4).size(6)
    assert Placement().size(6) == 6


class FakeDevice:
    """A device of another process: nothing is placed on it."""

    process_index = -1


def test_on_one_device_nothing_is_changed() -> None:
    def fun(*args: Any) -> Any:
        return args

    tree = {"a": np.ones(3)}
    alone = Placement()
    assert alone.over(fun) is fun
    assert alone.same(tree) is tree
    assert sharding.total(tree) is tree
    assert sharding.numbered(tree) is tree
    assert sharding.once(3.0) == 3.0
    assert Spread((), 3).over(fun, ()) is fun


def test_seeds_use_as_many_devices_as_divide_them() -> None:
    pool = [FakeDevice()] * 4
    assert [Spread(pool[:k], n).n for k, n in ((4, 1), (3, 3), (1, 8), (0, 8))] == [1, 3, 1, 1]


def test_targets_are_cut_along_samples() -> None:
    values, steps = np.zeros((5, 4, 3)), np.arange(20).reshape(5, 4)
    targets = Targets(values, np.arange(4), steps)
    first, second = targets.parts(2)
    assert second.values.shape == (5, 2, 3)
    assert second.mask.tolist() == [2, 3]
    assert first.steps.tolist() == steps[:, :2].tolist()
    labels = Targets(np.arange(4), np.ones(4), np.arange(5)).parts(4)
    assert [part.values.tolist() for part in labels] == [[0], [1], [2], [3]]
    assert all(part.steps.shape == (5,) for part in labels)
