"""What a learner must show: live, exact where it must be, different where it is approximate."""

from __future__ import annotations

import functools

import brainpy.state
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.models import Network, StepOutput
from snnlab.models.maps import DenseMap, kaiming_normal
from snnlab.models.pathways import Pathway, PathwayLayer
from snnlab.models.readouts import leaky_readout
from zoo import (
    BATCH,
    LIVE,
    N_IN,
    N_OUT,
    STEPS,
    assert_live,
    cosine,
    gradients,
    make_network_fn,
    make_stream,
    make_targets,
    model_config,
    needs_brainscale,
    objective,
    relative_error,
)

#: Every model; those that others are made of are quick tests.
QUICK_FIRST = [
    pytest.param(m, marks=pytest.mark.slow)
    if m in ("alif-exp-cu", "lif-exp-co", "lif-std-exp-cu") else m
    for m in LIVE
]  # fmt: skip
ONLINE = {
    "diag": {"method": "diag"},
    "expsm_diag": {"method": "expsm_diag", "etrace_decay": 0.9},
}


@functools.cache
def found(model: str, learner: str, **_: int):
    """Gradients of the two-layer recurrent network of a model; computed once."""
    kwargs = ONLINE.get(learner, {"method": learner})
    return gradients(model_config(model), make_stream(), make_targets(), **kwargs)


# ---------------------------------------------------------------- 1: live


@pytest.mark.parametrize("model", QUICK_FIRST)
def test_networks_are_live(model: str) -> None:
    assert_live(*found(model, "bptt"))


@pytest.mark.parametrize("learner", ONLINE)
@pytest.mark.parametrize("model", QUICK_FIRST)
def test_every_parameter_gets_a_gradient(model: str, learner: str) -> None:
    reference, metrics = found(model, "bptt")
    got, measured = found(model, learner)
    assert set(got) == set(reference)
    np.testing.assert_allclose(measured.loss, metrics.loss, rtol=1e-5)  # the same trajectory
    for name, gradient in got.items():
        assert np.all(np.isfinite(gradient))
        assert np.linalg.norm(gradient) > 1e-4 * np.linalg.norm(reference[name]), name


# ---------------------------------------------------------------- 2: BPTT


class SmoothNetwork(Network):
    """One LIF layer whose "spike" is a sigmoid: a differentiable recurrent network."""

    def __init__(self, operator) -> None:
        super().__init__(N_IN, N_OUT, 1.0)
        with brainstate.random.seed_context(0):
            dense = DenseMap(kaiming_normal(N_IN + 8, 8, 4.0), operator)
            out = DenseMap(kaiming_normal(8, N_OUT, 2.0), operator)
        neuron = brainpy.state.LIF(
            8, tau=10.0 * u.ms, V_th=1.0 * u.mV, spk_fun=lambda x: jax.nn.sigmoid(2.0 * x)
        )
        self.layer = PathwayLayer(neuron, [Pathway(dense)])
        self.readout = leaky_readout(out, 10.0, 1.0)

    def step(self, x):
        spikes = self.layer(x)
        return StepOutput(self.readout(spikes), (spikes,), (self.layer.membrane,))


def test_bptt_against_finite_differences() -> None:
    stream, targets = make_stream(), make_targets()
    goal = objective(1)
    learner = make_learner(LearnerConfig(method="bptt"), SmoothNetwork, BATCH, goal)
    params = get_params(SmoothNetwork("plain"))

    @jax.jit
    def run(params):
        segment = learner.segment(params, learner.fresh(), stream, targets, 0, STEPS)
        return segment.metrics.loss, segment.gradients

    _, gradient = run(params)
    assert all(np.linalg.norm(g) > 1e-2 for g in gradient.values())
    for name in params:
        along = gradient[name] / jnp.linalg.norm(gradient[name])
        step = 1e-2  # float32: the optimum of truncation and rounding for a loss near 30

        def moved(sign: float, name=name, along=along, step=step):
            return run({**params, name: params[name] + sign * step * along})[0]

        slope = (moved(1.0) - moved(-1.0)) / (2 * step)
        np.testing.assert_allclose(slope, jnp.linalg.norm(gradient[name]), rtol=2e-3)


# ---------------------------------------------------------------- 3: exact cases


@pytest.mark.parametrize("model", QUICK_FIRST)
def test_leaky_readout_is_exact(model: str) -> None:
    """A leaky linear readout alone has a diagonal recurrence: D-RTRL is BPTT there."""
    name = "readout.map.weight"
    assert relative_error(found(model, "diag")[0][name], found(model, "bptt")[0][name]) < 1e-4


