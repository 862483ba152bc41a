"""Training on a stream that never ends: states and traces go on from batch to batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnlab.learners.functional import Params
from snnlab.training.programs import Programs, TrainState


class EndlessState(NamedTuple):
    """A :class:`~snnlab.training.programs.TrainState`, and what the learner carries on.

    Attributes:
        carry: its arrays, in the order of the learner's own tree: the network's states, traces, the
            signal's. Their sizes never change.
    """

    params: Params
    opt_state: Any
    plateau: Any
    key: jax.Array
    updates: jax.Array
    carry: tuple[jax.Array, ...]


class EndlessPrograms(Programs):
    """Programs whose batches are stretches of one stream: a stretch begins where one ended."""

    def started(self, state: TrainState) -> Any:
        carry = jax.tree.leaves(self.learner.fresh(state.key))
        return EndlessState(*state, carry=tuple(jnp.array(a, copy=True) for a in carry))

    def begun(self, state: Any) -> Any:
        structure = jax.tree.structure(self.learner.fresh(state.key))
        return jax.tree.unflatten(structure, state.carry)

    def ended(self, state: Any, carry: Any) -> Any:
        return state._replace(carry=tuple(jax.tree.leaves(carry)))
