"""The pass over traces as a kernel of GPU and TPU: interpreted, lowered, counted."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import zoo
from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, get_params, make_learner, tuning
from snnlab.learners.stores.pallas import traces as kernel
from snnlab.training.placement import Columns

from .test_tuning import program

FORMS = {"gpu": kernel.on_gpu, "tpu": kernel.on_tpu}
#: S, B, i, n, K: edges that are no tile's, tiles in several directions, groups of samples, steps
#: that are written out and steps that are not.
SHAPES = [(1, 4, 100, 37, 1), (3, 17, 20, 200, 2), (2, 3, 300, 12, kernel.WRITTEN_OUT + 3)]
SLOW = [("gpu", 0), ("gpu", 2), ("tpu", 0)]
CASES = list(zip(SHAPES, [jnp.float32, jnp.bfloat16, jnp.float32], strict=True))


@pytest.fixture(autouse=True)
def accelerator() -> Iterator[None]:
    with tuning.planned_for(tuning.ACCELERATOR):
        yield


def case(shape: tuple[int, ...], dtype: Any = jnp.float32) -> list[Any]:
    """Random arguments of the pass; one block of ``P`` is zero."""
    s, batch, n_in, n, steps = shape
    keys = iter(jax.random.split(jax.random.key(0), s * s + 3 * s + 2))

    def draw(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape)

    p: list[list[Any]] = [[draw(batch, n) for _ in range(s)] for _ in range(s)]
    if s > 1:
        p[-1][0] = None
    x = 1.5 * jax.random.bernoulli(next(keys), 0.2, (steps, batch, n_in)).astype(jnp.float32)
    return [
        [draw(batch, n_in, n).astype(dtype) for _ in range(s)],
        [draw(batch, n) for _ in range(s)], p, [draw(steps, batch, n) for _ in range(s)],
        x, draw(steps, batch, n),
    ]  # fmt: skip


@jax.jit
def expected(e: Any, c: Any, p: Any, enter: Any, x: Any, y_bar: Any) -> tuple[list[Any], Any, Any]:
    """New traces, the gradient through old ones, and that of ``y_bar``, in float32."""
    e = [v.astype(jnp.float32) for v in e]
    new = [
        sum(b[:, None] * v for b, v in zip(row, e, strict=True) if b is not None)
        + jnp.einsum("tbi,tbn->bin", x, f)
        for row, f in zip(p, enter, strict=True)
    ]
    read = sum(jnp.einsum("bn,bin->in", s, v) for s, v in zip(c, e, strict=True))
    return new, read, jnp.einsum("tbi,tbn->in", x, y_bar)


def interpreted(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one platform's form on this CPU."""

    def run(gpu: Any, tpu: Any, *arrays: Any) -> Any:
        return {"gpu": gpu, "tpu": tpu}[form](*arrays, interpret=True)

    monkeypatch.setattr(kernel, "by_platform", run)


def near(found: Any, want: Any, bound: float) -> None:
    assert found.shape == want.shape
    assert zoo.relative_error(np.asarray(found, np.float32), np.asarray(want)) < bound


@pytest.mark.parametrize(
    ("form", "shape", "dtype"),
    [
        pytest.param(form, *one, marks=pytest.mark.slow if (form, k) in SLOW else ())
        for form in FORMS for k, one in enumerate(CASES)
    ],
)  # fmt: skip
def test_pass_is_the_formula(
    form: str, shape: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces of fewer bits are rounded when they are written, and summed in float32."""
    interpreted(form, monkeypatch)
    args = case(shape, dtype)
    want, read, made = expected(*args)  # of the same traces
    new, found = jax.jit(kernel.read_and_advance)(*args)
    near(found, read + made, 1e-6)
    for one, other in zip(new, want, strict=True):
        assert one.dtype == dtype
        if dtype == jnp.float32:
            near(one, other, 1e-6)
        else:  # half a unit in the last of eight digits, and the sum's own rounding
            error = jnp.abs(one.astype(jnp.float32) - other)
            assert jnp.all(error <= jnp.abs(other) * 2.0**-8 + 1e-5)


@pytest.mark.parametrize("form", [pytest.param("gpu", marks=pytest.mark.slow), "tpu"])
def test_parts_of_the_gradient(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreted(form, monkeypatch)
    e, c, p, enter, x, y_bar = case(SHAPES[1])
    want, read, made = expected(e, c, p, enter, x, y_bar)
    for signal, adjoint, gradient in ((c, None, read), (None, y_bar, made), (None, None, None)):
        new, found = kernel.read_and_advance(e, signal, p, enter, x, adjoint)
        assert (found is None) == (gradient is None)
        if found is not None:
            near(found, gradient, 1e-6)
        near(new[-1], want[-1], 1e-6)


@pytest.mark.slow
def test_a_batch_of_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``--trials``."""
    interpreted("tpu", monkeypatch)
    args = case(SHAPES[0])
    both = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), args)
    new, found = jax.vmap(kernel.read_and_advance)(*both)
    for at, scale in enumerate((1.0, 0.5)):
        want, read, made = expected(*jax.tree.map(lambda a, s=scale: s * a, args))
        near(new[0][at], want[0], 1e-6)
        near(found[at], read + made, 1e-6)


