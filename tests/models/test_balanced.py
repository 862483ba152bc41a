"""Balanced layers: hand-computed steps, options, and what is trained."""

from __future__ import annotations

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.learners import PureNetwork, get_params
from snnlab.models import build_network
from snnlab.models.baselines import BaselineLayer
from snnlab.models.kinds.rlif import refit_program
from snnlab.models.maps import DenseMap, FixedMap, Held
from snnlab.models.neuron import decay
from snnlab.models.normalization import LayerNorm
from snnlab.models.options import FixedPoint
from snnlab.models.quantization import DriveLevels, affine, fixed_point, to_levels
from snnlab.models.readouts import Readout
from snnlab.models.spiking import spike
from snnlab.models.trained import Bounded
from snnlab.problems.balanced import BalancedRSNN, defaults
from zoo import spiking


def fixed(*values: float) -> Held:
    return Held(jnp.asarray(values, jnp.float32))


def run(layer, inputs):
    """Membrane and output of each step for a batch of one."""
    layer.init_state(1)
    seen = []
    for x in inputs:
        out = layer.update(jnp.asarray([x], jnp.float32))
        seen.append((np.asarray(layer.membrane)[0].tolist(), np.asarray(out)[0].tolist()))
    return seen


def close(seen, wanted):
    for (u, s), (u_wanted, s_wanted) in zip(seen, wanted, strict=True):
        np.testing.assert_allclose(u, u_wanted, rtol=1e-5)
        np.testing.assert_array_equal(s, s_wanted)


def test_lif_by_hand() -> None:
    """u = 0.5 (u - s) + 0.5 * 3: 1.5, spike; 0.5 * 0.5 + 1.5 = 1.75, spike; then no input."""
    layer = spiking(FixedMap(jnp.ones((1, 1))), fixed(0.5), jnp.ones(1))
    close(run(layer, [[3.0], [3.0], [0.0]]), [([1.5], [1]), ([1.75], [1]), ([0.375], [0])])


def test_adaptive_lif_by_hand() -> None:
    """w = 0.5 w + 1 u + 2 s; the drive is 3 - w: first w = 0, then 0 + 1.5 + 2 = 3.5."""
    adaptation = (fixed(0.5), fixed(1.0), fixed(2.0))
    layer = spiking(FixedMap(jnp.ones((1, 1))), fixed(0.5), jnp.ones(1), adaptation=adaptation)
    # u2 = 0.5 * 0.5 + 0.5 * (3 - 3.5) = 0; w3 = 1.75 + 0 + 0; u3 = 0.5 * (3 - 1.75)
    close(run(layer, [[3.0]] * 3), [([1.5], [1]), ([0.0], [0]), ([0.625], [0])])


@pytest.mark.parametrize(
    ("reset", "second"), [("one", 1.0), ("none", 2.0), ("voltage", 0.0), ("threshold", 0.5)]
)
def test_resets_by_hand(reset: str, second: float) -> None:
    """u1 = 2, a spike of theta = 1.5; then u2 = 0.5 (u1 - reset) + 0.5 * s1 V with V = 1."""
    layer = spiking(
        FixedMap(jnp.ones((1, 1))), fixed(0.5), jnp.full(1, 1.5),
        v=FixedMap(jnp.ones((1, 1))), reset=reset,
    )  # fmt: skip
    kept = {"one": 1.0, "none": 2.0, "voltage": 0.0, "threshold": 0.5}[reset]
    assert kept == second
    close(run(layer, [[4.0], [0.0]]), [([2.0], [1]), ([0.5 * kept + 0.5], [0])])


def test_slow_dynamics_by_hand() -> None:
    """Neuron 0 spikes in step 1 only; its r = 1, 0.5, ... drives neuron 1 by 4 from step 2 on."""
    slow = jnp.asarray([[0.0, 4.0], [0.0, 0.0]])
    layer = spiking(
        FixedMap(jnp.asarray([[4.0, 0.0]])), fixed(0.5, 0.5), jnp.full(2, 1.9), v_slow=slow
    )
    # u0: 2; 0.5 (2 - 1) = 0.5; 0.25.  u1: 0; 0.5 * 4 = 2, spike; 0.5 (2 - 1) + 0.5 * 4 * 0.5
    wanted = [([2.0, 0.0], [1, 0]), ([0.5, 2.0], [0, 1]), ([0.25, 1.5], [0, 0])]
    close(run(layer, [[1.0 * 1], [0.0], [0.0]]), wanted)


