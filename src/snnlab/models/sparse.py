"""Sparse maps: products with a weight of which only some connections exist.

Every input has the same number ``k`` of targets ("fixed out-degree"): a weight ``W (n_in, n_out)``
is stored as its values ``w (n_in, k)`` and the table of targets ``post (n_in, k)``,
``W[i, post[i, m]] = w[i, m]``. Rows belong to inputs, as they do in a dense weight, so a spike
touches one row, and rows of several sources can be stacked and cut apart.

Three products are all that learning needs, each without any array of ``n_in x n_out``:

============ ========================= ==========================================
``times``    ``y = x W``               ``y[l, post[i, m]] += x[l, i] w[i, m]``
``back``     ``xbar = ybar W^T``       ``xbar[l, i] = sum_m w[i, m] ybar[l, post[i, m]]``
``outer``    ``wbar = x^T ybar | W``   ``wbar[i, m] = sum_l x[l, i] ybar[l, post[i, m]]``
============ ========================= ==========================================

``times``, and ``outer`` of mostly silent inputs, are event-driven on a CPU: they visit the rows of
inputs that are not zero, and their cost grows with spikes. Otherwise work is done a block of rows
at a time. Indices in ``post`` must be valid: they are not checked in the program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

#: What a block of rows may take beside its result: fits a core's cache; few launches elsewhere.
CPU_BLOCK, OTHER_BLOCK = 2**18, 2**28
#: Adjoints that stay in a core's larger cache while events read them.
CPU_CACHE = 2**21
#: Share of non-zero inputs below which visiting them one by one beats blocks of all rows
#: (measured with 200 targets: 0.9 us for an event, 0.08 us for a row in a block of 25 steps).
EVENT_SHARE = 0.1
#: Targets are valid by construction; compilers would check the table, element by element.
VALID = "promise_in_bounds"
#: The targets of one row.
TARGETS: dict[str, Any] = {"mode": VALID, "unique_indices": True, "indices_are_sorted": True}
#: Elements whose running count is one small matrix product.
COUNT_BLOCK = 128


def fixed_out_degree(n_in: int, n_out: int, k: int, seed: int) -> np.ndarray:
    """``(n_in, k)`` int32: for each input ``k`` different targets out of ``n_out``, ascending."""
    rng = np.random.default_rng(seed)
    post = np.empty((n_in, k), np.int32)
    for row in post:
        row[:] = rng.choice(n_out, k, replace=False, shuffle=False)
    post.sort(axis=1)
    return post


def at(v: jax.Array, post: jax.Array) -> jax.Array:
    """``v[post]`` for the first axis of ``v``."""
    return v.at[post].get(mode=VALID)


# ---------------------------------------------------------------------- kernels


def _active(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positions of the elements of ``x (m,)`` that are not zero, ascending, and how many.

    ``jnp.nonzero`` of a fixed size, in a third of the time: running counts as matrix products.
    """
    m = x.shape[0]
    on = jnp.pad(x != 0, (0, -m % COUNT_BLOCK)).reshape(-1, COUNT_BLOCK)
    upper = np.triu(np.ones((COUNT_BLOCK, COUNT_BLOCK), np.float32))
    inside = (on.astype(jnp.float32) @ upper).astype(jnp.int32)  # exact: at most COUNT_BLOCK
    totals = inside[:, -1]
    before = jnp.cumsum(totals) - totals
    place = jnp.where(on, inside + before[:, None] - 1, m).reshape(-1)[:m]
    ids = jnp.zeros(m, jnp.int32).at[place].set(jnp.arange(m, dtype=jnp.int32), mode="drop")
    return ids, totals.sum()


def _events(x: jax.Array, start: jax.Array, add: Callable[..., jax.Array]) -> jax.Array:
    """``add(sum, row, column, value)`` for each element of ``x (r, c)`` that is not zero."""
    flat, columns = x.reshape(-1), jnp.int32(x.shape[1])
    ids, count = _active(flat)

    def body(j: jax.Array, total: jax.Array) -> jax.Array:
        at = ids[j]
        return add(total, lax.div(at, columns), lax.rem(at, columns), flat[at])

    return lax.fori_loop(0, count, body, start)


