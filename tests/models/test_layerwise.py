"""Dropout, normalisation and bidirectional layers: hand-computed values, both orders, gradients."""

from __future__ import annotations

import dataclasses
import functools

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.learners import LearnerConfig, PureNetwork, PureSequence, get_params, make_learner
from snnlab.learners.functional import with_key
from snnlab.models import LayeredNetwork, StepOutput, build_network
from snnlab.models.dropout import DriveNoise, Dropout
from snnlab.models.maps import FixedMap, Held
from snnlab.models.normalization import BatchNorm
from snnlab.models.quantization import affine
from snnlab.models.readouts import Readout
from snnlab.problems.balanced import BalancedRSNN, build, defaults
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Targets
from snnlab.training.optim import Plateau
from snnlab.training.programs import Programs, TrainState
from zoo import N_IN, N_OUT, make_stream, make_targets, spiking

STEPS, BATCH = 12, 4
KEY = np.asarray(jax.random.key_data(jax.random.key(3)))


# -------------------------------------------------------------- batch normalisation


def fitted(norm: BatchNorm, xs, weight):
    with brainstate.environ.context(fit=True):
        return norm(jnp.asarray(xs, jnp.float32), jnp.asarray(weight, jnp.float32))


def test_batch_norm_by_hand() -> None:
    """1, 3, 5, 7: mean 4, variance 5 (unbiased 20/3); the third sample does not count."""
    norm = BatchNorm(1)
    norm.gain.value, norm.shift.value = {"weight": jnp.full(1, 2.0)}, {"weight": jnp.full(1, 1.0)}
    xs = [[[1.0], [3.0], [900.0]], [[5.0], [7.0], [-900.0]]]
    found = fitted(norm, xs, [1, 1, 0])
    wanted = 1 + 2 * (np.asarray([[1, 3], [5, 7]]) - 4) / np.sqrt(5)
    np.testing.assert_allclose(found[:, :2, 0], wanted, rtol=1e-5)
    np.testing.assert_allclose(norm.mean.value["running"], [0.05 * 4], rtol=1e-6)
    np.testing.assert_allclose(norm.var.value["running"], [0.95 + 0.05 * 20 / 3], rtol=1e-6)
    # Evaluation: the running numbers, unchanged by it.
    seen = norm(jnp.asarray(xs), jnp.ones(3))
    np.testing.assert_allclose(seen[0, 1, 0], 1 + 2 * (3 - 0.2) / np.sqrt(0.95 + 1 / 3), rtol=1e-5)
    np.testing.assert_allclose(norm.mean.value["running"], [0.2], rtol=1e-6)


def test_the_gradient_passes_through_the_statistics() -> None:
    """The output does not change when all of a neuron's drive is shifted or scaled."""
    xs = jnp.asarray(np.random.default_rng(0).normal(2, 3, (5, 4, 2)), jnp.float32)
    weight = jnp.asarray([1.0, 1.0, 1.0, 0.0])

    def loss(xs):
        return (weight[:, None] * fitted(BatchNorm(2), xs, weight) ** 3).sum()

    gradient = jax.grad(loss)(xs)
    size = np.abs(gradient).max()
    assert size > 0.1
    np.testing.assert_allclose(gradient.sum((0, 1)), 0, atol=1e-4 * size)
    np.testing.assert_allclose((gradient * xs).sum((0, 1)), 0, atol=1e-3 * size)
    assert (gradient[:, 3] == 0).all()  # of a sample that does not count


# ------------------------------------------------------------------------- dropout


@functools.partial(jax.jit, static_argnums=0)
def masks(layer: int, key):
    """Dropout of ones with rate 1/4, whole sequences and step by step."""
    module = Dropout(0.25, layer)
    module.init_state(8)
    module.key.value = key
    with brainstate.environ.context(fit=True):
        whole = module.sequence(jnp.ones((6, 8, 50)))
        each = jnp.stack([module.update(jnp.ones((8, 50))) for _ in range(6)])
    return whole, each


