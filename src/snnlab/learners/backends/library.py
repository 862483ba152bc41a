"""Online learners that braintrace and brainscale compute, behind the learner protocol.

Both libraries compile a network's step into a graph of eligibility traces; calling the compiled
object advances states and traces, and reverse mode through ONE such call (or one window of
calls) yields the online gradient. The parts that differ are in ``braintrace.py`` and
``brainscale.py``.
"""

from __future__ import annotations

import abc
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.errors import UsageError
from snnlab.learners.base import (
    Learner,
    Objective,
    Segment,
    add,
    sum_over_steps,
    template,
    unscored_prefix,
    zeros_like_params,
)
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import Carry, Params, Pure, param_states
from snnlab.models.base import Network, StepOutput, path_name


class _SeparateOutputs(brainstate.nn.Module):
    """The network, with outputs that are no variable of its own step.

    braintrace (0.2.6 to 0.2.8) loses the input of a traced operation when that very variable also
    leaves the step (the last layer's spikes do: they enter the readout's map).
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def update(self, x: jax.Array) -> StepOutput:
        return jax.tree.map(lambda a: a * 1.0, self.network.update(x))


class LibraryLearner(Learner):
    """An online rule of a library, driven step by step or in windows.

    Args:
        network: built for the library's operator; its trainables must all be traced.
        batch_size: B.
        objective: loss of a step.
        config: method, decay, window.

    Raises:
        UsageError: a trainable parameter that the rule would silently leave at gradient zero.
    """

    def __init__(
        self, network: Network, batch_size: int, objective: Objective, config: LearnerConfig
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.objective = objective
        self.config = config
        self.backend = config.backend
        self.params = param_states(network)
        self._example = jnp.zeros((batch_size, network.n_in), jnp.float32)
        with brainstate.environ.context(dt=network.dt_ms * u.ms):
            self.algorithm = self.compile(_SeparateOutputs(network))
        untraced = sorted(set(self.params) - self.traced_parameters())
        if untraced:
            raise UsageError(
                f"--method {config.method} ({config.backend}) cannot train parameter "
                f"{untraced[0]}: it is not part of a traced map, so its gradient would be zero; "
                "make it a DenseMap or use --method bptt"
            )
        self._names = self._state_names()
        self._pures: dict[Any, Pure] = {}
        self.initial = template(self._pure(self.window).initial)

    @property
    def window(self) -> int:
        """Steps of one window; 1 = step by step."""
        return self.config.chunk_size or 1 if self.config.vjp_method == "multi-step" else 1

    # -- what a library must provide

    @abc.abstractmethod
    def compile(self, model: brainstate.nn.Module) -> Any:
        """The compiled learner: a callable that advances one step, with fresh states."""

    @abc.abstractmethod
    def traced_parameters(self) -> set[str]:
        """Names of the parameters that have an eligibility trace."""

    @abc.abstractmethod
    def as_window(self, xs: jax.Array) -> Any:
        """``(k, B, n_in)`` as the library's multi-step input."""

    # -- driving

    def _state_names(self) -> dict[int, str]:
        names = {}
        for path, state in self.network.states(brainstate.HiddenState).items():
            names[id(state)] = path_name(path)
        return names

    def _pure(self, length: int, learns: bool = True, like: Any = None) -> Pure:
        """One step (``length`` 1) or one window as a pure function of inputs, steps and a batch.

        It returns ``(gradients, metrics)``; or, without ``learns``, metrics alone: states and
        traces advance in the same way. The batch is one of the structure of ``like``.
        """
        like = self.objective.example(self.batch_size) if like is None else like
        shapes = tuple((jnp.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(like))
        key = length, learns, jax.tree.structure(like), shapes
        if key in self._pures:
            return self._pures[key]
        windowed = self.window > 1

        def loss_of(xs: Any, ts: Any, batch: Any) -> Any:
            if windowed:
                outs = StepOutput(*self.algorithm(self.as_window(xs)))
                losses, metrics = jax.vmap(self.objective.step, (0, 0, None))(outs, ts, batch)
                return losses.sum(), sum_over_steps(metrics)
            out = StepOutput(*self.algorithm(xs[0]))
            return self.objective.step(out, ts[0], batch)

        def measure(xs: Any, ts: Any, batch: Any) -> Any:
            return loss_of(xs, ts, batch)[1]

        gradient = brainstate.transform.grad(loss_of, self.params, has_aux=True)
        xs = jnp.zeros((length, *self._example.shape), jnp.float32)
        ts = jnp.arange(length)
        batch = jax.tree.map(lambda a: jnp.zeros(jnp.shape(a), jnp.result_type(a)), like)
        with brainstate.environ.context(dt=self.network.dt_ms * u.ms):
            fun = gradient if learns else measure
            pure = Pure(fun, (xs, ts, batch), self.params, self._names)
        self._pures[key] = pure
        return pure

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        window = min(self.window, length)
        n_windows, rest = divmod(length, window)

        def advance(state: Any, first: Any, k: Any, learns: Any = True) -> Any:
            carry, gradients, metrics = state
            ts = first + jnp.arange(k)
            xs = jax.vmap(stream.at)(ts) if k > 1 else stream.at(first)[None]
            carry, out = self._pure(k, learns, batch)(params, carry, xs, ts, batch)
            if not learns:
                return carry, gradients, add(metrics, out)
            new, measured = out
            new = {name: jax.tree.leaves(value)[0] for name, value in new.items()}
            return carry, add(gradients, new), add(metrics, measured)

        shapes = jax.eval_shape(lambda: self._measured(params, carry, batch, window))
        metrics = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        state = (carry, zeros_like_params(params), metrics)
        firsts = start + window * jnp.arange(n_windows)
        n_unscored = unscored_prefix(self.objective, start, length) // window
        if n_unscored:
            state, _ = jax.lax.scan(
                lambda s, t: (advance(s, t, window, learns=False), None), state, firsts[:n_unscored]
            )
        state, _ = jax.lax.scan(
            lambda s, t: (advance(s, t, window), None), state, firsts[n_unscored:]
        )
        if rest:
            state = advance(state, start + n_windows * window, rest)
        return Segment(*state)

    def _measured(self, params: Params, carry: Carry, batch: Any, k: int) -> Any:
        """The metrics of one window; evaluated for their shapes only."""
        xs = jnp.zeros((k, *self._example.shape), jnp.float32)
        _, measured = self._pure(k, False, batch)(params, carry, xs, jnp.arange(k), batch)
        return measured