def _row_blocks(n_in: int, size: int, out: jax.Array, block: Callable[..., jax.Array]) -> jax.Array:
    """``out (n_in, ...)`` filled with ``block(cut)`` for ``size`` rows at once, ``cut(array)``."""
    size = max(1, min(n_in, size))

    def body(j: jax.Array, out: jax.Array) -> jax.Array:
        first = jnp.minimum(j * size, n_in - size)  # the last block overlaps the one before it
        rows = block(lambda a: lax.dynamic_slice_in_dim(a, first, size))
        return lax.dynamic_update_slice_in_dim(out, rows, first, 0)

    return lax.fori_loop(0, -(-n_in // size), body, out)


def _times_events(y: jax.Array, x: jax.Array, w: jax.Array, post: jax.Array) -> jax.Array:
    def add(y: jax.Array, sample: Any, i: Any, value: Any) -> jax.Array:
        some = value * w[i]
        if y.shape[0] == 1:
            return y[0].at[post[i]].add(some, **TARGETS)[None]
        return y.at[sample, post[i]].add(some, **TARGETS)

    return _events(x, y, add)


def _times_scatter(y: jax.Array, x: jax.Array, w: jax.Array, post: jax.Array) -> jax.Array:
    return lax.map(lambda pair: pair[0].at[post].add(pair[1][:, None] * w, mode=VALID), (y, x))


def _back_rows(g: jax.Array, w: jax.Array, post: jax.Array, block_bytes: int) -> jax.Array:
    (n_in, k), n_samples = w.shape, g.shape[0]
    gt = g.T  # a target's values lie together

    def block(cut: Callable) -> jax.Array:
        if n_samples == 1:
            return (cut(w) * at(g[0], cut(post))).sum(1)[:, None]
        return jnp.einsum("im,iml->il", cut(w), at(gt, cut(post)))

    size = block_bytes // (4 * k * n_samples)
    return _row_blocks(n_in, size, jnp.zeros((n_in, n_samples), jnp.float32), block).T


def _outer_rows(x: jax.Array, g: jax.Array, post: jax.Array, block_bytes: int) -> jax.Array:
    (n_in, k), n_samples = post.shape, g.shape[0]
    xt, gt = x.T, g.T

    def block(cut: Callable) -> jax.Array:
        if n_samples == 1:
            return cut(xt) * at(g[0], cut(post))
        return jnp.einsum("il,iml->im", cut(xt), at(gt, cut(post)))

    size = block_bytes // (4 * k * n_samples)
    return _row_blocks(n_in, size, jnp.zeros((n_in, k), jnp.float32), block)


def _outer_events(total: jax.Array, x: jax.Array, g: jax.Array, post: jax.Array) -> jax.Array:
    def add(total: jax.Array, i: Any, sample: Any, value: Any) -> jax.Array:
        return total.at[i].add(value * at(g[sample], post[i]))

    return _events(x.T, total, add)


def _outer_cpu(x: jax.Array, g: jax.Array, post: jax.Array) -> jax.Array:
    """As many samples at once as leave ``g`` in the cache: events read it at random."""

    def rows(total: jax.Array, x: jax.Array, g: jax.Array, post: jax.Array) -> jax.Array:
        return total + _outer_rows(x, g, post, CPU_BLOCK)

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        some, adjoint = pair
        few = jnp.count_nonzero(some) < EVENT_SHARE * some.size
        return lax.cond(few, _outer_events, rows, total, some, adjoint, post), None

    n_samples, n_out = g.shape
    n_parts = -(-n_samples // max(1, CPU_CACHE // (4 * n_out)))
    size = n_samples // n_parts
    whole = size * n_parts

    def parts(a: jax.Array) -> jax.Array:
        return a[:whole].reshape(n_parts, size, a.shape[1])

    total = jnp.zeros(post.shape, jnp.float32)
    total, _ = lax.scan(add, total, (parts(x), parts(g)))
    return total if whole == n_samples else add(total, (x[whole:], g[whole:]))[0]


# ---------------------------------------------------------------------- products


def mapped(fun: Callable[..., jax.Array], lead: tuple[int, ...]) -> Callable[..., jax.Array]:
    """``fun`` with a rule for ``jax.vmap``: loops over events have a length of their own.

    A mapped axis of the arguments ``lead`` joins their first axis; one of the other arguments
    (several networks at once) is gone through one after another.
    """
    made = custom_vmap(fun)

    @made.def_vmap
    def rule(size: int, given: Any, *args: jax.Array) -> tuple[jax.Array, bool]:
        if any(given[i] for i in range(len(args)) if i not in lead):
            moving = tuple(a for a, g in zip(args, given, strict=True) if g)

            def one(some: tuple[jax.Array, ...]) -> jax.Array:
                left = iter(some)
                chosen = [next(left) if g else a for a, g in zip(args, given, strict=True)]
                return made(*chosen)

            return lax.map(one, moving), True
        whole = list(args)
        for i in lead:
            full = args[i] if given[i] else jnp.broadcast_to(args[i], (size, *args[i].shape))
            whole[i] = full.reshape(-1, full.shape[-1])
        out = made(*whole)
        return out.reshape(size, -1, out.shape[-1]), True

    return made


def _by_platform(cpu: Callable, other: Callable) -> Callable[..., jax.Array]:
    def choose(*args: jax.Array) -> jax.Array:
        return lax.platform_dependent(*args, cpu=cpu, default=other)

    return choose


_times = mapped(_by_platform(_times_events, _times_scatter), lead=(0, 1))
_back = mapped(
    _by_platform(
        functools.partial(_back_rows, block_bytes=CPU_BLOCK),
        functools.partial(_back_rows, block_bytes=OTHER_BLOCK),
    ),
    lead=(0,),
)
_outer = mapped(
    _by_platform(_outer_cpu, functools.partial(_outer_rows, block_bytes=OTHER_BLOCK)), lead=()
)


def times(x: jax.Array, w: jax.Array, post: jax.Array, n_out: int) -> jax.Array:
    """``(..., n_in) -> (..., n_out)``: the map."""
    flat = x.reshape(-1, x.shape[-1])
    y = _times(jnp.zeros((flat.shape[0], n_out), jnp.float32), flat, w, post)
    return y.reshape(*x.shape[:-1], n_out)


def back(g: jax.Array, w: jax.Array, post: jax.Array) -> jax.Array:
    """``(..., n_out) -> (..., n_in)``: adjoint of the map's input from that of its output."""
    return _back(g.reshape(-1, g.shape[-1]), w, post).reshape(*g.shape[:-1], w.shape[0])


def outer(x: jax.Array, g: jax.Array, post: jax.Array) -> jax.Array:
    """``(..., n_in), (..., n_out) -> (n_in, k)``: the weight's gradient, existing synapses only."""
    return _outer(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]), post)


# ---------------------------------------------------------------------- for networks

#: The map as one operation of a traced step, by which an online learner knows it. It is linear in
#: its input and in its values; both derivatives are the products above.
sparse_product_p = Primitive("sparse_product")
#: The axis of an argument without one, in a batching rule; ``None``, which newer releases of
#: JAX give no name.
NOT_MAPPED = getattr(batching, "not_mapped", None)


def sparse_product(x: jax.Array, w: jax.Array, post: jax.Array, *, n_out: int) -> jax.Array:
    """``y (B, n_out)`` of ``x (B, n_in)``, values ``w (n_in, k)``, targets ``post (n_in, k)``."""
    made: jax.Array = sparse_product_p.bind(x, w, post, n_out=n_out)
    return made


def _jvp(primals: Any, tangents: Any, *, n_out: int) -> Any:
    x, w, post = primals
    dx, dw, _ = tangents
    y = sparse_product(x, w, post, n_out=n_out)
    moved = [
        sparse_product(*pair, post, n_out=n_out)
        for pair, d in (((dx, w), dx), ((x, dw), dw)) if not isinstance(d, ad.Zero)
    ]  # fmt: skip
    return y, functools.reduce(jnp.add, moved) if moved else jnp.zeros_like(y)


def _transpose(g: Any, x: Any, w: Any, post: Any, **_n_out: int) -> Any:
    of_input = ad.is_undefined_primal(x)
    if isinstance(g, ad.Zero):
        return None, None, None
    return (back(g, w, post), None, None) if of_input else (None, outer(x, g, post), None)


def _batched(args: Any, axes: Any, *, n_out: int) -> Any:
    x, w, post = args
    axes = tuple(None if axis is NOT_MAPPED else axis for axis in axes)
    if axes[1:] == (None, None):  # the same operation, whose derivatives are known
        return sparse_product(jnp.moveaxis(x, axes[0], 0), w, post, n_out=n_out), 0
    return jax.vmap(functools.partial(times, n_out=n_out), axes)(*args), 0


sparse_product_p.def_impl(jax.jit(times, static_argnames="n_out"))
sparse_product_p.def_abstract_eval(
    lambda x, _w, _post, *, n_out: jax.core.ShapedArray((*x.shape[:-1], n_out), jnp.float32)
)
mlir.register_lowering(sparse_product_p, mlir.lower_fun(times, multiple_results=False))
ad.primitive_jvps[sparse_product_p] = _jvp
ad.primitive_transposes[sparse_product_p] = _transpose
batching.primitive_batchers[sparse_product_p] = _batched
