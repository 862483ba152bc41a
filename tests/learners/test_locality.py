"""Networks whose neurons act on each other outside of maps: no online rule may take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.learners.functional import PureNetwork
from snnlab.learners.graph import locality, past_states
from snnlab.learners.graph.step import StepGraph
from snnlab.models import Network, StepOutput
from snnlab.models.maps import DenseMap, kaiming_normal
from snnlab.models.readouts import leaky_readout
from zoo import (
    BATCH,
    N_IN,
    N_OUT,
    drtrl,
    make_stream,
    make_targets,
    needs_brainscale,
    relative_error,
)
from zoo import objective as make_objective

N = 8
Change = Callable[[jax.Array], jax.Array]


def same(v: jax.Array) -> jax.Array:
    return v


class Layer(Network):
    """A leaky layer; its membrane passes ``inside`` every step, its outputs ``outside``."""

    def __init__(self, inside: Change, operator: Any = "plain", outside: Change = same) -> None:
        super().__init__(N_IN, N_OUT, 1.0)
        with brainstate.random.seed_context(0):
            self.map = DenseMap(kaiming_normal(N_IN, N, 20.0), operator)
            readout = DenseMap(kaiming_normal(N, N_OUT, 2.0), operator)
        self.readout = leaky_readout(readout, 0.0, 1.0)
        self.inside, self.outside = inside, outside

    def init_state(self, batch_size: int | None = None) -> None:
        self.v = brainstate.HiddenState(jnp.zeros((batch_size, N) if batch_size else (N,)))

    def step(self, x: jax.Array) -> StepOutput:
        self.v.value = v = 0.9 * self.inside(self.v.value) + 0.3 * self.map(x)
        s = self.outside(jax.nn.sigmoid(4 * (v - 1)))
        return StepOutput(self.readout(s), (s,), (self.outside(v),))


def graph_of(inside: Change) -> StepGraph:
    return StepGraph(PureNetwork(Layer(inside), BATCH, training=True))


def gradients(network: Layer, **config: Any) -> dict[str, jax.Array]:
    def make(operator: Any) -> Layer:
        return Layer(network.inside, operator, network.outside)

    learner = make_learner(LearnerConfig(**config), make, BATCH, make_objective(1))
    stream, batch = make_stream(), make_targets()

    @jax.jit
    def run(params: Any) -> Any:
        return learner.segment(params, learner.fresh(), stream, batch, 0, stream.n_steps).gradients

    return run(get_params(network))


# ---------------------------------------------------------------------- refused

TURN = np.roll(np.eye(N, dtype=np.float32), 1, axis=0)
ORDER = np.array([1, 0, *range(2, N)])


def split_and_tile(v: jax.Array) -> jax.Array:
    a, b = jnp.split(v, 2, axis=-1)
    return 0.5 * v + 0.5 * jnp.tile(a - b, (1,) * (v.ndim - 1) + (2,))


def reshape_and_split(v: jax.Array) -> jax.Array:
    a, b = lax.split(v.reshape(*v.shape[:-1], N // 2, 2), (1, 1), axis=v.ndim)
    return 0.5 * v + 0.5 * jnp.concatenate([b, a], -1).reshape(v.shape)


def flat_and_back(v: jax.Array) -> jax.Array:
    return jnp.roll(v.reshape(-1), 1).reshape(v.shape)


@jax.custom_jvp
def turned(v: jax.Array) -> jax.Array:
    return v @ TURN


turned.defjvps(lambda t, out, v: t @ TURN)


@jax.custom_jvp
def straight(v: jax.Array) -> jax.Array:
    """Elementwise, but for its derivative."""
    return 1.0 * v


straight.defjvps(lambda t, out, v: t - t.mean(-1, keepdims=True))


@jax.custom_jvp
def late(v: jax.Array) -> jax.Array:
    """A boxcar around 1: no derivative at rest."""
    return jnp.where(v > 1.0, 1.0, 0.0)


late.defjvps(lambda t, out, v: t * (jnp.abs(v - 1.0) < 0.5))


@jax.custom_vjp
def backwards(v: jax.Array) -> jax.Array:
    return 1.0 * v


backwards.defvjp(lambda v: (1.0 * v, None), lambda kept, g: (jnp.roll(g, 1, -1),))


def roll(v: jax.Array) -> jax.Array:
    return jnp.roll(v, 1, -1)


MIXING: dict[str, Change] = {
    "split and tile": split_and_tile,
    "reshape and split": reshape_and_split,
    "roll": roll,
    "flip": lambda v: jnp.flip(v, -1),
    "gather": lambda v: v[..., ORDER],
    "two neurons only": lambda v: v.at[..., 0].add(0.1 * v[..., 1]),
    "cumsum": lambda v: 0.1 * jnp.cumsum(v, -1),
    "cumulative maximum": lambda v: lax.cummax(v, v.ndim - 1),
    "mean": lambda v: v - 0.1 * v.mean(-1, keepdims=True),
    "maximum": lambda v: v - 0.1 * v.max(-1, keepdims=True),
    "softmax": lambda v: jax.nn.softmax(v, -1),
    "mean over samples": lambda v: v - v.mean(0),
    "samples turned": lambda v: jnp.roll(v, 1, 0),
    "custom product": turned,
    "custom derivative": straight,
    "flat and back": flat_and_back,
    "sort": lambda v: jnp.sort(v, -1),
    "top k": lambda v: v - lax.top_k(v, 1)[0],
    "fft": lambda v: jnp.fft.fft(v).real.astype(v.dtype),
    "dynamic slice": lambda v: v - lax.dynamic_slice_in_dim(v, 2, 1, -1),
    "pad": lambda v: jnp.pad(v, ((0, 0), (1, 0)))[:, :-1],
    "jit": jax.jit(roll),
    "remat": jax.checkpoint(lambda v: jnp.sin(roll(v))),  # type: ignore[attr-defined]
    "branch": lambda v: lax.cond(v[0, 0] < 100.0, roll, same, v),
    "fori": lambda v: lax.fori_loop(0, 2, lambda i, u: 0.5 * roll(u), v),
    "while": lambda v: lax.while_loop(lambda u: u.max() > 9.0, lambda u: 0.1 * roll(u), v + 9.0),
    "scan over neurons": lambda v: lax.scan(lambda c, u: (c + u, c), v[:, 0], v.T)[1].T,
    "late": lambda v: 0.5 * v + roll(late(v)),
}
PARTS = {"operations": locality.check_operations, "numbers": locality.check_numbers}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", MIXING)
def test_each_check_refuses_by_itself(name: str, part: str) -> None:
    with pytest.raises(UsageError, match="mixes neurons") as caught:
        PARTS[part](graph_of(MIXING[name]))
    assert "\n" not in str(caught.value)
    assert "parameter map.weight" in str(caught.value)
    assert "state v" in str(caught.value)
    assert "--method bptt" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("split and tile", "'split'"),
        ("sort", "'sort'"),
        ("custom product", "'dot_general in custom_jvp_call'"),
        ("jit", "'slice'"),
    ],
)
def test_the_operation_is_named(name: str, operation: str) -> None:
    with pytest.raises(UsageError, match=operation):
        locality.check_operations(graph_of(MIXING[name]))


def test_no_forward_derivative() -> None:
    """What reverse mode alone can pass is refused, not met by an error of JAX's later."""
    with pytest.raises(UsageError, match="'custom_vjp_call'"):
        drtrl(Layer(backwards), BATCH, make_objective(1), 4)


