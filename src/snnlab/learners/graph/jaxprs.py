"""What is assumed of jaxprs, the traced programs of JAX, in one place.

Names of operations and of their parameters are no part of JAX's promises. :func:`verify` traces a
small program and looks for each of them, once a process, before a network's step is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
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
    "eval_jaxpr": "call_jaxpr",  # closed_call, in jax 0.11.2
    "remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr",
}  # fmt: skip
#: Calls that stay calls in a step: they say what backpropagation keeps.
KEPT = {"remat", "remat2", "checkpoint"}
#: A function with a derivative of its own.
CUSTOM = "custom_jvp_call"
#: What no derivative passes.
BLOCK = "stop_gradient"
PRODUCT, JOIN = "dot_general", "concatenate"
#: Parameters that are read here and in :mod:`snnlab.learners.graph.locality`, by operation.
PARAMETERS = {
    PRODUCT: ("dimension_numbers",),
    JOIN: ("dimension",),
    "broadcast_in_dim": ("broadcast_dimensions",),
    "transpose": ("permutation",),
    "squeeze": ("dimensions",),
    "reduce_sum": ("axes",),
    "split": ("axis",),
    "stack": ("axis",),
    "unstack": ("axis",),
    "cond": ("branches",),
    "while": ("cond_nconsts", "body_nconsts", "body_jaxpr"),
    "scan": ("jaxpr",),
}


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


def merged(eqns: Sequence[Any], fixed: Iterable[Any]) -> tuple[list[Any], dict[Any, Any]]:
    """Equations without those that repeat one of ``fixed`` variables alone.

    A network that reads a parameter several times makes the same decay of it each time.

    Returns:
        The equations, and the variables to take in the place of those that are gone.
    """
    known: set[Any] = set(fixed)
    same: dict[Any, Any] = {}
    instead: dict[Any, Any] = {}
    kept = []
    for eqn in eqns:
        taken = [v if is_literal(v) else instead.get(v, v) for v in eqn.invars]
        if any(a is not b for a, b in zip(taken, eqn.invars, strict=True)):
            eqn = eqn.replace(invars=taken)
        used = variables(taken)
        if used and known.issuperset(used):
            known.update(eqn.outvars)
            values = [(str(v.aval), repr(v.val)) if is_literal(v) else id(v) for v in taken]
            key = eqn.primitive, str(eqn.params), tuple(values)
            if key in same:
                instead.update(zip(eqn.outvars, same[key], strict=True))
                continue
            same[key] = eqn.outvars
        kept.append(eqn)
    return kept, instead


def joined(eqn: Any) -> Sequence[Any] | None:
    """The arrays that a concatenation along the second axis joins; ``None`` for what is none."""
    if eqn is None or eqn.primitive.name != JOIN or eqn.params["dimension"] != 1:
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
    if eqn.primitive.name != PRODUCT or any(isinstance(v, Literal) for v in eqn.invars):
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

    :data:`CALLS` are opened. Any other operation counts as a whole, loops too, in which a value
    may pass from one carry to the next: all its results depend if an argument does.
    """
    marked = {v for v, mark in zip(jaxpr.invars, given, strict=True) if mark}

    def is_marked(v: Any) -> bool:
        return not isinstance(v, Literal) and v in marked

    for eqn in jaxpr.eqns:
        marks = [is_marked(v) for v in eqn.invars]
        if not any(marks):
            continue
        body = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
        if body is None:
            marked.update(eqn.outvars)
        else:
            found = depends(getattr(body, "jaxpr", body), marks)
            marked.update(v for v, mark in zip(eqn.outvars, found, strict=True) if mark)
    return [is_marked(v) for v in jaxpr.outvars]


def leading_to(jaxpr: Any, wanted: Sequence[Any]) -> list[Any]:
    """The equations of a jaxpr that make some of its variables, in their order."""
    used, kept = set(variables(wanted)), []
    for eqn in reversed(jaxpr.eqns):
        if not used.isdisjoint(eqn.outvars):
            kept.append(eqn)
            used.update(variables(eqn.invars))
    return kept[::-1]


