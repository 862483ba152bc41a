"""When our loops are used, and how a program calls them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
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
    return _machine_code(function, parallel=False)


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """numba's machine code of a loop; ``numba.prange`` in it runs on all cores."""
    return _machine_code(function, parallel=_parallel())


def _machine_code(function: Callable[..., Any], parallel: bool) -> Callable[..., Any]:
    """numba's machine code of a function, kept where numba has been given a folder for it.

    The content of a function (its code, and all that it closes over) is its name and its key
    there. numba's own key of a function that closes over compiled ones differs from process to
    process, and its symbols are counted in each: of two functions of one name, one read back
    and one compiled, a call could reach either.
    """
    import numba

    folder = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    content = None
    if folder and os.access(folder, os.W_OK):
        with contextlib.suppress(ImportError):
            from brainevent._op.ffi_naming import kernel_content_fingerprint

            content = kernel_content_fingerprint(function, extra=(parallel,))
    if content is not None:
        function.__name__ = f"{function.__name__}_{content}"
        function.__qualname__ = f"{function.__qualname__}_{content}"
    jit = numba.njit(parallel=parallel, nogil=True, fastmath={"contract"})
    made: Callable[..., Any] = jit(function)
    if content is not None:
        with contextlib.suppress(ImportError, OSError, RuntimeError):  # no place for it
            made._cache = _by_content(function, content)  # type: ignore[attr-defined]
    return made


def _by_content(function: Callable[..., Any], content: str) -> Any:
    """numba's cache of a function's machine code, with its content as the key."""
    from numba.core.caching import FunctionCache

    class ByContent(FunctionCache):
        def _index_key(self, sig: Any, codegen: Any) -> Any:
            return sig, codegen.magic_tuple(), content

        def load_overload(self, *args: Any) -> Any:
            try:
                return super().load_overload(*args)
            except Exception:  # noqa: BLE001 (a damaged file may raise anything: compile anew)
                with contextlib.suppress(OSError):
                    self.flush()
                return None

        def save_overload(self, *args: Any) -> None:
            with contextlib.suppress(OSError):  # a full disk
                super().save_overload(*args)

    return ByContent(function)


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
