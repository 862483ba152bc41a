"""What is assumed of traced programs, on whatever JAX is installed.

These tests are meant for the oldest and the newest JAX alike. In an environment with the release
in question: ``pytest tests/learners/test_jaxprs.py tests/models/test_sparse.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core.primitives import closed_call_p

from snnlab.learners.graph import jaxprs, locality
from snnlab.models import sparse

A, W = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32(np.arange(12).reshape(3, 4))
POST = np.uint32([[0, 4], [1, 2], [0, 3]])
VALUES = np.float32([[1, 2], [3, 4], [5, 6]])
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])
TRACED, FLAT = jaxprs.probe()
MET = {eqn.primitive.name for eqn in FLAT.eqns}
#: Those of the operations that are new in jax 0.10 and 0.11 that this one writes with others.
NEWER = set() if VERSION >= (0, 11) else {"stack", "unstack"} - MET
PRIMITIVES = {eqn.primitive.name: eqn.primitive for eqn in (*TRACED.eqns, *FLAT.eqns)}
(CHECKPOINT,) = set(PRIMITIVES) & jaxprs.KEPT
verify = jaxprs.verify.__wrapped__


def trace(f: Callable, *args: Any) -> Any:
    """The jaxpr of ``f``, its calls opened."""
    closed = jax.make_jaxpr(f)(*args)
    return jax.make_jaxpr(lambda *a: jaxprs.inline(closed.jaxpr, closed.consts, *a))(*args).jaxpr


def names(jaxpr: Any) -> list[str]:
    return [eqn.primitive.name for eqn in jaxpr.eqns]


def refused(what: str) -> None:
    """``verify`` fails in one line that names ``what``."""
    with pytest.raises(RuntimeError, match=re.escape(what)) as caught:
        verify()
    message = str(caught.value)
    assert message.startswith(f"jax {jax.__version__} traces programs in a way")
    assert "constraints.txt" in message
    assert "\n" not in message


# ---------------------------------------------------------------------- verify


def test_this_jax_is_known() -> None:
    verify()
    assert set(jaxprs.PARAMETERS) - MET == NEWER


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("jit", "(calls that can be opened"),
        (CHECKPOINT, "(calls that stay calls)"),
        (jaxprs.CUSTOM, "('custom_jvp_call')"),
        (jaxprs.BLOCK, "('stop_gradient')"),
        (jaxprs.JOIN, "('concatenate')"),
        (jaxprs.PRODUCT, "('dot_general')"),
    ],
)
def test_another_name(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRIMITIVES[name], "name", "another")
    refused(what)


def change(monkeypatch: pytest.MonkeyPatch, name: str, new: Callable[[dict], dict]) -> None:
    """Have the probe find other parameters of an operation."""
    eqns = [
        eqn.replace(params=new(eqn.params)) if eqn.primitive.name == name else eqn
        for eqn in FLAT.eqns
    ]
    changed = FLAT.replace(eqns=eqns)
    monkeypatch.setattr(jaxprs, "probe", lambda: (TRACED, changed))


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(name, p) for name, some in jaxprs.PARAMETERS.items() if name not in NEWER for p in some],
)
def test_another_parameter(name: str, parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, name, lambda given: {k + "_" * (k == parameter): given[k] for k in given})
    refused(f"('{parameter}' of '{name}')")


def test_another_parameter_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jaxprs.CALLS, "jit", "another")
    refused("(calls that can be opened")


@pytest.mark.parametrize(
    ("name", "params", "what"),
    [
        (jaxprs.JOIN, {"dimension": 0}, "(joining along the second axis)"),
        (
            jaxprs.PRODUCT,
            {"dimension_numbers": (((0,), (1,)), ((), ()))},
            "(a product with a weight)",
        ),
    ],
)
def test_another_meaning(
    name: str, params: dict, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, name, lambda given: given | params)
    refused(what)


def test_another_kind_of_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxprs, "is_literal", lambda v: False)
    refused("(literals)")
    monkeypatch.setattr(jaxprs, "Literal", type("Another", (), {}))
    refused("(evaluation of what was traced: ")


def test_another_way_of_dependence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxprs, "depends", lambda jaxpr, given: [True] * len(jaxpr.outvars))
    refused("(what depends on what)")


def test_a_known_jax_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    jaxprs.verify()
    monkeypatch.setattr(jaxprs, "probe", lambda: pytest.fail("a second time"))
    jaxprs.verify()


# ---------------------------------------------------------------------- calls


def test_calls_are_opened() -> None:
    table = np.float32([1, 2, 3])  # a constant of the innermost

    def f(x: jax.Array) -> jax.Array:
        return jax.jit(lambda x: jnp.sin(jax.jit(lambda x: x * table)(x)) + 1.0)(x)

    flat = trace(f, A)
    assert names(flat)[-3:] == ["mul", "sin", "add"]
    assert not set(names(flat)) & set(jaxprs.CALLS)
    closed = jax.make_jaxpr(f)(A)
    (got,) = jaxprs.inline(closed.jaxpr, closed.consts, A)
    np.testing.assert_allclose(got, np.sin(A * table) + 1, rtol=1e-6)


def test_closed_calls_are_opened() -> None:
    """``closed_call``, which newer releases call ``eval_jaxpr``."""
    closed = jax.make_jaxpr(jax.jit(lambda x: jnp.sin(x) * 2.0))(A)
    (call,) = closed.jaxpr.eqns
    params = {"call_jaxpr": call.params["jaxpr"]}
    jaxpr = closed.jaxpr.replace(eqns=[call.replace(primitive=closed_call_p, params=params)])
    assert closed_call_p.name in set(jaxprs.CALLS) - jaxprs.KEPT
    assert names(jaxpr) == [closed_call_p.name]
    flat = jax.make_jaxpr(lambda x: jaxprs.inline(jaxpr, (), x))(A)
    assert names(flat.jaxpr) == ["sin", "mul"]
    np.testing.assert_allclose(jaxprs.inline(jaxpr, (), A)[0], 2 * np.sin(A), rtol=1e-6)


def test_a_traced_function_is_opened() -> None:
    double: Any = jax.jit(lambda x: x * 2.0).trace(A)
    if not callable(double):
        pytest.skip(f"in jax {jax.__version__} it cannot be called")
    assert names(trace(lambda x: double(x), A)) == ["mul"]


def test_checkpoints_stay() -> None:
    """They say what backpropagation keeps: nothing of what is inside."""

    def f(x: jax.Array) -> jax.Array:
        return jax.checkpoint(lambda x: jnp.sin(jax.jit(jnp.sin)(x)))(x).sum()

    flat = trace(f, A)
    assert names(flat) == [CHECKPOINT, "reduce_sum"]
    closed = jax.make_jaxpr(f)(A)
    found = jax.grad(lambda x: jaxprs.inline(closed.jaxpr, closed.consts, x)[0])(A)
    np.testing.assert_allclose(found, np.cos(np.sin(A)) * np.cos(A), rtol=1e-5)


def test_functions_with_a_derivative_of_their_own_stay() -> None:
    @jax.custom_jvp
    def spike(x: jax.Array) -> jax.Array:
        return (x > 2.0).astype(x.dtype)

    spike.defjvp(lambda x, dx: (spike(*x), 7.0 * dx[0]))
    closed = jax.make_jaxpr(jax.jit(lambda x: spike(x).sum()))(A)
    flat = trace(jax.jit(lambda x: spike(x).sum()), A)
    assert names(flat) == [jaxprs.CUSTOM, "reduce_sum"]
    found = jax.grad(lambda x: jaxprs.inline(closed.jaxpr, closed.consts, x)[0])(A)
    np.testing.assert_array_equal(found, np.full_like(A, 7))


# ---------------------------------------------------------------------- dependence


def results(f: Callable, given: list[bool]) -> list[bool]:
    closed = jax.make_jaxpr(f)(*[A for _ in given])
    return jaxprs.depends(closed.jaxpr, given)


@pytest.mark.parametrize("call", [jax.jit, jax.checkpoint])
def test_calls_depend_result_by_result(call: Callable) -> None:
    def f(a: jax.Array, b: jax.Array) -> Any:
        return (*call(lambda a, b: (a * 2.0, b + 1.0, a * b))(a, b), jnp.ones(3))

    assert results(f, [True, False]) == [True, False, True, False]
    assert results(f, [False, True]) == [False, True, True, False]
    assert results(f, [False, False]) == [False] * 4


def test_a_value_may_pass_from_carry_to_carry() -> None:
    """After three turns ``a`` has reached all that is carried, though no turn shows it."""

    def shift(carry: Any, _: Any) -> Any:
        _, second, last = carry
        return (second, last, last), None

    def f(a: jax.Array) -> Any:
        return jax.lax.scan(shift, (jnp.ones_like(a), jnp.ones_like(a), a), None, length=3)[0]

    assert np.ptp(np.stack(f(A)), axis=0).max() == 0
    assert results(f, [True]) == [True, True, True]


# ---------------------------------------------------------------------- products


def products(f: Callable, *args: Any, dynamic: tuple[int, ...] = (0,)) -> int:
    """How many equations are products of something that depends on ``dynamic`` arguments."""
    flat = trace(f, *args)
    moving = {flat.invars[k] for k in dynamic}
    found = 0
    for eqn in flat.eqns:
        found += jaxprs.is_product(eqn, moving.__contains__)
        if any(not jaxprs.is_literal(v) and v in moving for v in eqn.invars):
            moving.update(eqn.outvars)
    return found


def test_dense_products() -> None:
    assert products(lambda x, w: x @ w, A, W) == 1
    assert products(lambda x, w: jnp.dot(x, w), A, W) == 1
    assert products(lambda x, w: jax.jit(jnp.matmul)(x * 2.0, jnp.abs(w)), A, W) == 1
    assert products(lambda x, w: x @ w.T, A, W.T) == 1  # the weight is what is transposed before
    assert products(lambda x: x @ W, A) == 1  # a constant


def test_other_products() -> None:
    def along_both_second_axes(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.dot_general(x, w, (((1,), (1,)), ((), ())))

    assert products(along_both_second_axes, A, W.T) == 0
    assert products(lambda x, w: w @ x, A.T, W.T) == 0  # the weight on the left
    assert products(lambda x, w: x @ w, A, W, dynamic=(1,)) == 0
    assert products(lambda x, w: x @ w, A, W, dynamic=(0, 1)) == 0  # no weight
    assert products(lambda x, w: x[0] @ w, A, W) == 0  # no samples
    assert products(lambda x, w: x @ w[:, 0], A, W) == 0  # no neurons
    assert products(lambda x, w: x @ w, A.astype(int), W.astype(int)) == 0
    assert products(lambda x, w: x * 2.0 + w, A, A) == 0


def test_batched_products() -> None:
    xs, ws = np.stack([A, 2 * A]), np.stack([W, 2 * W])
    assert products(jax.vmap(jnp.matmul), xs, ws) == 0
    assert products(jnp.matmul, xs, ws) == 0
    assert products(jax.vmap(jnp.matmul, (0, None)), xs, W) == 0  # an axis before the samples


def test_sparse_products() -> None:
    def f(x: jax.Array, w: jax.Array) -> jax.Array:
        return sparse.sparse_product(x, w, POST, n_out=5)

    assert products(f, A, VALUES) == 1
    assert products(jax.jit(f), A, VALUES) == 1
    assert products(f, A, VALUES, dynamic=(1,)) == 0
    assert products(f, A, VALUES, dynamic=(0, 1)) == 0
    (eqn,) = (eqn for eqn in trace(f, A, VALUES).eqns if jaxprs.is_sparse(eqn))
    x, w, post = eqn.invars
    assert (x.aval.shape, w.aval.shape, post.aval.shape) == ((2, 3), (3, 2), (3, 2))


def test_derivatives_and_batches_of_a_sparse_product() -> None:
    """Forward mode gives two of them, a batch of inputs one; reverse mode has other products."""

    def f(x: jax.Array) -> jax.Array:
        return sparse.sparse_product(x, VALUES, POST, n_out=5)

    assert products(lambda x, dx: jax.jvp(f, (x,), (dx,)), A, A, dynamic=(0, 1)) == 2
    assert products(jax.grad(lambda x: f(x).sum()), A) == 1  # the value itself
    assert products(jax.vmap(f), np.stack([A, A])) == 1  # its derivatives stay known
    both = np.stack([VALUES, VALUES])
    assert products(jax.vmap(lambda w: sparse.sparse_product(A, w, POST, n_out=5)), both) == 0


# ---------------------------------------------------------------------- for the proof of locality


def test_parameters_that_the_proof_reads() -> None:
    followed = set(locality.MOVES) | set(locality.LOOPS)
    assert followed - set(jaxprs.PARAMETERS) == {"reshape", "slice"}  # of these none is needed


def varying() -> list[str]:
    """Names inside a program of one device of several, where a constant is added to the input."""
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    part = jax.shard_map(lambda x: x + jnp.ones(3), mesh=mesh, in_specs=spec, out_specs=spec)
    (eqn,) = jax.make_jaxpr(part)(A).jaxpr.eqns
    return names(getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"]))


@pytest.mark.parametrize("name", sorted(locality.ELEMENTWISE | locality.UNCHANGED))
def test_names_that_the_proof_knows(name: str) -> None:
    """One that this JAX calls otherwise would have the proof refuse networks that are sound."""

    def of(f: Callable, x: Any = A) -> list[str]:
        return names(trace(f, x))

    programs: dict[str, Callable[[], list[str]]] = {
        "add": lambda: of(lambda x: x + x),
        "sub": lambda: of(lambda x: x - x),
        "neg": lambda: of(lambda x: -x),
        "mul": lambda: of(lambda x: x * x),
        "div": lambda: of(lambda x: x / x),
        "add_any": lambda: of(jax.grad(lambda x: (jnp.sin(x) * jnp.cos(x)).sum())),
        "select_n": lambda: of(lambda x: jnp.where(x > 0, x, 0.0)),
        "convert_element_type": lambda: of(lambda x: x.astype(jnp.bfloat16)),
        "reduce_precision": lambda: of(lambda x: jax.lax.reduce_precision(x, 8, 7)),
        "copy": lambda: of(jnp.copy),
        "real": lambda: of(jnp.real, A + 1j),
        "imag": lambda: of(jnp.imag, A + 1j),
        "pvary": varying,
        "optimization_barrier": lambda: of(jax.lax.optimization_barrier),
        "device_put": lambda: of(lambda x: jax.device_put(x, jax.devices()[0])),
    }
    assert name in programs[name]()


def test_what_parameters_make_twice_is_made_once() -> None:
    """Equal equations of fixed variables are one; those of anything else stay apart."""

    def program(p: jax.Array, x: jax.Array) -> Any:
        a, b = jnp.exp(-p), jnp.exp(-p)
        return a * x, b * x, jnp.exp(-2.0 * p), jnp.exp(-x), jnp.exp(-x)

    traced = jax.make_jaxpr(program)(jnp.ones(3), jnp.ones(3)).jaxpr
    kept, instead = jaxprs.merged(traced.eqns, traced.invars[:1])
    count = [eqn.primitive.name for eqn in kept].count("exp")
    assert count == 4  # of p, of 2 p, and both of x
    gone = [v for eqn in traced.eqns for v in eqn.outvars if v in instead]
    assert len(gone) == 2
    assert all(v not in eqn.invars for v in gone for eqn in kept)
