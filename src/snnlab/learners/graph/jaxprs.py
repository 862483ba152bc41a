"""What is assumed of jaxprs, the traced programs of JAX, in one place.

Names of operations and of their parameters are no part of JAX's promises. :func:`verify` traces a
small program and looks for each of them, once a process, before a network's step is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from snnlab.models.sparse import sparse_product_p

Env = dict[Any, Any]

#: Calls whose body is opened: the name of the parameter that holds it.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr", "remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr",
}  # fmt: skip
#: Calls that stay calls in a step: their derivative is not that of their body alone.
KEPT = {"eval_jaxpr", "remat", "remat2", "checkpoint"}
#: A function with a derivative of its own.
CUSTOM = "custom_jvp_call"
#: What no derivative passes.
BLOCK = "stop_gradient"


def is_literal(v: Any) -> bool:
    return isinstance(v, Literal)


def variables(atoms: Sequence[Any]) -> list[Any]:
    """Those that are no literals."""
    return [v for v in atoms if not isinstance(v, Literal)]


def read(env: Env, v: Any) -> Any:
    """Value of a variable or literal."""
    return v.val if isinstance(v, Literal) else env[v]


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Evaluate one equation."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)  # tuple: jax < 0.9
    out = eqn.primitive.bind(*subfuns, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def evaluate(eqns: Sequence[Any], env: Env) -> None:
    """Add the results of some equations to ``env``."""
    for eqn in eqns:
        env.update(zip(eqn.outvars, bind(eqn, [read(env, v) for v in eqn.invars]), strict=True))


def inline(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Evaluate a jaxpr with the calls in it opened."""
    env: Env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for eqn in jaxpr.eqns:
        values = [read(env, v) for v in eqn.invars]
        name = eqn.primitive.name
        body = None if name in KEPT else eqn.params.get(CALLS.get(name, ""))
        if body is None:
            out = bind(eqn, values)
        elif hasattr(body, "consts"):
            out = inline(body.jaxpr, body.consts, *values)
        else:
            out = inline(body, (), *values)
        env.update(zip(eqn.outvars, out, strict=True))
    return [read(env, v) for v in jaxpr.outvars]


def joined(eqn: Any) -> Sequence[Any] | None:
    """The arrays that a concatenation along the second axis joins; ``None`` for what is none."""
    if eqn is None or eqn.primitive.name != "concatenate" or eqn.params["dimension"] != 1:
        return None
    return None if any(isinstance(v, Literal) for v in eqn.invars) else eqn.invars


def is_sparse(eqn: Any) -> bool:
    """Whether an equation is a product with a sparse weight: ``x``, values, targets."""
    return eqn.primitive is sparse_product_p


def is_product(eqn: Any, is_dynamic: Callable[[Any], bool]) -> bool:
    """``x (B, i) @ w (i, n)``, dense or sparse, with ``x`` dynamic and the others not."""
    if is_sparse(eqn):
        x, *fixed = eqn.invars
        return is_dynamic(x) and not any(is_dynamic(v) for v in fixed)
    if eqn.primitive.name != "dot_general" or any(isinstance(v, Literal) for v in eqn.invars):
        return False
    x, w = eqn.invars
    (contract, batched) = eqn.params["dimension_numbers"]
    return (
        x.aval.ndim == 2 and w.aval.ndim == 2 and is_dynamic(x) and not is_dynamic(w)
        and tuple(map(tuple, contract)) == ((1,), (0,)) and not batched[0] and not batched[1]
        and np.issubdtype(eqn.outvars[0].aval.dtype, np.floating)
    )  # fmt: skip


def depends(jaxpr: Any, given: list[bool]) -> list[bool]:
    """Which results of a jaxpr depend on the arguments marked in ``given``.

    A call that is no plain jaxpr counts as a whole: all its results depend if an argument does.
    """
    marked = {v for v, mark in zip(jaxpr.invars, given, strict=True) if mark}

    def is_marked(v: Any) -> bool:
        return not isinstance(v, Literal) and v in marked

    for eqn in jaxpr.eqns:
        marks = [is_marked(v) for v in eqn.invars]
        inner = eqn.params.get("jaxpr")
        if any(marks) and hasattr(inner, "jaxpr") and len(inner.jaxpr.invars) == len(marks):
            found = depends(inner.jaxpr, marks)
            if len(found) == len(eqn.outvars):
                marked.update(v for v, mark in zip(eqn.outvars, found) if mark)
                continue
        if any(marks):
            marked.update(eqn.outvars)
    return [is_marked(v) for v in jaxpr.outvars]


@functools.cache
def verify() -> None:
    """Hold this JAX against what the functions above assume.

    Raises:
        RuntimeError: an operation has another name, or other parameters.
    """

    @jax.custom_jvp
    def step(x: jax.Array) -> jax.Array:
        return x * 2.0

    step.defjvp(lambda x, dx: (step(*x), dx[0]))

    def probe(a: jax.Array, b: jax.Array, w: jax.Array) -> Any:
        both = jax.jit(lambda a, b: jnp.concatenate([a, b], axis=1))(a, b)
        return step(both @ w), jax.lax.stop_gradient(a) * 3.0

    a, w = jnp.ones((2, 3)), jnp.ones((6, 4))
    traced = jax.make_jaxpr(probe)(a, a, w)
    flat = jax.make_jaxpr(lambda *v: inline(traced.jaxpr, traced.consts, *v))(a, a, w).jaxpr
    by_name = {eqn.primitive.name: eqn for eqn in flat.eqns}
    product = by_name.get("dot_general")
    missing = [
        what
        for what, found in {
            "calls that can be opened": not set(CALLS) & set(by_name),
            "'concatenate' along 'dimension'": joined(by_name.get("concatenate")) is not None,
            "'dot_general' with 'dimension_numbers'": product is not None
            and is_product(product, lambda v: v is product.invars[0]),
            f"'{CUSTOM}'": CUSTOM in by_name,
            f"'{BLOCK}'": BLOCK in by_name,
            "literals": any(is_literal(v) for v in by_name["mul"].invars),
            "results that depend on some arguments": depends(flat, [False, True, False])
            == [True, False],
        }.items()
        if not found
    ]
    if missing:
        raise RuntimeError(
            f"jax {jax.__version__} traces programs in a way that snnlab does not know "
            f"({'; '.join(missing)}); use a version that constraints.txt names"
        )
