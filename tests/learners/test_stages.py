"""A chunk layer after layer: what is found in a step, and the same numbers as step after step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import braintools
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.learners import PureNetwork, tuning
from snnlab.learners.graph.stages import Delay, Product, Recurrence, Stage, stages
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.pure import FunctionStep, Tree, learner
from zoo import BATCH, make_network_fn, model_config, relative_error

N_IN, N, N_OUT, STEPS = 5, 7, 3, 17
LAYERED = dataclasses.replace(tuning.CPU, layer_after_layer=True)
SPIKE = braintools.surrogate.ReluGrad()


def params_of() -> Any:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, 1.5 / np.sqrt(shape[0]), shape), jnp.float32)

    return {
        "w": [weight(N_IN + N, N), weight(N, N), weight(N, N)],
        "theta": jnp.linspace(0.5, 1.0, N), "out": weight(N, N_OUT),
    }  # fmt: skip


def rest() -> Any:
    v = jnp.zeros((BATCH, N))
    return {"v": [v, v], "s": v, "r": jnp.zeros((BATCH, N_OUT)), "t": jnp.zeros((BATCH, 1), int)}


def delayed(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """Spikes of a layer arrive a step later; a counter gates the input; a layer reads the
    membranes below as they were; a threshold acts on the spikes that are shown."""
    (v, u), t = carry["v"], carry["t"]
    x = x * (t % 4 != 3)
    s = SPIKE(v - 1.0)
    v_new = 0.9 * (v - s) + jnp.concatenate([x, s], -1) @ params["w"][0]
    own = SPIKE(u - params["theta"]) @ params["w"][1]
    u = 0.8 * u + own + carry["s"] @ params["w"][2] + 0.1 * jnp.tanh(v)
    shown = SPIKE(u - params["theta"])
    r = 0.9 * carry["r"] + shown @ params["out"]
    return {"v": [v_new, u], "s": SPIKE(v_new - 1.0), "r": r, "t": t + 1}, (r, own)


def fed_back(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
    """The same; the upper layer acts on the lower one."""
    new, out = delayed(params, carry, x)
    v, u = new["v"]
    return {**new, "v": [v + 0.1 * carry["v"][1], u]}, out


def loss(output: Any, target: jax.Array) -> jax.Array:
    return ((output[0] - target) ** 2).sum(-1) + 0.01 * (output[1] ** 2).sum(-1)


def run(step: Callable[..., Any], method: str, segments: tuple[int, ...], **options: Any) -> Any:
    made = learner(method, step, params_of(), carry=rest(), n_in=N_IN, loss=loss, **options)
    rng = np.random.default_rng(1)
    xs = jnp.asarray(rng.random((STEPS, BATCH, N_IN)) < 0.4, jnp.float32)
    targets = jnp.asarray(rng.normal(size=(STEPS, BATCH, N_OUT)), jnp.float32)
    carry, start, total = made.init(), 0, None
    program = jax.jit(made.value_and_grad)
    for k in segments:
        part = slice(start, start + k)
        value, found, carry = program(made.params, carry, xs[part], targets[part])
        total = (value, found) if total is None else jax.tree.map(jnp.add, total, (value, found))
        start += k
    return jax.device_get((total, carry))


def graph_of(step: Callable[..., Any]) -> StepGraph:
    trees = Tree("params", params_of()), Tree("carry", rest(), BATCH)
    return StepGraph(FunctionStep(step, *trees, N_IN, BATCH, None), "sequence")


def kinds(found: list[Stage]) -> list[str]:
    return [type(stage).__name__ for stage in found]


def test_layers_are_found_in_the_equations() -> None:
    net = make_network_fn(model_config("gif-delta"))("plain")
    graph = StepGraph(PureNetwork(net, BATCH, training=True), "sequence")
    found = stages(graph)
    first, _, second, _, out, readout = found
    assert kinds(found) == [
        "Recurrence", "Local", "Recurrence", "Local", "Product", "Recurrence",
    ]  # fmt: skip
    assert isinstance(first, Recurrence)
    assert isinstance(second, Recurrence)
    assert isinstance(readout, Recurrence)
    names = [{graph.states[i] for i in one.states} for one in (first, second, readout)]
    assert names == [
        {"layers.0.neuron.V", "layers.0.neuron.I2"},
        {"layers.1.neuron.V", "layers.1.neuron.I2"},
        {"readout.r"},
    ]
    # Own spikes stay in the scan, spikes from below are multiplied before it.
    (layer,) = second.inner
    assert graph.relations[layer].blocks[second.outer[layer][0]].size == 12
    assert (first.outer, second.inner) == ({0: ()}, {layer: (1,)})
    assert out == Product(2)


def test_a_delay_is_no_recurrence() -> None:
    graph = graph_of(delayed)
    found = stages(graph)
    waits = [stage.state for stage in found if isinstance(stage, Delay)]
    assert [graph.states[i] for i in waits] == ["carry['s']"]
    states = [{graph.states[i] for i in s.states} for s in found if isinstance(s, Recurrence)]
    assert sorted(map(sorted, states)) == [
        ["carry['r']"],
        ["carry['t']"],
        ["carry['v'][0]"],
        ["carry['v'][1]"],
    ]


def test_what_feeds_back_stays_a_scan() -> None:
    both = [
        s for s in stages(graph_of(fed_back)) if isinstance(s, Recurrence) and len(s.states) > 1
    ]
    assert [len(s.states) for s in both] == [3]


@pytest.mark.parametrize(
    ("method", "segments", "options"),
    [
        ("bptt", (STEPS,), {}),
        ("bptt", (8, 9), {"update_every": 9}),
        pytest.param("bptt", (STEPS,), {"remat": True}, marks=pytest.mark.slow),
        pytest.param("bptt", (STEPS,), {"precision": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param("tbptt", (STEPS,), {"chunk_size": 8}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("step", [delayed, fed_back])
def test_same_as_step_after_step(
    step: Callable[..., Any], method: str, segments: tuple[int, ...], options: dict[str, Any]
) -> None:
    (value, wanted), end = run(step, method, segments, **options)
    with tuning.planned_for(LAYERED):
        (same, found), last = run(step, method, segments, **options)
    np.testing.assert_allclose(same, value, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.abs(b).max() > 1e-3
        assert relative_error(a, b) < 1e-5


def products(jaxpr: Any) -> list[tuple[int, ...]]:
    """Shapes of the results of all products in a program."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found.append(eqn.outvars[0].aval.shape)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


def test_one_product_between_two_layers_for_all_steps() -> None:
    made = learner("bptt", delayed, params_of(), carry=rest(), n_in=N_IN, loss=loss)
    xs, targets = jnp.zeros((STEPS, BATCH, N_IN)), jnp.zeros((STEPS, BATCH, N_OUT))
    shapes = []
    for plan in (tuning.CPU, LAYERED):
        with tuning.planned_for(plan):
            made = learner("bptt", delayed, params_of(), carry=rest(), n_in=N_IN, loss=loss)
            program = jax.make_jaxpr(made.value_and_grad)
            shapes.append(products(program(made.params, made.init(), xs, targets).jaxpr))
    # Of the input, between the layers, onto the readout; the last two back as well.
    wanted = [(STEPS, BATCH, n) for n in (N, N, N_OUT, N, N)]
    for shape in set(wanted):
        assert shapes[1].count(shape) - shapes[0].count(shape) == wanted.count(shape)
