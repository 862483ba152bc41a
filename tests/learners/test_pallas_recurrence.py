"""A recurrence in one launch, as a kernel of GPU and TPU: interpreted, lowered, counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner, tuning
from snnlab.learners.graph.blocks import NotElementwise, blocks_of, program
from snnlab.learners.graph.stages import Recurrence, stages
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.stores.pallas import recurrence as kernel

from .test_pallas_traces import gpu_in_mind

FORMS = {"gpu": kernel.on_gpu, "tpu": kernel.on_tpu}
#: Options of the models that a kernel runs, with the size of the input at which they are live.
COVERED: dict[str, tuple[dict[str, Any], float]] = {
    **{m: (zoo.LIVE[m], 1.0) for m in zoo.LIVE if m != "lif-exp-co"},
    "LIF": ({}, 30.0), "adLIF": ({}, 15.0), "RadLIF": ({}, 15.0),
    "SE-adLIF": ({}, 20.0), "BRF": ({}, 200.0), "CuBaLIF": ({}, 40.0),
}  # fmt: skip
FAST = [("gpu", "RadLIF"), ("tpu", "gif-delta")]


@pytest.fixture(autouse=True)
def accelerator() -> Iterator[None]:
    with tuning.planned_for(tuning.ACCELERATOR):
        yield


def config_of(model: str, **changes: Any) -> Any:
    options, _ = COVERED.get(model, ({}, 1.0))
    return zoo.ModelConfig(**{"model": model, "n_rec": 12, "n_layer": 2, **options, **changes})


def learned(
    model: str, kernels: str, batch: int, steps: int, changes: dict[str, Any], **options: Any
) -> Any:
    """Gradients and metrics of a sequence."""
    config = config_of(model, **changes)
    make, goal = zoo.make_network_fn(config), zoo.objective(config.n_layer)
    made = make_learner(LearnerConfig(kernels=kernels, **options), make, batch, goal)  # type: ignore[arg-type]
    stream = zoo.make_stream(steps=steps, batch=batch, rate=0.3)
    stream = zoo.ArrayStream(stream.xs * COVERED[model][1])

    @jax.jit
    def run(params: Any, stream: Any, targets: Any) -> Any:
        part = made.segment(params, made.fresh(), stream, targets, 0, steps)
        return part.gradients, part.metrics

    given = get_params(make("plain")), stream, zoo.make_targets(batch=batch)
    return jax.device_get(run(*given))


def interpreted(form: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run one platform's form on this CPU; each launch is noted."""
    launched: list[str] = []

    def run(gpu: Any, tpu: Any, *arrays: Any) -> Any:
        launched.append(form)
        return {"gpu": gpu, "tpu": tpu}[form](*arrays, interpret=True)

    monkeypatch.setattr(kernel, "by_platform", run)
    return launched


def compare(model: str, batch: int, steps: int, changes: dict[str, Any], **options: Any) -> None:
    wanted, measured = learned(model, "xla", batch, steps, changes, **options)
    found, same = learned(model, "pallas", batch, steps, changes, **options)
    zoo.assert_live(wanted, measured, steps)
    np.testing.assert_array_equal(same.spikes, measured.spikes)
    for name, value in wanted.items():
        assert zoo.relative_error(found[name], value) < 1e-5, name


