"""The suite's own learners against braintrace, BPTT, and themselves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, PureNetwork, Segment, get_params, make_learner, tuning
from snnlab.learners.chunk_sizes import Automatic
from snnlab.learners.graph import derivatives
from snnlab.learners.graph.evaluate import make_frame
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input
from snnlab.learners.rules.base import Rule
from snnlab.learners.rules.block_bptt import BPTT
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.expsm_diag import ESDRTRL
from snnlab.models import ModelConfig, Network, StepOutput, build_network
from snnlab.models.config import EIConfig
from snnlab.models.maps import DenseMap, kaiming_normal
from snnlab.models.readouts import leaky_readout
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Targets
from zoo import LIVE, drtrl, es_drtrl, own_learner

T, B, N_IN, N, N_OUT = 16, 2, 6, 8, 3
TOLERANCE = 1e-4
#: Input scale that makes a model fire at between 1 % and 50 % of the steps.
FF_SCALE = {"lif-exp-co": 1.5, "if-delta": 20.0, "lif-delta": 30.0}
MODELS = sorted(LIVE)
#: Made of parts that other models have.
COMPOSED = ("alif-exp-cu", "lif-std-exp-cu", "lif-exp-co")


def data(t: int = T) -> tuple[DenseStream, Targets]:
    rng = np.random.default_rng(0)
    xs = (rng.random((t, B, N_IN)) < 0.4).astype(np.float32)
    labels = jnp.asarray(rng.integers(0, N_OUT, B), jnp.int32)
    return DenseStream(jnp.asarray(xs)), Targets(labels, jnp.ones(B, jnp.float32))


def objective(n_layers: int = 2) -> Classification:
    config = TrainingConfig(spk_reg_factor=0.1, v_reg_factor=0.01)
    return Classification(N_OUT, n_layers, 2, 1.0, config)


def maker(model: str, **options: Any) -> Callable[[Any], Network]:
    scale = FF_SCALE.get(model, 60.0)
    config = ModelConfig(model=model, n_rec=N, n_layer=2, ff_scale=scale, rec_scale=2.0, **options)  # type: ignore[arg-type]
    return lambda operator: build_network(config, N_IN, N_OUT, operator, 1)


def run(learner: Any, params: Any, segments: tuple[int, ...] = (T,), n_layers: int = 2) -> Segment:
    """One sequence, possibly in several segments; gradients and metrics are summed."""
    stream, batch = data(sum(segments))

    @jax.jit
    def program(params):
        carry, total, start = learner.fresh(), None, 0
        for length in segments:
            s = learner.segment(params, carry, stream, batch, start, length)
            carry, start = s.carry, start + length
            part = (s.gradients, s.metrics)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        return Segment(carry, *total)

    return program(params)


@functools.cache
def reference(model: str, detach: bool = False, **options: Any) -> Segment:
    """Gradients of another implementation: braintrace, or the plain BPTT."""
    make = maker(model, detach_reset=detach)
    backend: Any = "braintrace" if options else "plain"
    config = LearnerConfig(**options, backend=backend)
    learner = make_learner(config, make, B, objective())
    result = run(learner, get_params(make("plain")))
    rates = np.asarray(result.metrics.spikes) / T
    assert np.all((rates > 0.01) & (rates < 0.5)), f"{model} is not live: {rates}"
    for name, value in result.gradients.items():
        assert np.linalg.norm(value) > 1e-4, f"{model}: gradient of {name} is near zero"
    return result


def own(model: str, kind: Any, *args: Any, detach: bool = False, segments=(T,), **options: Any):
    make = maker(model, detach_reset=detach)
    learner = kind(make("plain"), B, objective(), *args, **options)
    return run(learner, get_params(make("plain")), segments)


def bptt(network: Any, batch_size: int, *args: Any, **options: Any) -> BPTT:
    return BPTT(PureNetwork(network, batch_size, training=True), *args, **options)


def error(a: Segment, b: Segment) -> float:
    """Largest relative error over the parameters."""
    assert list(a.gradients) == list(b.gradients)
    return max(
        float(np.linalg.norm(a.gradients[k] - b.gradients[k]) / np.linalg.norm(b.gradients[k]))
        for k in b.gradients
    )


def same(a: Segment, b: Segment) -> None:
    assert error(a, b) < TOLERANCE
    for x, y in zip(jax.tree.leaves(a.metrics), jax.tree.leaves(b.metrics), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------- against braintrace


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=pytest.mark.slow) if m in COMPOSED else m for m in MODELS]
)
@pytest.mark.parametrize("chunk", [3, pytest.param(T, marks=pytest.mark.slow)])
def test_chunked_is_step_by_step_drtrl(model: str, chunk: int) -> None:
    same(own(model, drtrl, chunk), reference(model, method="diag"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("detach", [False, True])
def test_chunked_is_step_by_step_drtrl_slow(model: str, chunk: int, detach: bool) -> None:
    ours = own(model, drtrl, chunk, detach=detach)
    same(ours, reference(model, detach, method="diag"))


@pytest.mark.parametrize("chunk", [1, 7])
def test_chunk_size_and_detached_reset(chunk: int) -> None:
    ours = own("lif-delta", drtrl, chunk, detach=True)
    same(ours, reference("lif-delta", True, method="diag"))
    assert error(ours, reference("lif-delta", method="diag")) > 1e-2


SOME = ["lif-delta", "lif-exp-co"]


@pytest.mark.parametrize(
    "model", [m if m == SOME[0] else pytest.param(m, marks=pytest.mark.slow) for m in MODELS]
)
def test_windows(model: str) -> None:
    """Chunks of one, of two and of all whole windows."""
    options = {"method": "diag", "vjp_method": "multi-step", "chunk_size": 5}
    theirs = reference(model, **options)
    for chunk in (5, 11, T):
        same(own(model, drtrl, chunk, window=5), theirs)
    assert error(theirs, reference(model)) > 1e-2


@pytest.mark.parametrize(
    ("kind", "window"),
    [(drtrl, 1), (es_drtrl, 3), *(pytest.param(*p, marks=pytest.mark.slow)
                                  for p in ((drtrl, 3), (es_drtrl, 1)))],
)  # fmt: skip
def test_windows_in_chunks(kind: Any, window: int) -> None:
    """A chunk of several windows is chunks of one; equal parts, and a shorter last window."""
    decay = [0.8] if kind is es_drtrl else []
    alone = own(SOME[0], kind, 1, *decay, window=window)
    for chunk in (7, T):
        same(own(SOME[0], kind, chunk, *decay, window=window), alone)
    assert error(alone, own(SOME[0], kind, T, *decay)) > 1e-2


@pytest.mark.parametrize(
    "model", [m if m == SOME[0] else pytest.param(m, marks=pytest.mark.slow) for m in MODELS]
)
@pytest.mark.parametrize("chunk", [4, T])
def test_chunked_es_drtrl(model: str, chunk: int) -> None:
    theirs = reference(model, method="expsm_diag", etrace_decay=0.8)
    same(own(model, es_drtrl, chunk, 0.8), theirs)


# ---------------------------------------------------------------------- against BPTT


@pytest.mark.parametrize("model", [SOME[0], pytest.param(SOME[1], marks=pytest.mark.slow)])
def test_online_gradient_is_not_bptt(model: str) -> None:
    assert error(reference(model, method="diag"), reference(model)) > 1e-2


@pytest.mark.parametrize(
    "model", [m if m in SOME else pytest.param(m, marks=pytest.mark.slow) for m in MODELS]
)
@pytest.mark.parametrize(("block", "remat"), [(T, False), (5, False), (5, True)])
def test_block_bptt_is_bptt(model: str, block: int, remat: bool) -> None:
    same(own(model, bptt, block, remat=remat), reference(model))


# ---------------------------------------------------------------------- signs, masks, conductances


@pytest.mark.parametrize("method", ["diag", pytest.param("expsm_diag", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", [
    {}, pytest.param({"dale": "sums", "Ath": 1.0, "V_init": "uniform"}, marks=pytest.mark.slow),
], ids=["weights", "published"])  # fmt: skip
def test_excitatory_inhibitory_network(method: Any, form: dict[str, Any]) -> None:
    """Sign-constrained sparse maps, one of them fed by the input alone; states that interact."""
    config = EIConfig(**{
        "n_rec": 20, "net": "coba", "sparsity": 0.5, "ff_scale": 60.0, "tau_mem": 20.0,
        "tau_syn": 5.0, "A1": 0.1, "Ath": 0.05, **form,
    })  # fmt: skip

    def make(operator: Any) -> Network:
        return build_network(config, N_IN, N_OUT, operator, 1)

    params = get_params(make("plain"))
    decay = 0.8 if method == "expsm_diag" else None
    chosen = LearnerConfig(method=method, etrace_decay=decay, chunk_size=3, backend="snnlab")
    theirs = dataclasses.replace(chosen, chunk_size=None, backend="braintrace")
    found = [
        run(make_learner(c, make, B, objective(1)), params, n_layers=1) for c in (chosen, theirs)
    ]
    rate = float(found[0].metrics.spikes[0]) / T
    assert 0.01 < rate < 0.5
    same(*found)


# ---------------------------------------------------------------------- chunks


def test_automatic_chunks() -> None:
    """One chunk where it is smaller than the traces; then a fixed length; then what fits."""
    mb = 1_000_000
    choose = Automatic(beside=10 * mb, alone=5 * mb, trace=500 * mb, budget=8e9)
    assert choose(100) == 100  # 500 MB, as the traces
    assert choose(101) == 8  # a share of the traces
    assert choose(7) == 7
    assert dataclasses.replace(choose, kept=True)(100) == 8
    assert dataclasses.replace(choose, beside=mb // 10)(900) == tuning.CPU.longest_traced
    small = dataclasses.replace(choose, trace=100 * mb)
    assert small(500) == 25  # 100 MB of traces may have 250 MB beside them
    assert dataclasses.replace(small, budget=110 * mb)(500) == 1
    assert dataclasses.replace(small, trace=mb, beside=mb)(500) == tuning.CPU.longest  # in a cache
    assert dataclasses.replace(choose, budget=400 * mb)(90) == 8  # no room for one chunk
    assert Automatic(beside=10 * mb, alone=mb, trace=0, budget=2e8)(1000) == 20  # ES-D-RTRL
    assert Automatic(beside=mb, alone=mb, trace=0, budget=2e8)(1000) == tuning.CPU.longest
    assert Automatic(beside=10 * mb, alone=mb, trace=0, budget=5)(1000) == 1


def test_automatic_chunks_on_an_accelerator() -> None:
    """One chunk while the budget allows it, whatever the traces take; then what is left."""
    mb = 1_000_000
    choose = Automatic(
        beside=10 * mb, alone=5 * mb, trace=500 * mb, budget=8e9, tuning=tuning.ACCELERATOR
    )
    assert choose(1600) == 1600
    assert choose(1601) == choose(16_000) == 500
    assert dataclasses.replace(choose, budget=4e9)(1600) == 350
    assert dataclasses.replace(choose, budget=4e8)(1600) == 5  # traces that do not fit
    assert dataclasses.replace(choose, kept=True)(100) == 100
    assert dataclasses.replace(choose, trace=0)(1000) == 25  # ES-D-RTRL has none to save


@pytest.mark.parametrize("kind", [drtrl, es_drtrl])
def test_steps_without_loss_need_no_signal(kind: Any) -> None:
    """A warm-up changes which programs run, not the gradient of the steps that are scored."""
    args = (0.8,) if kind is es_drtrl else ()
    make = maker("gif-delta")
    goal = dataclasses.replace(objective(), warmup=7)
    found = [
        run(kind(make("plain"), B, wrapped, 3, *args), get_params(make("plain")))
        for wrapped in (goal, NoHint(goal))
    ]
    same(*found)
    np.testing.assert_allclose(found[0].metrics.spikes, found[1].metrics.spikes, rtol=1e-6)


class NoHint:
    """An objective that does not say which steps have no loss."""

    def __init__(self, goal: Classification) -> None:
        self.step, self.example = goal.step, goal.example


def test_constant_derivatives_are_not_repeated() -> None:
    """A detached reset makes the membrane's decay a constant; without it, it is a function."""
    shapes = {}
    for detach in (True, False):
        network = maker("lif-delta", detach_reset=detach)("plain")
        learner = drtrl(network, B, objective(), 4)
        frame = make_frame(learner.graph, get_params(network), 4)
        h = jax.tree.leaves(learner.fresh().net)
        _, steps = derivatives.forward(frame, h, Input(data()[0].window(0, 4)), jnp.arange(4))
        state_jacobian, _ = derivatives.jacobians(frame, steps)
        b = learner.graph.relations[0].reach[0]
        shapes[detach] = state_jacobian[b, b].ndim
    assert shapes == {True: 2, False: 3}


