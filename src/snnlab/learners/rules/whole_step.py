"""A network's step as a function of one sample's states and of all parameters.

For rules that follow the whole network, whatever it is made of: no cut, no condition on its
dynamics.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from snnlab.data.stream import Stream
from snnlab.errors import UsageError
from snnlab.learners.base import Learner, Segment, add, sum_over_steps, template
from snnlab.learners.functional import RANDOM, Params, PureStep
from snnlab.learners.rules.build import Request
from snnlab.models.base import StepOutput

NewH = Callable[[Params, jax.Array, jax.Array], jax.Array]


class WholeStep:
    """``step(params, h (N,), rest, x (n_in,)) -> (h, rest, output)`` of a sample.

    Args:
        net: any step that draws no random numbers.

    Raises:
        UsageError: a step that draws, or with a state of each sample that is no floating number.

    Attributes:
        start: states of a batch at rest, ``(B, N)``.
        rest: leaves that are no floating numbers, the same for all samples.
    """

    def __init__(self, net: PureStep) -> None:
        if any(name.startswith(RANDOM) for name in net.initial):
            raise UsageError(
                "rules that follow the whole network (rtrl, uoro): not with what a step draws "
                "(--dropout, --gauss_on drive)"
            )
        self.net = net.of_size(1)
        size = net.batch_size
        leaves, self._tree = jax.tree.flatten(self.net.initial)
        one = [jnp.asarray(v) for v in leaves]
        many = [jnp.asarray(v) for v in jax.tree.leaves(net.initial)]
        self._floats = [jnp.issubdtype(v.dtype, jnp.floating) for v in one]
        _, self._unravel = ravel_pytree([v for v, f in zip(one, self._floats) if f])
        own = [v.shape == (size, *w.shape[1:]) and w.ndim > 0 for v, w in zip(many, one)]
        if any(mine and not f for mine, f in zip(own, self._floats)):
            raise UsageError(
                "rules that follow the whole network (rtrl, uoro): states of each sample must be "
                "floating numbers"
            )
        rows = [
            v.reshape(size, -1) if mine else jnp.broadcast_to(v.ravel(), (size, v.size))
            for v, mine, f in zip(many, own, self._floats) if f
        ]  # fmt: skip
        self.start = jnp.concatenate(rows, axis=1) if rows else jnp.zeros((size, 0))
        self.rest = [v for v, f in zip(one, self._floats) if not f]

    def step(
        self, params: Params, h: jax.Array, rest: Any, x: jax.Array
    ) -> tuple[jax.Array, Any, StepOutput]:
        numbers, others = iter(self._unravel(h)), iter(rest)
        leaves = [next(numbers) if f else next(others) for f in self._floats]
        carry, out = self.net.step(params, jax.tree.unflatten(self._tree, leaves), x[None])
        new = [jnp.asarray(v) for v in jax.tree.leaves(carry)]
        flat, _ = ravel_pytree([v for v, f in zip(new, self._floats) if f])
        left = [v for v, f in zip(new, self._floats) if not f]
        return flat, left, jax.tree.map(lambda v: v[0], out)

    def batch(self, params: Params, h: jax.Array, rest: Any, x: jax.Array) -> Any:
        """The step of all samples; what is not a floating number is the same in all."""
        shared = jax.vmap(self.step, (None, 0, None, 0), (0, None, 0))
        return shared(params, h, rest, x)


class Whole(NamedTuple):
    """States ``(B, N)``, those that are no floating numbers, and what a rule remembers."""

    h: jax.Array
    rest: Any
    memory: Any


class ForwardMode(Learner):
    """The gradient of each step from what is remembered of the parameters' influence before it.

    ``dL_t/dtheta = direct + (dL_t/dh_{t-1}) J_{t-1}``, whatever J is made of.
    """

    def __init__(self, of: Request, memory: Any) -> None:
        self.objective, self.net = of.objective, WholeStep(of.net)
        self.initial = template(Whole(self.net.start, self.net.rest, memory))

    @abc.abstractmethod
    def through(self, memory: Any, h_bar: jax.Array) -> Params:
        """``h_bar J`` for the adjoint ``h_bar (B, N)`` of the states, by parameter."""

    @abc.abstractmethod
    def advance(self, memory: Any, new_h: NewH, params: Params, h: jax.Array, x: jax.Array) -> Any:
        """What is remembered after a step, ``new_h(params, h (N,), x (n_in,))`` of each sample."""

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        def step(state: Any, t: Any) -> Any:
            (h, rest, memory), gradients = state
            x = stream.at(t)

            def loss(params: Params, h: jax.Array) -> Any:
                new, left, out = self.net.batch(params, h, rest, x)
                value, metrics = self.objective.step(StepOutput(*out), t, batch)
                return value, (metrics, new, left)

            def new_h(params: Params, h: jax.Array, x: jax.Array) -> jax.Array:
                return self.net.step(params, h, rest, x)[0]

            found, (metrics, new, left) = jax.grad(loss, (0, 1), has_aux=True)(params, h)
            gradients = add(gradients, add(found[0], self.through(memory, found[1])))
            memory = self.advance(memory, new_h, params, h, x)
            return (Whole(new, left, memory), gradients), metrics

        nothing = jax.tree.map(jnp.zeros_like, params)
        steps = start + jnp.arange(length)
        (end, gradients), metrics = jax.lax.scan(step, (carry, nothing), steps)
        return Segment(end, gradients, sum_over_steps(metrics))