@pytest.mark.parametrize("model", QUICK_FIRST)
def test_feedforward_layer_is_exact(model: str) -> None:
    """No weights between neurons, neuron-local dynamics, a readout without memory."""
    config = model_config(model, n_layer=1, rec_scale=0.0, tau_o=0.0)
    stream, targets = make_stream(), make_targets()
    exact, metrics = gradients(config, stream, targets, method="bptt")
    rates = np.asarray(metrics.spikes) / STEPS
    assert np.all((rates > 0.01) & (rates < 0.5))
    online, _ = gradients(config, stream, targets, method="diag")
    for name in exact:
        if np.linalg.norm(exact[name]) == 0.0:  # conductances of silent synapses
            assert "pathways.1" in name
            continue
        assert relative_error(online[name], exact[name]) < 1e-4, name


# ---------------------------------------------------------------- 5: approximate cases


@pytest.mark.parametrize("learner", ONLINE)
@pytest.mark.parametrize("model", QUICK_FIRST)
def test_hidden_gradients_point_like_bptt_and_differ(model: str, learner: str) -> None:
    exact, online = found(model, "bptt")[0], found(model, learner)[0]
    for name, gradient in online.items():
        if name == "readout.map.weight":
            assert cosine(gradient, exact[name]) > 0.97
            continue
        assert cosine(gradient, exact[name]) > 0.3, name
        assert relative_error(gradient, exact[name]) > 0.05, f"{name} equals BPTT: a void test"


@pytest.mark.filterwarnings("ignore:.*SnAp")
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_snap_is_braintraces(order: int) -> None:
    """A layer's own recurrence and the exact signal of a step: the same rule in both."""
    stream, targets, config = make_stream(), make_targets(), model_config()
    method = f"snap-{order}"
    theirs, _ = gradients(config, stream, targets, method=method, backend="braintrace")
    ours, _ = gradients(config, stream, targets, method=method, backend="auto")
    for name, value in theirs.items():
        assert relative_error(ours[name], value) < 1e-5, name
        if name != "readout.map.weight":
            assert relative_error(found("lif-delta", "diag")[0][name], value) > 0.01, name


def test_windows_lie_between() -> None:
    """BPTT inside windows of 7 of 20 steps: nearer to BPTT than D-RTRL, but not equal."""
    stream, targets, config = make_stream(), make_targets(), model_config()
    window, _ = gradients(
        config, stream, targets, method="diag", vjp_method="multi-step", chunk_size=7
    )
    exact, online = found("lif-delta", "bptt")[0], found("lif-delta", "diag")[0]
    for name in exact:
        if name == "readout.map.weight":
            continue
        assert relative_error(window[name], exact[name]) > 0.05
        assert relative_error(window[name], exact[name]) < relative_error(online[name], exact[name])


def test_a_window_of_the_whole_sequence_is_bptt() -> None:
    """Why a test on one window proves nothing, and why the config refuses it."""
    stream, targets, config = make_stream(), make_targets(), model_config()
    got, _ = gradients(
        config, stream, targets, method="diag", vjp_method="multi-step", chunk_size=STEPS
    )
    for name, exact in found("lif-delta", "bptt")[0].items():
        assert relative_error(got[name], exact) < 1e-4


# ---------------------------------------------------------------- 6: what cannot be trained


class WithPlainParameter(SmoothNetwork):
    """A trainable gain outside every map."""

    def __init__(self, operator) -> None:
        super().__init__(operator)
        self.gain = brainstate.ParamState(jnp.ones(8))

    def step(self, x):
        spikes = self.layer(x) * self.gain.value
        return StepOutput(self.readout(spikes), (spikes,), (self.layer.membrane,))


@pytest.mark.parametrize(
    "backend", ["braintrace", pytest.param("brainscale", marks=needs_brainscale)]
)
@pytest.mark.parametrize("learner", ONLINE)
def test_untraced_parameter_is_an_error(learner: str, backend: str) -> None:
    config = LearnerConfig(**ONLINE[learner], backend=backend)
    with pytest.raises(UsageError, match=r"parameter gain: .* would be zero"):
        make_learner(config, WithPlainParameter, BATCH, objective(1))


@pytest.mark.parametrize("method", ["bptt", "diag", "expsm_diag", "hybrid"])
def test_our_own_backend_is_the_default(method: str) -> None:
    config = LearnerConfig(method=method)  # type: ignore[arg-type]
    assert make_learner(config, SmoothNetwork, BATCH, objective(1)).backend == "snnlab"


class WithAnyParameters(WithPlainParameter):
    """Parameters outside of maps and of elementwise operations: a mixture, a count of one state."""

    def __init__(self, operator) -> None:
        super().__init__(operator)
        self.mixture = brainstate.ParamState(0.1 * jnp.ones((8, 8)))
        self.level = brainstate.ParamState(jnp.float32(0.5))

    def step(self, x):
        out = super().step(x)
        mixed = jnp.einsum("nm,bm->bn", self.mixture.value, out.membrane[0])
        shown = out.readout * self.level.value + mixed[:, :N_OUT] * self.level.value
        return out._replace(readout=shown)


