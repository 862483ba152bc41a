"""Every rule against its oracle: NumPy, float64, from the equations (``oracles.py``)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learners import oracles
from learners.oracles import ORACLES, Gradients, Net, Setting, Step, record, total
from snnlab.config import parse
from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.learners.functional import PureNetwork
from snnlab.learners.methods import METHODS
from snnlab.learners.stores.kernels import traces as kernels
from snnlab.models import ModelConfig, Network, StepOutput, build_network
from snnlab.models.config import GIFConfig
from snnlab.models.maps import DenseMap, SparseMap, kaiming_normal, stacked
from snnlab.models.readouts import leaky_readout
from snnlab.problems.balanced import BalancedTraining
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Targets

T, B, N_IN, N, N_OUT = 13, 3, 6, 7, 3
#: Bound of the relative error of each parameter's gradient.
TOLERANCE = 1e-4
DT, TAU_O = 1.0, 10.0
KAPPA = float(np.exp(-DT / TAU_O))
#: ``--etrace_decay`` of the rules that have it.
DECAY = 0.8


# ---------------------------------------------------------------------- networks


class Cells(brainstate.nn.Module):
    """A layer whose neurons' parameters are trained; see ``oracles.py`` for its equations."""

    def __init__(self, net: Net, n_in: int, draw: np.random.Generator, recurrent: bool) -> None:
        super().__init__()
        self.net = net
        scale = 12.0 if net.kind == "exp" else 4.0
        blocks = kaiming_normal(n_in, N, scale), kaiming_normal(N, N, scale * recurrent)
        self.map = DenseMap(stacked(*blocks))
        self.spike = braintools.surrogate.ReluGrad()

        def each(low: float, high: float) -> brainstate.ParamState:
            return brainstate.ParamState(jnp.asarray(draw.uniform(low, high, N), jnp.float32))

        self.tau, self.threshold, self.bias = each(5.0, 20.0), each(0.7, 1.2), each(-0.1, 0.2)
        if net.kind == "exp":
            self.tau_syn = each(3.0, 8.0)
        if net.kind == "alif":  # one number for all neurons
            self.beta = brainstate.ParamState(jnp.float32(0.3))

    def init_state(self, batch_size: int, **_: Any) -> None:
        zeros = jnp.zeros((batch_size, N), jnp.float32)
        self.V = brainstate.HiddenState(zeros)
        if self.net.kind != "lif":
            self.a = brainstate.HiddenState(zeros)

    def spikes(self) -> jax.Array:
        top = self.threshold.value
        if self.net.kind == "alif":
            top = top + self.beta.value * self.a.value
        return self.spike((self.V.value - top) / self.threshold.value)

    def update(self, x: jax.Array) -> jax.Array:
        net, last = self.net, self.spikes()
        y = self.map(jnp.concatenate([x, last], axis=-1))
        reset = jax.lax.stop_gradient(last) if net.detach else last
        leak = jnp.exp(-1.0 / self.tau.value)
        if net.kind == "exp":
            current = jnp.exp(-1.0 / self.tau_syn.value) * self.a.value + y
            self.a.value = current * 1.0
            y = (1.0 - leak) * current
        if net.kind == "alif":
            self.a.value = net.rho * (self.a.value + reset)
        left = self.V.value - self.threshold.value * reset if net.reset else self.V.value
        self.V.value = leak * left + y + self.bias.value
        return self.spikes()


class Trained(Network):
    """Layers of :class:`Cells` below a leaky readout."""

    def __init__(self, net: Net, seed: int, recurrent: bool) -> None:
        super().__init__(N_IN, N_OUT, DT)
        draw = np.random.default_rng(seed)
        with brainstate.random.seed_context(seed):
            self.layers = [
                Cells(net, N_IN if k == 0 else N, draw, recurrent) for k in range(net.layers)
            ]
            out = DenseMap(kaiming_normal(N, N_OUT, 2.0))
        self.readout = leaky_readout(out, TAU_O if net.kappa else 0.0, DT)

    def step(self, x: jax.Array) -> StepOutput:
        spikes = []
        for layer in self.layers:
            x = layer(x)
            spikes.append(x)
        membrane = tuple(layer.V.value for layer in self.layers)
        return StepOutput(self.readout(x), tuple(spikes), membrane)