# ---------------------------------------------------------------------------------- learners

LEARNERS: dict[str, dict[str, Any]] = {
    "chunks": {"method": "diag", "chunk_size": 3},
    "every step": {"method": "diag", "update_every": 1},
    "windows": {"method": "diag", "vjp_method": "multi-step", "chunk_size": 4},
    "eprop": {"method": "eprop", "chunk_size": 6},
    "rflo": {"method": "rflo", "chunk_size": 3},
    "otpe": {"method": "otpe", "chunk_size": 3},
    "snap-1": {"method": "snap-1", "chunk_size": 3},
}
PAIRS = [(m, k) for m in zoo.LIVE for k in LEARNERS if (m, k) != ("lif-exp-co", "otpe")]


def touching(jaxpr: Any, shapes: set[tuple[int, ...]]) -> list[str]:
    """Names of the operations that take or make an array of one of the shapes, not of loops."""
    found = []
    for eqn in jaxpr.eqns:
        inner = [getattr(v, "jaxpr", v) for v in eqn.params.values()]
        inner += [getattr(v, "jaxpr", v) for v in eqn.params.get("branches", ())]
        inner = [v for v in inner if hasattr(v, "eqns")]
        name = eqn.primitive.name
        arrays = [v.aval for v in (*eqn.invars, *eqn.outvars)]
        if any(getattr(a, "shape", None) in shapes for a in arrays) and not (
            inner and name != "pallas_call"
        ):
            found.append(name)
        if name != "pallas_call":
            for one in inner[: 1 if name == "cond" else None]:
                found += touching(one, shapes)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("model", "learner"), PAIRS)
def test_same_gradients(model: str, learner: str) -> None:
    options = LEARNERS[learner]
    run, given = program({"model": model}, options)
    want, measured = run(*given)
    other, _ = program({"model": model}, {**options, "kernels": "pallas"})
    assert "pallas_call" in str(jax.make_jaxpr(other)(*given))
    found, same = other(*given)
    zoo.assert_live({k: np.asarray(v) for k, v in want.items()}, measured)
    np.testing.assert_array_equal(measured.spikes, same.spikes)
    for name, value in want.items():
        assert zoo.relative_error(np.asarray(found[name]), np.asarray(value)) < 1e-5, name


