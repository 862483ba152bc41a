"""Every rule against its oracle: NumPy, float64, from the equations (``oracles.py``)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import brainstate
import braintools
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from oracles import ORACLES, Net, Setting, record, total
from snnlab.data.stream import DenseStream
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.learners.methods import METHODS
from snnlab.models import ModelConfig, Network, StepOutput, build_network
from snnlab.models.maps import DenseMap, SparseMap, kaiming_normal, stacked
from snnlab.models.readouts import LeakyReadout
from snnlab.training.config import TrainingConfig
from snnlab.training.losses import Classification, Targets

T, B, N_IN, N, N_OUT = 14, 3, 6, 7, 3
#: Bound of the relative error of each parameter's gradient.
TOLERANCE = 1e-4
DT, TAU_O = 1.0, 10.0
KAPPA = float(np.exp(-DT / TAU_O))


# ---------------------------------------------------------------------- networks


class Cells(brainstate.nn.Module):
    """A layer whose neurons' parameters are trained; see ``oracles.py`` for its equations."""

    def __init__(self, net: Net, n_in: int, draw: np.random.Generator) -> None:
        super().__init__()
        self.net = net
        self.map = DenseMap(stacked(kaiming_normal(n_in, N, 20.0), kaiming_normal(N, N, 4.0)))
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
        left = self.V.value - self.threshold.value * reset
        self.V.value = leak * left + y + self.bias.value
        return self.spikes()


class Trained(Network):
    """Layers of :class:`Cells` below a leaky readout."""

    def __init__(self, net: Net, seed: int) -> None:
        super().__init__(N_IN, N_OUT, DT)
        draw = np.random.default_rng(seed)
        with brainstate.random.seed_context(seed):
            self.layers = [Cells(net, N_IN if k == 0 else N, draw) for k in range(net.layers)]
            out = DenseMap(kaiming_normal(N, N_OUT, 2.0))
        self.readout = LeakyReadout(out, TAU_O if net.kappa else 0.0, DT)

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

    def gradients(self, found: dict[str, np.ndarray], params: dict[str, Any]) -> dict[str, Any]:
        """Gradients of the oracles by the suite's names and in its shapes."""
        back = {}
        for name, value in params.items():
            grad = found[self.names.get(name, name)]
            if name in self.post:
                grad = np.take_along_axis(grad, self.post[name], axis=1)
            back[name] = grad.sum() if value.ndim == 0 else grad
        return back


OWN = ("tau", "threshold", "bias", "tau_syn", "beta")
PENALTIES = {"spikes": 0.4, "membranes": 0.3, "rate": 0.1, "low": -0.5, "high": 0.6}


@functools.cache
def trained(net: Net, seed: int = 2) -> Case:
    """Own layers, everything trained."""
    network = Trained(net, seed)
    names = {"readout.map.weight": "out"}
    for k in range(net.layers):
        names[f"layers.{k}.map.weight"] = f"w.{k}"
        names.update({f"layers.{k}.{name}": f"{name}.{k}" for name in net.own})
    return Case(net, network, names, {}, {})


@functools.cache
def built(model: str, seed: int = 1, **options: Any) -> Case:
    """A network of the suite, whose maps alone are trained."""
    kinds = {"lif-delta": "lif", "lif-exp-cu": "exp", "alif-delta": "alif"}
    scale = {"lif-delta": 30.0, "lif-exp-cu": 60.0, "alif-delta": 30.0}[model]
    n_layer = options.pop("n_layer", 2)
    config = ModelConfig(
        model=model, n_rec=N, n_layer=n_layer, **{"ff_scale": scale, "rec_scale": 4.0, **options}
    )  # type: ignore[arg-type]
    net = Net(
        kinds[model], n_layer, config.detach_reset,
        kappa=float(np.exp(-config.dt / config.tau_o)) if config.tau_o else 0.0,
        rho=float(np.exp(-config.dt / config.tau_a)),
    )  # fmt: skip
    network = build_network(config, N_IN, N_OUT, "plain", seed)
    names, fixed, post = {"readout.map.weight": "out"}, {}, {}
    for k, layer in enumerate(network.layers):
        name = f"layers.{k}.pathways.0.map.weight"
        names[name] = f"w.{k}"
        made = layer.pathways[0].map
        if isinstance(made, SparseMap):
            post[name] = np.asarray(made.post, np.int64)
        tau = np.asarray(layer.neuron.tau.to_decimal(braintools_ms()), np.float64)
        fixed[f"tau.{k}"] = np.broadcast_to(tau, (N,))
        fixed[f"threshold.{k}"], fixed[f"bias.{k}"] = np.ones(N), np.zeros(N)
        fixed[f"tau_syn.{k}"] = np.full(N, config.tau_syn)
        fixed[f"beta.{k}"] = np.full(N, config.beta)
    return Case(net, network, names, fixed, post)


def braintools_ms() -> Any:
    import brainunit

    return brainunit.ms


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
        given["etrace_decay"] = 0.8
    return LearnerConfig(**given)


class Found(NamedTuple):
    """Gradients of each segment, the parameters it was run with, and the learner."""

    gradients: list[dict[str, np.ndarray]]
    params: list[dict[str, Any]]
    learner: Any


