"""Proof that a step mixes no neurons once the maps' outputs are given.

An eligibility trace needs ``dh_t/dh_{t-1}`` and ``dh_t/dy_t`` to be diagonal: element ``(s, n)``
of a new state depends on elements ``(s, n)`` of old states and of the maps' outputs alone. It is
shown twice, independently of each other:

- :func:`check_operations` follows the axes of samples and of neurons through the operations that
  a derivative passes. It knows the linear operations that leave every element in its place
  (:data:`ELEMENTWISE`) and those that change shapes around these two axes (:data:`MOVES`); calls
  and loops are opened; any other operation is opened by its own derivative, whose program must
  consist of these in turn. Whatever is left is refused, known or not.
- :func:`check_numbers` gives a random half of all elements a derivative, at random states: the
  other half must have none.

Paths that no derivative passes (a comparison, a winner's index) are free: no rule follows them.
So is what happens between new states and the loss, or the maps above: the learning signal of a
step is made by reverse mode, whatever mixes there. But it begins at the states *after* the step:
:mod:`snnlab.learners.graph.past_states` refuses what reads those before it beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.errors import UsageError
from snnlab.learners.base import Objective
from snnlab.learners.functional import PureNetwork
from snnlab.learners.graph.derivatives import local_step
from snnlab.learners.graph.evaluate import Arrays, make_frame
from snnlab.learners.graph.jaxprs import BLOCK, CALLS, CUSTOM, bind, is_literal
from snnlab.learners.graph.moves import MOVES, Place, everywhere, join
from snnlab.learners.graph.past_states import check_loss, check_maps
from snnlab.learners.graph.requirements import refuse, require_trained
from snnlab.learners.graph.step import StepGraph
from snnlab.models.base import Network

#: Linear operations that act on each element by itself.
ELEMENTWISE = {
    "add", "add_any", "sub", "neg", "mul", "div", "select_n", "convert_element_type", "copy",
    "reduce_precision", "real", "imag", "pvary",
}  # fmt: skip
#: Operations of several arrays that return each as it is.
UNCHANGED = {"optimization_barrier", "device_put"}
#: Derivatives at so many random states, of each of these sizes, in the units of the states.
SCALES = (0.1, 1.0, 10.0, 0.1, 1.0, 10.0)

#: Operations whose derivative is being followed, the outermost first.
Names = tuple[str, ...]
DEEPEST = 8


def check(graph: StepGraph) -> None:
    """Refuse dynamics that mix neurons or samples.

    Raises:
        UsageError: the state, a parameter that acts through it, the operation, and what to use.
    """
    require_trained(graph)
    for r, one in enumerate(graph.relations):
        for b in one.reach:
            found = graph.state_vars[b].aval.shape
            if found != one.shape:
                what = "output of the map" if one.is_map else "parameter"
                refuse(graph, b, f"its shape {found} is not that {one.shape} of the {what}", [r])
    check_operations(graph)
    check_numbers(graph)


def check_network(
    network: Network, batch_size: int, objective: Objective, backend: str, windowed: bool
) -> None:
    """All checks for a network that a library trains: its rules assume it without looking.

    Args:
        network: built with the plain operator.
        batch_size: B.
        objective: loss of a step.
        backend: the library's name.
        windowed: whether it backpropagates inside windows.

    Raises:
        UsageError: neurons are mixed, the loss reads old states, or the step cannot be cut at its
            maps to see it.
    """
    net = PureNetwork(network, batch_size, training=True)
    try:
        graph = StepGraph(net, "window")
    except UsageError as error:
        raise UsageError(
            f"--backend {backend} needs neurons that act on others through maps only, which "
            f"cannot be shown here: {error}"
        ) from error
    check(graph)
    if not windowed:
        check_maps(graph)
        check_loss(graph, objective, objective.example(batch_size))


# ---------------------------------------------------------------------- by operations


class _Whole:
    """A parameter's drive with its axis of samples, which the traced step leaves out."""

    def __init__(self, aval: Any) -> None:
        self.aval = aval


class _Seen(NamedTuple):
    """An equation, with such drives."""

    primitive: Any
    params: Any
    invars: list[Any]
    outvars: list[Any]