# ---------------------------------------------------------------------- segments


def test_segments_of_drtrl_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tuning, "CPU", dataclasses.replace(tuning.CPU, block_bytes=1)
    )  # traces sample by sample
    ours = own("gif-delta", drtrl, 4, segments=(7, 9), resumed=True)
    same(ours, reference("gif-delta", method="diag"))


def test_segments_of_es_drtrl_continue() -> None:
    ours = own("lif-delta", es_drtrl, 4, 0.8, segments=(7, 9))
    same(ours, reference("lif-delta", method="expsm_diag", etrace_decay=0.8))


def test_segment_without_trace_cannot_continue() -> None:
    with pytest.raises(ValueError, match="update_every"):
        own("lif-delta", drtrl, T, segments=(7, 9))


def test_carry_has_traces_only_if_resumed() -> None:
    def size(resumed: bool) -> int:
        learner = drtrl(maker("lif-delta")("plain"), B, objective(), 4, resumed=resumed)
        return sum(int(np.prod(a.shape)) for a in jax.tree.leaves(learner.initial))

    weights = sum(v.size for v in get_params(maker("lif-delta")("plain")).values())
    assert size(True) - size(False) == B * weights


def test_a_rule_for_some_relations_only() -> None:
    """A table of rules: one forward pass, the gradient of each rule, its traces alone."""
    wanted = "readout.map.weight"

    def choose(graph: StepGraph, r: int) -> type[Rule]:
        return DRTRL if wanted in graph.relations[r].trained else ESDRTRL

    mixed = own("lif-delta", functools.partial(own_learner, choose), 3)
    exact, smooth = own("lif-delta", drtrl, 3), own("lif-delta", es_drtrl, 3)
    for name, value in mixed.gradients.items():
        rule, other = (exact, smooth) if name == wanted else (smooth, exact)
        np.testing.assert_allclose(value, rule.gradients[name], rtol=1e-5, atol=1e-6)
        assert not np.allclose(value, other.gradients[name], rtol=1e-2)
    learner = own_learner(choose, maker("lif-delta")("plain"), B, objective(), 3)
    assert learner.trace_bytes == 4 * B * N * N_OUT