@pytest.mark.parametrize("network", [WithPlainParameter, WithAnyParameters])
def test_bptt_trains_any_parameter(network) -> None:
    params, found = get_params(network("plain")), {}
    for backend in ("auto", "plain"):
        config = LearnerConfig(method="bptt", backend=backend)
        learner = make_learner(config, network, BATCH, objective(1))
        assert learner.backend == ("plain" if backend == "plain" else "snnlab")
        part = learner.segment(params, learner.fresh(), make_stream(), make_targets(), 0, STEPS)
        found[backend] = part.gradients
    for name, wanted in found["plain"].items():
        assert np.linalg.norm(wanted) > 1e-3, name
        assert relative_error(found["auto"][name], wanted) < 1e-5, name


# ---------------------------------------------------------------- segments, warm-up, hybrid


@pytest.mark.parametrize("learner", ONLINE)
def test_segments_of_an_online_learner_add_up(learner: str) -> None:
    whole = found("lif-exp-cu", learner)[0]
    parts, _ = gradients(
        model_config("lif-exp-cu"), make_stream(), make_targets(), segments=(7, 7, 6),
        **ONLINE[learner],
    )  # fmt: skip
    for name in whole:
        assert relative_error(parts[name], whole[name]) < 1e-5


def test_segments_of_bptt_truncate() -> None:
    whole = found("lif-exp-cu", "bptt")[0]
    parts, _ = gradients(
        model_config("lif-exp-cu"), make_stream(), make_targets(), segments=(7, 7, 6),
        method="bptt",
    )  # fmt: skip
    assert all(relative_error(parts[name], whole[name]) > 0.01 for name in whole)


@pytest.mark.parametrize("learner", ["bptt", *ONLINE])
def test_warmup_steps_carry_no_loss(learner: str) -> None:
    kwargs = ONLINE.get(learner, {"method": learner})
    config, stream, targets = model_config(), make_stream(), make_targets()
    late, metrics = gradients(config, stream, targets, warmup=STEPS - 1, **kwargs)
    assert metrics.scored == 1
    assert 0 < metrics.loss < found("lif-delta", learner)[1].loss
    none, metrics = gradients(config, stream, targets, warmup=STEPS, **kwargs)
    assert metrics.scored == 0
    assert metrics.loss == 0
    assert all(np.linalg.norm(late[name]) > 0 for name in late)
    assert all(np.all(none[name] == 0) for name in none)


def test_hybrid_takes_each_gradient_from_its_rule() -> None:
    """With one readout unit, the readout's exact trace (12 weights) is the smaller one."""
    from snnlab.models import build_network

    config, stream = model_config(), make_stream()
    targets = make_targets()._replace(values=jnp.zeros(BATCH, jnp.int32))
    goal = objective(2, loss="mse")
    goal = type(goal)(1, 2, 0, 1.0, goal.config)

    def make(operator):
        return build_network(config, N_IN, 1, operator, 0)

    params = get_params(make("plain"))
    got = {}
    for method in ("diag", "expsm_diag", "hybrid"):
        learner = make_learner(
            LearnerConfig(method=method, backend="braintrace"), make, BATCH, goal
        )
        got[method] = jax.jit(
            lambda p, run=learner: run.segment(p, run.fresh(), stream, targets, 0, STEPS).gradients
        )(params)
    for name in params:
        rule, other = "expsm_diag", "diag"
        if name == "readout.map.weight":
            rule, other = other, rule
        assert relative_error(got["hybrid"][name], got[rule][name]) < 1e-6
        assert relative_error(got["hybrid"][name], got[other][name]) > 1e-2


def test_padding_does_not_count() -> None:
    """A masked sample changes neither loss nor gradient, whatever it holds."""
    stream, targets = make_stream(), make_targets()
    masked = targets._replace(mask=jnp.asarray([1.0, 1.0, 0.0]))
    other = type(stream)(stream.xs.at[:, 2].set(1.0))
    for learner in ("bptt", *ONLINE):
        kwargs = ONLINE.get(learner, {"method": learner})
        a, m = gradients(model_config(), stream, masked, **kwargs)
        b, n = gradients(model_config(), other, masked, **kwargs)
        np.testing.assert_allclose(m.loss, n.loss, rtol=1e-6)
        assert all(relative_error(a[name], b[name]) < 1e-5 for name in a)


def test_detached_reset_changes_the_gradient() -> None:
    attached = found("lif-delta", "bptt")[0]
    detached, metrics = gradients(
        model_config(detach_reset=True), make_stream(), make_targets(), method="bptt"
    )
    np.testing.assert_allclose(metrics.loss, found("lif-delta", "bptt")[1].loss, rtol=1e-6)
    hidden = [n for n in attached if n != "readout.map.weight"]
    assert all(relative_error(detached[n], attached[n]) > 0.05 for n in hidden)


def test_network_function_is_deterministic() -> None:
    make = make_network_fn(model_config())
    a, b = get_params(make("plain")), get_params(make("braintrace"))
    assert list(a) == list(b)
    assert all(np.array_equal(a[n], b[n]) for n in a)
    c = get_params(make_network_fn(model_config(), seed=1)("plain"))
    assert not any(np.array_equal(a[n], c[n]) for n in a)
