"""``snnlab.learner``: rules for steps that are pure functions, against the suite's networks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import braintools
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.errors import UsageError
from snnlab.learners import get_params
from snnlab.learners.methods import METHODS
from snnlab.learners.pure import learner
from zoo import (
    BATCH,
    N_IN,
    N_OUT,
    STEPS,
    gradients,
    make_network_fn,
    make_stream,
    make_targets,
    model_config,
    relative_error,
)

LEAK = math.exp(-1 / 10.0)
CONFIG = model_config(tau_mem=10.0, tau_mem_sigma=0.0)
SPIKE = braintools.surrogate.ReluGrad()
#: Names of the suite's parameters, by place in ours.
NAMES = {
    ("layers", 0): "layers.0.pathways.0.map.weight",
    ("layers", 1): "layers.1.pathways.0.map.weight",
    ("out",): "readout.map.weight",
}
#: Options with which a rule runs on a few steps.
WITH: dict[str, dict[str, Any]] = {
    "tbptt": {"chunk_size": 4}, "expsm_diag": {"etrace_decay": 0.8}, "ottt": {"etrace_decay": 0.8},
    "otpe": {"etrace_decay": 0.8}, "hybrid": {"etrace_decay": 0.8},
}  # fmt: skip


def lif(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """Two LIF layers with soft reset and a leaky readout, of which potentials evolve."""
    after = []
    for v, w in zip(carry["v"], params["layers"], strict=True):
        s = SPIKE(v - 1.0)
        v = LEAK * (v - s) + jnp.concatenate([x, s], -1) @ w
        after.append(v)
        x = SPIKE(v - 1.0)
    r = LEAK * carry["r"] + x @ params["out"]
    return {"v": after, "r": r}, (r, after)


def remembering(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """The same neurons; spikes are part of the carry."""
    after, spikes = [], []
    for v, s, w in zip(carry["v"], carry["s"], params["layers"], strict=True):
        v = LEAK * (v - s) + jnp.concatenate([x, s], -1) @ w
        x = SPIKE(v - 1.0)
        after.append(v)
        spikes.append(x)
    r = LEAK * carry["r"] + x @ params["out"]
    return {"v": after, "s": spikes, "r": r}, r


def params_of() -> Any:
    found = get_params(make_network_fn(CONFIG)("plain"))
    return {"layers": [found[NAMES["layers", k]] for k in range(2)], "out": found[NAMES["out",]]}


def rest(step: Callable, batch: int = BATCH) -> Any:
    zeros = [jnp.zeros((batch, CONFIG.n_rec)) for _ in range(2)]
    more = {"s": zeros} if step is remembering else {}
    return {"v": zeros, "r": jnp.zeros((batch, N_OUT)), **more}


def loss_of(output: Any, label: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(output, label)


def of(method: str, step: Callable = remembering, **options: Any) -> Any:
    options = {**WITH.get(method, {}), **options}
    loss = loss_of if step is remembering else lambda out, label: loss_of(out[0], label)
    if step is remembering:
        options.setdefault("spikes", lambda carry, output: tuple(carry["s"]))
    return learner(
        method, step, params_of(), carry=functools.partial(rest, step), n_in=N_IN, loss=loss,
        batch_size=BATCH, **options,
    )  # fmt: skip


def batch(steps: int = STEPS) -> tuple[jax.Array, jax.Array]:
    xs = make_stream(steps=steps).xs
    return xs, jnp.broadcast_to(make_targets().values, (steps, BATCH))


def run(made: Any, segments: tuple[int, ...] = (), steps: int = STEPS, key: Any = None) -> Any:
    """Loss and gradients, summed over segments of one sequence."""
    xs, targets = batch(steps)
    program = jax.jit(made.value_and_grad)
    carry, start, total = made.init(key), 0, None
    for length in segments or (steps,):
        part = slice(start, start + length)
        value, found, carry = program(made.params, carry, xs[part], targets[part])
        total = (value, found) if total is None else jax.tree.map(jnp.add, total, (value, found))
        start += length
    return jax.device_get(total)


def by_name(found: Any) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(functools.reduce(lambda a, k: a[k], place, found))
        for place, name in NAMES.items()
    }


def errors(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: relative_error(found[name], wanted[name]) for name in NAMES.values()}


@functools.cache
def of_suite(method: str) -> dict[str, np.ndarray]:
    options = {**WITH.get(method, {}), "method": method, "backend": "auto"}
    return gradients(CONFIG, make_stream(), make_targets(), **options)[0]


@functools.cache
def by_backpropagation() -> Any:
    """``jax.grad`` through a scan over the pure step."""
    xs, targets = batch()

    def total(params: Any) -> jax.Array:
        _, outs = jax.lax.scan(lambda c, x: lif(params, c, x), rest(lif), xs)
        return loss_of(outs[0], targets).mean(1).sum()

    return jax.device_get(jax.jit(jax.value_and_grad(total))(params_of()))


@pytest.mark.parametrize("step", [lif, remembering], ids=["potentials", "spikes carried"])
@pytest.mark.parametrize("method", ["bptt", "rtrl"])
def test_exact_rules_are_backpropagation(method: str, step: Callable) -> None:
    value, found = run(of(method, step))
    wanted_value, wanted = by_backpropagation()
    np.testing.assert_allclose(value, wanted_value, rtol=1e-5)
    assert max(errors(by_name(found), by_name(wanted)).values()) < 1e-4
    assert all(np.linalg.norm(g) > 1e-2 for g in by_name(found).values())


def showing(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """The same neurons; spikes are made of potentials, and shown as the maps above take them."""
    after, spikes = [], []
    for v, w in zip(carry["v"], params["layers"], strict=True):
        s = SPIKE(v - 1.0)
        v = LEAK * (v - s) + jnp.concatenate([x, s], -1) @ w
        x = SPIKE(v - 1.0)
        after.append(v)
        spikes.append(x)
    r = LEAK * carry["r"] + x @ params["out"]
    return {"v": after, "r": r}, (r, spikes)


#: A rule of each kind; the others are slow tests.
KINDS = ("bptt", "diag", "expsm_diag", "eprop", "snap-1")


@pytest.mark.parametrize(
    "method",
    [
        m if m in KINDS else pytest.param(m, marks=pytest.mark.slow)
        for m in METHODS
        if m not in ("uoro", "rtrl", "otpe")
    ],
)
def test_every_rule_has_the_gradient_of_the_suite(method: str) -> None:
    """Also where spikes are a state, which the suite's neurons do not carry."""
    found = by_name(run(of(method))[1])
    assert max(errors(found, of_suite(method)).values()) < 2e-4