# ---------------------------------------------------------------------- this JAX


def probe() -> tuple[Any, Any]:
    """A program with every operation whose name or parameters are read: as traced, and inlined."""

    @jax.custom_jvp
    def double(x: jax.Array) -> jax.Array:
        return x * 2.0

    double.defjvp(lambda x, dx: (double(*x), dx[0] * 2.0))

    def program(a: jax.Array, b: jax.Array, w: jax.Array) -> Any:
        both = jax.jit(lambda a, b: jnp.concatenate([a, b], axis=1))(a, b)
        learned = jax.checkpoint(double)(both @ w)
        blocked = double(jax.lax.stop_gradient(a)) * 3.0
        shapes = a.T, a[None, :1].squeeze(0), a.sum(0), jnp.broadcast_to(a, (4, *a.shape))
        parts = jnp.stack([a, b], axis=1), [*a], jnp.split(a, 3, axis=1)
        either = jax.lax.cond(a[0, 0] > 0, lambda v: v, jnp.sin, a)
        turns = jax.lax.while_loop(lambda v: v[0, 0] > 0, jnp.sin, a)
        steps = jax.lax.scan(lambda c, v: (c + v, c), a[0], a)
        return learned, blocked, shapes, parts, either, turns, steps

    a, w = jnp.ones((2, 3)), jnp.ones((6, 4))
    traced = jax.make_jaxpr(program)(a, a, w)
    flat = jax.make_jaxpr(lambda *v: inline(traced.jaxpr, traced.consts, *v))(a, a, w)
    return traced.jaxpr, flat.jaxpr


@functools.cache
def verify() -> None:
    """Hold this JAX against what the functions above assume, once a process.

    Operations that :mod:`snnlab.learners.graph.locality` follows may have other names: a network
    in which it meets one that it does not know is refused by that name.

    Raises:
        RuntimeError: an operation that every step has is called otherwise, one that is known has
            other parameters, or a traced program cannot be evaluated.
    """
    try:
        missing = _missing(*probe())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        missing = [f"evaluation of what was traced: {type(error).__name__}: {error}"]
    if missing:
        raise RuntimeError(
            f"jax {jax.__version__} traces programs in a way that snnlab does not know "
            f"({'; '.join(missing).splitlines()[0]}); use a version that constraints.txt names"
        )


def _missing(traced: Any, flat: Any) -> list[str]:
    """What is assumed and does not hold in the two programs of :func:`probe`."""
    calls = {eqn.primitive.name for eqn in traced.eqns}
    names = {eqn.primitive.name for eqn in flat.eqns}
    first = {eqn.primitive.name: eqn for eqn in reversed(flat.eqns)}
    opened = set(CALLS) - KEPT
    assumed = {
        "calls that can be opened": bool(calls & opened) and not names & opened,
        "calls that stay calls": bool(names & KEPT),
        "literals": any(is_literal(v) for eqn in flat.eqns for v in eqn.invars),
        **{f"'{name}'": name in names for name in (CUSTOM, BLOCK, JOIN, PRODUCT)},
        **{
            f"'{parameter}' of '{name}'": parameter in first[name].params
            for name in names & set(PARAMETERS)
            for parameter in PARAMETERS[name]
        },
    }
    missing = [what for what, holds in assumed.items() if not holds]
    if missing:
        return missing
    product = first[PRODUCT]
    assumed = {
        "joining along the second axis": joined(first[JOIN]) is not None,
        "a product with a weight": is_product(product, lambda v: v is product.invars[0]),
        "what depends on what": depends(traced, [False, True, False])[:2] == [True, False],
    }
    return [what for what, holds in assumed.items() if not holds]


def closure(start: set[int], following: Callable[[int], Iterable[int]]) -> set[int]:
    found, todo = set(start), list(start)
    while todo:
        for k in following(todo.pop()):
            if k not in found:
                found.add(k)
                todo.append(k)
    return found
