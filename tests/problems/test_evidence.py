"""Evidence accumulation with excitatory/inhibitory networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from snnlab import config as configs
from snnlab.data.periods import n_steps, period_steps
from snnlab.data.trials import draw_batch
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.experiment.command import command
from snnlab.experiment.run import run
from snnlab.experiment.task import of_earlier
from snnlab.learners import get_params
from snnlab.problems.evidence import CobaEI, Evidence, build, defaults, task_of

SEED_COMMAND = (
    "--tau_neu 200 --tau_syn 10 --tau_I2 2000 --ff_scale 4.0 --rec_scale 2.0 --method esd-rtrl "
    "--n_rec 800 --epoch_per_step 20 --diff_spike 0 --epochs 300 --lr 0.001 --etrace_decay 0.9"
)
LINE = (
    "--n_cue 3 --t_interval 5 --t_cue 10 --t_delay 5 --t_recall 10 --n_group 5 --cue_rate 200 "
    "--n_rec 20 --tau_neu 10 --tau_syn 5 --tau_I2 100 --batch_size 8 --epoch_batches 2 "
    "--val_batches 1 --test_batches 1 --epochs 1 --n_show 2"
)
TINY = LINE.split()


def parsed(*argv: str) -> Any:
    return configs.parse(CobaEI, argv, prog="coba", description="")[0]


def tiny(*argv: str) -> Any:
    return parsed(*TINY, *argv)


# ------------------------------------------------------------------------ trials


@pytest.fixture(scope="module")
def batch():
    task = task_of(parsed())
    return task, draw_batch(task, jax.random.key(0), 1000)


def test_a_trial_is_2200_ms_with_the_recall_at_its_end(batch) -> None:
    task, _ = batch
    assert n_steps(task) == 2200
    assert period_steps(task, "recall") == slice(2050, 2200)
    assert period_steps(task, "cue 2") == slice(350, 450)


def test_the_label_is_the_more_frequent_side(batch) -> None:
    _, trials = batch
    right = np.asarray(trials.conditions["right"])
    assert right.shape == (1000, 7)
    assert np.array_equal(np.asarray(trials.targets.values), right.sum(1) > 3.5)
    assert abs(np.mean(trials.targets.values) - 0.5) < 4 * 0.5 / np.sqrt(1000)


def test_cues_are_drawn_with_the_two_probabilities(batch) -> None:
    """Counts of right cues: half Binomial(7, 0.3), half Binomial(7, 0.7)."""
    _, trials = batch
    counts = np.bincount(np.asarray(trials.conditions["right"]).sum(1), minlength=8) / 1000
    choose = np.array([1, 7, 21, 35, 35, 21, 7, 1])
    k = np.arange(8)
    law = sum(0.5 * choose * p**k * (1 - p) ** (7 - k) for p in (0.3, 0.7))
    assert np.all(np.abs(counts - law) < 4 * np.sqrt(law * (1 - law) / 1000) + 1e-3)


def test_rates_of_the_four_groups(batch) -> None:
    """Hz of left, right, recall and noise in the first cue, the delay and the recall period."""
    task, trials = batch
    right = np.asarray(trials.conditions["right"])[:, 0]

    def hz(period: str) -> np.ndarray:
        where = period_steps(task, period)
        steps = jnp.arange(where.start, where.stop)
        count = jax.lax.map(trials.stream.at, steps).sum(0).reshape(1000, 4, 25)
        return np.asarray(count).mean(2) / (where.stop - where.start) * 1000

    cue = hz("cue 0")
    np.testing.assert_allclose(cue[right].mean(0), [0, 40, 0, 10], rtol=0.05)
    np.testing.assert_allclose(cue[~right].mean(0), [40, 0, 0, 10], rtol=0.05)
    np.testing.assert_allclose(hz("delay").mean(0), [0, 0, 0, 10], rtol=0.05)
    np.testing.assert_allclose(hz("recall").mean(0), [0, 0, 40, 10], rtol=0.05)


# ------------------------------------------------------------------ command line


@pytest.mark.parametrize("net", ["coba", "cuba"])
def test_the_seed_style_command_parses(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SEED_COMMAND.split(), "--net", net, "--dry_run"]
    assert command(CobaEI, build, prog="coba", description="", argv=argv, adapt=defaults) == 0
    text = capsys.readouterr().out
    assert "lr_step: 20 " in text
    assert "lr_gamma: 0.9" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n_exc", "30"], "--n_exc 30: more excitatory neurons than neurons .--n_rec 20"),
        (["--n_exc", "20"], "leaves no inhibitory neuron"),
        (["--n_cue", "4"], "--n_cue 4: must be odd"),
        (["--t_cue", "-1"], "cannot be negative"),
        (["--t_delay", "0"], "at least one step"),
        (["--sparsity", "1.5"], "--sparsity 1.5"),
        (["--warmup_ratio", "100"], "100 steps without loss leave none"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], message: str, tmp_path: Path) -> None:
    line = [*TINY, "--filepath", str(tmp_path / "run"), *argv]
    with pytest.raises(UsageError, match=message) as caught:
        command(CobaEI, build, prog="coba", description="", argv=line)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------- network


def effective_weights(network: Any) -> list[np.ndarray]:
    return [np.asarray(p.map.effective_weight()) for p in network.layers[0].pathways]


@pytest.mark.parametrize(("net", "inhibitory"), [("coba", 1.0), ("cuba", -1.0)])
def test_projections_are_signed_and_sparse(net: str, inhibitory: float) -> None:
    config = tiny("--net", net, "--sparsity", "0.4", "--n_rec", "100")
    network = build(config).make_network("plain")
    ff, exc, inh = effective_weights(network)
    assert (ff.shape, exc.shape, inh.shape) == ((20, 100), (80, 100), (20, 100))
    for weight, sign in ((ff, 1.0), (exc, 1.0), (inh, inhibitory)):
        assert np.all(weight * sign >= 0)
        assert abs(np.mean(weight != 0) - 0.4) < 0.05


@pytest.mark.parametrize("net", ["cuba", pytest.param("coba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["bptt", "diag", "expsm_diag"])
def test_no_weight_crosses_zero_in_100_updates(net: str, method: str) -> None:
    """Large steps (learning rate 0.1), so that raw parameters do cross."""
    config = tiny(
        "--net", net, "--method", method, "--sparsity", "0.5", "--lr", "0.1", "--n_cue", "1",
        "--n_rec", "10", "--batch_size", "4",
    )  # fmt: skip
    problem = build(config)
    parts = assemble(config, problem)
    network = problem.make_network("plain")
    before = effective_weights(network)
    raw = {name: np.asarray(value) for name, value in parts.state.params.items()}
    state, batch = parts.state, problem.train.batch(0)
    for _ in range(100):
        state, _ = parts.programs.train(state, batch.stream, batch.targets)
    crossed = [
        np.any(raw[n] * np.asarray(state.params[n]) < 0) for n in raw if n.startswith("layer")
    ]
    assert any(crossed)  # the constraint had something to do
    for pathway, name in zip(network.layers[0].pathways, sorted(n for n in raw if "path" in n)):
        pathway.map.weight.value = {"weight": state.params[name]}
    for old, new in zip(before, effective_weights(network)):
        assert np.all(old * new >= 0)
        assert np.all(new[old == 0] == 0)
    assert set(get_params(network)) == set(raw)


def test_figures_name_groups_populations_and_periods() -> None:
    problem = build(tiny("--t_interval", "0", "--n_layer", "2"))
    assert problem.input_groups == (("left", 5), ("right", 5), ("recall", 5), ("noise", 5))
    assert [name for name, _ in problem.periods] == ["cue 0", "cue 1", "cue 2", "delay", "recall"]
    assert sum(steps for _, steps in problem.periods) == problem.n_steps
    assert problem.make_network("plain").populations == ((("E", 16), ("I", 4)),) * 2
    twice = build(tiny("--bidirectional"))
    both = (("E", 16), ("I", 4), ("E", 16), ("I", 4))
    assert twice.make_network("plain").populations == (both,)


def test_after_spike_current_and_threshold_are_states_on_demand() -> None:
    plain = build(tiny()).make_network("plain")
    full = build(tiny("--A1", "0.5", "--Ath", "0.3")).make_network("plain")
    plain.init_states(2)
    full.init_states(2)
    assert not hasattr(plain.layers[0].neuron, "I1")
    assert full.layers[0].neuron.I1.value.shape == (2, 20)
    assert full.layers[0].neuron.theta.value.shape == (2, 20)


def test_projections_as_published() -> None:
    """|x W + b| of free, sparse weights that nothing divides; membranes start within threshold."""
    flags = ("--sparsity", "0.1", "--dale", "sums", "--weight_scale", "plain", "--trainable",
             "map_bias", "--n_rec", "400", "--V_init", "uniform", "--tau_I2_of", "all")  # fmt: skip
    network = build(tiny(*flags)).make_network("plain")
    layer = network.layers[0]
    excitatory = layer.pathways[1].map.effective_weight()
    there = np.asarray(excitatory[excitatory != 0])
    assert abs(np.mean(np.asarray(excitatory) != 0) - 0.1) < 0.01
    assert abs(np.mean(there > 0) - 0.5) < 0.02
    assert there.std() == pytest.approx(np.sqrt(2.0 / 320), rel=0.02)  # N(0, rec_scale / inputs)
    network.init_states(2)
    start = np.asarray(layer.membrane)
    assert 0 <= start.min() < 0.02
    assert 0.98 < start.max() < 1
    assert np.array_equal(start[0], start[1])
    assert np.unique(layer.neuron.tau_I2.to_decimal(u.ms)) == 100.0
    layer.pathways[2].bias.value = jnp.full(400, -0.5)
    x, spikes = jnp.zeros((2, 20)), jnp.zeros((2, 400)).at[:, 330].set(1.0)
    with brainstate.environ.context(dt=1.0 * u.ms):
        layer.pathways[2](x, spikes)
    sums = -0.5 + np.asarray(layer.pathways[2].map.effective_weight())[10]
    found = u.get_magnitude(layer.pathways[2].synapse.g.value)
    np.testing.assert_allclose(found[0], np.abs(sums), rtol=1e-5)


def test_an_earlier_run_keeps_its_meaning() -> None:
    saved = {"A1": 0.2, "Ath": 0.1, "method": "diag"}
    assert of_earlier(CobaEI, saved) == {
        "A1": -0.2, "Ath": 0.1, "method": "diag", "Ath_acts": "spikes",
    }  # fmt: skip
    assert of_earlier(CobaEI, {**saved, "published": False})["A1"] == 0.2


# ---------------------------------------------------------------------- training


def test_a_run_leaves_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = tiny("--filepath", str(folder), "--A1", "0.2", "--Ath", "0.1", "--sparsity", "0.5",
                  "--animate")  # fmt: skip
    run(config, build(config), Console(quiet=True))
    found = json.loads((folder / "results.json").read_text())
    assert (found["net"], found["n_exc"], found["n_inh"], found["batches"]) == ("coba", 16, 4, 2)
    assert (folder / "figures" / "test-samples.png").is_file()
    assert (folder / "figures" / "test-samples.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.slow
@pytest.mark.parametrize("net", ["coba", "cuba"])
def test_a_short_task_is_learned(net: str, tmp_path: Path) -> None:
    config = tiny(
        "--net", net, "--filepath", str(tmp_path / "run"), "--method", "expsm_diag", "--epochs",
        "6", "--epoch_batches", "25", "--batch_size", "64", "--n_rec", "60", "--lr", "0.005",
        "--test_batches", "8", "--cue_prob", "0.1", "--t_recall", "30",
    )  # fmt: skip
    assert run(config, build(config), Console(quiet=True))["test_accuracy"] > 0.65


def test_an_even_number_of_cues_has_no_majority() -> None:
    with pytest.raises(UsageError, match="must be odd"):
        tiny("--n_cue", "2")


def test_the_task_is_hashable() -> None:
    assert hash(Evidence(3, 1, 1, 1, 1)) == hash(Evidence(3, 1, 1, 1, 1))