def test_dropout() -> None:
    whole, each = (np.asarray(a) for a in masks(0, KEY))
    np.testing.assert_array_equal(whole, each)  # steps and layers first: the same masks
    assert set(np.unique(whole)) == {0.0, np.float32(1 / 0.75)}
    assert abs((whole == 0).mean() - 0.25) < 0.04
    for other in (masks(1, KEY)[0], masks(0, KEY + 1)[0], np.roll(whole, 1, axis=0)):
        assert 0.55 < (whole == other).mean() < 0.7  # independent: 0.75^2 + 0.25^2 = 0.625


def test_dropout_leaves_evaluation_alone() -> None:
    module = Dropout(0.5, 0)
    module.init_state(1)
    assert (module.update(jnp.ones((1, 9))) == 1).all()
    assert (module.sequence(jnp.ones((3, 1, 9))) == 1).all()


@functools.partial(jax.jit, static_argnums=(0, 1))
def noisy(times: bool, layer: int, key, ys):
    """A noisy drive, whole sequences and step by step; and the derivative of its sum."""
    module = DriveNoise(0.5, times, layer)
    module.init_state(8)
    module.key.value = key
    each = jnp.stack([module.update(y) for y in ys])
    slope = jax.grad(lambda ys: module.sequence(ys).sum())(ys)
    return module.sequence(ys), each, slope


@pytest.mark.parametrize("times", [False, True])
def test_noise_of_a_drive(times: bool) -> None:
    ys = jnp.full((6, 8, 50), 3.0)
    whole, each, slope = (np.asarray(a) for a in noisy(times, 0, KEY, ys))
    np.testing.assert_allclose(whole, each, rtol=1e-6)
    mean, deviation = (0, 1.5) if times else (3, 0.5)
    assert abs(whole.mean() - mean) < 0.1
    assert abs(whole.std() - deviation) < 0.05
    assert (slope == 1).all()  # as published: noise changes the value alone
    for other in (noisy(times, 1, KEY, ys)[0], noisy(times, 0, KEY + 1, ys)[0]):
        assert abs(np.corrcoef(whole.ravel(), np.ravel(other))[0, 1]) < 0.1


def test_noise_of_a_network_in_evaluation_and_training() -> None:
    flags = ("--model", "LIF", "--gauss", "0.5", "--gauss_on", "drive", "--n_layer", "2")
    net, xs = network(*flags), jnp.ones((STEPS, BATCH, N_IN))
    pure = PureSequence(net, jnp.ones(BATCH))
    names = [name for name in pure.initial if name.startswith("random.")]
    assert len(names) == 2

    def membrane(carry, layer):
        return np.asarray(pure.run(get_params(net), carry, xs, jnp.ones(BATCH))[2].membrane[layer])

    first, second = membrane(pure.initial, 0), membrane(with_key(pure.initial, KEY), 0)
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(first, membrane(pure.initial, 0))
    assert np.abs(first[:, 0] - first[:, 1]).max() > 0.01  # of the same input


# ------------------------------------------------------------------- bidirectional


