"""How often the connections of a network act, counted inside the program that runs it.

A *connection* is a product ``y = x @ W``, dense or sparse, of what a step receives or makes with a
weight that does not change in it; the parts of a concatenated ``x`` are connections of their own,
each with its rows of W. What NeuroBench calls a synaptic operation is a non-zero input that meets a
non-zero weight: in a step of a sample ``sum_i (x_i != 0) fan_out_i``, where ``fan_out_i`` counts
the non-zero weights of row ``i``. All is counted in integers, exactly: sums over steps and samples
may be beyond 32 bits, so they are kept in parts of 8 bits (:func:`total`, :func:`whole`).

An operation is an accumulation (AC) where all inputs of the connection in a step of a sample are
-1, 0 or 1, otherwise a multiplication and an accumulation (MAC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab import sharding
from snnlab.learners.graph import jaxprs

#: Operations that connect neurons, whether or not their form is known here.
CONNECTING = ("dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general")


class Connection(NamedTuple):
    """What a connection is in a program.

    Attributes:
        fan_out: ``(i,) int32``, non-zero weights from each input.
        n_out: outputs.
        times: how often it acts on a sample in a sequence.
    """

    fan_out: jax.Array
    n_out: jax.Array
    times: jax.Array


class Activity(NamedTuple):
    """Sums over steps and samples, padding left out, in parts ``(4, ...)``.

    Attributes:
        acs, macs: ``(4, connections)``, synaptic operations.
        outputs: ``(4, layers)``, non-zero outputs.
        updates: ``(4, layers)``, of membranes that are not what they were before a step; in the
            first step of a sequence of all.
    """

    acs: jax.Array
    macs: jax.Array
    outputs: jax.Array
    updates: jax.Array


class Counts(NamedTuple):
    """What a batch took.

    Attributes:
        connections: of the network.
        units: ``(layers,) int32``, of each layer.
        activity: of all shards.
        samples: without padding.
    """

    connections: tuple[Connection, ...]
    units: jax.Array
    activity: Activity
    samples: jax.Array


def fan_out(w: jax.Array) -> jax.Array:
    """Of a weight ``(i, n)``, or the values ``(i, k)`` of a sparse one."""
    return jnp.sum(w != 0, axis=1, dtype=jnp.int32)


def operations(x: jax.Array, fan: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ACs and MACs ``(...)`` of inputs ``x (..., i)``."""
    x = jax.lax.optimization_barrier(x)  # or each use of it might round in its own way
    every = jnp.sum(jnp.where(x != 0, fan, 0), axis=-1, dtype=jnp.int32)
    graded = jnp.any((x != 0) & (jnp.abs(x) != 1), axis=-1)
    return jnp.where(graded, 0, every), jnp.where(graded, every, 0)


def of_layers(
    spikes: tuple[jax.Array, ...], membrane: tuple[jax.Array, ...], last: tuple[jax.Array, ...]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Outputs and updates ``(K, B)`` of layers ``(K, B, n)``; ``last (B, n)``: membranes before."""
    before = [jnp.concatenate([u[None], v[:-1]]) for u, v in zip(last, membrane, strict=True)]
    moved = [_count(v != u) for u, v in zip(before, membrane, strict=True)]
    return [_count(s != 0) for s in spikes], moved


def _count(where: jax.Array) -> jax.Array:
    return jnp.sum(where, axis=-1, dtype=jnp.int32)


def total(rows: Sequence[jax.Array], real: jax.Array) -> jax.Array:
    """Sums ``(4, R)`` over steps and samples of R counts ``(..., B)``, in parts.

    Part ``k`` sums bits ``8 k`` to ``8 k + 7``, so it holds eight million steps of samples.

    Args:
        rows: counts below 2^31, of the same shape.
        real: ``(B,)``, 0 for padding, else 1.
    """
    if not rows:
        return jnp.zeros((4, 0), jnp.int32)
    counts = jnp.where(real != 0, jnp.stack(rows), 0)
    parts = jnp.stack([(counts >> k) & 255 for k in (0, 8, 16, 24)])
    return jnp.sum(parts, tuple(range(2, parts.ndim)), dtype=jnp.int32)


def whole(parts: Any) -> Any:
    """The sums ``(...)`` themselves, int64 of numpy, from their parts ``(4, ...)``."""
    return np.tensordot(np.int64(256) ** np.arange(4), np.asarray(parts, np.int64), 1)


def connecting(eqn: Any) -> list[str]:
    """Names of the operations in an equation that connect neurons."""
    if eqn.primitive.name in CONNECTING or jaxprs.is_sparse(eqn):
        return [eqn.primitive.name]
    return [name for body in _bodies(eqn) for inner in body.eqns for name in connecting(inner)]


def _bodies(eqn: Any) -> Iterator[Any]:
    """The programs that an equation holds."""
    for value in eqn.params.values():
        for part in value if isinstance(value, list | tuple) else (value,):
            body = getattr(part, "jaxpr", part)
            if hasattr(body, "eqns"):
                yield body


def zeros(fun: Callable[[], Any]) -> Any:
    """What ``fun`` would return, all 0."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(fun))


def over_shards(mine: Counts) -> Counts:
    """Of all samples, from those of a shard."""
    activity, samples = sharding.total((mine.activity, mine.samples))
    return mine._replace(activity=activity, samples=samples)


def counts(
    connections: tuple[Connection, ...], activity: Activity, spikes: Sequence[Any], real: jax.Array
) -> Counts:
    """Of a batch; ``spikes`` are arrays, or their types, of each layer."""
    units = jnp.asarray([s.shape[-1] for s in spikes], jnp.int32)
    return Counts(connections, units, activity, jnp.sum(real != 0, dtype=jnp.int32))
