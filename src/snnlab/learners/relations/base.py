"""A relation: what a parameter enters the step through, and what that makes of its trace.

With the drives ``y`` of all relations given, a step is a function of each neuron alone. So a rule
sees every parameter in the same way: an input ``x`` that it meets, a drive ``y (B, n)``, the
derivatives of the states by ``y``. The kinds differ in the products between these, and in the
shape of a trace, ``(B, *block)``:

=============  =====================  ==============  ==========================================
kind           drive                  a trace         parameter
=============  =====================  ==============  ==========================================
`MatMul`       ``y = x @ W``          ``(B, i, n)``   weights
`Sparse`       the same, k synapses   ``(B, i, k)``   weights of the synapses that exist
               from each input
`Elementwise`  ``y = theta``          ``(B, n)``      bias, time constant, threshold, gain
=============  =====================  ==============  ==========================================
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.relations.inputs import Input


@dataclasses.dataclass(frozen=True)
class InputBlock:
    """Rows ``start .. start + size`` of a weight, and the variable that they multiply.

    Attributes:
        var: variable ``(B, size)``; ``None`` if nothing is multiplied.
        evolves: whether it depends on the state; otherwise it is known before the chunk runs.
        live: whether it depends on what this very step computes (an upper layer's input), so
            that the learning signal of the step passes through it.
    """

    var: Any
    start: int
    size: int
    evolves: bool
    live: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Relation(abc.ABC):
    """One way from a parameter into the step.

    Attributes:
        w, y: variables of what the parameters make (an effective weight, a decay), and of the
            drive; the same variable where nothing is multiplied.
        blocks: of the input.
        trained: names of the parameters in ``w``; none for a fixed map.
        shape: of the drive, ``(B, n)``.
        reach: indices of the states that ``y`` enters, at once or later, neuron by neuron, and
            that the loss depends on.
        direct: whether the loss depends on ``y`` other than through a state.
    """

    w: Any
    y: Any
    blocks: tuple[InputBlock, ...]
    trained: tuple[str, ...]
    shape: tuple[int, ...]
    reach: tuple[int, ...] = ()
    direct: bool = False

    #: Whether it multiplies something: a map of neurons onto neurons.
    is_map = False
    #: Whether its factors may have fewer bits than float32.
    rounds = False
    #: Whether one product may take all blocks, and the loops of our own its traces.
    dense = False

    @abc.abstractmethod
    def trace_shape(self, k: int) -> tuple[int, ...]:
        """Of the trace of block ``k`` for each state that it reaches."""

    @abc.abstractmethod
    def rows(self, values: jax.Array, k: int) -> Any:
        """What block ``k`` of the values multiplies with."""

    @abc.abstractmethod
    def times(self, x: Input, rows: Any) -> jax.Array:
        """The drive of a block: ``(..., i) -> (..., n)``."""

    @abc.abstractmethod
    def turned(self, rows: Any, once: bool) -> Any:
        """What :meth:`back` takes, with ``once`` made once and kept."""

    @abc.abstractmethod
    def back(self, g: jax.Array, turned: Any) -> jax.Array:
        """Adjoint of a block's input from that of the drive: ``(..., n) -> (..., i)``."""

    @abc.abstractmethod
    def outer(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        """Gradient of block ``k`` from the adjoint ``g (K, B, n)`` of the drive."""

    def gradient(self, inputs: Sequence[Input | None], g: jax.Array, dtype: Any) -> jax.Array:
        """Gradient of ``w`` from the inputs of all blocks: :meth:`outer` of each, joined."""
        return self.join({k: self.outer(x, g, k, dtype) for k, x in enumerate(inputs)})

    @abc.abstractmethod
    def outer_by_sample(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        """What the steps of a chunk add to a trace: :meth:`outer` for each sample."""

    @abc.abstractmethod
    def spread(self, v: jax.Array, k: int) -> jax.Array:
        """Values of neurons ``(B, n)`` where block ``k``'s traces have them."""

    def onto(self, rows: Any, neurons: jax.Array) -> jax.Array:
        """Of each row the weight onto the neuron of that row, ``(i,)``; 0 if there is none."""
        raise TypeError("nothing is multiplied")

    @abc.abstractmethod
    def over_samples(self, share: jax.Array) -> jax.Array:
        """A gradient from its shares by sample."""

    @abc.abstractmethod
    def join(self, parts: dict[int, jax.Array]) -> jax.Array:
        """Gradient of ``w`` from those of all blocks that are not empty."""


@dataclasses.dataclass(frozen=True, eq=False)
class Map(Relation):
    """What dense and sparse maps share: rows of ``w`` belong to inputs."""

    is_map = True

    def values(self, values: Any, k: int) -> Any:
        """Rows of block ``k``."""
        block = self.blocks[k]
        return values[block.start : block.start + block.size]

    def over_samples(self, share: jax.Array) -> jax.Array:
        return share.sum(0)

    def join(self, parts: dict[int, jax.Array]) -> jax.Array:
        found = [parts[k] for k, block in enumerate(self.blocks) if block.size]
        return jnp.concatenate(found) if len(found) > 1 else found[0]