def test_bidirectional_by_hand() -> None:
    """Input 3, 0, 0 read both ways by u = 0.5 (u - s) + 0.5 x with theta 1."""
    half = Held(jnp.full(1, 0.5))
    layer = spiking(FixedMap(jnp.ones((1, 1))), half, jnp.ones(1))
    readout = Readout(FixedMap(jnp.asarray([[1.0, 0.0], [0.0, 2.0]])), None)
    net = LayeredNetwork([layer], readout, 1, bidirectional=True)
    pure = PureSequence(net, jnp.ones(1))
    xs = jnp.asarray([3.0, 0.0, 0.0]).reshape(3, 1, 1)
    _, renewed, out = pure.run(get_params(net), pure.initial, xs, jnp.ones(1))
    assert not renewed
    # Forwards 1.5 (spike), 0.25, 0.125; backwards 0, 0, 1.5 (spike), shown in the order of time.
    np.testing.assert_allclose(out.membrane[0][:, 0], [[1.5, 1.5], [0.25, 0], [0.125, 0]])
    np.testing.assert_array_equal(out.spikes[0][:, 0], [[1, 1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(out.readout[:, 0], [[1, 2], [0, 0], [0, 0]])
    # Input at the end: the forward copy spikes there, the backward one as well.
    _, _, out = pure.run(get_params(net), pure.initial, xs[::-1], jnp.ones(1))
    np.testing.assert_allclose(out.membrane[0][:, 0], [[0, 0.125], [0, 0.25], [1.5, 1.5]])
    with pytest.raises(ValueError, match="whole sequences"):
        PureNetwork(net, 1)


def test_sizes_of_a_bidirectional_network() -> None:
    net = network("--model", "RadLIF", "--bidirectional", "--n_layer", "2")
    shapes = {name: p.shape for name, p in get_params(net).items()}
    assert shapes["layers.0.w.weight"] == (N_IN, 6)
    assert shapes["layers.1.w.weight"] == (12, 6)
    assert shapes["layers.1.v.weight"] == (6, 6)
    assert shapes["readout.map.weight"] == (12, N_OUT)


# ------------------------------------------------------------- whole sequences, learners


def model(*flags: str):
    argv = ["--neurons", "6", *flags]
    return configs.parse(BalancedRSNN, argv, prog="x", description="")[0].model


def network(*flags: str, accumulate: bool = True, operator="plain"):
    return build_network(model(*flags), N_IN, N_OUT, operator, 5, accumulate=accumulate)


def objective(flags: tuple[str, ...], last: bool = True) -> Classification:
    n_layer = model(*flags).n_layer
    return Classification(N_OUT, n_layer, STEPS - 1 if last else 0, 1.0, TrainingConfig())


def network_for(operator, flags: tuple[str, ...], accumulate: bool, memory: bool):
    net = network(*flags, accumulate=accumulate, operator=operator)
    if not memory:
        net.readout.decay = None
    return net


@functools.cache
def compiled(flags: tuple[str, ...], accumulate: bool, memory: bool, learner: tuple):
    def make(operator):
        return network_for(operator, flags, accumulate, memory)

    made = make_learner(LearnerConfig(**dict(learner)), make, BATCH, objective(flags, accumulate))

    @jax.jit
    def run(params, key, stream, targets):
        part = made.segment(params, made.fresh(key), stream, targets, 0, STEPS)
        return part.gradients, part.metrics, part.renewed

    return get_params(make("plain")), run


def learned(
    flags: tuple[str, ...], *, accumulate: bool = True, memory: bool = True, key=KEY,
    targets=None, scale: float = 1.0, **learner,
):  # fmt: skip
    """Gradients, metrics and renewed parameters of one batch; ``scale`` of the input weights."""
    params, run = compiled(flags, accumulate, memory, tuple(learner.items()))
    params = {
        name: scale * value
        if name.startswith("layers") and name.endswith((".w.weight", ".norm.gain"))
        else value
        for name, value in params.items()
    }
    stream = make_stream(steps=STEPS, batch=BATCH, rate=0.4)
    return run(params, key, stream, targets or make_targets(batch=BATCH))


def close(found, wanted, skip: tuple[str, ...] = ()) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        size = np.abs(value).max()
        if name not in skip:
            assert size > 0, name
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5 * size, err_msg=name)


LIVE = ("--model",)


@pytest.mark.parametrize(
    ("flags", "scale"),
    [
        (
            (*LIVE, "RadLIF", "--n_layer", "2", "--dropout", "0.3", "--normalization", "layernorm"),
            5,
        ),
        ((*LIVE, "RLIF", "--w-in-init", "uniform", "--slow-dynamics"), 2000),
        ((*LIVE, "LIF", "--n_layer", "2", "--gauss", "0.1", "--gauss_on", "drive"), 20),
        ((*LIVE, "RadLIF", "--quantize", "4.0", "--quantize_as", "affine"), 5),
    ],
    ids=["RadLIF", "RLIF", "noise", "levels"],
)
def test_layer_after_layer_is_step_after_step(flags: tuple[str, ...], scale: float) -> None:
    found, metrics, _ = learned(flags, scale=scale, backend="layerwise")
    wanted, same, _ = learned(flags, scale=scale, backend="plain")
    close(found, wanted)
    assert float(same.spikes.min()) > 0
    for a, b in zip(metrics, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_with_an_online_learner() -> None:
    """One layer without recurrence below a readout without memory, where D-RTRL is exact."""
    flags = (*LIVE, "LIF", "--dropout", "0.4", "--fix-tau-rec", "--fix-tau-out")
    usual = {"accumulate": False, "memory": False, "scale": 5.0}
    wanted, _, _ = learned(flags, **usual, backend="plain")
    close(learned(flags, **usual, method="diag", chunk_size=5)[0], wanted)
    other, _, _ = learned(flags, **usual, backend="plain", key=KEY + 1)
    name = "layers.0.w.weight"
    assert np.abs(other[name] - wanted[name]).max() > 0.01 * np.abs(wanted[name]).max()


@pytest.mark.parametrize(
    "flags",
    [("--gauss", "0.2", "--gauss_on", "drive"), ("--quantize", "3.0", "--quantize_as", "affine")],
    ids=["noise", "levels"],
)
def test_hardware_with_an_online_learner(flags: tuple[str, ...]) -> None:
    """One layer without recurrence below a readout without memory, where D-RTRL is exact."""
    flags = (*LIVE, "LIF", *flags, "--fix-tau-rec", "--fix-tau-out")
    usual = {"accumulate": False, "memory": False, "scale": 5.0}
    wanted, _, _ = learned(flags, **usual, backend="plain")
    close(learned(flags, **usual, method="diag", chunk_size=5)[0], wanted)
    exact, _, _ = learned((*LIVE, "LIF", "--fix-tau-rec", "--fix-tau-out"), **usual,
                          backend="plain")  # fmt: skip
    name = "layers.0.w.weight"
    assert np.abs(exact[name] - wanted[name]).max() > 0.01 * np.abs(wanted[name]).max()


def test_weights_at_levels_stay_there_through_training() -> None:
    flags = ("--model", "LIF", "--quantize", "3.0", "--quantize_as", "affine")
    net, goal = network(*flags), objective(flags)
    learner = make_learner(LearnerConfig(), lambda operator: network(*flags), BATCH, goal)
    optimizer = optax.sgd(1.0)
    programs = Programs(learner, optimizer, goal, PureNetwork(net, BATCH), STEPS)
    params = jax.tree.map(jnp.copy, get_params(net))
    plateau = Plateau(TrainingConfig()).init()
    state = TrainState(params, optimizer.init(params), plateau, jnp.asarray(KEY), jnp.int32(0))
    stream, targets = make_stream(steps=STEPS, batch=BATCH, rate=0.4), make_targets(batch=BATCH)
    state, _ = programs.train(state, stream, targets)
    after = state.params["layers.0.w.weight"]
    assert len(np.unique(after)) <= 8
    assert len(np.unique(state.params["readout.map.weight"])) > 8
    np.testing.assert_allclose(affine(3)(after), after, rtol=1e-5, atol=1e-7)


BOTH = (
    "--normalization", "batchnorm", "--bidirectional", "--dropout", "0.2", "--n_layer", "2",
    "--model",
)  # fmt: skip


def test_the_gradient_of_smooth_layers_is_the_slope_of_the_loss() -> None:
    flags = (*BOTH, "RNN")
    net = network(*flags)
    stream, targets = make_stream(steps=STEPS, batch=BATCH, rate=0.4), make_targets(batch=BATCH)
    targets = targets._replace(mask=targets.mask.at[-1].set(0))
    pure = PureSequence(net, targets.mask, training=True)
    params, goal = get_params(net), objective(flags)
    carry = with_key(pure.initial, KEY)

    @jax.jit
    def loss(params):
        out = pure.run(params, carry, stream.xs, targets.mask)[2]
        return goal.step(jax.tree.map(lambda a: a[-1], out), jnp.int32(STEPS - 1), targets)[0]

    gradients, _, renewed = learned(flags, targets=targets)
    statistics = {name for name in params if name.endswith((".mean", ".var"))}
    assert set(renewed) == statistics
    assert len(statistics) == 2 * 3  # of two layers and the readout
    rng = np.random.default_rng(1)
    for name, value in params.items():
        if name in statistics:
            assert (np.asarray(gradients[name]) == 0).all()
            continue
        way = jnp.asarray(rng.standard_normal(value.shape), jnp.float32)
        step = 1e-2 * way / jnp.linalg.norm(way)
        up, down = loss({**params, name: value + step}), loss({**params, name: value - step})
        slope = float((gradients[name] * step).sum())
        size = float(jnp.linalg.norm(gradients[name]) * 1e-2)
        assert size > 0
        assert abs(float(up - down) / 2 - slope) < 0.02 * size + 2e-6, name


def test_statistics_are_renewed_by_training_and_used_in_evaluation() -> None:
    flags = ("--normalization", "batchnorm", "--bidirectional", "--model", "MLP")
    net, goal = network(*flags), objective(flags)
    optimizer = optax.adamw(1e-9, weight_decay=0.5)
    learner = make_learner(LearnerConfig(), lambda operator: network(*flags), BATCH, goal)
    assert learner.backend == "layerwise"
    targets = make_targets(batch=BATCH)
    programs = Programs(learner, optimizer, goal, PureSequence(net, targets.mask), STEPS)
    params = jax.tree.map(jnp.copy, get_params(net))
    plateau = Plateau(TrainingConfig()).init()
    stream = make_stream(steps=STEPS, batch=BATCH, rate=0.4)
    before = programs.evaluate(params, stream, targets)
    state = TrainState(params, optimizer.init(params), plateau, jnp.asarray(KEY), jnp.int32(0))
    for _ in range(2):
        state, numbers = programs.train(state, stream, targets)
    # Twice the same batch: 1 - 0.95^2 of the way from 0 and 1 to its mean and variance.
    drive = np.asarray(stream.xs.reshape(-1, N_IN) @ get_params(net)["layers.0.w.0.weight"])
    both = np.concatenate([drive, drive])  # forwards and backwards
    way = 1 - 0.95**2
    found = state.params
    np.testing.assert_allclose(found["layers.0.norms.0.mean"], way * both.mean(0), rtol=1e-3)
    wanted = 1 - way + way * both.var(0, ddof=1)
    np.testing.assert_allclose(found["layers.0.norms.0.var"], wanted, rtol=1e-3)
    after = programs.evaluate(found, stream, targets)
    assert abs(float(after["loss"]) - float(before["loss"])) > 1e-4
    assert abs(float(after["loss"]) - float(numbers["loss"])) > 1e-4
    _, out = programs.record(found, stream, np.asarray([1, 3], np.int32))
    assert out.spikes[0].shape == (STEPS, 2, 12)
    np.testing.assert_array_equal(
        out.readout[-1].argmax(-1), after["predictions"][np.array([1, 3])]
    )


def test_padding_changes_nothing() -> None:
    flags = ("--normalization", "batchnorm", *LIVE, "RadLIF")
    targets = make_targets(batch=BATCH)
    masked = Targets(targets.values, targets.mask.at[0].set(0))
    relabelled = Targets(masked.values.at[0].add(1) % N_OUT, masked.mask)
    a, b, c = (learned(flags, targets=t, scale=5.0)[0] for t in (masked, relabelled, targets))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    name = "layers.0.v.weight"
    assert np.abs(a[name] - c[name]).max() > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bidirectional", "--method", "diag"], "the future of the sequence is not there"),
        (["--normalization", "batchnorm", "--method", "expsm_diag"], "those of whole sequences"),
        (["--normalization", "layernorm", "--method", "diag"], "mixes the drives"),
        (
            ["--dropout", "0.1", "--method", "diag", "--backend", "braintrace"],
            "given no random key",
        ),
        (["--dropout", "1"], "--dropout 1"),
        (["--backend", "layerwise", "--method", "diag"], "--method bptt alone"),
        (["--backend", "layerwise", "--remat"], "--remat belongs to"),
        (["--bidirectional", "--backend", "plain"], "need whole sequences: --backend layerwise"),
        (["--bidirectional", "--backend", "snnlab"], "need whole sequences: --backend layerwise"),
        (["--normalization", "batchnorm", "--backend", "plain"], "need whole sequences"),
        (["--bidirectional", "--remat"], "without --remat, --checkpoint_block"),
        (["--bidirectional", "--precision", "mixed"], "--precision and --kernels"),
        (["--bidirectional", "--checkpoint_block", "9"], "without --remat, --checkpoint_block"),
        (["--track-balance", "--normalization", "batchnorm"], "rescales them"),
        (["--track-balance", "--bidirectional"], "nor with --bidirectional"),
        (
            ["--quantize_adc", "4.0", "--quantize_as", "affine", "--method", "diag"],
            "those of whole sequences",
        ),
        (
            ["--quantize_adc", "4.0", "--quantize_as", "affine", "--backend", "plain"],
            "need whole sequences: --backend layerwise",
        ),
        (
            ["--quantize_adc", "4.0", "--quantize_as", "affine", "--track-balance"],
            "--quantize_adc with --quantize_as affine, which need",
        ),
        (
            [
                "--gauss",
                "0.1",
                "--gauss_on",
                "drive",
                "--method",
                "diag",
                "--backend",
                "braintrace",
                "--fix_tau_rec",
                "--fix_tau_out",
            ],
            "--gauss_on drive with --method diag needs",
        ),
    ],
)
def test_input_that_cannot_be_used(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configs.parse(BalancedRSNN, flags, prog="x", description="", adapt=defaults)


def test_a_backend_that_cannot_run_whole_sequences() -> None:
    with pytest.raises(UsageError, match="--backend layerwise, without --remat"):
        learned((*BOTH, "RadLIF"), backend="plain")


def test_rates_outside_of_their_range_are_penalised() -> None:
    """Two neurons, rates 1/2 and 0 over two steps of one real sample: 3 (0.5 - 0.4 + 0.1)."""
    config = TrainingConfig(use_regularizers=True, reg_factor=3, reg_fmin=0.1, reg_fmax=0.4)
    goal = Classification(2, 1, 0, 1.0, config)
    spikes = jnp.asarray([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]])
    batch = Targets(jnp.zeros(2, jnp.int32), jnp.asarray([1.0, 0.0]))
    outs = StepOutput(jnp.zeros((2, 2, 2)), (spikes,), (spikes,))
    assert float(goal.over_sequence(outs, batch)) == pytest.approx(0.6)
    plain = dataclasses.replace(goal, config=TrainingConfig())
    assert float(plain.over_sequence(outs, batch)) == 0


def test_the_learner_has_the_gradient_of_the_penalty() -> None:
    model = configs.parse(
        BalancedRSNN, ["--neurons", "5", *LIVE, "RadLIF"], prog="x", description=""
    )[0].model

    def made(_: str) -> LayeredNetwork:
        return build_network(model, N_IN, N_OUT, "plain", 0)

    found = []
    for on in (False, True):
        config = TrainingConfig(use_regularizers=on, reg_factor=1, reg_fmin=0.9, reg_fmax=1.0)
        goal = Classification(N_OUT, 1, 0, 1.0, config)
        backend = LearnerConfig(method="bptt", backend="layerwise")
        learner = make_learner(backend, made, BATCH, goal)
        stream, batch = make_stream(steps=STEPS, batch=BATCH), make_targets(batch=BATCH)
        segment = learner.segment(get_params(made("")), learner.fresh(), stream, batch, 0, STEPS)
        found.append(segment.gradients)
    assert not np.allclose(found[1]["layers.0.w.weight"], found[0]["layers.0.w.weight"], atol=1e-6)
    np.testing.assert_allclose(found[1]["readout.map.weight"], found[0]["readout.map.weight"])


def test_the_penalty_is_refused_step_by_step() -> None:
    flags = ["--use_regularizers", "--samples", "4", "--batch_size", "2"]
    refused = configs.parse(BalancedRSNN, flags, prog="x", description="")[0]
    with pytest.raises(UsageError, match="rates of whole sequences"):
        assemble(refused, build(refused))
    chosen = configs.parse(BalancedRSNN, flags, prog="x", description="", adapt=defaults)[0]
    assert chosen.learner.backend == "layerwise"
