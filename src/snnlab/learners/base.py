"""The learner protocol.

A learner turns a network and a loss into gradients. It advances a *segment* of the sequence and
returns the gradient of the loss of that segment's steps; what came before reaches the gradient
through the carry (hidden states, and the eligibility traces of an online rule; BPTT carries
hidden states only, so segments shorter than the sequence make it truncated BPTT). When the
optimiser acts is not the learner's business.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.stream import Stream
from snnlab.learners.functional import Params, with_key
from snnlab.models.base import StepOutput


class Objective(Protocol):
    """Loss of one step and what is measured beside it; see :mod:`snnlab.training.objectives`."""

    def step(self, out: StepOutput, t: jax.Array, batch: Any) -> tuple[jax.Array, Any]:
        """Scalar loss of step ``t``, and a pytree of metrics that are summed over steps."""
        ...

    def over_sequence(self, outs: StepOutput, batch: Any) -> jax.Array:
        """Scalar loss of the outputs of all steps, ``(T, ...)``; for learners that have them."""
        ...

    def example(self, batch_size: int) -> Any:
        """A batch (targets, mask) of the right shapes and dtypes; ``None`` if not known yet."""
        ...


class Segment(NamedTuple):
    """What a learner returns for a segment.

    Attributes:
        carry: state at its end.
        gradients: by parameter name; summed over steps.
        metrics: the objective's metrics, summed over steps.
        renewed: parameters that the forward pass itself has renewed (running statistics), after
            the optimiser has acted.
    """

    carry: Any
    gradients: Params
    metrics: Any
    renewed: Params | None = None


class Learner(abc.ABC):
    """One rule for the gradient; built for one network, batch size and objective.

    ``segment`` is pure and meant to be called inside a compiled program; ``start`` may be
    traced, ``length`` is static.
    """

    #: Carry of a fresh sequence.
    initial: Any
    #: The ``--backend`` that computes it.
    backend: str = "snnlab"
    #: Whether it runs layer after layer over whole sequences, and evaluation with it.
    layerwise: bool = False

    @abc.abstractmethod
    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        """Advance ``length`` steps from step ``start`` on."""

    def parameters(self) -> Params:
        """Parameters beside the network's that it wants trained (learned feedback)."""
        return {}

    def fresh(self, key: jax.Array | None = None) -> Any:
        """A carry at rest, made inside the program rather than kept as a constant.

        Args:
            key: key data (uint32) from which a network that draws (dropout) does so.
        """
        carry = self.initial if key is None else with_key(self.initial, key)
        return jax.tree.map(_materialise, carry)


def unscored_prefix(objective: Objective, start: Any, length: int) -> int:
    """Steps at the beginning of a segment without any loss: they need no learning signal.

    Known only where ``start`` is (it is not inside the loop of ``--update_every``).
    """
    if not isinstance(start, int):
        return 0
    return min(max(getattr(objective, "warmup", 0) - start, 0), length)


def at_rest(shape: Sequence[int], dtype: Any = jnp.float32) -> Any:
    """Zeros of a carry, by their shape."""
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def template(carry: Any) -> Any:
    """``carry`` with zeros replaced by their shapes: traces can be large, and start at zero."""

    def compact(value: Any) -> Any:
        if isinstance(value, jax.ShapeDtypeStruct):
            return value
        array = np.asarray(jnp.asarray(value))  # in the dtype that JAX gives it
        return array if array.any() else jax.ShapeDtypeStruct(array.shape, array.dtype)

    return jax.tree.map(compact, carry)


def _materialise(value: Any) -> jax.Array:
    if isinstance(value, jax.ShapeDtypeStruct):
        return jnp.zeros(value.shape, value.dtype)
    return jnp.asarray(value)


def zeros_like_params(params: Params) -> Params:
    return jax.tree.map(jnp.zeros_like, params)


def add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def sum_over_steps(tree: Any) -> Any:
    """Sum of every leaf over its leading (time) axis."""
    return jax.tree.map(lambda a: a.sum(0), tree)
