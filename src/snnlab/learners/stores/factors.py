"""Two smoothed vectors in the place of a trace: of a map's inputs, and of what its drive does.

A gradient from them is a product per chunk. Smoothing the input forwards or the signal backwards is
the same product; the signal is the smaller of the two, and inputs stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import at_rest
from snnlab.learners.graph.derivatives import Blocks
from snnlab.learners.graph.evaluate import ByBlock, ByRelation, Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input
from snnlab.learners.stores.dynamics import Dynamics, over_steps


def smooth_drives(of: Dynamics, length: int, f_bar: Blocks, decay: float) -> tuple[Blocks, Blocks]:
    """``fbar_t = a D_t fbar_{t-1} + (1 - a) f_t`` by (state, relation), after and at all steps."""

    def body(f_bar: Any, _: Any, jacobian: Any, f: Any) -> Any:
        new = {}
        for key, old in f_bar.items():
            value = decay * of.times(jacobian, f_bar, key, like=old)
            new[key] = value + (1 - decay) * f[key] if key in f else value
        return new, new

    return over_steps(body, f_bar, length, (of.state_jacobian, of.drive_jacobian))


def _powers(decay: float, n: jax.Array) -> jax.Array:
    """``decay^n`` for integers n, float32."""
    return jax.lax.pow(jnp.full(n.shape, decay, jnp.float32), n)


def warm_up(decay: float, first: jax.Array, length: int) -> jax.Array:
    """``(length,)`` corrections ``1 - a^(t+1)`` of steps ``first ..`` (1 from step 1000 on)."""
    t = first + jnp.arange(length)
    value = jnp.maximum(1.0 - _powers(decay, t + 1), 1e-8)
    return jnp.where(t < 1000, value, 1.0)


def smooth_signal(g: ByRelation, decay: float) -> tuple[ByRelation, ByRelation]:
    """``G_s = sum_{t >= s} a^(t-s) g_t``, and ``a G_{t0+1}``, which meets what came before."""

    def body(carried: Any, g: Any) -> Any:
        value = {r: g[r] + carried[r] for r in g}
        return {r: decay * value[r] for r in g}, value

    nothing = {r: jnp.zeros_like(value[0]) for r, value in g.items()}
    return jax.lax.scan(body, nothing, g, reverse=True)


def smooth_inputs(x_bar: ByBlock, inputs: Inputs, decay: float) -> ByBlock:
    """``xbar_t = a xbar_{t-1} + x_t`` at the end of a chunk, ``(B, i)``."""
    new: ByBlock = {}
    for key, old in x_bar.items():
        length = inputs[key].array.shape[0]
        share = _powers(decay, jnp.arange(length - 1, -1, -1))
        new[key] = decay**length * old + inputs[key].weighted_sum(share)
    return new


def resting_inputs(graph: StepGraph, mine: Sequence[int]) -> ByBlock:
    """Shapes of ``xbar`` of the maps ``mine``."""
    return {
        (r, k): at_rest((graph.relations[r].shape[0], graph.relations[r].blocks[k].size))
        for r, k in graph.trained_blocks(mine)
    }


def outer_before(graph: StepGraph, x_bar: ByBlock, g: ByRelation) -> ByRelation:
    """The gradient ``xbar_{t0} g`` through what came before a chunk."""
    found = {}
    for r in dict.fromkeys(r for r, _ in x_bar if r in g):
        one = graph.relations[r]
        inputs = [Input(x_bar[r, k]) for k in range(len(one.blocks))]
        found[r] = one.gradient(inputs, g[r], jnp.float32)
    return found