def test_numbers_find_what_operations_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locality, "check_operations", lambda graph: None)
    with pytest.raises(UsageError, match="the derivative of one moves others"):
        locality.check(graph_of(split_and_tile))


def passed_on(v: jax.Array) -> jax.Array:
    """``sin(v)``, which a loop hands from one of its carries to another."""

    def turn(carry: Any, _: Any) -> Any:
        return (carry[1], jnp.sin(carry[2]), carry[2]), None

    start = jnp.zeros_like(v), jnp.zeros_like(v), v
    return lax.scan(turn, start, None, length=3)[0][0]


def test_a_derivative_that_a_loop_hands_on_is_that_of_its_step() -> None:
    """One turn alone does not show that it changes from step to step. D-RTRL is exact here."""
    exact = gradients(Layer(passed_on), backend="plain")
    found = gradients(Layer(passed_on), method="diag", backend="snnlab", chunk_size=5)
    for name, value in exact.items():
        assert np.linalg.norm(value) > 1e-3
        assert relative_error(found[name], value) < 1e-5


ONLINE: list[Any] = [
    {"method": "diag", "backend": "snnlab"},
    {"method": "diag", "backend": "snnlab", "vjp_method": "multi-step", "chunk_size": 5},
    {"method": "diag", "backend": "snnlab", "update_every": 1},
    {"method": "expsm_diag", "etrace_decay": "0.9"},
    {"method": "hybrid"},
    {"method": "diag", "backend": "braintrace"},
    {"method": "expsm_diag", "backend": "braintrace", "etrace_decay": "0.9"},
    pytest.param({"method": "diag", "backend": "brainscale"}, marks=needs_brainscale),
]


@pytest.mark.parametrize("config", ONLINE, ids=str)
def test_every_online_learner_refuses(config: dict[str, Any]) -> None:
    """The libraries' gradients would be wrong as well (94 % off here), without a word."""
    with pytest.raises(UsageError, match="'split' is not known to leave each in its place"):
        make_learner(
            LearnerConfig(**config), lambda o: Layer(split_and_tile, o), BATCH, make_objective(1)
        )


@pytest.mark.parametrize("remat", [False, True])
def test_bptt_takes_dynamics_that_mix(remat: bool) -> None:
    exact = gradients(Layer(split_and_tile), backend="plain")
    ours = gradients(Layer(split_and_tile), backend="snnlab", remat=remat)
    for name, value in exact.items():
        assert np.linalg.norm(value) > 1e-3
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6)


class Looks(Layer):
    """Its membrane output is that before the step."""

    def step(self, x: jax.Array) -> StepOutput:
        old = self.v.value
        out = super().step(x)
        return out._replace(membrane=(old * 1.0,))