def check_operations(graph: StepGraph) -> None:
    """Refuse every operation that is not known to keep each neuron in its place."""
    places: dict[Any, Place] = {graph.state_vars[b]: (0, 1) for b in graph.trace_states}
    whole: dict[Any, _Whole] = {}
    for r in graph.elementwise:
        one = graph.relations[r]
        if one.reach:
            whole[one.y] = _Whole(jax.ShapeDtypeStruct(one.shape, one.y.aval.dtype))
            places[whole[one.y]] = (0, 1)
    for eqn in graph.state_eqns:
        at = graph.relation_of(eqn)
        if at is None:
            invars = [v if is_literal(v) else whole.get(v, v) for v in eqn.invars]
            _follow([_Seen(eqn.primitive, eqn.params, invars, eqn.outvars)], places)
        elif graph.relations[at].reach:
            places[graph.relations[at].y] = (0, 1)
    for b in graph.trace_states:
        v = graph.new_vars[b]
        place = None if is_literal(v) else places.get(v)
        if isinstance(place, str):
            reason = f"('{place}' is not known to leave each in its place)"
            refuse(graph, b, f"its step mixes neurons {reason}")
        if place not in (None, (0, 1)):
            refuse(graph, b, "its step mixes neurons (their axis is no longer the second one)")


def _follow(eqns: Sequence[Any], places: dict[Any, Place], inside: Names = ()) -> None:
    """Add the places of the results of some equations, ``inside`` the derivatives of others."""
    for eqn in eqns:
        given = [None if is_literal(v) else places.get(v) for v in eqn.invars]
        if all(place is None for place in given):
            continue
        mixed = next((place for place in given if isinstance(place, str)), None)
        found = [mixed] * len(eqn.outvars) if mixed else _places_after(eqn, given, inside)
        for v, place in zip(eqn.outvars, found, strict=True):
            passes = jnp.issubdtype(v.aval.dtype, jnp.inexact)
            places[v] = place if passes else None


def _through(jaxpr: Any, given: Sequence[Place], inside: Names) -> list[Place]:
    """Places of the results of a jaxpr, open or closed."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    places: dict[Any, Place] = dict(zip(jaxpr.invars, given, strict=True))
    _follow(jaxpr.eqns, places, inside)
    return [None if is_literal(v) else places.get(v) for v in jaxpr.outvars]


def _places_after(eqn: Any, given: list[Place], inside: Names) -> list[Place]:
    """Places of an equation's results; no given one is mixed."""
    name = eqn.primitive.name
    if name == BLOCK:
        return [None] * len(eqn.outvars)
    if name in UNCHANGED:
        return given
    if name in ELEMENTWISE:
        place: Place = None
        for v, one in zip(eqn.invars, given, strict=True):
            shape, after = v.aval.shape, eqn.outvars[0].aval.shape
            whole = len(shape) == len(after) and all(shape[k] == after[k] for k in one or ())
            if one is not None and not whole:  # one neuron's value is used for all
                return [name]
            place = join(place, one, name)
        return [place]
    if name in MOVES:
        return MOVES[name](eqn, given)
    if name in CALLS and CALLS[name] in eqn.params:
        return _through(eqn.params[CALLS[name]], given, inside)
    if name in LOOPS:
        return LOOPS[name](eqn, given, inside)
    return _by_derivative(eqn, given, inside)


def _by_derivative(eqn: Any, given: list[Place], inside: Names) -> list[Place]:
    """Open an operation by its forward derivative, a linear program of other operations.

    Linear operations are their own derivative: those that are not known stay as they are.
    """
    name = eqn.primitive.name
    custom = name == CUSTOM
    if (name in inside and not custom) or len(inside) == DEEPEST:
        return [name] * len(eqn.outvars)
    moving = [i for i, place in enumerate(given) if place is not None]
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]

    def derivative(values: list[Any], tangents: list[Any]) -> list[Any]:
        def of(some: list[Any]) -> list[Any]:
            full = list(values)
            for i, value in zip(moving, some, strict=True):
                full[i] = value
            out = bind(eqn, full)
            return [v for v in out if jnp.issubdtype(v.dtype, jnp.inexact)]

        return jax.jvp(of, ([values[i] for i in moving],), (tangents,))[1]

    try:
        traced = jax.make_jaxpr(derivative)(avals, [avals[i] for i in moving])
    except (TypeError, ValueError, NotImplementedError):
        if custom:  # an error in a rule of the user's own
            raise
        return [name] * len(eqn.outvars)  # it has no forward derivative
    places = [None] * len(avals) + [given[i] for i in moving]
    found = iter(_through(traced, places, (*inside, name)))

    def called(place: Place) -> Place:
        """What mixes is named by the operation in the network."""
        return (f"{place} in {name}" if custom else name) if isinstance(place, str) else place

    floating = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]
    return [called(next(found)) if is_float else None for is_float in floating]


# -- shapes


# -- loops


def _cond(eqn: Any, given: list[Place], inside: Names) -> list[Place]:
    found = [_through(branch, given[1:], inside) for branch in eqn.params["branches"]]
    joined = found[0]
    for other in found[1:]:
        joined = [join(a, b, "cond") for a, b in zip(joined, other, strict=True)]
    return joined