class Case(NamedTuple):
    """A network, and its twin for the oracles."""

    net: Net
    network: Network
    #: Name of the suite's parameter -> the oracle's.
    names: dict[str, str]
    #: Parameters of neurons that the suite's network does not train.
    fixed: dict[str, np.ndarray]
    #: Tables of targets of sparse maps, by name.
    post: dict[str, np.ndarray]

    def twin(self, params: dict[str, Any]) -> dict[str, np.ndarray]:
        """Parameters for the oracles."""
        found = dict(self.fixed)
        for name, mine in self.names.items():
            value = np.asarray(params[name], np.float64)
            if name in self.post:
                dense = np.zeros((value.shape[0], N))
                np.put_along_axis(dense, self.post[name], value, axis=1)
                value = dense
            found[mine] = np.broadcast_to(value, (N,)) if value.ndim == 0 else value
        return found

    def exists(self, params: dict[str, Any]) -> dict[str, np.ndarray]:
        """Of the oracles' parameters, those that the suite trains: 1."""
        ones = {name: np.ones(params[name].shape) for name in self.names}
        return self._replace(fixed={}).twin(ones)

    def gradients(self, found: dict[str, np.ndarray], params: dict[str, Any]) -> dict[str, Any]:
        """Gradients of the oracles by the suite's names and in its shapes."""
        back = {}
        for name, value in params.items():
            grad = found[self.names.get(name, name)]
            if name in self.post:
                grad = np.take_along_axis(grad, self.post[name], axis=1)
            back[name] = grad.sum() if value.ndim == 0 else grad
        return back


PENALTIES = {"spikes": 0.4, "membranes": 0.3, "rate": 0.1, "low": -0.5, "high": 0.6}


@functools.cache
def trained(net: Net, seed: int = 2, recurrent: bool = True) -> Case:
    """Own layers, everything trained; ``recurrent=False``: recurrent weights are zero."""
    network = Trained(net, seed, recurrent)
    names = {"readout.map.weight": "out"}
    for k in range(net.layers):
        names[f"layers.{k}.map.weight"] = f"w.{k}"
        names.update({f"layers.{k}.{name}": f"{name}.{k}" for name in net.own})
    return Case(net, network, names, {}, {})


@functools.cache
def built(model: str, seed: int = 4, **options: Any) -> Case:
    """A network of the suite, whose maps alone are trained."""
    kinds = {"lif-delta": "lif", "lif-exp-cu": "exp", "alif-delta": "alif"}
    scale = {"lif-delta": 8.0, "lif-exp-cu": 60.0, "alif-delta": 10.0}[model]
    n_layer, operator = options.pop("n_layer", 2), options.pop("operator", "plain")
    config = ModelConfig(
        model=model, n_rec=N, n_layer=n_layer, **{"ff_scale": scale, "rec_scale": 4.0, **options}
    )  # type: ignore[arg-type]
    net = Net(
        kinds[model], n_layer, detach=config.detach_reset,
        kappa=float(np.exp(-config.dt / config.tau_o)) if config.tau_o else 0.0,
        rho=float(np.exp(-config.dt / config.tau_a)),
    )  # fmt: skip
    network = build_network(config, N_IN, N_OUT, operator, seed)
    names, fixed, post = {"readout.map.weight": "out"}, {}, {}
    for k, layer in enumerate(network.layers):
        name = f"layers.{k}.pathways.0.map.weight"
        names[name] = f"w.{k}"
        made = layer.pathways[0].map
        if isinstance(made, SparseMap):
            post[name] = np.asarray(made.post, np.int64)
        tau = np.asarray(layer.neuron.tau.to_decimal(u.ms), np.float64)
        fixed[f"tau.{k}"] = np.broadcast_to(tau, (N,))
        fixed[f"threshold.{k}"], fixed[f"bias.{k}"] = np.ones(N), np.zeros(N)
        fixed[f"tau_syn.{k}"] = np.full(N, config.tau_syn)
        fixed[f"beta.{k}"] = np.full(N, config.beta)
    return Case(net, network, names, fixed, post)


# ---------------------------------------------------------------------- runs


@functools.cache
def data() -> tuple[DenseStream, Targets]:
    """Input and labels; the last sample is padding."""
    rng = np.random.default_rng(0)
    xs = (rng.random((T, B, N_IN)) < 0.4).astype(np.float32)
    labels = jnp.asarray(rng.integers(0, N_OUT, B), jnp.int32)
    return DenseStream(jnp.asarray(xs)), Targets(labels, jnp.asarray([1.0, 1.0, 0.0]))


def sample_weight() -> np.ndarray:
    mask = np.asarray(data()[1].mask, np.float64)
    return mask / mask.sum()


def objective(net: Net) -> Classification:
    config = TrainingConfig(
        spk_reg_factor=net.spikes, v_reg_factor=net.membranes, loss=net.loss,
        **({"spk_reg_rate": 1000.0 * net.rate / DT} if net.spikes else {}),
        **({"v_reg_low": net.low, "v_reg_high": net.high} if net.membranes else {}),
    )  # type: ignore[arg-type]  # fmt: skip
    return Classification(N_OUT, net.layers, net.warmup, DT, config)


def config_of(variant: str, **options: Any) -> LearnerConfig:
    method, _, feedback = variant.partition(":")
    given: dict[str, Any] = {"method": method, **options}
    if feedback:
        given["feedback"] = feedback
    if "chunks" not in METHODS[method].has.split():
        given.pop("chunk_size", None)
    if "decay" in METHODS[method].has.split():
        given["etrace_decay"] = DECAY
    return LearnerConfig(**given)


