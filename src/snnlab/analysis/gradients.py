"""How a gradient agrees with that of BPTT, and how diagonal the hidden Jacobian is.

Cosine ``<g, b> / (|g| |b|)`` and norm ratio ``|g| / |b|`` of a rule's gradient ``g`` and BPTT's
``b``, of all parameters that are meant taken as one vector.

The hidden Jacobian of a step is ``J = dh_t / dh_{t-1}`` of a sample, the network's input given;
rows and columns are the S states of each of n neurons, as numbers in their own units (mV, mA).
``D`` is its block diagonal, the blocks ``(S, S)`` of each neuron on itself. D-RTRL goes on with
these blocks (less a neuron's synapse onto itself, which SnAp-1 has) and with nothing else. Shares
that lie in ``D``:

- of the squared Frobenius norm, ``|D|^2 / |J|^2``, sums over steps and samples divided. ``D`` is an
  orthogonal projection of ``J``, so this is the squared cosine between the two.
- of the row sums, ``sum_j |D_ij| / sum_j |J_ij|``, the mean over rows, steps and samples (rows of
  zeros left out). Above 1/2 a row is diagonally dominant (Horn and Johnson, Matrix Analysis, 6.1;
  by blocks here).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from snnlab.data.stream import Stream
from snnlab.learners.functional import Carry, Params, PureStep

#: Scopes of an agreement.
HIDDEN, LAYER, PARAMETER = "hidden", "layer", "parameter"
#: Name of the shares of all layers' states.
WHOLE = "network"
#: Numbers that the columns computed at once may have.
BLOCK = 2**23


class Agreement(NamedTuple):
    """Of two gradients of the same parameters.

    Attributes:
        scope: ``hidden`` (all parameters of layers), ``layer`` or ``parameter``.
        name: of the layer or the parameter.
        cosine: ``None`` where a gradient is zero or not finite.
        norm_ratio: ``None`` where BPTT's gradient is zero, or one is not finite.
        norm, norm_bptt: Euclidean.
    """

    scope: str
    name: str
    cosine: float | None
    norm_ratio: float | None
    norm: float
    norm_bptt: float


def layer_of(name: str) -> str:
    """The layer of a parameter or a state: ``layer 1`` of ``layers.0.map.weight``, else its head.

    >>> layer_of("layers.1.neuron.V"), layer_of("readout.map.weight")
    ('layer 2', 'readout')
    """
    found = re.match(r"layers\.(\d+)\.", name)
    return f"layer {int(found[1]) + 1}" if found else name.partition(".")[0]


def agreements(gradient: Mapping[str, Any], exact: Mapping[str, Any]) -> list[Agreement]:
    """Of all hidden parameters, of each layer, of each parameter; parameters by name.

    Args:
        gradient: of a rule; what it has beside ``exact`` (learned feedback) is left out.
        exact: of BPTT.
    """
    layers: dict[str, list[str]] = {}
    for name in exact:
        layers.setdefault(layer_of(name), []).append(name)
    hidden = [name for layer, names in layers.items() if layer != "readout" for name in names]
    scopes = [
        *([(HIDDEN, HIDDEN, hidden)] if hidden else []),
        *((LAYER, layer, names) for layer, names in layers.items()),
        *((PARAMETER, name, [name]) for name in exact),
    ]

    def joined(values: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(values[n], np.float64).ravel() for n in names])

    return [
        _agreement(scope, name, joined(gradient, names), joined(exact, names))
        for scope, name, names in scopes
    ]


def _agreement(scope: str, name: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Agreement:
    norm, of_bptt = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    sound = math.isfinite(norm) and math.isfinite(of_bptt) and of_bptt > 0
    cosine = float(a @ b / (norm * of_bptt)) if sound and norm > 0 else None
    return Agreement(scope, name, cosine, norm / of_bptt if sound else None, norm, of_bptt)


class Shares(NamedTuple):
    """Of the hidden Jacobian, by layer and of the whole network.

    Attributes:
        norm: share of the squared Frobenius norm on own blocks.
        rows: share of the row sums on own blocks, the mean of the rows.
    """

    norm: jax.Array
    rows: jax.Array


def hidden_states(carry: Carry) -> dict[str, list[str]]:
    """Layer -> names of its states, numbers alone."""
    found: dict[str, list[str]] = {}
    for name, value in carry.items():
        number = jax.tree.leaves(value)[0]
        if name.startswith("layers.") and jnp.issubdtype(jnp.result_type(number), jnp.inexact):
            found.setdefault(layer_of(name), []).append(name)
    return found


def measured_steps(n_steps: int, n: int) -> NDArray[np.bool_]:
    """``(n_steps,)`` which of them are measured: ``n`` evenly spaced, the last one among them.

    >>> measured_steps(6, 2).nonzero()[0].tolist()
    [2, 5]
    """
    n = min(n, n_steps)
    wanted = np.zeros(n_steps, bool)
    wanted[[round((k + 1) * n_steps / n) - 1 for k in range(n)]] = True
    return wanted


def jacobian_shares(
    net: PureStep, params: Params, stream: Stream, wanted: NDArray[np.bool_]
) -> dict[str, Shares]:
    """How diagonal the hidden Jacobian is; traceable.

    A state with another size than its layer's other states (of synapses, of delays) is of units of
    its own.

    Args:
        net: the step.
        params, stream: of the network and its input.
        wanted: ``(T,)`` steps that are measured.

    Returns:
        Layer, or ``network`` for the states of all layers, -> shares.
    """
    layers = hidden_states(net.initial)
    groups = {**layers, WHOLE: [name for names in layers.values() for name in names]}
    if not layers:
        return {}

    trees = {name: jax.tree.structure(net.initial[name]) for name in groups[WHOLE]}

    def numbers(carry: Carry) -> dict[str, jax.Array]:  # without their units
        return {name: jax.tree.leaves(carry[name])[0] for name in trees}

    def of_step(carry: Carry, x: jax.Array) -> dict[str, jax.Array]:
        def new(hidden: dict[str, jax.Array]) -> dict[str, jax.Array]:
            states = {name: jax.tree.unflatten(trees[name], [v]) for name, v in hidden.items()}
            return numbers(net.step(params, {**carry, **states}, x)[0])

        hidden = numbers(carry)
        found = jax.linearize(new, hidden)[1]
        return {name: _sums(found, hidden, names) for name, names in groups.items()}

    def body(state: Any, given: Any) -> Any:
        carry, sums = state
        t, now = given
        x = stream.at(t)
        sums = jax.lax.cond(
            now, lambda: jax.tree.map(jnp.add, sums, of_step(carry, x)), lambda: sums
        )
        return (net.step(params, carry, x)[0], sums), None

    start = jax.tree.map(jnp.asarray, net.initial)
    none = {name: jnp.zeros(4, jnp.float32) for name in groups}
    steps = jnp.arange(len(wanted)), jnp.asarray(wanted)
    (_, sums), _ = jax.lax.scan(body, (start, none), steps)
    return {name: Shares(s[0] / s[1], s[2] / s[3]) for name, s in sums.items()}


def _sums(linear: Any, hidden: Carry, names: Sequence[str]) -> jax.Array:
    """Of the Jacobian of the states ``names``: its square on own blocks, all of it, the sum of the
    rows' shares, the number of rows. ``(4,)``."""

    def flat(value: jax.Array) -> jax.Array:
        return value.reshape(value.shape[0], -1)

    sizes = {name: flat(hidden[name]).shape[1] for name in names}
    batch = hidden[names[0]].shape[0]
    square = jnp.zeros(2, jnp.float32)
    own = {name: jnp.zeros((batch, n), jnp.float32) for name, n in sizes.items()}
    rows = dict(own)
    for name, n in sizes.items():
        width = max(1, min(n, BLOCK // (batch * sum(sizes.values()))))
        columns = jnp.arange(-(-n // width) * width).reshape(-1, width)

        def block(sums: Any, which: jax.Array, name: str = name, n: int = n) -> Any:
            unit = jax.nn.one_hot(which, n)  # (width, n), zeros behind the last column

            def column(one: jax.Array) -> Carry:
                at = jnp.broadcast_to(one, (batch, n)).reshape(hidden[name].shape)
                tangent = {**jax.tree.map(jnp.zeros_like, hidden), name: at}
                after = linear(tangent)
                return {other: flat(after[other]) for other in names}

            found = jax.vmap(column)(unit)  # state -> (width, batch, n)
            square, own, rows = sums
            for other in names:
                size = jnp.abs(found[other])
                rows = {**rows, other: rows[other] + size.sum(0)}
                here = size * unit[:, None] if _same_unit(name, other, sizes) else 0.0 * size
                own = {**own, other: own[other] + here.sum(0)}
                square = square + jnp.stack([(here**2).sum(), (size**2).sum()])
            return (square, own, rows), None

        (square, own, rows), _ = jax.lax.scan(block, (square, own, rows), columns)
    share = sum(jnp.where(rows[k] > 0, own[k] / jnp.maximum(rows[k], 1e-30), 0).sum() for k in rows)
    count = sum((rows[k] > 0).sum() for k in rows)
    return jnp.stack([*square, share, jnp.asarray(count, jnp.float32)])


def _same_unit(a: str, b: str, sizes: Mapping[str, int]) -> bool:
    """Whether states belong to the same neurons, number by number."""
    return a == b or (layer_of(a) == layer_of(b) and sizes[a] == sizes[b])