@pytest.mark.parametrize("method", ["otpe", "eprop"])
def test_spikes_that_are_shown_and_not_carried(method: str) -> None:
    made = of(method, showing, spikes=lambda _carry, output: output[1])
    assert max(errors(by_name(run(made)[1]), of_suite(method)).values()) < 2e-4


def test_otpe_has_no_leak_for_carried_spikes() -> None:
    message = r"^method otpe has one leak for all states.* state carry\['s'\]\[0\] keeps them"
    with pytest.raises(UsageError, match=message):
        of("otpe")


def test_an_alias_is_the_rule() -> None:
    jax.tree.map(np.testing.assert_array_equal, run(of("d-rtrl")), run(of("diag")))


def test_uoro_draws_from_the_key() -> None:
    found = [run(of("uoro"), key=jax.random.key(k))[1]["out"] for k in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("method", ["diag", "bptt"])
def test_recurrence_between_neurons_is_what_d_rtrl_drops(method: str) -> None:
    """Negative control: it is not the exact gradient here."""
    far = errors(by_name(run(of(method))[1]), by_name(by_backpropagation()[1]))
    assert (far[NAMES["layers", 0]] > 0.02) == (method == "diag")
    assert far[NAMES["out",]] < 1e-4


def single(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """A layer without weights between its neurons, a readout without memory."""
    v = params["leak"] * carry * (carry < 1.0) + x @ params["w"] + params["bias"]
    return v, SPIKE(v - params["threshold"]) @ params["out"]


def of_single(method: str, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    params = {
        "w": rng.normal(0, 0.5, (N_IN, 10)), "out": rng.normal(0, 0.5, (10, N_OUT)),
        "leak": rng.uniform(0.7, 0.95, 10), "bias": np.zeros(10), "threshold": np.ones(10),
    }  # fmt: skip
    params = jax.tree.map(jnp.float32, params)
    carry = jnp.zeros((BATCH, 10))
    return learner(method, single, params, carry=carry, n_in=N_IN, loss=loss_of, **options)


def test_d_rtrl_is_exact_without_recurrence() -> None:
    """Weights, leaks, biases and thresholds."""
    exact, found = run(of_single("bptt"))[1], run(of_single("d-rtrl", chunk_size=3))[1]
    assert set(found) == {"w", "out", "leak", "bias", "threshold"}
    for name, value in exact.items():
        assert np.linalg.norm(value) > 1e-3, name
        assert relative_error(found[name], value) < 1e-4, name


@pytest.mark.parametrize(
    "method",
    [
        "diag",
        "expsm_diag",
        "eprop",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("ottt", "snap-1", "rtrl", "immediate")),
    ],
)
def test_a_stream_is_one_segment_after_the_other(method: str) -> None:
    whole, parts = run(of(method)), run(of(method), (7, 7, 6))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5)
    assert max(errors(by_name(parts[1]), by_name(whole[1])).values()) < 1e-4


def test_single_steps_and_whole_sequences() -> None:
    whole = by_name(run(of("diag"))[1])
    ones = by_name(run(of("diag", update_every=1), (1,) * STEPS)[1])
    assert max(errors(ones, whole).values()) < 1e-4
    assert max(errors(by_name(run(of("diag", update_every=0))[1]), whole).values()) < 1e-4
    with pytest.raises(UsageError, match=r"^a segment of 20 steps, above update_every 1"):
        run(of("diag", update_every=1))


def test_windows_follow_the_whole_loss_within_them() -> None:
    assert max(
        errors(
            by_name(run(of("diag", vjp_method="multi-step", chunk_size=STEPS))[1]),
            by_name(by_backpropagation()[1]),
        ).values()
    ) < 1e-4  # fmt: skip


def test_memory_of_a_stream_does_not_grow() -> None:
    """Ten times the steps in a segment: the same temporary memory; of BPTT it grows."""

    def temporary(method: str, steps: int) -> int:
        made = of(method, chunk_size=10) if method == "diag" else of(method)
        args = (made.params, made.init(), *batch(steps))
        found = jax.jit(made.value_and_grad).lower(*args).compile().memory_analysis()
        return int(found.temp_size_in_bytes)

    assert temporary("diag", 1000) < 1.1 * temporary("diag", 100)
    assert temporary("bptt", 1000) > 3 * temporary("bptt", 100)


def test_it_is_compiled_once() -> None:
    made, traced = of("diag"), []

    @jax.jit
    def update(params: Any, carry: Any, xs: Any, targets: Any) -> Any:
        traced.append(1)
        _, found, carry = made.value_and_grad(params, carry, xs, targets)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, found), carry

    params, carry, (xs, targets) = made.params, made.init(), batch()
    for k in range(4):
        params, carry = update(params, carry, xs[5 * k : 5 * k + 5], targets[5 * k : 5 * k + 5])
    assert len(traced) == 1
    assert jax.tree.structure(params) == jax.tree.structure(made.params)


