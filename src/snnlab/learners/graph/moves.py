"""Operations that move the axes of samples and neurons, and where these are afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Positions of the axes of samples and of neurons in a variable; the operation that has mixed
#: elements; or ``None`` where no derivative passes.
Place = tuple[int, int] | str | None


def join(a: Place, b: Place, name: str) -> Place:
    """The place of what is one or the other, or the sum of both."""
    if a is None or b is None or a == b:
        return b if a is None else a
    return a if isinstance(a, str) else b if isinstance(b, str) else name


def everywhere(eqn: Any, place: Place) -> list[Place]:
    """The same place for all results."""
    return [place] * len(eqn.outvars)


def _broadcast(eqn: Any, given: list[Place]) -> list[Place]:
    place, dims = given[0], eqn.params["broadcast_dimensions"]
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if isinstance(place, tuple) and all(after[dims[k]] == before[k] for k in place):
        return [(dims[place[0]], dims[place[1]])]
    return [eqn.primitive.name]


def _reshape(eqn: Any, given: list[Place]) -> list[Place]:
    """An axis stays if it has its length and as many elements lie before it."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    assert isinstance(given[0], tuple)
    found: list[int] = []
    for k in given[0]:
        free = [
            j for j, n in enumerate(after)
            if n == before[k] and np.prod(after[:j]) == np.prod(before[:k]) and j not in found
        ]  # fmt: skip
        if not free or eqn.params.get("dimensions") is not None:
            return [eqn.primitive.name]
        found.append(free[0])
    return [(found[0], found[1])]


def _transpose(eqn: Any, given: list[Place]) -> list[Place]:
    assert isinstance(given[0], tuple)
    at = list(eqn.params["permutation"]).index
    return [(at(given[0][0]), at(given[0][1]))]


def _without(axes_of: str) -> Callable[[Any, list[Place]], list[Place]]:
    """Operations that take away other axes: squeeze, sums."""

    def rule(eqn: Any, given: list[Place]) -> list[Place]:
        gone = eqn.params[axes_of]
        assert isinstance(given[0], tuple)
        if set(gone) & set(given[0]):
            return [eqn.primitive.name]
        a, b = (k - sum(g < k for g in gone) for k in given[0])
        return [(a, b)]

    return rule


def _along(axis_of: str) -> Callable[[Any, list[Place]], list[Place]]:
    """Operations along another axis: joining, splitting."""

    def rule(eqn: Any, given: list[Place]) -> list[Place]:
        place: Place = None
        for one in given:
            place = join(place, one, eqn.primitive.name)
        inside = isinstance(place, tuple) and eqn.params[axis_of] not in place
        return everywhere(eqn, place if inside else eqn.primitive.name)

    return rule


def _stack(eqn: Any, given: list[Place]) -> list[Place]:
    """A new axis, along which arrays are joined."""
    place: Place = None
    for one in given:
        place = join(place, one, eqn.primitive.name)
    if not isinstance(place, tuple):
        return [place]
    a, b = (k + (k >= eqn.params["axis"]) for k in place)
    return [(a, b)]


def _unstack(eqn: Any, given: list[Place]) -> list[Place]:
    axis, place = eqn.params["axis"], given[0]
    if not isinstance(place, tuple) or axis in place:
        return everywhere(eqn, eqn.primitive.name)
    return everywhere(eqn, (place[0] - (place[0] > axis), place[1] - (place[1] > axis)))


def _slice(eqn: Any, given: list[Place]) -> list[Place]:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    assert isinstance(given[0], tuple)
    return [given[0] if all(before[k] == after[k] for k in given[0]) else eqn.primitive.name]


#: Operations that keep both axes whole, wherever these are then.
MOVES: dict[str, Callable[[Any, list[Place]], list[Place]]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _without("dimensions"),
    "reduce_sum": _without("axes"),
    "concatenate": _along("dimension"),
    "split": _along("axis"),
    "stack": _stack,  # of newer releases (0.10.2, 0.11), as the next one
    "unstack": _unstack,
    "slice": _slice,
}
