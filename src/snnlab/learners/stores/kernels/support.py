"""When our loops are used, and how a program calls them."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.tuning import current


def on_one_cpu() -> bool:
    """Whether the program runs on a single CPU device, where our loops can be called."""
    return current().own_loops and jax.default_backend() == "cpu" and jax.device_count() == 1


@functools.cache
def _parallel() -> bool:
    """Whether numba has threads that two loops of a program may use at the same time."""
    for pool in ("omppool", "tbbpool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{pool}")
        except ImportError:
            continue
        return True
    return False


def part_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's machine code of what a loop of :func:`compiled` does: most of it, since what
    stands inside of a parallel loop itself takes numba several times as long to compile.
    """
    import numba

    made: Callable[..., Any] = numba.njit(nogil=True, fastmath={"contract"})(function)
    return made


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """numba's machine code of a loop; ``numba.prange`` in it runs on all cores."""
    import numba

    jit = numba.njit(parallel=_parallel(), nogil=True, fastmath={"contract"})
    made: Callable[..., None] = jit(function)
    return made


def call(
    kernel: Callable[..., None],
    outs: Sequence[tuple[tuple[int, ...], Any]],
    *args: jax.Array,
    aliases: dict[int, int] | None = None,
) -> list[jax.Array]:
    """Call a compiled loop from a traced program.

    Args:
        kernel: from :func:`compiled`; its arguments are ``args``, then the results.
        outs: shape and dtype of each result.
        args: arrays; under ``vmap`` the loop is called for one element after the other.
        aliases: which argument's memory is that of which result (``{argument: result}``).
    """
    from brainevent import numba_kernel

    made = numba_kernel(
        kernel,
        outs=[jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape, dtype in outs],
        vmap_method="sequential",
        input_output_aliases=aliases,
    )
    return list(made(*args))