@pytest.mark.parametrize(
    ("form", "model"),
    [
        pytest.param(form, model, marks=() if (form, model) in FAST else pytest.mark.slow)
        for form in FORMS for model in COVERED
    ],
)  # fmt: skip
def test_same_as_plain_jax(form: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and adjoint of BPTT; neurons, samples and steps that are no power of two."""
    launched = interpreted(form, monkeypatch)
    short = (form, model) in FAST or model not in zoo.LIVE
    compare(model, 3, 20, {"n_layer": 1 if short else 2}, method="bptt")
    assert launched


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("batch", "steps", "changes", "options"),
    [
        (5, 23, {"n_rec": 37}, {"method": "bptt", "remat": True}),
        (1, 9, {"n_rec": 20}, {"method": "bptt"}),
        (3, 20, {"n_rec": 100}, {"method": "expsm_diag", "etrace_decay": 0.9, "chunk_size": 9}),
        (3, 20, {}, {"method": "diag", "vjp_method": "multi-step", "chunk_size": 7}),
    ],
)
def test_sizes_and_rules(
    form: str, batch: int, steps: int, changes: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "TILE_NUMBERS", 256)  # several tiles of W
    monkeypatch.setattr(kernel, "SAMPLES", 2)  # several blocks, the last one not full
    launched = interpreted(form, monkeypatch)
    compare("gif-delta", batch, steps, changes, **options)
    assert launched


def graph_of(model: str, precision: Any = "float32", **changes: Any) -> StepGraph:
    net = zoo.make_network_fn(config_of(model, **changes))("plain")
    return StepGraph(PureNetwork(net, zoo.BATCH, training=True), "sequence", precision)


@pytest.mark.parametrize(
    ("model", "precision", "changes", "message"),
    [
        ("lif-exp-co", "float32", zoo.LIVE["lif-exp-co"], "several shapes"),
        ("lif-delta", "mixed", {}, "no dense float32"),
        ("lif-delta", "float32", {"n_rec": 40, "connectivity": 0.2}, "no dense float32"),
    ],
)
def test_what_stays_a_scan(model: str, precision: Any, changes: Any, message: str) -> None:
    graph = graph_of(model, precision, **changes)
    layer = next(s for s in stages(graph) if isinstance(s, Recurrence))
    with pytest.raises(NotElementwise, match=message):
        blocks_of(graph, layer)


def test_neurons_that_mix_are_no_program() -> None:
    for fun in (lambda a: [a - a.mean(1, keepdims=True)], lambda a: [a[:, ::-1]]):
        with pytest.raises(NotElementwise, match=r"reduce_sum|rev"):
            program(fun, 1, (3, 5))
    found = program(lambda a: [jnp.tanh(a) * a], 1, (3, 5))(jnp.ones((2, 8)))
    np.testing.assert_allclose(found[0], np.full((2, 8), np.tanh(1.0)), rtol=1e-6)


def test_a_network_without_a_kernel_refuses() -> None:
    config = config_of("lif-delta")
    options = {"method": "bptt", "precision": "bfloat16", "kernels": "pallas"}
    with pytest.raises(UsageError, match="no layer and no trace has a kernel"):
        make_learner(
            LearnerConfig(**options), zoo.make_network_fn(config), zoo.BATCH, zoo.objective(2)
        )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "n"),
    [("tpu", 12), ("cuda", 12), pytest.param("cuda", 512, marks=pytest.mark.slow)],
)
def test_lowered(platform: str, n: int) -> None:
    """One call a layer and one of the readout, forward, and the same back."""
    call = {"tpu": "tpu_custom_call", "cuda": "__gpu$xla.gpu.triton"}[platform]
    checks = [jax.export.DisabledSafetyCheck.custom_call(call)]
    config = config_of("gif-delta", n_rec=n)
    make, goal = zoo.make_network_fn(config), zoo.objective(config.n_layer)
    made = make_learner(LearnerConfig(method="bptt", kernels="pallas"), make, zoo.BATCH, goal)

    @jax.jit
    def run(params: Any, stream: Any, targets: Any) -> Any:
        return made.segment(params, made.fresh(), stream, targets, 0, zoo.STEPS).gradients

    given = get_params(make("plain")), zoo.make_stream(), zoo.make_targets()
    with gpu_in_mind() if platform == "cuda" else contextlib.nullcontext():
        export = jax.export.export(run, platforms=[platform], disabled_checks=checks)
        text = export(*given).mlir_module()
    assert text.count(f"custom_call @{call}(") == 6
