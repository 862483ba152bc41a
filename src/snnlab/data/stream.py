"""Input streams: what a network sees at step ``t``, as a function inside the program.

A stream is a pytree with ``n_steps`` (T), ``batch_size`` (B), ``n_in``, ``at(t) -> (B, n_in)
float32`` and ``window(start, length) -> (length, B, n_in)``. Streams are inputs: nothing is
differentiated with respect to them. On the host, before a program is given it, a stream can be cut
into those of equal parts of its samples (``parts(n)``), for several devices.

Memory: an :class:`EventStream` under ``lax.scan`` holds one ``(B, n_in)`` buffer. Reverse mode
keeps what the backward pass needs, and the gradient of ``at(t) @ w`` needs ``at(t)``: put the
step under ``jax.checkpoint`` and the events are scattered again instead of stored.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnlab.data.batch import cut
from snnlab.errors import UsageError

BLOCK = 2048
#: Share of inputs with an event in a step up to which products had better visit events: measured on
#: two cores, break-even is at 0.1 for 128 neurons and beyond 0.3 for 512 (docs/performance/cpu.md).
SPARSE = 0.15
#: Cells that 32 bits can number, with room for what lies behind.
MOST_CELLS = 2**31 - 2**16


@runtime_checkable
class Stream(Protocol):
    """The protocol; see the module. What inherits from it is dense, unless it says otherwise."""

    @property
    def n_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def n_in(self) -> int: ...
    def at(self, t: jax.Array | int) -> jax.Array: ...
    def window(self, start: jax.Array | int, length: int) -> jax.Array: ...
    def listed(self, start: jax.Array | int, length: int) -> EventList | None:
        """The events of the same steps as :meth:`window`, if products had better visit these."""
        return None

    def parts(self, n: int) -> list[Any]:
        """``n`` streams of B / n samples each, in their order, of the same shapes; on the host.

        Raises:
            UsageError: a stream that does not say how.
        """
        raise UsageError(
            f"{type(self).__name__} cannot be split over devices: it has no method parts(n)"
        )


class EventList(NamedTuple):
    """Events of some steps.

    Attributes:
        cell: ``sample * n_in + input`` of every event, int32, sorted by step.
        bounds: ``(length + 1,) int32``; events of the t-th step are
            ``cell[bounds[t]:bounds[t + 1]]``.
        binary: whether several events of a cell in a step count once.
    """

    cell: jax.Array
    bounds: jax.Array
    binary: bool


class DenseStream(Stream):
    """An array ``xs (T, B, n_in)`` as a stream."""

    def __init__(self, xs: jax.Array | np.ndarray) -> None:
        self.xs = xs

    @property
    def n_steps(self) -> int:
        return int(self.xs.shape[0])

    @property
    def batch_size(self) -> int:
        return int(self.xs.shape[1])

    @property
    def n_in(self) -> int:
        return int(self.xs.shape[2])

    def at(self, t: jax.Array | int) -> jax.Array:
        """Step ``t``: ``(B, n_in) float32``."""
        xs = lax.stop_gradient(jnp.asarray(self.xs))
        return lax.dynamic_index_in_dim(xs, t, keepdims=False).astype(jnp.float32)

    def window(self, start: jax.Array | int, length: int) -> jax.Array:
        """Steps ``start .. start + length - 1``: ``(length, B, n_in) float32``."""
        xs = lax.stop_gradient(jnp.asarray(self.xs))
        return lax.dynamic_slice_in_dim(xs, start, length).astype(jnp.float32)

    def parts(self, n: int) -> list[DenseStream]:
        return [DenseStream(xs) for xs in cut(self.xs, n, 1)]


class EventStream(Stream):
    """A batch of binned events, made dense one step at a time on the device.

    Shapes depend on the dataset and the batch size only, so one compiled program serves all
    batches; the cost of a step grows with its events, not with the capacity.

    Args:
        cell: ``(capacity,) int32``, ``sample * n_in + input`` of every event, sorted by step;
            what lies behind the last event is not read.
        offsets: ``(T + 1,) int32``; events of step t are ``cell[offsets[t]:offsets[t + 1]]``.
        batch_size: B.
        n_in: inputs.
        binary: a cell is 1 if it has an event, else the number of its events.
        block: events scattered at once; ``capacity`` must exceed the number of events by it.
        events: inputs are so often zero that products had better visit events (:meth:`listed`)
            than inputs.
        most: events of a sample at most, 0 if that is not known; only :meth:`parts` asks.
    """

    def __init__(
        self,
        cell: jax.Array | np.ndarray,
        offsets: jax.Array | np.ndarray,
        *,
        batch_size: int,
        n_in: int,
        binary: bool,
        block: int = BLOCK,
        events: bool = True,
        most: int = 0,
    ) -> None:
        self.cell = cell
        self.offsets = offsets
        self._batch_size = batch_size
        self._n_in = n_in
        self.binary = binary
        self.block = block
        self.events = events
        self.most = most

    @property
    def n_steps(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def n_in(self) -> int:
        return self._n_in

    def at(self, t: jax.Array | int) -> jax.Array:
        """Step ``t``: ``(B, n_in) float32``."""
        return self.window(t, 1)[0]

    def listed(self, start: jax.Array | int, length: int) -> EventList | None:
        return self._listed(start, length) if self.events else None

    def _listed(self, start: jax.Array | int, length: int) -> EventList:
        bounds = lax.dynamic_slice_in_dim(jnp.asarray(self.offsets), start, length + 1)
        return EventList(jnp.asarray(self.cell), bounds, self.binary)

    def window(self, start: jax.Array | int, length: int) -> jax.Array:
        """Steps ``start .. start + length - 1``: ``(length, B, n_in) float32``."""
        n_cells = self.batch_size * self.n_in
        if length * n_cells > MOST_CELLS:
            return lax.map(self.at, start + jnp.arange(length))
        cell, bounds, _ = self._listed(start, length)
        first, end = bounds[0], bounds[-1]
        lane = jnp.arange(self.block, dtype=jnp.int32)

        def scatter(k: jax.Array, dense: jax.Array) -> jax.Array:
            at = first + k * self.block
            step = jnp.sum(at + lane >= bounds[1:, None], axis=0, dtype=jnp.int32)
            where = lax.dynamic_slice(cell, (at,), (self.block,)) + step * n_cells
            where = jnp.where(at + lane < end, where, length * n_cells)  # out of range: dropped
            if self.binary:
                return dense.at[where].set(1.0, mode="drop")
            return dense.at[where].add(1.0, mode="drop")

        blocks = (end - first + self.block - 1) // self.block
        dense = lax.fori_loop(0, blocks, scatter, jnp.zeros(length * n_cells, jnp.float32))
        return lax.stop_gradient(dense).reshape(length, self.batch_size, self.n_in)

    def parts(self, n: int) -> list[EventStream]:
        """Each with a list of its own events, long enough for any samples."""
        cell, offsets = np.asarray(self.cell), np.asarray(self.offsets)
        room, found = len(cell), cell[: offsets[-1]]
        size = self.batch_size // n
        if self.most:
            room = min(room, size * self.most + self.block)
        first = size * self.n_in
        made = []
        for k in range(n):
            mine = (found >= k * first) & (found < (k + 1) * first)
            before = np.concatenate([np.zeros(1, np.int64), np.cumsum(mine)])
            slots = np.zeros(room, np.int32)
            slots[: before[-1]] = found[mine] - k * first
            made.append(EventStream(
                slots, before[offsets].astype(np.int32), batch_size=size, n_in=self.n_in,
                binary=self.binary, block=self.block, events=self.events, most=self.most,
            ))  # fmt: skip
        return made


def _flatten_dense(stream: DenseStream) -> tuple[tuple[object, ...], None]:
    return (stream.xs,), None


def _unflatten_dense(_: None, leaves: tuple[Any, ...]) -> DenseStream:
    return DenseStream(*leaves)


_Static = tuple[int, int, bool, int, bool]


def _flatten_events(stream: EventStream) -> tuple[tuple[object, ...], _Static]:
    static = (stream.batch_size, stream.n_in, stream.binary, stream.block, stream.events)
    return (stream.cell, stream.offsets), static


def _unflatten_events(static: _Static, leaves: tuple[Any, ...]) -> EventStream:
    batch_size, n_in, binary, block, events = static
    return EventStream(
        *leaves, batch_size=batch_size, n_in=n_in, binary=binary, block=block, events=events
    )


jax.tree_util.register_pytree_node(DenseStream, _flatten_dense, _unflatten_dense)
jax.tree_util.register_pytree_node(EventStream, _flatten_events, _unflatten_events)
