"""Our loops over existing synapses against the products of the dense weight."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.learners.stores.kernels import sparse as kernels
from snnlab.models import sparse

#: Rows before and behind those that are multiplied, and an odd number of targets.
ROWS, FIRST, N_IN, N, K, STEPS, B = 16, 3, 11, 23, 7, 4, 2
SLOW = pytest.mark.slow


def draw(*shape: int, share: float = 1.0, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * (rng.random(shape) < share), jnp.float32)


POST = jnp.asarray(sparse.fixed_out_degree(ROWS, N, K, 1), jnp.uint32)
OF = np.arange(FIRST, FIRST + N_IN)[:, None], np.asarray(POST)[FIRST : FIRST + N_IN]


def close(found: Any, want: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), found, want)


def at_synapses(dense: jax.Array) -> jax.Array:
    """``(.., i, n) -> (.., i, k)``."""
    return dense[..., np.arange(N_IN)[:, None], OF[1]]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_products_of_some_rows(share: float) -> None:
    w, x, g = draw(ROWS, K), draw(5, N_IN, share=share, seed=1), draw(5, N, seed=2)
    full = jnp.zeros((ROWS, N)).at[np.arange(ROWS)[:, None], POST].set(w)[FIRST : FIRST + N_IN]
    close(kernels.times(x, w, POST, FIRST, N), x @ full)
    close(kernels.back(g, w, POST, FIRST, N_IN), g @ full.T)


def case(n_states: int) -> tuple[Any, ...]:
    """``traces, c, p, enter, x, y_bar``; with several states the first of the last is no source."""
    p: list[list[Any]] = [[draw(B, N, seed=10 * s + a) for a in range(n_states)]
                          for s in range(n_states)]  # fmt: skip
    if n_states > 1:
        p[-1][0] = None
    return (
        [draw(B, N_IN, K, seed=s) for s in range(n_states)],
        [draw(B, N, seed=30 + s) for s in range(n_states)],
        p,
        [draw(STEPS, B, N, seed=40 + s) for s in range(n_states)],
        draw(STEPS, B, N_IN, share=0.4, seed=5),
        draw(STEPS, B, N, seed=6),
    )


@SLOW  # tests/learners/test_sparse.py runs the loops of one state in a learner
@pytest.mark.parametrize("n_states", [1, 3])
@pytest.mark.parametrize("has_y", [True, False])
def test_pass_is_the_formula(n_states: int, has_y: bool) -> None:
    traces, c, p, enter, x, y_bar = case(n_states)

    def spread(v: jax.Array) -> jax.Array:
        return v[:, OF[1]]

    new = [
        sum(spread(a) * e for a, e in zip(row, traces, strict=True) if a is not None)
        + at_synapses(jnp.einsum("tbi,tbn->bin", x, f))
        for row, f in zip(p, enter, strict=True)
    ]
    within = at_synapses(jnp.einsum("tbi,tbn->in", x, y_bar))
    read = sum((spread(v) * e).sum(0) for v, e in zip(c, traces, strict=True))
    others = draw(1, ROWS, K, seed=7)
    into = kernels.Into(FIRST, FIRST, ROWS, others)
    wanted = others[0].at[FIRST : FIRST + N_IN].set(read + within if has_y else read)

    @jax.jit
    def run(traces: Any, p: Any, enter: Any) -> Any:
        given = traces, c, p, enter, x, y_bar if has_y else None
        return kernels.read_and_advance(*given, POST, into)

    after, found = run(traces, p, enter)
    close(after, new)
    close(found[0], wanted)
    after, found = kernels.read_and_advance(
        traces, c, None, None, x, y_bar if has_y else None, POST, into
    )
    close(after, traces)
    close(found[0], wanted)


@SLOW
def test_a_first_chunk_needs_no_traces() -> None:
    _, _, _, enter, x, y_bar = case(1)
    (found,) = kernels.first_traces(enter, x, POST, FIRST)
    close(found, at_synapses(jnp.einsum("tbi,tbn->bin", x, enter[0])))
    found = kernels.outer(x, y_bar, POST, kernels.Into(FIRST, 0, N_IN))
    close(found[0], at_synapses(jnp.einsum("tbi,tbn->in", x, y_bar)))


@SLOW
def test_a_pass_leaves_other_rows_alone_and_traces_without_loss_go_on() -> None:
    traces, _, p, enter, x, _ = case(1)
    after, _ = kernels.read_and_advance(
        traces, None, p, enter, x, None, POST, kernels.Into(FIRST, FIRST, ROWS)
    )
    want = p[0][0][:, OF[1]] * traces[0] + at_synapses(jnp.einsum("tbi,tbn->bin", x, enter[0]))
    close(after[0], want)