class Found(NamedTuple):
    """Gradients and metrics of each segment, the parameters it was run with, and the learner."""

    gradients: list[dict[str, np.ndarray]]
    metrics: list[Any]
    params: list[dict[str, Any]]
    learner: Any


#: For tests of what programs compute, not of how fast.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def shifted(params: dict[str, Any], by: int) -> dict[str, Any]:
    """Parameters after ``by`` updates, each a step of 2 % in a direction of its own."""
    rng = np.random.default_rng(5)
    found = {}
    for name, value in params.items():
        way = jnp.asarray(rng.standard_normal(value.shape), jnp.float32)
        size = jnp.std(value) if value.ndim else jnp.abs(value)
        found[name] = value + 0.02 * by * way * size
    return found


def run(
    case: Case, variant: str, segments: tuple[int, ...], *,
    start_from: dict[str, Any] | None = None, **options: Any,
) -> Found:  # fmt: skip
    """The learner through a sequence, with an update between segments."""
    stream, batch = data()
    config = config_of(variant, **options)
    learner = make_learner(config, lambda _: case.network, B, objective(case.net), seed=3)
    params = {**get_params(case.network), **learner.parameters(), **(start_from or {})}

    def segment(params: Any, carry: Any, start: Any, length: int) -> Any:
        return learner.segment(params, carry, stream, batch, start, length)

    alone = len(segments) == 1  # then the start is known, and with it the steps without loss
    advance = jax.jit(
        segment, static_argnums=(2, 3) if alone else 3,
        compiler_options=QUICK,
    )  # fmt: skip
    carry, start = learner.fresh(), 0
    found = Found([], [], [], learner)
    for at, length in enumerate(segments):
        now = shifted(params, at)
        part = advance(now, carry, start, length)
        carry, start = part.carry, start + length
        found.gradients.append({k: np.asarray(v, np.float64) for k, v in part.gradients.items()})
        found.metrics.append(jax.device_get(part.metrics))
        found.params.append(now)
    return found


def recorded(case: Case, params: Sequence[dict[str, Any]], segments: Sequence[int]) -> list[Step]:
    stream, batch = data()
    twins = [case.twin(p) for p, length in zip(params, segments) for _ in range(length)]
    xs = np.asarray(stream.window(0, sum(segments)), np.float64)
    return record(case.net, twins, xs, np.asarray(batch.values), sample_weight())


def by_segment(values: Sequence[Any], segments: Sequence[int]) -> list[Sequence[Any]]:
    ends = np.cumsum(segments)
    return [values[end - length : end] for end, length in zip(ends, segments)]


def assert_same_run(steps: list[Step], got: Found, segments: Sequence[int]) -> None:
    """Both saw the same spikes and losses, and every layer fires in 1 % to 50 % of the steps."""
    rates = [np.mean([step.layers[k].s for step in steps]) for k in range(steps[0].net.layers)]
    assert all(0.01 < rate < 0.5 for rate in rates), f"not live: {rates}"
    for part, metrics in zip(by_segment(steps, segments), got.metrics):
        mean = [
            sum(sample_weight() @ step.layers[k].s.mean(1) for step in part)
            for k in range(len(rates))
        ]
        np.testing.assert_allclose(metrics.spikes, mean, rtol=1e-5)  # one spike is 1e-2
        np.testing.assert_allclose(metrics.loss, sum(step.loss for step in part), rtol=1e-5)


def signs(learner: Any, steps: int) -> np.ndarray:
    """Those that UORO draws, ``(T, B, N)``."""
    key = learner.fresh().memory.key["random.signs"]
    shape = learner.net.start.shape
    found = []
    for _ in range(steps):
        wrapped, draw = jax.random.split(jax.random.wrap_key_data(key))
        key = jax.random.key_data(wrapped)
        found.append(np.asarray(jax.random.rademacher(draw, shape, jnp.float32), np.float64))
    return np.stack(found)