def test_hybrid() -> None:
    make, params = maker("lif-delta"), get_params(maker("lif-delta")("plain"))
    config = LearnerConfig(method="hybrid", backend="braintrace")
    ours = make_learner(dataclasses.replace(config, backend="auto"), make, B, objective())
    theirs = make_learner(config, make, B, objective())
    same(run(ours, params), run(theirs, params))


# ---------------------------------------------------------------------- a user's own network


class Own(Network):
    """A leaky layer written by hand: signed and masked map, synapse without a copy, no reset."""

    def __init__(self, change: str = "", tau_o: float = 0.0) -> None:
        super().__init__(N_IN, N_OUT, 1.0)
        rng = np.random.default_rng(0)
        with brainstate.random.seed_context(0):
            self.map = DenseMap(
                kaiming_normal(N_IN, N, 20.0), sign=np.sign(rng.standard_normal(N_IN)),
                mask=(rng.random((N_IN, N)) < 0.8).astype(np.float32),
            )  # fmt: skip
            self.readout = leaky_readout(DenseMap(kaiming_normal(N, N_OUT, 2.0)), tau_o, 1.0)
        self.change = change
        vector = change in ("bias", "pattern")
        self.bias = brainstate.ParamState(jnp.zeros(N)) if vector else None
        self.gain = brainstate.ParamState(jnp.ones(N_IN)) if change == "gain" else None

    def init_states(self, batch_size: int | None) -> None:
        zeros = jnp.zeros((batch_size, N), jnp.float32)
        self.v, self.g = brainstate.HiddenState(zeros), brainstate.HiddenState(zeros)
        super().init_states(batch_size)

    def step(self, x: jax.Array) -> StepOutput:
        if self.gain is not None:
            x = x * self.gain.value
        self.g.value = 0.7 * self.g.value + self.map(x)
        v = self.v.value
        if self.change == "mixing":
            v = v - 0.1 * v.mean(-1, keepdims=True)
        new = 0.9 * v + 0.3 * self.g.value
        if self.bias is not None and self.change == "bias":
            new = new + self.bias.value
        if self.bias is not None and self.change == "pattern":
            new = new + self.bias.value[::-1].mean() * v.mean(-1, keepdims=True)
        self.v.value = new
        spikes = jax.nn.sigmoid(4 * (new - 1))
        if self.change == "silent":
            spikes, new = jax.lax.stop_gradient((spikes, new))
        return StepOutput(self.readout(spikes), (spikes,), (new,))