def _carried(body: Callable[[list[Place]], list[Place]], carry: list[Place], name: str) -> Any:
    """Places of a loop's carry, the same before and after a turn of ``body``."""
    while True:
        after = body(carry)[: len(carry)]
        joined = [join(a, b, name) for a, b in zip(carry, after, strict=True)]
        if joined == carry:
            return carry
        carry = joined


def _while(eqn: Any, given: list[Place], inside: Names) -> list[Place]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    fixed, carry = given[n_cond : n_cond + n_body], given[n_cond + n_body :]

    def body(carry: list[Place]) -> list[Place]:
        return _through(eqn.params["body_jaxpr"], [*fixed, *carry], inside)

    return _carried(body, carry, "while")


def _fewer_axes(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    return sum(a.aval.ndim > b.aval.ndim for a, b in zip(outer, inner, strict=True))


def _scan(eqn: Any, given: list[Place], inside: Names) -> list[Place]:
    body_of = eqn.params["jaxpr"].jaxpr
    # What is scanned over has one axis less inside, whatever the parameters are called.
    n_xs = _fewer_axes(eqn.invars, body_of.invars)
    n_carry = len(eqn.outvars) - _fewer_axes(eqn.outvars, body_of.outvars)
    n_fixed = len(given) - n_xs - n_carry
    fixed, carry = given[:n_fixed], given[n_fixed : n_fixed + n_carry]
    xs = given[n_fixed + n_carry :]
    if any(isinstance(x, tuple) and 0 in x for x in xs):
        return everywhere(eqn, "scan")
    inner = [(x[0] - 1, x[1] - 1) if isinstance(x, tuple) else x for x in xs]

    def body(carry: list[Place]) -> list[Place]:
        return _through(eqn.params["jaxpr"], [*fixed, *carry, *inner], inside)

    carry = _carried(body, carry, "scan")
    ys = body(carry)[n_carry:]
    return [*carry, *((y[0] + 1, y[1] + 1) if isinstance(y, tuple) else y for y in ys)]


#: Loops and branches, whose bodies are opened.
LOOPS: dict[str, Callable[[Any, list[Place], Names], list[Place]]] = {
    "cond": _cond, "while": _while, "scan": _scan,
}  # fmt: skip


# ---------------------------------------------------------------------- by numbers


def check_numbers(graph: StepGraph) -> None:
    """Refuse a step in which the derivative of some elements moves others."""
    params, start = graph.net.params(), jax.tree.leaves(graph.net.initial)
    states, rng = graph.trace_states, np.random.default_rng(0)
    start_frame = make_frame(graph, params, 1)
    shapes = {graph.state_vars[b].aval.shape for b in states}

    @jax.jit
    def leaks(params: Any, h: Arrays, ys: Arrays, extra: Arrays, masks: Any) -> Arrays:
        frame = make_frame(graph, params, 1)

        def half(value: jax.Array) -> jax.Array:
            chosen = masks.get(str(value.shape), False)
            return jnp.broadcast_to(chosen, value.shape).astype(value.dtype)

        given = [h[b] for b in states], ys
        tangents = (
            [half(v) for v in given[0]],
            [
                half(y) if one.reach else jnp.zeros_like(y)
                for y, one in zip(ys, graph.relations, strict=True)
            ],
        )
        _, moved = jax.jvp(local_step(frame, h, extra), given, tangents)
        outside = [~masks[str(d.shape)] & (d != 0) & jnp.isfinite(d) for d in moved]
        return [jnp.any(found) for found in outside]

    def near(scale: float, value: Any) -> np.ndarray:
        noise = rng.standard_normal(value.shape, np.float32)
        return np.asarray(value + scale * noise, value.dtype)

    for scale in SCALES:
        h = [near(scale, v) if i in graph.float_states else v for i, v in enumerate(start)]
        # Drives of maps are anything; decays and thresholds stay near what they are.
        ys = [
            near(scale, np.zeros(one.shape, np.float32)) if one.is_map
            else np.asarray(value) * (1 + 0.05 * np.asarray(near(1.0, np.zeros(one.shape))))
            for one, value in zip(graph.relations, start_frame.whole, strict=True)
        ]  # fmt: skip
        extra = [
            np.asarray(rng.random(v.aval.shape) < 0.5, v.aval.dtype) for v in graph.step_inputs
        ]
        masks = {str(shape): rng.random(shape) < 0.5 for shape in shapes}
        for b, found in zip(states, leaks(params, h, ys, extra, masks), strict=True):
            if found:
                refuse(graph, b, "its step mixes neurons (the derivative of one moves others)")
