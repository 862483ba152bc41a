"""A network as pure functions of (parameters, carry, input): all that learners know of it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.models.base import Network, StepOutput, path_name
from snnlab.models.dropout import RandomKey
from snnlab.models.normalization import RunningStatistic

#: Parameters by name (``"layers.0.pathways.0.map.weight"``), each an array.
Params = dict[str, jax.Array]
#: Everything that evolves, by name.
Carry = dict[str, Any]


def param_states(network: brainstate.nn.Module) -> dict[str, brainstate.ParamState]:
    """The trainable states of a network by name."""
    return {path_name(p): s for p, s in network.states(brainstate.ParamState).items()}


def get_params(network: brainstate.nn.Module) -> Params:
    """The current parameters; the single leaf of each state."""
    return {name: _leaf(s.value) for name, s in param_states(network).items()}


def set_params(network: brainstate.nn.Module, values: Mapping[str, Any]) -> None:
    """Replace parameters, by name, with arrays of their shapes."""
    for name, state in param_states(network).items():
        if name in values:
            tree = jax.tree.structure(state.value)
            state.value = jax.tree.unflatten(tree, [jnp.asarray(values[name])])


def _leaf(value: Any) -> jax.Array:
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1:
        raise TypeError(f"a trainable state must hold one array, not {len(leaves)}")
    return leaves[0]


class Pure:
    """A function that reads and writes brainstate States, made pure.

    ``pure(params, carry, *args) -> (carry, out)``. States are named by ``names`` where given,
    by their order otherwise (and these names are added to ``names``, so that functions which
    share it agree). States that are neither in ``params`` nor written are constants.

    Args:
        fun: the function.
        args: example arguments (shapes and dtypes only are used).
        params: the trainable states by name.
        names: names for the other states, by identity.
    """

    def __init__(
        self,
        fun: Callable,
        args: tuple,
        params: Mapping[str, brainstate.ParamState],
        names: dict[int, str] | None = None,
    ) -> None:
        traced = brainstate.transform.StatefulFunction(fun)
        traced.make_jaxpr(*args)
        states = traced.get_states(*args)
        # Kept here: the states may be given other shapes later, and brainstate would trace again
        # for them, or for arrays that are spread over devices, without what is set now.
        self._jaxpr = traced.get_jaxpr(*args)
        self._out = jax.tree.structure(traced.get_out_shapes(*args))
        by_id = {id(s): n for n, s in params.items()}
        names = {} if names is None else names
        self._keys: list[tuple[bool, str]] = []
        self._treedefs: dict[str, Any] = {n: jax.tree.structure(s.value) for n, s in params.items()}
        self.initial: Carry = {}
        for state in states:
            if id(state) in by_id:
                self._keys.append((True, by_id[id(state)]))
                continue
            name = names.setdefault(id(state), f"state{len(names)}")
            self._keys.append((False, name))
            self.initial[name] = state.value

    @property
    def constants(self) -> list[Any]:
        """The arrays that are part of the function: masks, fixed weights and values, tables."""
        return list(self._jaxpr.consts)

    def __call__(self, params: Params, carry: Carry, *args: Any) -> tuple[Carry, Any]:
        carry, _, out = self.call(params, carry, *args)
        return carry, out

    def call(self, params: Params, carry: Carry, *args: Any) -> tuple[Carry, Params, Any]:
        """The same, and between the two the parameters that the function has written."""
        values = [
            jax.tree.unflatten(self._treedefs[n], [params[n]]) if is_param else carry[n]
            for is_param, n in self._keys
        ]
        leaves = jax.tree.leaves((args, {}, values))
        found = jax.core.eval_jaxpr(self._jaxpr.jaxpr, self._jaxpr.consts, *leaves)
        out, new = jax.tree.unflatten(self._out, found)
        pairs = list(zip(self._keys, new, strict=True))
        left = {n: _leaf(v) for (is_param, n), v in pairs if is_param and v is not None}
        # A state that is only read comes back as None.
        after = {n: carry[n] if v is None else v for (is_param, n), v in pairs if not is_param}
        return after, left, out


#: Head of the carry's names for keys that :func:`with_key` replaces.
RANDOM = "random."


def with_key(carry: Any, key: jax.Array) -> Any:
    """``carry`` (nested or not) with its random keys replaced by ``key``, uint32 key data.

    The number of a shard behind it goes where there is room for it.
    """

    def choose(path: Any, value: Any) -> Any:
        random = any(str(getattr(p, "key", "")).startswith(RANDOM) for p in path)
        return (key if key.shape == value.shape else key[: value.shape[0]]) if random else value

    return jax.tree.map_with_path(choose, carry)


def at_rest(initial: Any) -> Any:
    """The carry that an evaluation starts with: its random keys are 0, on any number of devices."""
    start = jax.tree.map(jnp.asarray, initial)
    return with_key(start, sharding.numbered(jnp.zeros(2, jnp.uint32)))


def _names(network: Network) -> dict[int, str]:
    """Names of hidden states and random keys, by identity."""
    names = {id(s): path_name(p) for p, s in network.states(brainstate.HiddenState).items()}
    keys = network.states(RandomKey).items()
    return {**names, **{id(s): RANDOM + path_name(p) for p, s in keys}}


class PureStep(abc.ABC):
    """What learners know of a network: one step, as a pure function.

    Attributes:
        n_in, batch_size: a step's input is ``(batch_size, n_in)``.
        initial: carry of a batch at rest.
    """

    n_in: int
    batch_size: int
    initial: Carry

    @abc.abstractmethod
    def params(self) -> Params:
        """The parameters as they are now."""

    @abc.abstractmethod
    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, StepOutput]:
        """The carry after a step with input ``x (B, n_in)``, and what the step shows."""

    @abc.abstractmethod
    def of_size(self, batch_size: int) -> PureStep:
        """The same step of batches of another size."""


class PureNetwork(PureStep):
    """The step of a network.

    Args:
        network: its states are overwritten.
        batch_size: B.
        training: whether dropout acts.
    """

    def __init__(self, network: Network, batch_size: int, training: bool = False) -> None:
        self.network, self.training = network, training
        self.n_in, self.batch_size = network.n_in, batch_size
        network.init_states(batch_size)
        example = jnp.zeros((batch_size, network.n_in), jnp.float32)
        with brainstate.environ.context(fit=training):
            self._pure = Pure(network.update, (example,), param_states(network), _names(network))
        self.initial = self._pure.initial

    @property
    def constants(self) -> list[Any]:
        """See :attr:`Pure.constants`."""
        return self._pure.constants

    def params(self) -> Params:
        return get_params(self.network)

    def of_size(self, batch_size: int) -> PureNetwork:
        return PureNetwork(self.network, batch_size, self.training)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, StepOutput]:
        carry, out = self._pure(params, carry, x)
        return carry, StepOutput(*out)


class PureSequence:
    """:meth:`Network.sequence` as a pure function.

    Args:
        network: its states are overwritten.
        mask: a batch's mask ``(B,)``.
        training: whether dropout acts, and statistics are those of the batch.

    Attributes:
        initial: carry of a batch at rest.
        batch_size: B.
    """

    def __init__(self, network: Network, mask: jax.Array, training: bool = False) -> None:
        self.network = network
        self.batch_size = mask.shape[0]
        self._training = training
        self._params = param_states(network)
        self._running = [n for n, s in self._params.items() if isinstance(s, RunningStatistic)]
        self._pures: dict[tuple[int, bool], Pure] = {}
        self.initial = self._pure(1).initial

    def _pure(self, length: int) -> Pure:
        key = length, sharding.traced()  # statistics of a batch are summed over its shards
        if key not in self._pures:
            self.network.init_states(self.batch_size)
            shape = length, self.batch_size, self.network.n_in
            example = jnp.zeros(shape, jnp.float32), jnp.zeros(self.batch_size, jnp.float32)
            with brainstate.environ.context(fit=self._training):
                made = Pure(self.network.sequence, example, self._params, _names(self.network))
            self._pures[key] = made
        return self._pures[key]

    @property
    def constants(self) -> list[Any]:
        """See :attr:`Pure.constants`; of a step."""
        return self._pure(1).constants

    def run(
        self, params: Params, carry: Carry, xs: jax.Array, mask: jax.Array
    ) -> tuple[Carry, Params, StepOutput]:
        """A sequence ``xs (T, B, n_in)`` of samples of which ``mask (B,)`` tells the real ones.

        Returns:
            The carry at its end; the parameters that it has renewed (running statistics); outputs
            with a leading axis T.
        """
        carry, left, out = self._pure(xs.shape[0]).call(params, carry, xs, mask)
        return carry, {n: left[n] for n in self._running if n in left}, StepOutput(*out)
