"""The balanced networks' task: verbatim commands, one short run, every learner."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.analysis.balance import balance
from snnlab.experiment import assemble
from snnlab.experiment.command import command
from snnlab.learners import get_params
from snnlab.learners.functional import Pure, param_states
from snnlab.problems.balanced import BalancedRSNN, build, defaults
from snnlab.problems.balanced_data import BalancedData, make_splits

ROOT = Path(__file__).resolve().parents[2]
#: The commands of the original's README after ``python main.py``.
COMMANDS = {
    "baseline-multispike": (
        "--model RLIF --dataset cue --n-layer 1 --neurons 100 --dropout 0.0 --normalization none "
        "--track-balance --batch-size 30 --dataset-scale 200 --n-epochs 10 --new-exp-folder "
        "baseline_multispike --trials 3 --plot --balance-metric lowpass --gpu 0 --repeat 4"
    ),
    "baseline-singlespike": (
        "--model RLIF --dataset cue --n-layer 1 --neurons 100 --dropout 0.0 --normalization none "
        "--track-balance --batch-size 30 --dataset-scale 200 --n-epochs 10 --new-exp-folder "
        "baseline_singlespike --single-spike --repeat 4 --trials 3 --plot --balance-metric "
        "lowpass --gpu 0"
    ),
    "lsm": (
        "--model RLIF --dataset cue --n-layer 1 --neurons 100 --dropout 0.0 --normalization none "
        "--track-balance --batch-size 30 --dataset-scale 200 --n-epochs 10 --single-spike "
        "--repeat 4 --trials 3 --fix-w-in --fix-w-rec --fix-tau-out --fix-tau-rec --balance "
        "--plot --new-exp-folder lsm --balance-metric lowpass --gpu 0"
    ),
    "cuba": (
        "--V-scale 0.3 --V-slow-scale 0.2 --model RLIF --dataset cue --n-layer 1 --neurons 100 "
        "--dropout 0 --normalization none --track-balance --repeat 4 --batch-size 30 "
        "--single-spike --dataset-scale 200 --balance --fix-w-in --new-exp-folder cuba_fixed "
        "--n-epochs 10 --trials 3 --balance-metric lowpass --plot --gpu 0 --slow-dynamics "
        "--fix-w-rec"
    ),
    "train-all": (
        "--model RLIF --dataset cue --n-layer 1 --neurons 100 --dropout 0.0 --normalization none "
        "--track-balance --batch-size 30 --dataset-scale 200 --n-epochs 10 --single-spike "
        "--repeat 4 --trials 3 --balance --plot --new-exp-folder train_all --balance-metric "
        "lowpass --gpu 0"
    ),
}


def parsed(flags: list[str]) -> BalancedRSNN:
    return configs.parse(BalancedRSNN, flags, prog="x", description="", adapt=defaults)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_verbatim_commands_are_the_configs(name: str) -> None:
    verbatim = parsed(COMMANDS[name].split())
    from_file = parsed(["--config", str(ROOT / "configs" / "balanced" / f"{name}.yaml")])
    assert configs.differences(verbatim, from_file, ignore=("filepath",)) == []
    training = verbatim.training
    assert (training.lr, training.schedule, training.clip_norm) == (0.01, "plateau", 0.0)


@pytest.mark.parametrize(
    ("flags", "wanted", "first"),
    [
        ("", ("softmax", "end"), 2249),
        ("--method diag", ("linear", "each"), 1050),
        ("--method diag --loss_steps end", ("linear", "end"), 2249),
        ("--loss_of linear --loss_steps each", ("linear", "each"), 1050),
        ("--loss_steps each", ("softmax", "each"), 1050),
        ("--method rtrl --loss_of softmax", ("softmax", "each"), 1050),
    ],
)
def test_the_loss_is_an_option_that_follows_the_method(
    flags: str, wanted: tuple[str, str], first: int
) -> None:
    config = parsed([*SMALL, *flags.split()])
    assert (config.training.loss_of, config.training.loss_steps) == wanted
    assert f"loss_of: {wanted[0]}" in configs.to_yaml(config)
    parts = assemble(config, build(config))
    assert parts.programs.objective.warmup == first
    assert parts.network.readout.summed == wanted[0]


def test_figures_name_the_groups_and_periods_of_cues() -> None:
    splits = make_splits(BalancedData(samples=4, batch_size=2, repeat=3), 0)
    assert splits.input_groups == (("left", 10), ("right", 10), ("recall", 10), ("noise", 10))
    assert sum(steps for _, steps in splits.periods) == splits.n_steps == 3 * 2250
    assert splits.periods[-1] == ("recall", 450)


def test_an_earlier_runs_loss_was_that_of_its_method() -> None:
    for method, wanted in (("bptt", {}), ("diag", {"loss_of": "linear", "loss_steps": "each"})):
        saved = {"method": method, "lr": 0.01}
        assert BalancedRSNN.of_earlier(saved) == saved | wanted
    chosen = {"method": "diag", "loss_of": "linear", "loss_steps": "end"}
    assert BalancedRSNN.of_earlier(chosen) == chosen


#: Balance at initialisation measured on the original: low-pass, 5 samples.
ORIGINAL = {"baseline-multispike": 0.15, "lsm": 0.71, "cuba": 0.84, "train-all": 0.50}


def measured(name: str) -> dict[str, float]:
    """Balance of the untrained network; for CUBA also as the original tracks it (s for r)."""
    config = parsed(COMMANDS[name].split())
    problem = build(config)
    net = problem.make_network("plain")
    params = get_params(net)
    found = {"ours": problem.measure(params)["balance"][0]}
    if name == "cuba":
        layer = net.layers[0]
        batch = problem.val.batch(0)
        net.init_states(config.data.batch_size)

        def step(x):
            net.update(x)
            s = layer.spikes()
            exc = inh = 0.0
            for y, m in ((x, layer.w), (s, layer.v)):
                exc += y @ jnp.maximum(m.effective_weight(), 0)
                inh += y @ jnp.minimum(m.effective_weight(), 0)
            slow = layer._v_slow
            return exc + s @ jnp.maximum(slow, 0), inh + s @ jnp.minimum(slow, 0)

        example = jnp.zeros((config.data.batch_size, problem.n_in))
        pure = Pure(step, (example,), param_states(net))

        @jax.jit
        def run(stream):
            def body(carry, t):
                carry, out = pure(params, carry, stream.at(t))
                return carry, jax.tree.map(lambda a: a[:5], out)

            _, (exc, inh) = jax.lax.scan(body, pure.initial, jnp.arange(problem.n_steps))
            return balance(exc, inh, "lowpass").value

        found["raw"] = float(run(batch.stream))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINAL)
def test_balance_of_untrained_networks(name: str) -> None:
    found = measured(name)
    assert abs(found.get("raw", found["ours"]) - ORIGINAL[name]) < 0.1, found


SMALL = [
    "--neurons", "8", "--samples", "6", "--batch-size", "4", "--dataset-scale", "800",
    "--n-epochs", "1", "--repeat", "1", "--devices", "cpu",
]  # fmt: skip


def test_a_run_leaves_balance_in_its_metrics(tmp_path: Path) -> None:
    flags = [*SMALL, "--balance", "--single-spike", "--track-balance", "--filepath",
             str(tmp_path / "run")]  # fmt: skip
    assert command(
        BalancedRSNN, build, prog="x", description="", argv=flags, adapt=defaults
    ) == 0  # fmt: skip
    rows = [json.loads(r) for r in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    val = next(r for r in rows if r["split"] == "val")
    assert len(val["balance"]) == 1
    assert -1 <= val["balance"][0] <= 1
    assert 0 <= val["balance_constant"][0] < 40
    assert json.loads((tmp_path / "run" / "results.json").read_text())["epochs"] == 1


def gradients(*flags: str):
    config = parsed([*SMALL, *flags])
    problem = build(config)
    parts = assemble(config, problem)
    problem.train.set_epoch(1)
    batch = problem.train.batch(0)

    learner = parts.programs.learner

    @jax.jit
    def run(params, stream, targets):
        start = learner.fresh()
        made = learner.segment(params, start, stream, targets, 0, problem.n_steps)
        return made.gradients, made.metrics

    return run(parts.state.params, batch.stream, batch.targets)


def test_blocks_do_not_change_the_gradient() -> None:
    stored, _ = gradients("--checkpoint-block", "0")
    blocks, metrics = gradients("--checkpoint-block", "97")
    assert float(metrics.steps) == 2250
    assert float(metrics.scored) == 1
    for name, value in stored.items():
        assert np.abs(value).max() > 0, name
        np.testing.assert_allclose(
            blocks[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("method", ["diag", "expsm_diag"])
@pytest.mark.parametrize("spikes", [[], ["--single-spike"]], ids=["multi", "single"])
def test_online_learners_train_every_weight(method: str, spikes: list[str]) -> None:
    found, metrics = gradients(
        "--method", method, "--fix-tau-rec", "--fix-tau-out", "--balance", *spikes
    )
    assert set(found) == {"layers.0.w.weight", "layers.0.v.weight", "readout.map.weight"}
    for name, value in found.items():
        assert np.isfinite(value).all(), name
        assert np.abs(value).max() > 0, name
    assert float(metrics.scored) == 1200
