"""A network as pure functions of (parameters, carry, input)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from snnlab.models.base import Network, StepOutput

#: Parameters by name (``"layers.0.pathways.0.map.weight"``), each an array.
Params = dict[str, jax.Array]
#: Everything that evolves, by name.
Carry = dict[str, Any]


def path_name(path: tuple) -> str:
    """``("layers", 0, "map", "weight")`` -> ``"layers.0.map.weight"``."""
    return ".".join(str(part) for part in path)


def param_states(network: brainstate.nn.Module) -> dict[str, brainstate.ParamState]:
    """The trainable states of a network by name."""
    return {path_name(p): s for p, s in network.states(brainstate.ParamState).items()}


def get_params(network: brainstate.nn.Module) -> Params:
    """The current parameters; the single leaf of each state."""
    return {name: _leaf(s.value) for name, s in param_states(network).items()}


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
        self._fun = brainstate.transform.StatefulFunction(fun)
        self._fun.make_jaxpr(*args)
        states = self._fun.get_states(*args)
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

    def __call__(self, params: Params, carry: Carry, *args: Any) -> tuple[Carry, Any]:
        values = [
            jax.tree.unflatten(self._treedefs[n], [params[n]]) if is_param else carry[n]
            for is_param, n in self._keys
        ]
        new, out = self._fun.jaxpr_call(values, *args)
        carry = {n: v for (is_param, n), v in zip(self._keys, new, strict=True) if not is_param}
        return carry, out


class PureNetwork:
    """``step(params, carry, x (B, n_in)) -> (carry, StepOutput)`` of a network.

    Attributes:
        initial: carry of a batch at rest.
        batch_size: B.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        self.network = network
        self.batch_size = batch_size
        network.init_states(batch_size)
        hidden = network.states(brainstate.HiddenState).items()
        names = {id(s): path_name(p) for p, s in hidden}
        example = jnp.zeros((batch_size, network.n_in), jnp.float32)
        self._pure = Pure(network.update, (example,), param_states(network), names)
        self.initial = self._pure.initial

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, StepOutput]:
        carry, out = self._pure(params, carry, x)
        return carry, StepOutput(*out)
