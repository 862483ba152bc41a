"""Trained time constants, thresholds, strengths and biases, of every family and learner."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment.show import thresholds_of
from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner
from snnlab.learners.functional import param_states
from snnlab.models import MODELS, Network, build_network
from snnlab.models.config import BalancedConfig, EIConfig, GIFConfig, ModelConfig
from snnlab.models.trained import RANGE, NeuronValue, Positive
from snnlab.problems.balanced import BalancedRSNN
from snnlab.problems.delayed_match import LongTermDependency
from snnlab.problems.evidence import CobaEI
from snnlab.problems.image_classification import ImageClassification
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification
from zoo import BATCH, LIVE, N_IN, N_OUT, STEPS, make_stream, make_targets

Make = Callable[[Any], Network]
TOLERANCE = 1e-4
LAYERED = {
    "tau_o": LIVE,
    **{name: [m for m in LIVE if name in MODELS.get(m).trains]
       for name in ("bias", "V_th", "tau_mem", "tau_syn", "tau_a", "beta", "tau_I2", "A2",
                    "tau_std", "tau_f")},
}  # fmt: skip
#: What acts through the recurrent map alone.
OF_RECURRENCE = ("tau_std", "tau_f")
GIF = "bias,V_th,tau_mem,tau_syn,tau_o,tau_I2,A2,tau_I1,A1,tau_th,Ath"
FAST = {
    "n_rec": 12, "tau_mem": 10.0, "tau_syn": 5.0, "tau_I2": 100.0, "tau_I1": 5.0, "tau_th": 20.0,
    "A1": -0.2, "Ath": 0.3, "ff_scale": 20.0, "rec_scale": 2.0, "out_scale": 2.0,
    "diff_spike": True,
}  # fmt: skip


def names(model: str, *, online: bool) -> str:
    return ",".join(
        n for n, models in LAYERED.items()
        if model in models and not (online and n in OF_RECURRENCE)
    )  # fmt: skip


def layered(model: str, trainable: str, **changes: Any) -> Make:
    config = ModelConfig(
        **{"model": model, "n_rec": 12, "n_layer": 2, **LIVE[model], "trainable": trainable}
        | changes
    )  # type: ignore[arg-type]
    return lambda operator: build_network(config, N_IN, N_OUT, operator, 0)


def population(kind: str, trainable: str, **changes: Any) -> Make:
    if kind == "gif":
        config = GIFConfig(**{**FAST, "trainable": trainable} | changes)
        return lambda operator: build_network(config, N_IN, N_OUT, operator, 0)
    scale = {"ff_scale": 8.0, "rec_scale": 1.0} if kind == "coba" else {}
    of = EIConfig(**{**FAST, **scale, "net": kind, "trainable": trainable} | changes)
    return lambda operator: build_network(of, N_IN, N_OUT, operator, 0)


def balanced(model: str, trainable: str, alone: bool = False, **changes: Any) -> Make:
    """``alone``: with a readout without memory."""
    config = BalancedConfig(
        **{"model": model, "n_rec": 8, "w_in_init": "uniform", "trainable": trainable} | changes
    )  # type: ignore[arg-type]

    def make(operator: Any) -> Network:
        network = build_network(config, N_IN, N_OUT, operator, 5, linear=True, accumulate=not alone)
        if alone:
            network.readout.decay = None
        return network

    return make


FAMILIES: dict[str, tuple[Callable[..., Make], str, str]] = {
    **{m: (layered, m, names(m, online=False)) for m in LIVE},
    **{k: (population, k, GIF) for k in ("gif", "cuba", "coba")},
    **{m: (balanced, m, "theta,bias") for m in ("adLIF", "RLIF", "RadLIF")},
}
#: Those of the short form.
SHORT = ("alif-exp-cu", "lif-stp-exp-cu", "lif-exp-co", "gif", "RadLIF")


def driven(make: Make) -> dict[str, jax.Array]:
    """Parameters with which balanced layers fire too."""
    params = get_params(make("plain"))
    scale = 5.0 if params.get("layers.0.value.alpha.weight", jnp.zeros(1))[0] < 0.99 else 2000.0
    return {k: scale * v if k == "layers.0.w.weight" else v for k, v in params.items()}


def values_of(make: Make) -> set[str]:
    states = param_states(make("plain"))
    return {name for name, state in states.items() if isinstance(state, NeuronValue)}


def gradients(make: Make, **learner: Any) -> dict[str, np.ndarray]:
    params = driven(make)
    n_layers = len(make("plain").thresholds)
    objective = Classification(N_OUT, n_layers, 2, 1.0, TrainingConfig())
    made = make_learner(LearnerConfig(**learner), make, BATCH, objective)
    stream, targets = make_stream(), make_targets()
    found = jax.jit(lambda p: made.segment(p, made.fresh(), stream, targets, 0, STEPS))(params)
    rates = np.asarray(found.metrics.spikes) / STEPS
    assert np.all((rates > 0.01) & (rates < 0.9)), f"rates per step {rates}"
    return {k: np.asarray(v) for k, v in found.gradients.items()}


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


# ---------------------------------------------------------------------- at the start


def outputs(make: Make) -> Any:
    pure, params = PureNetwork(make("plain"), BATCH), driven(make)
    xs = make_stream().xs
    return jax.jit(
        lambda xs: jax.lax.scan(lambda c, x: pure.step(params, c, x), pure.initial, xs)[1]
    )(xs)


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f in SHORT else pytest.mark.slow) for f in FAMILIES]
)
def test_it_starts_as_the_fixed_network(family: str) -> None:
    build, kind, trainable = FAMILIES[family]
    fixed, trained = build(kind, ""), build(kind, trainable)
    assert not [n for n in get_params(fixed("plain")) if n.endswith((".log", "bias"))]
    shapes = {n: v.shape for n, v in get_params(trained("plain")).items()}
    new = set(shapes) - set(get_params(fixed("plain")))
    assert new <= values_of(trained)
    assert all(shapes[n] in ((8,), (12,), (N_OUT,)) for n in new)
    before, after = outputs(fixed), outputs(trained)
    assert np.asarray(before.spikes[0]).mean() > 0.01
    for a, b in zip(before.spikes, after.spikes, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(after.readout, before.readout, rtol=1e-4, atol=1e-4)
    for a, b in zip(before.membrane, after.membrane, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_every_name_is_a_parameter_of_each_layer() -> None:
    found = set(get_params(layered("alif-exp-cu", names("alif-exp-cu", online=True))("plain")))
    per_layer = (
        "neuron.tau.log", "neuron.V_th.log", "neuron.tau_a.log", "neuron.beta.log",
        "pathways.0.bias", "pathways.0.synapse.tau.log", "pathways.0.map.weight",
    )  # fmt: skip
    assert found == {f"layers.{k}.{n}" for k in (0, 1) for n in per_layer} | {
        "readout.map.weight", "readout.bias", "readout.decay.tau.log",
    }  # fmt: skip


@pytest.mark.parametrize("change", [-1e38, -50.0, -0.5, 0.0, 0.5, 50.0, 1e38])
def test_a_value_keeps_its_sign_and_stays_in_range(change: float) -> None:
    start = np.asarray([0.1, 10.0, -3.0], np.float32)
    value = Positive(start, (3,))
    value.log.value = value.log.value + change
    factor = np.asarray(value()) / start
    np.testing.assert_allclose(factor, np.exp(np.clip(change, -np.log(RANGE), np.log(RANGE))),
                               rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("factor", [1 / RANGE, RANGE])
@pytest.mark.parametrize("model", ["alif-exp-cu", "gif-delta", "lif-exp-co"])
def test_the_ends_of_the_range_are_finite(model: str, factor: float) -> None:
    make = layered(model, names(model, online=True), n_layer=1)
    pure, params = PureNetwork(make("plain"), BATCH), get_params(make("plain"))
    moved = {
        k: v + np.float32(np.log(factor)) if k.endswith(".log") else v for k, v in params.items()
    }

    def total(p: Any) -> Any:
        carry, _ = pure.step(p, pure.initial, jnp.ones((BATCH, N_IN)))
        return pure.step(p, carry, jnp.ones((BATCH, N_IN)))[1].readout.sum()

    value, gradient = jax.value_and_grad(total)(moved)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradient.values())


def test_thresholds_are_the_trained_ones() -> None:
    network = layered("lif-delta", "V_th")("plain")
    params = get_params(network)
    params["layers.1.neuron.V_th.log"] += np.float32(np.log(2.0))
    first, second = thresholds_of(network, params)
    np.testing.assert_allclose(first, np.ones(12), rtol=1e-6)
    np.testing.assert_allclose(second, np.full(12, 2.0), rtol=1e-6)
    np.testing.assert_allclose(network.thresholds[1], np.ones(12), rtol=1e-6)


# ---------------------------------------------------------------------- gradients

EXACT = [
    (m, detach, (m, detach) in (("lif-delta", False), ("if-delta", True)))
    for m in LIVE for detach in (False, True)
]  # fmt: skip


def agree(make: Make, silent: str = "") -> None:
    """D-RTRL's gradient of every parameter is BPTT's; only parameters of ``silent`` have none."""
    exact, ours = gradients(make), gradients(make, method="diag", chunk_size=7)
    assert values_of(make)
    for name, wanted in exact.items():
        if silent and silent in name:
            np.testing.assert_array_equal(wanted, 0)
            np.testing.assert_array_equal(ours[name], 0)
            continue
        assert np.linalg.norm(wanted) > 1e-4, name
        assert error(ours[name], wanted) < TOLERANCE, name


@pytest.mark.parametrize(
    ("model", "detach"),
    [pytest.param(m, d, marks=() if short else pytest.mark.slow) for m, d, short in EXACT],
)
def test_exact_without_recurrence(model: str, detach: bool) -> None:
    """One layer below a readout without memory."""
    chosen = ",".join(n for n in names(model, online=True).split(",") if n != "tau_o")
    make = layered(model, chosen, n_layer=1, rec_scale=0.0, tau_o=0.0, detach_reset=detach)
    agree(make, "pathways.1.synapse")


@pytest.mark.parametrize(
    ("kind", "diff", "chosen"),
    [("gif", True, "bias,V_th,tau_I2"), *(
        pytest.param(k, d, GIF.replace("tau_o,", ""), marks=pytest.mark.slow)
        for k in ("gif", "cuba", "coba") for d in (False, True)
    )],
)  # fmt: skip
def test_exact_populations_without_recurrence(kind: str, diff: bool, chosen: str) -> None:
    changes: dict[str, Any] = {"tau_o": 0.0, "rec_scale": 0.0, "diff_spike": diff}
    if "Ath" not in chosen:
        changes |= {"A1": 0.0, "Ath": 0.0}
    make = population(kind, chosen, **changes)
    exact, ours = gradients(make), gradients(make, method="diag", chunk_size=7)
    for name, wanted in exact.items():
        # What acts through weights that are 0, or through spikes that carry no gradient.
        of_spikes = not diff and name.endswith(("Ath.log", "tau_th.log"))
        if of_spikes or "pathways.1.syn" in name or "pathways.2.syn" in name:
            np.testing.assert_array_equal(wanted, 0)
            np.testing.assert_array_equal(ours[name], 0)
            continue
        assert np.linalg.norm(wanted) > 1e-5, name
        assert error(ours[name], wanted) < TOLERANCE, name


def test_exact_balanced_without_recurrence() -> None:
    """Decays of membrane and adaptation, A, B, thresholds and biases of adLIF."""
    agree(balanced("adLIF", "theta,bias", alone=True))


RECURRENT: dict[str, tuple[Make, bool]] = {
    "lif-delta": (layered("lif-delta", "bias,V_th,tau_mem,tau_o", n_layer=1), True),
    "lif-exp-cu": (layered("lif-exp-cu", names("lif-exp-cu", online=True)), False),
    "alif-exp-cu": (layered("alif-exp-cu", names("alif-exp-cu", online=True)), False),
    "gif": (population("gif", GIF), False),
    "coba": (population("coba", GIF), False),
    "RadLIF": (balanced("RadLIF", "theta,bias"), False),
    "RLIF": (balanced("RLIF", "theta,bias"), False),
}


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if s else pytest.mark.slow)
               for f, (_, s) in RECURRENT.items()]
)  # fmt: skip
def test_with_recurrence(family: str) -> None:
    """The readout's own values are exact, those of the layers live and not those of BPTT."""
    make = RECURRENT[family][0]
    exact, ours = gradients(make), gradients(make, method="diag", chunk_size=7)
    smooth = gradients(make, method="expsm_diag", chunk_size=7)
    values = values_of(make)
    of_readout = {n for n in values if n.startswith("readout.")}
    assert len(of_readout) == 2
    for name in of_readout:
        assert np.linalg.norm(exact[name]) > 1e-4, name
        assert error(ours[name], exact[name]) < TOLERANCE, name
    for name in values - of_readout:
        assert np.linalg.norm(ours[name]) > 1e-4, name
        assert error(ours[name], exact[name]) > 1e-3, name
    for name in values:  # a trace of its own, in both rules
        np.testing.assert_allclose(smooth[name], ours[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, STEPS])