def test_learned_feedback_is_trained_beside_the_parameters() -> None:
    made = of("eprop", feedback="adaptive")
    assert [v.shape for v in made.params.feedback.values()] == [(CONFIG.n_rec, N_OUT)] * 2
    _, found = run(made)
    assert jax.tree.structure(found) == jax.tree.structure(made.params)
    assert all(np.linalg.norm(g) > 1e-3 for g in jax.tree.leaves(found))


def test_an_output_may_be_a_tree_and_a_loss_a_number() -> None:
    def step(params: Any, carry: Any, x: jax.Array) -> Any:
        carry, r = remembering(params, carry, x)
        return carry, {"r": r, "rate": carry["s"][1]}

    def loss(output: Any, target: Any) -> jax.Array:
        return loss_of(output["r"], target["label"]).mean() + 0.1 * jnp.sum(output["rate"])

    made = learner("diag", step, params_of(), carry=rest(remembering), n_in=N_IN, loss=loss)
    xs, labels = batch()
    _, found, _ = made.value_and_grad(made.params, made.init(), xs, {"label": labels})
    plain = run(of("diag"))[1]
    assert relative_error(found["out"], plain["out"]) < 1e-5
    assert relative_error(found["layers"][1], plain["layers"][1]) > 0.01
    with pytest.raises(UsageError, match=r"^method rflo sends the error of a readout \(B, n_out\)"):
        learner("rflo", step, params_of(), carry=rest(remembering), n_in=N_IN, loss=loss,
                spikes=lambda carry, output: tuple(carry["s"]))  # fmt: skip


def test_an_equinox_module() -> None:
    eqx = pytest.importorskip("equinox")
    params = params_of()

    class Net(eqx.Module):
        layers: list
        out: jax.Array
        name: str = "a text is no parameter"

        def __call__(self, carry: Any, x: jax.Array) -> Any:
            return lif({"layers": self.layers, "out": self.out}, carry, x)

    arrays, others = eqx.partition(Net(params["layers"], params["out"]), eqx.is_array)
    made = learner(
        "d-rtrl", lambda params, carry, x: eqx.combine(params, others)(carry, x), arrays,
        carry=rest(lif), n_in=N_IN, loss=lambda out, label: loss_of(out[0], label),
    )  # fmt: skip
    found = run(made)[1]
    assert isinstance(found, Net)
    assert max(errors({NAMES["layers", 0]: found.layers[0], NAMES["layers", 1]: found.layers[1],
                       NAMES["out",]: found.out}, of_suite("diag")).values()) < 1e-4  # fmt: skip