@pytest.mark.parametrize("chunk", [3, T])
@pytest.mark.parametrize("change", ["", "bias"])
def test_drtrl_is_exact_without_recurrence(chunk: int, change: str) -> None:
    """Neuron-local dynamics with two states below a readout without memory: BPTT itself."""
    network, params = Own(change), get_params(Own(change))
    exact = make_learner(LearnerConfig(backend="plain"), lambda _: Own(change), B, objective(1))
    ours = drtrl(network, B, objective(1), chunk)
    same(run(ours, params, n_layers=1), run(exact, params, n_layers=1))


def test_leaky_readout_is_exact() -> None:
    params = get_params(Own(tau_o=20.0))
    exact = make_learner(LearnerConfig(), lambda _: Own(tau_o=20.0), B, objective(1))
    ours = drtrl(Own(tau_o=20.0), B, objective(1), 5)
    name = "readout.map.weight"
    a, b = (run(k, params, n_layers=1).gradients[name] for k in (ours, exact))
    np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("pattern", "parameter bias"),
        ("gain", "parameter gain"),
        ("mixing", "mixes neurons"),
        ("silent", "map.weight"),
    ],
)
def test_refused_at_build_time(change: str, reason: str) -> None:
    obj = dataclasses.replace(objective(1), config=TrainingConfig())
    with pytest.raises(UsageError, match=reason) as caught:
        drtrl(Own(change), B, obj, 4)
    assert "\n" not in str(caught.value)
    assert "use --" in str(caught.value)