def steps(method: str, model: str = "gif-delta", length: int = 1, **options: Any) -> Any:
    """A program of segments of a few steps, with updates in between in mind."""
    config = zoo.model_config(model, n_layer=1)
    make, goal = zoo.make_network_fn(config), zoo.objective(config.n_layer)
    options = {"update_every": length, "method": method, **options}
    made = make_learner(LearnerConfig(**options), make, zoo.BATCH, goal)
    stream, targets, params = zoo.make_stream(), zoo.make_targets(), get_params(make("plain"))

    def step(params: Any, carry: Any, at: Any) -> Any:
        part = made.segment(params, carry, stream, targets, length * at, length)
        return part.carry, part.gradients

    def run(scale: Any = 1.0) -> Any:
        mine = jax.tree.map(lambda p: p * scale, params)
        one = functools.partial(step, mine)
        return jax.lax.scan(one, made.fresh(), jnp.arange(zoo.STEPS // length))

    return jax.jit(run)


@pytest.mark.parametrize(
    ("method", "model", "length"),
    [("diag", "lif-delta", 1), pytest.param("eprop", "gif-delta", 3, marks=pytest.mark.slow)],
)
def test_same_traces_and_gradients(method: str, model: str, length: int) -> None:
    """With an update at every step, and with chunks."""
    want, gradients = steps(method, model, length)()
    found, same = steps(method, model, length, kernels="pallas")()
    for key, e in want.rules[0].traces.items():
        assert np.any(e != 0)
        near(found.rules[0].traces[key], e, 1e-6)
    for name, g in gradients.items():
        assert np.any(g != 0)
        near(same[name], g, 1e-5)


def test_seeds_in_one_program() -> None:
    """The policies of a GPU, vmapped over parameters; chunks that are short, and that are not."""
    seeds = jnp.array([1.0, 1.1, 0.9])
    found = {}
    for kernels in ("xla", "auto"):
        with tuning.planned_for(tuning.GPU):
            run = jax.vmap(steps("diag", length=2, kernels=kernels))
            assert ("pallas_call" in str(jax.make_jaxpr(run)(seeds))) == (kernels == "auto")
            found[kernels] = jax.jit(run)(seeds)[1]
    for name, want in found["xla"].items():
        assert len(np.unique(np.asarray(want).reshape(3, -1), axis=0)) == 3
        near(found["auto"][name], want, 1e-5)
    with tuning.planned_for(tuning.GPU):
        assert "pallas_call" not in str(jax.make_jaxpr(steps("diag", length=9))())


def test_traces_are_touched_once_in_a_step() -> None:
    """One kernel for each block of inputs; no other operation of a step takes a trace."""
    batch, n = zoo.BATCH, 12
    shapes = {(batch, zoo.N_IN, n), (batch, n, n), (batch, n, zoo.N_OUT)}
    found = touching(jax.make_jaxpr(steps("diag", kernels="pallas"))().jaxpr, shapes)
    assert found == ["broadcast_in_dim"] * 5 + ["pallas_call"] * 3
    assert "pallas_call" not in (plain := touching(jax.make_jaxpr(steps("diag"))().jaxpr, shapes))
    assert len(plain) > 3 * len(found)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bytes_of_a_pass(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a TPU's programs fetch and put back, by their blocks, in units of the traces."""
    seen: list[Any] = []
    original = pl.pallas_call
    monkeypatch.setattr(pl, "pallas_call", lambda *a, **k: seen.append(k) or original(*a, **k))
    given: list[Any] = []

    def run(_gpu: Any, tpu: Any, *arrays: Any) -> Any:
        given.extend([*arrays[:-2], jnp.swapaxes(arrays[-2], 0, 1), arrays[-1]])
        return tpu(*arrays, interpret=True)

    monkeypatch.setattr(kernel, "by_platform", run)
    shape = s, batch, n_in, n, _ = 2, 32, 2312, 512, 1
    arrays = jax.eval_shape(lambda: case(shape, dtype))
    made = jax.eval_shape(kernel.read_and_advance, *arrays)
    (call,) = seen
    size = jnp.dtype(dtype).itemsize
    traces = s * batch * n_in * n * size

    def moved(spec: Any, array: Any) -> float:
        """A block moves when its place changes from one program to the next."""
        before, total = None, 0
        for at in np.ndindex(*call["grid"]):
            now = spec.index_map(*at)
            starts = np.multiply(now, spec.block_shape)
            inside = np.minimum(spec.block_shape, np.subtract(array.shape, starts))
            total += (now != before) * int(np.prod(inside)) * array.dtype.itemsize
            before = now
        return total / traces

    read = sum(map(moved, call["in_specs"], given))
    written = sum(map(moved, call["out_specs"], call["out_shape"]))
    # The vectors of neurons and of inputs, once for each tile; the gradient, once.
    assert 1.0 < read < 1.05
    assert 1.0 < written < 1.02 + 4 / (size * s * batch)
    assert call["input_output_aliases"] == {0: 0, 1: 1}
    assert made[1].dtype == jnp.float32


# ----------------------------------------------------------------------------------- lowering


@contextlib.contextmanager
def gpu_in_mind() -> Iterator[None]:
    """From jax 0.11 on Triton wants to know the GPU."""
    if tuple(int(part) for part in jax.__version__.split(".")[:2]) < (0, 11):
        yield
        return
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", 132, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device)):
        yield


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed", marks=pytest.mark.slow)])
def test_lowered(platform: str, precision: str) -> None:
    """A kernel for each block of inputs, in place."""
    call = {"tpu": "tpu_custom_call", "cuda": "__gpu$xla.gpu.triton"}[platform]
    checks = [jax.export.DisabledSafetyCheck.custom_call(call)]
    run = steps("diag", kernels="pallas", precision=precision)
    with gpu_in_mind() if platform == "cuda" else contextlib.nullcontext():
        text = jax.export.export(run, platforms=[platform], disabled_checks=checks)().mlir_module()
    assert text.count(f"custom_call @{call}(") == 3
    assert text.count("output_operand_alias<") == 5  # two blocks of two states, one of one


# ------------------------------------------------------------------------------------- choice


def test_a_learner_without_such_traces_refuses() -> None:
    config = zoo.model_config("lif-delta")
    with pytest.raises(UsageError, match="no layer and no trace has a kernel"):
        make_learner(
            LearnerConfig(method="immediate", precision="bfloat16", kernels="pallas"),
            zoo.make_network_fn(config), zoo.BATCH, zoo.objective(config.n_layer),
        )  # fmt: skip


def test_neurons_of_several_devices_refuse() -> None:
    config = zoo.model_config("lif-delta")
    made = [
        make_learner(
            LearnerConfig(method="diag", kernels=kernels),
            zoo.make_network_fn(config), zoo.BATCH, zoo.objective(config.n_layer),
        )
        for kernels in ("xla", "pallas")
    ]  # fmt: skip
    columns = Columns(jax.devices()[:1])
    columns.check(made[0])
    with pytest.raises(UsageError, match=r"--shard neurons: .* use --kernels xla"):
        columns.check(made[1])