def test_chunks_change_nothing(chunk: int) -> None:
    make = layered("alif-delta", "tau_a,bias,tau_o", n_layer=1)
    some, other = (gradients(make, method="diag", chunk_size=k) for k in (6, chunk))
    assert max(error(other[n], g) for n, g in some.items()) < TOLERANCE


def test_plasticity_is_trained_by_bptt_alone() -> None:
    """It acts through the recurrent map, in later steps: an online rule would see nothing."""
    make = layered("lif-stp-exp-cu", "tau_std,tau_f", n_layer=1)
    exact, plain = gradients(make), gradients(make, backend="plain")
    for name in ("tau_d", "tau_f"):
        name = f"layers.0.pathways.0.plasticity.{name}.log"
        assert np.linalg.norm(exact[name]) > 1e-4
        assert error(exact[name], plain[name]) < TOLERANCE
    with pytest.raises(UsageError, match=r"cannot train parameter .*plasticity.*use --method bptt"):
        gradients(make, method="diag")


def test_renewed_values_do_not_break_an_online_learner() -> None:
    """What a refit replaces is held: the gradients are those of the network with constants."""
    changes = {"balance": True, "fix_w_rec": True, "mu": 0.1}
    held = functools.partial(balanced, "RLIF", "", **changes)
    found = gradients(held(balance_refit=True), method="diag", chunk_size=7)
    wanted = gradients(held(), method="diag", chunk_size=7)
    assert set(found) - set(wanted) == {"layers.0.value.theta.weight", "layers.0.v.held.weight"}
    for name, gradient in found.items():
        if name in wanted:
            assert error(gradient, wanted[name]) < TOLERANCE, name
        else:
            np.testing.assert_array_equal(gradient, 0)


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("task", "flags", "words"),
    [
        (ImageClassification, "--trainable tau_a", "tau_a: no such choice with --model lif-delta; "
         "valid: bias, map_bias, V_th, tau_mem, tau_o"),
        (ImageClassification, "--trainable tau_mem --model if-delta", "tau_mem: no such choice"),
        (ImageClassification, "--trainable tau_o --tau_o 0", "tau_o: no such choice"),
        (ImageClassification, "--trainable beta --model alif-delta --beta 0", "with --beta 0"),
        (ImageClassification, "--trainable weights", "weights: no such choice"),
        (ImageClassification, "--trainable bias --method diag --backend braintrace",
         "--backend braintrace trains maps alone, not bias: leave out --trainable, or use "),
        (LongTermDependency, "--trainable tau_th", "tau_th: no such choice with --model gif with"),
        (LongTermDependency, "--trainable bias --method diag --backend braintrace", "maps alone"),
        (CobaEI, "--trainable bias --method hybrid --backend braintrace", "maps alone"),
        (BalancedRSNN, "--trainable bias --model GRU", "bias: no such choice with --model GRU"),
        (BalancedRSNN, "--trainable theta --balance --balance_refit", "a refit replaces"),
        (BalancedRSNN, "--trainable theta --method diag --backend braintrace --fix_tau_rec "
         "--fix_tau_out --loss_of linear", "maps alone, not V_th"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(task: type, flags: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        configs.parse(task, flags.split(), prog="p", description="")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_in_any_order_and_form() -> None:
    config = ModelConfig(trainable="tau_mem, bias,bias")
    assert config.trained == ("bias", "tau_mem")
    assert dataclasses.replace(config, trainable="[tau_mem bias]").trained == config.trained