@pytest.mark.parametrize("config", [ONLINE[0], ONLINE[3], ONLINE[5]], ids=str)
def test_a_loss_that_reads_old_states_is_refused(config: dict[str, Any]) -> None:
    """Its derivative would be lost; a figure may read them, a window sees them."""

    def make(**changes: Any) -> Any:
        chosen = LearnerConfig(**(config | changes))
        return make_learner(chosen, lambda o: Looks(same, o), BATCH, goal)

    goal = make_objective(1, v_reg_factor=0.1)
    with pytest.raises(UsageError, match="state v: the loss of a step reads its value before"):
        make()
    make(vjp_method="multi-step", chunk_size=5)
    goal = make_objective(1)
    make()


# ---------------------------------------------------------------------- taken


def compartments(v: jax.Array) -> jax.Array:
    """Two numbers of each neuron, joined, cut and summed."""
    both = jnp.stack([0.3 * v, 0.2 * jnp.tanh(v)], -1)
    a, b = jnp.split(both, 2, axis=-1)
    return both.sum(-1) + (0.5 * a + b)[..., 0]


def winners(v: jax.Array) -> jax.Array:
    """Half of the neurons decay faster: a choice, through which no derivative passes."""
    return jnp.where(v >= jnp.sort(v, -1)[..., N // 2 :][..., :1], 0.9, 0.5) * v


@jax.custom_jvp
def surrogate(v: jax.Array) -> jax.Array:
    return jnp.where(v > 0, 1.0, 0.0)


surrogate.defjvps(lambda t, out, v: t / (1 + v**2))

LOCAL: dict[str, Change] = {
    "functions": lambda v: jnp.clip(jnp.tanh(v) ** 3 + jnp.maximum(v, 0.1 * v), -9, 9),
    "branches": lambda v: lax.cond(v.sum() > 3.0, jnp.sin, lambda u: 0.5 * u, v),
    "steps within a step": lambda v: lax.fori_loop(0, 3, lambda i, u: 0.9 * u - 0.01 * u**2, v),
    "while": lambda v: lax.while_loop(lambda u: u.max() > 1e3, lambda u: 0.1 * u, v),
    "own function": lambda v: v - 0.5 * surrogate(v - 1),
    "transposed": lambda v: (0.5 * v.T + jnp.exp(-jnp.abs(v.T))).T,
    "mapped": jax.vmap(jax.vmap(lambda u: u - 0.1 * jnp.arctan2(u, 1 + u))),
    "mapped over neurons": jax.vmap(lambda u: 0.3 * u * jnp.cos(u), in_axes=1, out_axes=1),
    "compartments": compartments,
    "a new axis": lambda v: (v[..., None] * jnp.ones(3)).sum(-1) / 3,
    "winners": winners,
    "remat": jax.checkpoint(lambda v: jnp.sin(v) * v),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", LOCAL)
def test_neurons_by_themselves_are_taken(name: str) -> None:
    locality.check(graph_of(LOCAL[name]))


@pytest.mark.parametrize("name", ["own function", "winners", "compartments"])
def test_what_is_taken_is_exact(name: str) -> None:
    """Without recurrence, and a readout without memory: D-RTRL is BPTT."""
    exact = gradients(Layer(LOCAL[name]), backend="plain")
    ours = gradients(Layer(LOCAL[name]), method="diag", chunk_size=3)
    for key, value in exact.items():
        assert np.linalg.norm(value) > 1e-3
        np.testing.assert_allclose(ours[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 6])
def test_outputs_may_mix(chunk: int) -> None:
    """Between new states and the loss reverse mode sees everything."""
    network = Layer(same, outside=split_and_tile)
    exact = gradients(network, backend="plain")
    ours = gradients(network, method="diag", chunk_size=chunk)
    for key, value in exact.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-4, atol=1e-5)


class Late(Layer):
    """The same below a threshold that follows the membrane; spikes meet it as it was or is."""

    def __init__(self, new: bool, operator: Any = "plain") -> None:
        super().__init__(same, operator)
        self.new = new

    def init_state(self, batch_size: int | None = None) -> None:
        super().init_state(batch_size)
        self.a = brainstate.HiddenState(jnp.zeros_like(self.v.value))

    def step(self, x: jax.Array) -> StepOutput:
        before = self.a.value
        self.v.value = v = 0.9 * self.v.value + 0.3 * self.map(x)
        self.a.value = a = 0.95 * before + 0.1 * (v * 1.0)
        s = jax.nn.sigmoid(4 * (v - 1 - (a if self.new else before)))
        return StepOutput(self.readout(s), (s,), (v,))


def test_spikes_of_a_state_before_the_step_are_refused_above_a_map() -> None:
    past_states.check_maps(StepGraph(PureNetwork(Late(new=True), BATCH, training=True)))
    with pytest.raises(UsageError, match=r"^[^\n]*state a: what enters the map readout[^\n]*$"):
        past_states.check_maps(StepGraph(PureNetwork(Late(new=False), BATCH, training=True)))
