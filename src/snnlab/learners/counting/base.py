"""How often the connections of a network act, counted inside the program that runs it.

A *connection* is a product ``y = x @ W``, dense or sparse, of what a step receives or makes with a
weight that does not change in it; the parts of a concatenated ``x`` are connections of their own,
each with its rows of W. What NeuroBench calls a synaptic operation is a non-zero input that meets a
non-zero weight: summed over steps and samples, ``sum_i active[i] fan_out[i]``, where ``active[i]``
counts the non-zero inputs ``i`` and ``fan_out[i]`` the non-zero weights of its row. The first is
counted here on the device, in integers; :mod:`snnlab.training.costs` multiplies.

An operation is an accumulation (AC) where all inputs of the connection in a step of a sample are
-1, 0 or 1, otherwise a multiplication and an accumulation (MAC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
    """Sums over steps and samples, padding left out; int32.

    Attributes:
        active: by connection ``(2, i)``, non-zero inputs of steps with ACs, and with MACs.
        outputs: by layer ``(n,)``, non-zero outputs.
        updates: by layer ``(n,)``, steps after which a membrane is not what it was before; the
            first step of a sequence is one.
    """

    active: tuple[jax.Array, ...]
    outputs: tuple[jax.Array, ...]
    updates: tuple[jax.Array, ...]


class Counts(NamedTuple):
    """What a batch took.

    Attributes:
        connections, activity: of all shards.
        samples: without padding.
    """

    connections: tuple[Connection, ...]
    activity: Activity
    samples: jax.Array


def active(x: jax.Array, real: jax.Array) -> jax.Array:
    """Non-zero inputs ``(2, i)`` of ``x (..., B, i)``; ``real (B,)`` is 0 for padding, else 1."""
    x = jax.lax.optimization_barrier(x)  # or each use of it might round in its own way
    on = (x != 0) & (real != 0)[:, None]
    graded = jnp.any(on & (jnp.abs(x) != 1), axis=-1, keepdims=True)
    axes = tuple(range(x.ndim - 1))
    every, macs = (jnp.sum(a, axes, dtype=jnp.int32) for a in (on, on & graded))
    return jnp.stack([every - macs, macs])


def fan_out(w: jax.Array) -> jax.Array:
    """Of a weight ``(i, n)``, or the values ``(i, k)`` of a sparse one."""
    return jnp.sum(w != 0, axis=1, dtype=jnp.int32)


def of_layers(
    spikes: tuple[jax.Array, ...], membrane: tuple[jax.Array, ...], last: tuple[jax.Array, ...],
    real: jax.Array,
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:  # fmt: skip
    """Outputs and updates of layers ``(K, B, n)``; ``last (B, n)`` are the membranes before."""
    weight = (real != 0)[:, None]

    def total(where: jax.Array) -> jax.Array:
        return jnp.sum(where & weight, (0, 1), dtype=jnp.int32)

    before = [jnp.concatenate([u[None], v[:-1]]) for u, v in zip(last, membrane, strict=True)]
    moved = tuple(total(v != u) for u, v in zip(before, membrane, strict=True))
    return tuple(total(s != 0) for s in spikes), moved


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


def over_shards(counts: Counts) -> Counts:
    """Of all samples, from those of a shard."""
    activity, samples = sharding.total((counts.activity, counts.samples))
    return counts._replace(activity=activity, samples=samples)


def samples(real: jax.Array) -> jax.Array:
    """How many are no padding."""
    return jnp.sum(real != 0, dtype=jnp.int32)