def test_a_single_spike_is_that_of_the_largest_membrane() -> None:
    theta = jnp.ones(3)
    u = jnp.asarray([[2.0, 3.0, 1.5], [0.5, 0.2, 0.9], [1.2, 0.1, 1.4]])
    np.testing.assert_array_equal(spike(u - theta, u, True), [[0, 1, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(spike(u - theta, u, False), u > 1)
    # The largest does not pass its own threshold: nothing spikes, though another would.
    high = jnp.asarray([1.0, 5.0, 1.0])
    np.testing.assert_array_equal(spike(u[:1] - high, u[:1], True), [[0, 0, 0]])


@pytest.mark.parametrize("single", [False, True])
def test_the_surrogate_is_of_the_membrane(single: bool) -> None:
    u = jnp.asarray([[0.49, 0.5, 0.51, 1.0, 1.5, 1.51]])
    gradient = jax.grad(lambda u: spike(u - 1, u, single).sum())(u)
    np.testing.assert_array_equal(gradient, [[0, 0, 1, 1, 1, 0]])


def test_the_published_surrogate_of_a_single_spike() -> None:
    """As their ``SingleSpikeFunctionBoxcar`` under torch: of 0 or 1 less the threshold."""
    u = jnp.asarray([[0.2, 0.9, 1.3, 5.0], [0.01, 0.02, -3.0, 0.0]])
    there = {
        0.073: [[1, 1, 1, 0], [1, 1, 1, 1]], 0.4999: [[1, 1, 1, 0], [1, 1, 1, 1]],
        0.5: [[0, 0, 0, 1], [0, 0, 0, 0]], 1.0: [[0, 0, 0, 1], [0, 0, 0, 0]],
        -0.5: [[1, 1, 1, 0], [1, 0, 1, 1]],
    }  # fmt: skip
    for theta, wanted in there.items():
        pull = jax.grad(lambda u, t=theta: spike(u - t, u, True, "spikes").sum())
        np.testing.assert_array_equal(pull(u), wanted)
        np.testing.assert_array_equal(
            spike(u - theta, u, True, "spikes"), spike(u - theta, u, True)
        )


def test_readout_by_hand() -> None:
    readout = Readout(
        FixedMap(jnp.eye(2)), fixed(0.5, 0.5), scaled=True, summed="softmax", t_crop=1
    )
    readout.init_state(1)
    first = readout.update(jnp.asarray([[2.0, 0.0]]))
    np.testing.assert_array_equal(first, [[0, 0]])  # before t_crop
    second = readout.update(jnp.asarray([[0.0, 0.0]]))  # u = 0.5, 0
    step = jax.nn.softmax(jnp.asarray([[0.5, 0.0]])) - 0.5
    np.testing.assert_allclose(second, step, rtol=1e-5)
    third = readout.update(jnp.asarray([[0.0, 2.0]]))  # u = 0.25, 1
    step = jax.nn.softmax(jnp.asarray([[0.25, 1.0]])) - 0.5
    np.testing.assert_allclose(third, second + step, rtol=1e-5)


def test_baselines_by_hand() -> None:
    def maps(*values):
        return [FixedMap(jnp.full((1, 1), v)) for v in values]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def outputs(kind, w, v):
        return [s[0] for _, s in run(BaselineLayer(kind, maps(*w), maps(*v)), [[1.0], [-2.0]])]

    np.testing.assert_allclose(outputs("MLP", [2], []), [2, 0])
    rnn = [np.tanh(2), np.tanh(-4 + 3 * np.tanh(2))]
    np.testing.assert_allclose(outputs("RNN", [2], [3]), rnn, rtol=1e-5)
    z = sigmoid(0.5)
    first = (1 - z) * 2
    z = sigmoid(-1 + 0.7 * first)
    second = z * first + (1 - z) * max(-4 + 3 * first, 0)
    np.testing.assert_allclose(outputs("LiGRU", [2, 0.5], [3, 0.7]), [first, second], rtol=1e-5)
    first = (1 - sigmoid(0.5)) * np.tanh(2)
    z, r = sigmoid(-1 + 0.7 * first), sigmoid(-0.6 + 0.9 * first)
    second = z * first + (1 - z) * np.tanh(-4 + 3 * r * first)
    found = outputs("GRU", [2, 0.5, 0.3], [3, 0.7, 0.9])
    np.testing.assert_allclose(found, [first, second], rtol=1e-5)


def test_layer_norm() -> None:
    y = LayerNorm(4).update(jnp.asarray([[1.0, 2.0, 3.0, 6.0]]))
    np.testing.assert_allclose(y.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(), 1, rtol=1e-3)


def test_fixed_point() -> None:
    kind = FixedPoint("4.2", "quantize")
    assert kind.limits == (-2.0, 1.75)
    x = jnp.asarray([0.1, 0.13, -5.0, 5.0, 0.6])
    np.testing.assert_allclose(fixed_point(kind)(x), [0, 0.25, -2, 1.75, 0.5])
    np.testing.assert_array_equal(jax.grad(lambda x: fixed_point(kind)(x).sum())(x), np.ones(5))


def of_torch(x: np.ndarray, bits: int) -> np.ndarray:
    """As the published program rounds."""
    torch = pytest.importorskip("torch")
    from torch.ao.quantization.observer import MinMaxObserver

    observer, y = MinMaxObserver(quant_min=0, quant_max=2**bits - 1), torch.tensor(x)
    observer(y)
    scale, zero = observer.calculate_qparams()
    return ((torch.clamp(torch.round(y / scale + zero), 0, 2**bits - 1) - zero) * scale).numpy()


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_levels_are_those_of_the_published_program(bits: int, shift: float) -> None:
    x = np.random.default_rng(bits).standard_normal((5, 7)).astype(np.float32) + np.float32(shift)
    found = affine(bits)(jnp.asarray(x))
    np.testing.assert_allclose(found, of_torch(x, bits), rtol=1e-5, atol=1e-6)
    assert len(np.unique(found)) <= 2**bits
    np.testing.assert_allclose(affine(bits)(found), found, rtol=1e-5, atol=1e-6)  # already there
    np.testing.assert_array_equal(jax.grad(lambda x: affine(bits)(x).sum())(x), np.ones((5, 7)))


def test_levels_beyond_the_numbers_digits_change_little() -> None:
    """32 bits, the most that a format may have; torch refuses them."""
    x = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    np.testing.assert_allclose(affine(32)(x), x, atol=1e-6)


def test_levels_of_what_does_not_vary() -> None:
    assert (to_levels(jnp.zeros(3), jnp.float32(0), jnp.float32(0), 4) == 0).all()


def test_levels_of_a_drive_are_those_of_the_samples_that_count() -> None:
    xs = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    xs[:, 1] *= 100
    found = DriveLevels(3)(jnp.asarray(xs), jnp.asarray([1.0, 0.0, 1.0, 1.0]))
    real = [0, 2, 3]
    np.testing.assert_allclose(found[:, real], of_torch(xs[:, real], 3), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------- networks


def model(*flags: str, neurons: int = 6):
    argv = ["--neurons", str(neurons), *flags]
    return configs.parse(BalancedRSNN, argv, prog="x", description="")[0].model


def made(*flags: str, operator="plain", repeat: int = 1, **kwargs):
    return build_network(model(*flags), 5, 3, operator, 7, repeat=repeat, **kwargs)


def test_a_balanced_layer() -> None:
    net = made("--balance", "--mu", "0.1", "--nu", "0.2", "--V-scale", "0.3", "--fix-w-rec",
               repeat=2)  # fmt: skip
    layer, a0 = net.layers[0], np.exp(-1 / 4000)
    w = np.asarray(layer.w.effective_weight(), float).T  # (n, n_in), as in the formulas
    gram = w @ w.T + 0.1 * np.eye(6)
    np.testing.assert_allclose(layer.threshold, 0.5 * (0.2 + np.diag(gram)), rtol=1e-4)
    np.testing.assert_allclose(layer.v.effective_weight(), -0.3 * gram / (1 - a0), rtol=1e-3)
    np.testing.assert_allclose(layer.value["alpha"](), a0, rtol=1e-6)
    assert layer.neuron.reset == "none"
    assert np.abs(w).max() <= (1 - a0) / 0.001
    np.testing.assert_allclose(net.readout.decay(), decay(30), rtol=1e-6)


def test_a_trained_recurrence_has_no_diagonal() -> None:
    layer = made("--balance").layers[0]
    assert (np.diag(layer.v.effective_weight()) == 0).all()
    assert layer.neuron.reset == "one"


@pytest.mark.parametrize("name", ["LIF", "adLIF", "RLIF", "RadLIF"])
def test_ranges_of_drawn_parameters(name: str) -> None:
    layer = made(
        "--model",
        name,
        repeat=3,
    ).layers[0]
    low, high = (5700, 6300) if name == "RLIF" else (5, 25)
    tau = -1 / np.log(np.asarray(layer.value["alpha"](), float))
    assert (low * 0.99 < tau).all()
    assert (tau < high * 1.01).all()
    assert len(set(tau.tolist())) == 6
    np.testing.assert_array_equal(layer.threshold, np.ones(6))


def test_ranges_of_time_constants() -> None:
    """Of published code until November 2024: 5 to 25 steps of the network, whatever R is."""
    layer = made("--tau-rec", "1.25,6.25", repeat=4).layers[0]
    tau = -1 / np.log(np.asarray(layer.value["alpha"](), float))
    assert 5 < tau.min() < tau.max() < 25
    assert layer.value["alpha"].limits == pytest.approx((decay(5), decay(25)))
    net = made("--balance", "--tau-rec", "200,20000", "--tau-out", "10,500", repeat=4)
    assert net.layers[0].value["alpha"].limits == (decay(800), decay(80_000))
    np.testing.assert_allclose(net.layers[0].value["alpha"](), decay(8000), rtol=1e-6)
    assert net.readout.decay.limits == (decay(40), decay(2000))
    np.testing.assert_allclose(net.readout.decay(), decay(60), rtol=1e-6)
    same, other = made(), made("--tau-rec", "1900,2100", "--tau-out", "5,25")
    for a, b in zip(get_params(same).values(), get_params(other).values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tau-rec", "5"), "must be LOW,HIGH"),
        (("--tau-rec", "5,x"), "must be LOW,HIGH"),
        (("--tau-rec", "25,5"), "must be LOW,HIGH"),
        (("--tau-out", "0,25"), "must be LOW,HIGH"),
        (("--tau-out", "5,inf"), "must be LOW,HIGH"),
        (("--balance", "--tau-rec", "5,25"), "begin at 2,000, which must be in the range"),
        (("--balance", "--tau-out", "20,25"), "begin at 15, which"),
        (("--balance", "--fix-tau-rec", "--tau-rec", "5,2500"), "--tau_rec does not apply"),
        (("--model", "GRU", "--tau-out", "5,50"), "--tau_out does not apply"),
        (("--model", "LIF", "--tau-rec", "5,50"), "--tau_rec does not apply"),
    ],
)
def test_ranges_that_are_none(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model(*flags)


def test_what_is_fixed_is_no_parameter() -> None:
    everything = set(get_params(made("--balance")))
    assert everything == {
        "layers.0.w.weight", "layers.0.v.weight", "layers.0.value.alpha.weight",
        "readout.map.weight", "readout.decay.weight",
    }  # fmt: skip
    for flag, name in {
        "--fix-w-in": "layers.0.w.weight", "--fix-w-rec": "layers.0.v.weight",
        "--fix-tau-rec": "layers.0.value.alpha.weight", "--fix-w-out": "readout.map.weight",
        "--fix-tau-out": "readout.decay.weight",
    }.items():  # fmt: skip
        assert everything - set(get_params(made("--balance", flag))) == {name}


def test_clipping_acts_in_use_and_passes_the_gradient_inside_only() -> None:
    param = Bounded(jnp.asarray([0.1, 0.5, 0.9]), (0.2, 0.8))
    np.testing.assert_allclose(param(), [0.2, 0.5, 0.8])
    pure = brainstate.transform.grad(lambda: param().sum(), {"p": param.weight})
    np.testing.assert_array_equal(pure()["p"]["weight"], [0, 1, 0])


def test_operators_give_the_same_network() -> None:
    flags = ("--model", "RadLIF", "--fix-tau-rec", "--fix-tau-out")
    a, b = get_params(made(*flags)), get_params(made(*flags, operator="braintrace"))
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_weights_with_errors() -> None:
    exact = made("--fix-w-in").layers[0].w.effective_weight()
    added = made("--fix-w-in", "--gauss", "0.01").layers[0].w.effective_weight()
    times = made("--fix-w-in", "--gauss", "0.01", "--gauss-mul").layers[0].w.effective_weight()
    assert 0.003 < np.std(added - exact) < 0.03
    zero = np.asarray(exact) == 0
    assert zero.any()
    assert (np.asarray(added)[zero] != 0).all()
    assert (np.asarray(times)[zero] == 0).all()
    coarse = made("--fix-w-in", "--quantize", "6.4").layers[0].w.effective_weight()
    np.testing.assert_allclose(coarse * 16, np.round(coarse * 16), atol=1e-5)


def test_input_weights_at_levels() -> None:
    """Of all maps the input's alone, as published; kept rounded after an update."""
    exact, coarse = made("--balance"), made("--balance", "--quantize", "3.0", "--quantize_as",
                                            "affine")  # fmt: skip
    w, v = (np.asarray(m.effective_weight()) for m in (exact.layers[0].w, exact.layers[0].v))
    layer = coarse.layers[0]
    np.testing.assert_allclose(layer.w.effective_weight(), of_torch(w, 3), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(layer.v.effective_weight(), v)
    params = get_params(coarse)
    np.testing.assert_array_equal(params["layers.0.w.weight"], w)
    kept = coarse.kept(params)
    np.testing.assert_allclose(kept.pop("layers.0.w.weight"), of_torch(w, 3), rtol=1e-5, atol=1e-7)
    for name, value in kept.items():
        assert value is params[name]
    assert exact.kept(get_params(exact)).keys() == params.keys()
    fixed = made("--balance", "--fix-w-in", "--quantize", "3.0", "--quantize_as", "affine")
    assert not any("layers.0.w." in name for name in get_params(fixed))
    np.testing.assert_allclose(
        fixed.layers[0].w.effective_weight(), of_torch(w, 3), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("fixed_v", [False, True])
def test_refit_follows_the_weights(fixed_v: bool) -> None:
    flags = ["--balance", "--balance-refit", "--mu", "0.1", *(["--fix-w-rec"] * fixed_v)]
    net = made(*flags)
    params = get_params(net)
    changed = {**params, "layers.0.w.weight": 2 * params["layers.0.w.weight"]}
    new = refit_program(model(*flags), 1)(changed)
    w = np.asarray(changed["layers.0.w.weight"], float)
    np.testing.assert_allclose(
        new["layers.0.value.theta.weight"], 0.5 * (0.1 + (w**2).sum(0)), rtol=1e-4
    )
    wanted = -(w.T @ w + 0.1 * np.eye(6)) / (1 - np.exp(-1 / 2000))
    if fixed_v:
        np.testing.assert_allclose(new["layers.0.v.held.weight"], wanted, rtol=1e-3)
    else:
        mixed = 0.5 * (wanted + np.asarray(params["layers.0.v.weight"])) * (1 - np.eye(6))
        np.testing.assert_allclose(new["layers.0.v.weight"], mixed, rtol=1e-3, atol=1e-3)
    # No gradient reaches what is held, and the network uses it.
    pure = PureNetwork(net, 2)
    x = jnp.ones((2, 5))
    low = {**new, "layers.0.value.theta.weight": jnp.full(6, -1e9)}
    assert pure.step(low, pure.initial, x)[1].spikes[0].sum() == 12

    def total(p):
        return pure.step(p, pure.initial, x)[1].membrane[0].sum()

    gradient = jax.grad(total)(new)
    assert np.abs(gradient["layers.0.value.theta.weight"]).max() == 0
    assert np.abs(gradient["layers.0.w.weight"]).max() > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--quantize", "8"], "BITS.FRAC"),
        (["--quantize-adc", "x.y"], "BITS.FRAC"),
        (["--quantize", "4.5"], "BITS.FRAC"),
        (
            ["--balance", "--model", "LIF"],
            "--balance does not apply to --model LIF, only with --model RLIF",
        ),
        (["--balance", "--balance-refit", "--fix-w-in", "--fix-w-rec"], "nothing is left"),
        (["--auto-encoder"], "nothing to train"),
        (["--repeat", "0"], "--repeat 0"),
        (["--slow-dynamics", "--model", "LIF"], "--slow_dynamics"),
        (["--single-spike", "--model", "GRU"], "--single_spike does not apply to --model GRU"),
        (["--track-balance", "--model", "GRU"], "no excitation"),
        (
            ["--method", "diag", "--fix-tau-rec", "--backend", "braintrace"],
            "--backend braintrace trains maps alone, not time constants: add "
            "--fix_tau_out, or use --backend snnlab",
        ),
        (["--method", "diag", "--loss_of", "softmax"], "the softmax mixes the readout's units"),
        (["--update_every", "10"], "--update_every does not apply to --loss_steps end"),
    ],
)
def test_input_that_cannot_be_used(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configs.parse(BalancedRSNN, flags, prog="x", description="", adapt=defaults)


def test_a_dense_map_takes_a_transform() -> None:
    dense = DenseMap(
        jnp.asarray([[1.0, -2.0]]), mask=np.asarray([[1, 0]]), transform=lambda w: 3 * w
    )
    np.testing.assert_array_equal(dense.update(jnp.ones((1, 1))), [[3.0, 0.0]])