def oracle(
    case: Case, variant: str, got: Found, segments: tuple[int, ...], window: int = 0,
    windowed: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Gradients of each segment by the rule's oracle."""
    method, _, feedback = variant.partition(":")
    steps = recorded(case, got.params, segments)
    assert_same_run(steps, got, segments)
    setting = Setting(
        np.asarray(data()[1].values), sample_weight(), segments, window, DECAY,
        exists=case.exists(got.params[0]),
    )  # fmt: skip
    if feedback in ("random", "adaptive") or method == "decolle":
        own = got.learner.signal.weights
        of_step = [p for p, length in zip(got.params, segments) for _ in range(length)]

        def weights(t: int) -> list[np.ndarray]:
            return [np.asarray(of_step[t].get(k, own[k]), np.float64) for k in own]

        setting.feedback, setting.learned = weights, feedback == "adaptive"
    if method == "uoro":
        setting.signs = signs(got.learner, sum(segments))
    rules = oracles.WINDOWED if windowed else ORACLES
    parts = by_segment(rules[method](steps, setting), segments)
    return [case.gradients(total(part), p) for part, p in zip(parts, got.params)]


def errors(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """Relative error of each parameter's gradient."""
    assert set(a) == set(b)
    return {k: float(np.linalg.norm(a[k] - b[k]) / np.linalg.norm(b[k])) for k in b}


def difference(a: Gradients, b: Gradients) -> float:
    """Relative, over all parameters that both have."""
    both = sorted(set(a) & set(b))
    x, y = (np.concatenate([np.ravel(one[k]) for k in both]) for one in (a, b))
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def check(case: Case, variant: str, segments: tuple[int, ...], **options: Any) -> Found:
    """The rule is its oracle, and no parameter is without a gradient."""
    got = run(case, variant, segments, **options)
    windowed = options.get("vjp_method") == "multi-step"
    wanted = oracle(case, variant, got, segments, options.get("chunk_size", 0), windowed)
    pairs = list(zip(got.gradients, wanted, strict=True))
    if max(segments) == 1:  # a step alone may have no gradient
        pairs = [
            tuple({k: np.stack([g[k] for g in part]) for k in part[0]} for part in zip(*pairs))
        ]
    for a, b in pairs:
        for name, value in b.items():
            assert np.linalg.norm(value) > 1e-4, f"{variant}: no gradient of {name}"
        wrong = {k: e for k, e in errors(a, b).items() if not e < TOLERANCE}
        assert not wrong, f"{variant}: {wrong}"
    return got


#: Methods, and those with several kinds of feedback once for each.
VARIANTS = [
    *(m for m in METHODS if m not in ("eprop", "rflo")),
    "eprop:symmetric", "eprop:random", "eprop:adaptive", "rflo:random", "rflo:adaptive",
]  # fmt: skip
IN_CHUNKS = [v for v in VARIANTS if "chunks" in METHODS[v.partition(":")[0]].has.split()]
MAIN = Net("lif", 2, kappa=KAPPA, warmup=2, **PENALTIES)
OTHERS = {
    "exp": Net("exp", 2, kappa=KAPPA, warmup=2, **PENALTIES),
    "alif": Net("alif", 2, detach=True, kappa=KAPPA, rho=0.95, warmup=2, **PENALTIES),
}


# ---------------------------------------------------------------------- the networks


CASES = {
    "lif": lambda: trained(MAIN),
    "exp": lambda: trained(OTHERS["exp"]),
    "alif": lambda: trained(OTHERS["alif"]),
    "lif-delta": lambda: built("lif-delta"),
    "lif-exp-cu": lambda: built("lif-exp-cu"),
    "alif-delta": lambda: built("alif-delta"),
    "sparse": lambda: built("lif-delta", connectivity=0.4, rec_scale=20.0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_networks_are_the_same(name: str) -> None:
    """The forward pass in NumPy and in the suite: spikes, membranes, readout."""
    case, stream = CASES[name](), data()[0]
    net, params = PureNetwork(case.network, B), get_params(case.network)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def forward(params: Any, carry: Any) -> Any:
        return jax.lax.scan(lambda c, x: net.step(params, c, x), carry, stream.window(0, T))[1]

    outs = forward(params, net.initial)
    steps = recorded(case, [params], [T])
    for k in range(case.net.layers):
        spikes = np.stack([step.layers[k].s for step in steps])
        assert 0.01 < spikes.mean() < 0.5
        np.testing.assert_array_equal(outs.spikes[k], spikes)
        membrane = np.stack([step.layers[k].h[0] for step in steps])
        np.testing.assert_allclose(outs.membrane[k], membrane, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outs.readout, np.stack([s.r for s in steps]), rtol=1e-5, atol=1e-5)


def test_the_derivatives_of_the_oracles() -> None:
    """Backpropagation and RTRL, written apart from each other, agree to rounding."""
    for case in (trained(MAIN), *map(trained, OTHERS.values())):
        steps = recorded(case, [get_params(case.network)], [T])
        assert difference(total(oracles.rtrl(steps)), oracles.bptt(steps)) < 1e-12


# ---------------------------------------------------------------------- rule = oracle


def test_every_method_has_an_oracle() -> None:
    assert set(ORACLES) == set(METHODS)
    assert {v.partition(":")[0] for v in VARIANTS} == set(METHODS)


@functools.cache
def main_run(variant: str) -> Found:
    return check(trained(MAIN), variant, (6, 6), chunk_size=3, update_every=6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rule(variant: str) -> None:
    """Two recurrent layers, all parameters trained, penalties; an update between segments."""
    main_run(variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", OTHERS)
def test_rule_of_other_neurons(kind: str, variant: str) -> None:
    """Two states of a neuron; a detached reset."""
    if (kind, variant) == ("alif", "uoro"):
        pytest.skip("its norms are those of one beta, the oracle's of one for each neuron")
    check(trained(OTHERS[kind]), variant, (6, 6), chunk_size=3, update_every=6)


#: One for each way of remembering.
EACH_STORE = ["diag", "expsm_diag", "eprop:adaptive", "ottt", "ostl", "immediate"]


WHOLE = [
    *((v, k) for v in IN_CHUNKS for k in (3, T)),
    *((v, k) for v in EACH_STORE for k in (1, 7)),
]


@pytest.mark.parametrize(
    ("variant", "chunk"),
    [
        one if one == ("eprop:adaptive", 3) else pytest.param(*one, marks=pytest.mark.slow)
        for one in WHOLE
    ],
)
def test_rule_of_whole_sequences(variant: str, chunk: int) -> None:
    """Chunks that divide the sequence or not: the oracles know of none (windows of tbptt apart)."""
    check(trained(MAIN), variant, (T,), chunk_size=chunk)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in IN_CHUNKS])
def test_rule_of_whole_sequences_without_chunks(variant: str) -> None:
    check(trained(MAIN), variant, (T,))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*EACH_STORE, "otpe", "snap-1", "uoro", "rtrl"])
def test_rule_with_an_update_at_every_step(variant: str) -> None:
    check(trained(MAIN), variant, (1,) * 9, update_every=1, chunk_size=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("segments", "chunk"), [((6, 6), 3), ((1,) * 9, 1)], ids=["chunks", "every step"]
)
@pytest.mark.parametrize("variant", ["diag", "eprop:adaptive", "otpe"])
def test_rule_with_loops_of_our_own(
    variant: str, segments: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces as large as to have them; at every step they are written once in several."""
    monkeypatch.setattr(kernels, "LEAST_BYTES", 0)
    options = {"update_every": segments[0], "chunk_size": chunk}
    got = check(trained(MAIN), variant, segments, **options)
    assert bool(got.learner.rules[0].deferred) == (chunk == 1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*EACH_STORE, "rflo:random", "otpe", "snap-1", "uoro", "rtrl"])
def test_rule_without_reset(variant: str) -> None:
    """Thresholds that act on spikes alone: no state of their neuron depends on them."""
    case = trained(dataclasses.replace(OTHERS["exp"], reset=False))
    check(case, variant, (6, 6), chunk_size=3, update_every=6)


@pytest.mark.slow
@pytest.mark.parametrize("segments", [(6, 6), (T,)], ids=["segments", "whole"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("method", oracles.WINDOWED)
def test_windows(method: str, segments: tuple[int, ...], k: int) -> None:
    """Backpropagation inside windows, parameters of neurons included."""
    more = {"update_every": 6} if len(segments) > 1 else {}
    check(trained(MAIN), method, segments, chunk_size=k, vjp_method="multi-step", **more)


def test_windows_of_the_oracles() -> None:
    """As long as the sequence they are backpropagation, shorter ones neither it nor D-RTRL."""
    case = trained(MAIN)
    steps = recorded(case, [get_params(case.network)], [T])
    exact, drtrl = oracles.bptt(steps), whole(case, "diag")
    assert difference(total(oracles.windows(steps, [T], T)), exact) < 1e-12
    assert difference(total(oracles.windows(steps, [T], 3)), exact) > 0.01
    assert difference(total(oracles.windows(steps, [T], 3)), drtrl) > 0.01


SPARSE = ["snap-2", "hybrid", "eprop:adaptive"]


@pytest.mark.parametrize(
    "variant", [v if v in SPARSE else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_rule_of_sparse_maps(variant: str) -> None:
    """The oracle of the dense map, at the synapses that exist.

    Under hybrid an input has one synapse: D-RTRL's trace is then the smaller one of these maps, of
    the readout's it is not.
    """
    share = 1 / N if variant == "hybrid" else 0.4
    case = built("lif-delta", connectivity=share, rec_scale=20.0)
    assert case.post
    check(case, variant, (6, 6), chunk_size=3, update_every=6)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["diag", "expsm_diag", "eprop:symmetric", "ostl", "snap-1"])
@pytest.mark.parametrize("model", ["lif-delta", "lif-exp-cu", "alif-delta"])
def test_rule_of_the_suites_models(model: str, variant: str) -> None:
    check(built(model), variant, (6, 6), chunk_size=3, update_every=6)


# ---------------------------------------------------------------------- exact and different


def whole(case: Case, variant: str, window: int = 3) -> Gradients:
    """The oracle's gradient of the whole sequence; feedback drawn here."""
    method, _, feedback = variant.partition(":")
    steps = recorded(case, [get_params(case.network)], [T])
    rng = np.random.default_rng(1)
    matrices = [rng.standard_normal((N, N_OUT)) for _ in range(case.net.layers)]
    setting = Setting(
        np.asarray(data()[1].values), sample_weight(), (T,), window, DECAY,
        feedback=None if feedback == "symmetric" else lambda t: matrices,
        signs=np.sign(rng.standard_normal((T, B, _states(steps)))),
    )  # fmt: skip
    return total(ORACLES[method](steps, setting))


def _states(steps: list[Step]) -> int:
    return sum(len(layer.h) * N for layer in steps[0].layers) + N_OUT


def test_sparse_snap_2_keeps_less_than_ostl() -> None:
    case = built("lif-delta", connectivity=0.4, rec_scale=20.0)
    found = [whole(case, rule) for rule in ("snap-1", "snap-2", "ostl")]
    for one in found:
        del one["out"]
    assert difference(found[0], found[1]) > 0.01
    assert difference(found[1], found[2]) > 0.01


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("bptt", "rtrl")])
def test_rule_is_no_backpropagation(variant: str) -> None:
    """Negative control: nor is it D-RTRL, if it is another rule."""
    case = trained(MAIN)
    found = whole(case, variant)
    assert difference(found, whole(case, "bptt")) > 0.01
    if variant not in ("diag", "ostl-without-h"):
        assert difference(found, whole(case, "diag")) > 0.01


ONE = Net("lif", 1, kappa=0.0, **PENALTIES)
#: (network, with recurrent weights, rule, what it must be)
EXACT = {
    "D-RTRL without recurrence, memoryless readout": (ONE, False, "diag", "bptt"),
    "the same with two states": (dataclasses.replace(ONE, kind="exp"), False, "diag", "bptt"),
    "the same with adaptation": (
        dataclasses.replace(ONE, kind="alif", rho=0.95), False, "diag", "bptt",
    ),
    "OSTL, one recurrent layer, memoryless readout": (ONE, True, "ostl", "bptt"),
    "SnAp-2, all connected": (ONE, True, "snap-2", "bptt"),
    "OSTL with adaptation": (
        dataclasses.replace(ONE, kind="alif", rho=0.95), True, "ostl", "bptt",
    ),
    "RTRL": (MAIN, True, "rtrl", "bptt"),
    "OSTL without H": (MAIN, True, "ostl-without-h", "diag"),
    "e-prop, memoryless readout": (
        dataclasses.replace(MAIN, kappa=0.0), True, "eprop:symmetric", "diag",
    ),
    "e-prop, one layer without recurrence": (
        dataclasses.replace(ONE, kappa=KAPPA), False, "eprop:symmetric", "bptt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_exact_cases_of_the_oracles(name: str) -> None:
    """What rules must be, by what they leave out; e-prop's filter is all that a readout adds.

    e-prop: with spikes ``s_t`` that depend on parameters neuron by neuron, ``dr_t/dW = sum_{s <= t}
    kappa^(t-s) W_o^T ds_s/dW = W_o^T ebar_t`` is exact; between neurons it drops what OSTL keeps.
    """
    net, recurrent, rule, other = EXACT[name]
    case = trained(net, recurrent=recurrent)
    assert difference(whole(case, rule), whole(case, other)) < 1e-12
    if not recurrent and rule == "diag":  # a leaky readout is what it misses then
        leaky = trained(dataclasses.replace(net, kappa=KAPPA), recurrent=False)
        assert difference(whole(leaky, rule), whole(leaky, other)) > 0.01
    if not recurrent:
        other_net = trained(net)
        assert difference(whole(other_net, rule), whole(other_net, other)) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_exact_cases(name: str) -> None:
    net, recurrent, rule, other = EXACT[name]
    case = trained(net, recurrent=recurrent)
    a, b = (run(case, v, (T,)) for v in (rule, other))
    assert_same_run(recorded(case, a.params, [T]), a, [T])
    assert max(errors(a.gradients[0], b.gradients[0]).values()) < TOLERANCE


def uniform_leak(params: dict[str, Any]) -> dict[str, Any]:
    """All membranes leak by the decay of OTTT."""
    tau = -1.0 / np.log(DECAY)
    return {k: np.full(v.shape, tau) for k, v in params.items() if k.endswith(".tau")}


def test_ottt_is_drtrl_where_it_must_be() -> None:
    """One leak for all neurons and a detached reset: the trace of a synapse is its input's."""
    case = trained(dataclasses.replace(MAIN, detach=True))
    same = {**get_params(case.network), **uniform_leak(get_params(case.network))}
    steps = recorded(case, [same], [T])
    signals = oracles.exact_signals(steps)
    maps = oracles.ottt_maps(steps, signals, DECAY)
    assert difference(total(maps), total(oracles.drtrl(steps, signals))) < 1e-12
    attached = trained(MAIN)
    steps = recorded(attached, [same], [T])
    signals = oracles.exact_signals(steps)
    maps = oracles.ottt_maps(steps, signals, DECAY)
    assert difference(total(maps), total(oracles.drtrl(steps, signals))) > 0.01


@pytest.mark.slow
def test_rule_of_ottt_is_that_of_drtrl() -> None:
    case = trained(dataclasses.replace(MAIN, detach=True))
    leak = jax.tree.map(jnp.float32, uniform_leak(get_params(case.network)))
    a, b = (run(case, v, (T,), start_from=leak) for v in ("ottt", "diag"))
    assert max(errors(a.gradients[0], b.gradients[0]).values()) < TOLERANCE


def test_snap_1_is_drtrl_with_the_own_synapse() -> None:
    case = trained(MAIN)
    steps = recorded(case, [get_params(case.network)], [T])
    signals = oracles.exact_signals(steps)
    found = total(oracles.influence(steps, signals, [np.eye(N)] * 2))
    assert difference(found, total(oracles.drtrl(steps, signals))) > 0.01
    for step in steps:
        for layer in step.layers:
            own = np.diag(layer.w[layer.n_x :])
            layer.D = layer.D + layer.f[:, None] * own * layer.o_last[None]
            layer.own = {
                name: value + layer.f * own * layer.q_last.get(name, 0.0)
                for name, value in layer.own.items()
            }
    assert difference(found, total(oracles.drtrl(steps, signals))) < 1e-12


def test_immediate_is_one_step_from_rest() -> None:
    case = trained(MAIN)
    steps = recorded(case, [get_params(case.network)], [T])
    each = [
        oracles.join(oracles.drtrl([s], oracles.exact_signals([s])), oracles.readout([s]))[0]
        for s in steps
    ]
    assert difference(total(each), whole(case, "immediate")) < 1e-12


@pytest.mark.parametrize("variant", ["eprop:adaptive", "rflo:adaptive"])
def test_adaptive_feedback_gets_the_gradient_of_the_readout(variant: str) -> None:
    for found in main_run(variant).gradients:
        readout, feedback = found["readout.map.weight"], found["feedback.1"]
        np.testing.assert_allclose(feedback, readout, rtol=1e-5, atol=1e-6)
        assert np.linalg.norm(found["feedback.0"] - readout) > 0.1 * np.linalg.norm(readout)


@pytest.mark.slow
def test_feedback_by_the_weights_of_the_readout_is_symmetric() -> None:
    case = trained(dataclasses.replace(ONE, kappa=KAPPA))
    weight = {"feedback.0": get_params(case.network)["readout.map.weight"]}
    a = run(case, "eprop:adaptive", (T,), start_from=weight).gradients[0]
    other = run(case, "eprop:adaptive", (T,)).gradients[0]
    b = run(case, "eprop:symmetric", (T,)).gradients[0]
    assert max(errors({k: a[k] for k in b}, b).values()) < TOLERANCE
    assert difference(other, b) > 0.01


def test_uoro_is_unbiased() -> None:
    """The mean over draws is RTRL's gradient within 4 standard errors; a draw is not."""
    draws, steps = 4000, 8
    case = trained(dataclasses.replace(ONE, kappa=KAPPA))
    stream, batch = data()
    made = make_learner(config_of("uoro"), lambda _: case.network, B, objective(case.net))
    params = get_params(case.network)

    def gradient(key: jax.Array) -> Any:
        carry = made.fresh(jax.random.key_data(key))
        return made.segment(params, carry, stream, batch, 0, steps).gradients

    keys = jax.random.split(jax.random.key(7), draws)
    found = jax.jit(jax.vmap(gradient), compiler_options=QUICK)(keys)
    recording = recorded(case, [params], [steps])
    exact = case.gradients(total(oracles.rtrl(recording)), params)
    drtrl = case.gradients(total(ORACLES["diag"](recording, Setting(None, None))), params)  # type: ignore[arg-type]
    away = {}
    for name, value in found.items():
        each = np.asarray(value, np.float64)
        mean, error = each.mean(0), each.std(0, ddof=1) / np.sqrt(draws)
        rounding = 1e-5 * np.abs(exact[name]).max()  # where no draw matters, as of the readout
        assert np.all(np.abs(mean - exact[name]) < 4 * error + rounding), name
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(exact[name]), name
        away[name] = np.max(np.abs(drtrl[name] - exact[name]) / (error + rounding))
        assert np.linalg.norm(each[0] - exact[name]) > 0.01 * np.linalg.norm(exact[name])
    assert max(away.values()) > 8, "the test could not tell it from D-RTRL"


# ---------------------------------------------------------------------- braintrace


def filtered_states(steps: list[Step], signals: oracles.Signals, kappa: float) -> list[Gradients]:
    """``dW = sum_t d_t ebar_t``, ``ebar_t = kappa ebar_{t-1} + eps_t``: the trace of the states."""
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        e, _ = oracles.start(steps[0], k)
        bar = np.zeros_like(e)
        for t, step in enumerate(steps):
            layer = step.layers[k]
            e = oracles.along(layer.D, e) + oracles.entering(layer)
            bar = kappa * bar + e
            d = oracles.at_states(layer, signals[t][k])
            found[t][f"w.{k}"] = np.einsum("sbn,sbin->in", d, bar)
    return found


def _theirs_eprop(steps: list[Step], setting: Setting) -> list[Gradients]:
    return filtered_states(steps, oracles.exact_signals(steps), 0.7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The SnAp-n position analysis:UserWarning")
@pytest.mark.parametrize(
    ("algorithm", "options", "same", "other"),
    [
        ("SnAp", {"n": 1}, ORACLES["snap-1"], ORACLES["diag"]),
        ("SnAp", {"n": 2}, ORACLES["snap-2"], ORACLES["snap-1"]),
        ("OSTLRecurrent", {}, ORACLES["snap-1"], ORACLES["ostl"]),
        ("EProp", {}, ORACLES["diag"], ORACLES["eprop"]),
        ("EProp", {"kappa_filter_decay": 0.7}, _theirs_eprop, ORACLES["eprop"]),
    ],
    ids=["SnAp-1", "SnAp-2", "OSTL", "EProp", "EProp-kappa"],
)
def test_braintrace(algorithm: str, options: dict[str, Any], same: Any, other: Any) -> None:
    """What braintrace 0.2.6 means by these names, on two recurrent layers.

    Its SnAp is ours. Its OSTLRecurrent keeps a neuron's synapse onto itself alone, and is our
    snap-1: our ostl keeps all of the layer's recurrence, as the paper does. Its EProp filters the
    trace of the states, ours that of spikes as the paper does; without the filter it is D-RTRL. Its
    UORO is one estimate for each layer of that same recurrence, ours one for the whole network.
    """
    import braintrace

    from snnlab.learners.backends.braintrace import BrainTrace

    class Theirs(BrainTrace):
        def compile(self, model: brainstate.nn.Module) -> Any:
            kind = getattr(braintrace, algorithm)
            return braintrace.compile(
                model,
                kind,
                self._example,
                batch_size=B,
                vmap="kappa_filter_decay" not in options,
                **options,
            )

    case, (stream, batch) = built("lif-delta"), data()
    config = LearnerConfig(method="diag", backend="braintrace")
    made = Theirs(built("lif-delta", operator="braintrace").network, B, objective(case.net), config)
    params = get_params(case.network)
    found = jax.jit(lambda p: made.segment(p, made.fresh(), stream, batch, 0, T).gradients)(params)
    steps = recorded(case, [params], [T])
    setting = Setting(np.asarray(batch.values), sample_weight(), (T,))
    for name, mine in case.names.items():
        if mine == "out" and "kappa_filter_decay" in options:
            continue  # filtered too
        want = total(same(steps, setting))[mine]
        assert difference({mine: found[name]}, {mine: want}) < TOLERANCE
        if mine != "out":
            assert difference({mine: found[name]}, total(other(steps, setting))) > 0.01


# ---------------------------------------------------------------------- refusals


def refused(pattern: str, make: Any, **config: Any) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        make_learner(LearnerConfig(**config), make, B, objective(ONE))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"method": "eprop"}, {"method": "eprop", "feedback": "random"}, {"method": "rflo"},
        {"method": "decolle"}, {"method": "otpe"},
    ],
    ids=lambda c: "-".join(c.values()),
)  # fmt: skip
def test_readout_of_membranes_is_refused(config: dict[str, str]) -> None:
    def make(operator: Any) -> Network:
        return build_network(GIFConfig(n_rec=N), N_IN, N_OUT, operator, 0)

    refused(r"needs a readout of spikes; .* use --method diag", make, **config)


@pytest.mark.parametrize("method", ["rtrl", "ostl", "snap-2"])
def test_more_than_fits_is_refused(method: str) -> None:
    config = ModelConfig(n_rec=2000, n_layer=1)
    refused("influence", lambda op: build_network(config, N_IN, N_OUT, op, 0), method=method)


@dataclasses.dataclass
class Learners:
    """A command's config of the sections that options of a learner depend on."""

    learner: LearnerConfig
    training: BalancedTraining


@pytest.mark.parametrize("method", [m for m in METHODS if "feedback" not in METHODS[m].has])
def test_feedback_of_other_rules_is_refused(method: str) -> None:
    given = ["--method", method, "--feedback", "random", "--chunk_size", "3"]
    if "chunks" not in METHODS[method].has:
        given = given[:-2]
    with pytest.raises(UsageError, match="--feedback does not apply to") as caught:
        parse(Learners, given, prog="p", description="d")
    assert str(caught.value).endswith("only with --method eprop, rflo")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "tbptt"}, "tbptt needs --chunk_size"),
        ({"method": "rflo", "feedback": "symmetric"}, "would be --method diag"),
        ({"method": "ostl", "etrace_decay": 0.9}, "no meaning with --method ostl"),
        ({"method": "eprop", "vjp_method": "multi-step", "chunk_size": 4}, "not eprop"),
        ({"method": "ostl", "backend": "braintrace"}, "not ostl"),
    ],
)  # fmt: skip
def test_options_of_other_rules_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**config)
