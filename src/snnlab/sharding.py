"""What code inside a program asks of a batch that is split over devices.

A program of several devices runs on each of them, for an equal part of the batch's samples (a
*shard*). Almost all of a network is of one sample; what is not (sums and means over samples, draws
for all of them) is written with the functions below, which are the identity on one device.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

#: Name of the mesh's axis.
AXIS = "batch"
T = TypeVar("T")


class _Split(NamedTuple):
    """Number of shards, and whether a program of one of them is being traced."""

    n: int
    inside: bool


_WHOLE = _Split(1, False)
_SPLIT: contextvars.ContextVar[_Split] = contextvars.ContextVar("split", default=_WHOLE)


@contextlib.contextmanager
def _set(split: _Split) -> Iterator[None]:
    token = _SPLIT.set(split)
    try:
        yield
    finally:
        _SPLIT.reset(token)


def planned(n: int) -> contextlib.AbstractContextManager[None]:
    """Build networks and learners in this block for one of ``n`` shards."""
    return _set(_Split(n, False))


def inside(n: int) -> contextlib.AbstractContextManager[None]:
    """Trace in this block the program of one of ``n`` shards; the axis :data:`AXIS` is there."""
    return _set(_Split(n, n > 1))


_COLUMNS: contextvars.ContextVar[Any] = contextvars.ContextVar("columns", default=None)


@contextlib.contextmanager
def split_columns(split: Callable[[Any], Any]) -> Iterator[None]:
    """Trace in this block a program whose arrays are split along neurons, each by ``split``."""
    token = _COLUMNS.set(split)
    try:
        yield
    finally:
        _COLUMNS.reset(token)


def columns(tree: T) -> T:
    """Arrays ``(..., n)``, where they are split along neurons: with the same numbers."""
    split = _COLUMNS.get()
    if split is None:
        return tree
    import jax

    return jax.tree.map(split, tree)


def shards() -> int:
    """Into how many parts the batch is split, in a block of either kind; 1 elsewhere."""
    return _SPLIT.get().n


def traced() -> bool:
    """Whether the program of a shard is being traced."""
    return _SPLIT.get().inside


def total(parts: T) -> T:
    """The sum over all shards of what each has of a sum; any arrays. Its derivative is exact: what
    every shard's loss makes of the sum comes back to each part of it.
    """
    if not traced():
        return parts
    import jax

    return jax.lax.psum(parts, AXIS)


def largest(values: T) -> T:
    """The largest over all shards."""
    if not traced():
        return values
    import jax

    return jax.lax.pmax(values, AXIS)


def once(value: Any) -> Any:
    """A shard's part of a sum to which all of them would add the same ``value``."""
    return value / shards() if traced() else value


def mean(value: Any) -> Any:
    """The mean over samples, of what is the mean over the samples of a shard."""
    return total(once(value)) if traced() else value


def gathered(rows: T) -> T:
    """Rows of all samples, from those of each shard ``(b, ...)``."""
    if not traced():
        return rows
    import jax

    return jax.tree.map(lambda a: jax.lax.all_gather(a, AXIS, tiled=True), rows)


def numbered(key: Any) -> Any:
    """Key data ``(2,) uint32``; in a shard with its number behind, ``(3,)``."""
    if not traced():
        return key
    import jax
    import jax.numpy as jnp

    return jnp.append(key, jax.lax.axis_index(AXIS).astype(key.dtype))


def rows(draw: Callable[[tuple[int, ...]], Any], shape: tuple[int, ...], shard: Any = None) -> Any:
    """A shard's rows, ``shape``, of what is drawn for all samples: the same as on one device.

    Args:
        draw: an array of a shape.
        shape: ``(b, ...)``.
        shard: its number, where that is known; otherwise the program's own.
    """
    if shards() == 1 or (shard is None and not traced()):
        return draw(shape)
    import jax

    number = jax.lax.axis_index(AXIS) if shard is None else shard
    size = shape[0]
    every = draw((shards() * size, *shape[1:]))
    return jax.lax.dynamic_slice_in_dim(every, number.astype("int32") * size, size)