# ---------------------------------------------------------------------- refusals


def mixing(params: Any, carry: Any, x: jax.Array) -> Any:
    v = 0.9 * carry + x @ params["w"]
    v = v - v.mean(-1, keepdims=True)
    return v, v @ params["out"]


def late(params: Any, carry: Any, x: jax.Array) -> Any:
    v = 0.9 * carry + x @ params["w"]
    return v, v + carry


def odd(params: Any, carry: Any, x: jax.Array) -> Any:
    return 0.9 * carry + jnp.sin(x @ jnp.tanh(params["w"])), carry @ params["out"]


def make(step: Callable, method: str = "diag", **changes: Any) -> Any:
    params = {"w": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
    given = {"carry": jnp.zeros((2, 4)), "n_in": 3, "loss": lambda out, target: jnp.sum(out**2)}
    made = learner(method, step, changes.pop("params", params), **{**given, **changes})
    return made.value_and_grad(made.params, made.init(), jnp.ones((5, 2, 3)))


def plain(params: Any, carry: Any, x: jax.Array) -> Any:
    v = 0.9 * carry + x @ params["w"]
    return v, v @ params["out"]


W = {"w": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
REFUSED = [
    (lambda: make(plain, params={**W, "b": jnp.ones(4)}), r"cannot train parameter params\['b'\]"),
    (lambda: make(mixing), r"parameter params\['w'\] through state carry: its step mixes neurons"),
    (lambda: make(late, params={"w": W["w"]}), "the loss of a step reads its value before"),
    (lambda: make(plain, "eprop"), "the step must say what spikes"),
    (lambda: make(plain, "ottt"), "the step must say what spikes"),
    (lambda: make(plain, "d-rtlr"), r"method d-rtlr: no such choice.*valid: bptt, diag"),
    (lambda: make(plain, etrace_decay=0.9), "etrace_decay 0.9 has no meaning with method diag"),
    (lambda: make(plain, chunksize=3), r"unknown option 'chunksize' \(did you mean 'chunk_size'"),
    (lambda: make(plain, backend="braintrace"), "backend braintrace needs a network"),
    (lambda: make(plain, "tbptt"), "method tbptt needs chunk_size"),
    (lambda: make(plain, params={**W, "w": jnp.ones((3, 4), int)}), r"params\['w'\] is int32"),
    (lambda: make(plain, params={**W, "f": len}), r"params\['f'\] is builtin.*needed: an array"),
    (lambda: make(plain, params={}), "params holds no array"),
    (lambda: make(plain, carry=lambda size: jnp.zeros((size, 4))), "batch_size is missing"),
    (lambda: make(plain, carry=jnp.zeros((2, 4)), batch_size=3), r"needed: \(3, n\)"),
    (lambda: make(plain, loss=lambda out, target: out), r"loss has shape \(2, 2\), needed: a sca"),
    (lambda: make(lambda p, c, x: (c[:, :2], c)), r"the step makes carry float32 \(2, 2\) of"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[m[:30] for _, m in REFUSED])
def test_what_cannot_be_trained_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("xs", "targets", "message"),
    [
        ((5, 2, 4), None, r"^xs has shape \(5, 2, 4\), needed: \(T, 2, 3\)$"),
        ((2, 3), None, r"^xs has shape \(2, 3\), needed: \(T, 2, 3\)$"),
        ((5, 2, 3), (4, 2), r"^targets have shape \(4, 2\), needed: \(5, ...\)$"),
    ],
)
def test_a_segment_that_does_not_fit_is_refused(xs: Any, targets: Any, message: str) -> None:
    made = learner("immediate", plain, W, carry=jnp.zeros((2, 4)), n_in=3,
                   loss=lambda out, target: jnp.sum(out**2))  # fmt: skip
    with pytest.raises(UsageError, match=message):
        made.value_and_grad(W, made.init(), jnp.ones(xs), targets and jnp.ones(targets))
    with pytest.raises(UsageError, match="params has another structure"):
        made.value_and_grad(W["w"], made.init(), jnp.ones((5, 2, 3)))


def test_what_online_rules_refuse_bptt_takes() -> None:
    for step in (mixing, late, odd):
        value, found, _ = make(step, "bptt", params=W if step is not late else {"w": W["w"]})
        assert np.isfinite(value)
        assert np.isfinite(found["w"]).all()