def shifted(params: dict[str, Any], by: int) -> dict[str, Any]:
    """Parameters after ``by`` updates: a step of 2 % in a direction of its own."""
    rng = np.random.default_rng(5)
    found = {}
    for name, value in params.items():
        way = np.asarray(rng.standard_normal(value.shape), np.float32)
        found[name] = (
            value + 0.02 * by * way * jnp.std(value, ddof=0)
            if value.ndim
            else (value * (1 + 0.02 * by))
        )
    return found


def run(case: Case, variant: str, segments: tuple[int, ...], key: Any = None, **options: Any):
    """The learner through a sequence, with an update between segments."""
    stream, batch = data()
    goal = objective(case.net)
    config = config_of(variant, **options)
    learner = make_learner(config, lambda _: case.network, B, goal, seed=3)
    params = {**get_params(case.network), **learner.parameters()}
    advance = jax.jit(
        lambda params, carry, start, length: learner.segment(
            params, carry, stream, batch, start, length
        ),
        static_argnums=3 if len(segments) > 1 else (2, 3),
    )
    carry, start, found, used = learner.fresh(key), 0, [], []
    for at, length in enumerate(segments):
        now = shifted(params, at)
        part = advance(now, carry, start, length)
        carry, start = part.carry, start + length
        found.append({k: np.asarray(v, np.float64) for k, v in part.gradients.items()})
        used.append(now)
    return Found(found, used, learner)


def recorded(case: Case, params: Sequence[dict[str, Any]], segments: Sequence[int]):
    stream, batch = data()
    twins = [case.twin(p) for p, length in zip(params, segments) for _ in range(length)]
    xs = np.asarray(stream.window(0, sum(segments)), np.float64)
    return record(case.net, twins, xs, np.asarray(batch.labels), sample_weight())


def signs(learner: Any, case: Case, steps: int) -> np.ndarray:
    """The signs that UORO draws."""
    key = learner.fresh().memory.key["random.signs"]
    n = learner.net.start.shape[1]
    found = []
    for _ in range(steps):
        wrapped, draw = jax.random.split(jax.random.wrap_key_data(key))
        key = jax.random.key_data(wrapped)
        found.append(np.asarray(jax.random.rademacher(draw, (B, n), jnp.float32), np.float64))
    return np.stack(found)


def oracle(case: Case, variant: str, got: Found, segments: tuple[int, ...], **options: Any):
    """Gradients of each segment by the rule's oracle."""
    method, _, feedback = variant.partition(":")
    steps = recorded(case, got.params, segments)
    chosen = Setting(
        np.asarray(data()[1].labels), sample_weight(), segments, options.get("chunk_size", 0),
        decay=0.8 if method in ("expsm_diag", "hybrid", "ottt", "otpe") else 0.9,
    )  # fmt: skip
    if feedback in ("random", "adaptive") or method in ("rflo", "decolle"):
        own = got.learner.signal.weights
        at_step = [p for p, length in zip(got.params, segments) for _ in range(length)]

        def weights(t: int) -> list[np.ndarray]:
            return [np.asarray(at_step[t].get(k, own[k]), np.float64) for k in own]

        chosen.feedback, chosen.learned = weights, feedback == "adaptive"
    if method == "uoro":
        chosen.signs = signs(got.learner, case, sum(segments))
    for name, post in case.post.items():
        chosen.weights[case.names[name]] = post.size
    found = ORACLES[method](steps, chosen)
    parts, first = [], 0
    for params, length in zip(got.params, segments):
        whole = total(found[first : first + length])
        parts.append(case.gradients(whole, params))
        first += length
    return parts


def errors(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    assert set(a) == set(b)
    return {k: float(np.linalg.norm(a[k] - b[k]) / np.linalg.norm(b[k])) for k in b}


VARIANTS = [
    *(m for m in METHODS if m != "rflo"),
    "eprop:random", "eprop:adaptive", "rflo:random", "rflo:adaptive",
]  # fmt: skip


if __name__ == "__main__":
    import sys, time

    kinds = sys.argv[1].split(",")
    which = sys.argv[2].split(",") if len(sys.argv) > 2 else VARIANTS
    for kind in kinds:
        case = trained(Net(kind, 2, False, KAPPA, 0.95, warmup=2, **PENALTIES))
        for v in which:
            t0 = time.time()
            opts = {"chunk_size": 3, "update_every": 7}
            got = run(case, v, (7, 7), **opts)
            t1 = time.time()
            want = oracle(case, v, got, (7, 7), **opts)
            if v == which[0]:
                steps = recorded(case, got.params, (7, 7))
                print(kind, "rates", [np.mean([s.layers[k].s for s in steps]) for k in range(2)])
            print(kind, v, f"{t1 - t0:.1f}s {time.time() - t1:.1f}s")
            for a, b in zip(got.gradients, want):
                e = errors(a, b)
                print(
                    "    ",
                    {k.replace("layers.", ""): f"{x:.0e}" for k, x in e.items() if not x < 1e-5},
                    "max",
                    max(e.values()),
                    "min norm",
                    min(np.linalg.norm(x) for x in b.values()),
                )
