"""The elementwise part of a recurrence, as programs for blocks of samples and neurons.

A kernel holds some samples of a layer and as many neurons as its hardware likes, so it cannot run
the equations of a step as they were traced, for ``(B, n)``. Elementwise operations do not mind:
here they are evaluated on whatever block they are given, with rows ``(1, n)`` where all samples
share a value. What is no elementwise operation is refused by name, and the recurrence stays a scan
in plain JAX. The adjoint is that of reverse mode through the same equations, which is elementwise
again: derivatives of spikes are in it, so a kernel needs no rule of a surrogate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.graph.evaluate import Frame
from snnlab.learners.graph.jaxprs import (
    BLOCK,
    CALLS,
    CUSTOM,
    Env,
    bind,
    inline,
    read,
    variables,
)
from snnlab.learners.graph.stages import Recurrence
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import MatMul

#: A spike of braintools with its surrogate derivative beside it: 1 above 0.
SPIKE = "heaviside_surrogate_gradient"
#: Operations that act on each number by itself and that every compiler of kernels has.
ELEMENTWISE = frozenset(
    (
        *("abs", "add", "add_any", "and", "clamp", "convert_element_type", "copy", "div", "eq"),
        *("exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log"),
        *("log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow"),
        *("rsqrt", "select_n", "sign", "sqrt", "square", "sub", "tanh"),
    )
)
#: Operations that move no number to another sample or neuron (this is checked).
SHAPES = frozenset(["broadcast_in_dim", "expand_dims", "reshape", "squeeze"])

Arrays = list[jax.Array]


class NotElementwise(Exception):
    """An operation for which a recurrence stays a scan."""


def kept_axes(eqn: Any) -> bool:
    """Whether a change of shape leaves samples and neurons where they are, counted from behind."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if eqn.primitive.name == "broadcast_in_dim":
        places = eqn.params["broadcast_dimensions"]
        return all(
            size == 1 or place - len(after) == axis - len(before)
            for axis, (size, place) in enumerate(zip(before, places, strict=True))
        )
    some, others = (np.trim_zeros(np.array(shape) - 1, "f") for shape in (before, after))
    return np.array_equal(some, others)


def on_blocks(eqns: Sequence[Any], env: Env, *, derived: bool) -> None:
    """Add the results of equations to ``env``, whose arrays are blocks.

    Args:
        eqns, env: equations, and values of variables: ``(b, n)``, ``(1, n)`` or single numbers.
        derived: whether reverse mode is to pass, so that what has a derivative of its own stays
            as it is; its arrays must then have the shapes that were traced.

    Raises:
        NotElementwise: an operation that is not.
    """
    for eqn in eqns:
        name, values = eqn.primitive.name, [read(env, v) for v in eqn.invars]
        own = name in (CUSTOM, SPIKE)
        body = eqn.params.get("call_jaxpr" if name == CUSTOM else CALLS.get(name, ""))
        if own and derived:
            values = [
                jnp.broadcast_to(v, a.aval.shape) if jnp.ndim(v) <= a.aval.ndim else v
                for v, a in zip(values, eqn.invars, strict=True)
            ]
            if any(v.shape != a.aval.shape for v, a in zip(values, eqn.invars, strict=True)):
                raise NotElementwise(name)
            out = bind(eqn, values)
        elif name == SPIKE:
            out = [(values[0] > 0).astype(values[0].dtype)]
        elif body is not None:
            inner = getattr(body, "jaxpr", body)
            consts = getattr(body, "consts", ())
            inside = dict(zip([*inner.constvars, *inner.invars], [*consts, *values], strict=True))
            on_blocks(inner.eqns, inside, derived=derived)
            out = [read(inside, v) for v in inner.outvars]
        elif name in SHAPES and kept_axes(eqn):
            out = values
        elif name == BLOCK:
            out = bind(eqn, values) if derived else values
        elif name in ELEMENTWISE:
            shape = jnp.broadcast_shapes(*(jnp.shape(v) for v in values))
            same = [jnp.broadcast_to(v, shape) for v in values]
            out = bind(eqn, same)
        else:
            raise NotElementwise(name)
        env.update(zip(eqn.outvars, out, strict=True))


@dataclasses.dataclass(frozen=True)
class Program:
    """An elementwise function of ``count`` arrays, ``(b, n)`` or ``(1, n)``, as equations."""

    jaxpr: Any
    consts: tuple[Any, ...]

    def __call__(self, *arrays: jax.Array) -> Arrays:
        env = dict(zip(self.jaxpr.constvars, self.consts, strict=True))
        env.update(zip(self.jaxpr.invars, arrays, strict=True))
        on_blocks(self.jaxpr.eqns, env, derived=False)
        return [read(env, v) for v in self.jaxpr.outvars]


def program(fun: Callable[..., Arrays], count: int, shape: tuple[int, int]) -> Program:
    """``fun`` of ``count`` arrays of a shape as a program for blocks.

    Raises:
        NotElementwise: it is no elementwise function.
    """
    given = [jax.ShapeDtypeStruct(shape, jnp.float32)] * count
    closed = jax.make_jaxpr(fun)(*given)
    flat = jax.make_jaxpr(lambda *a: inline(closed.jaxpr, closed.consts, *a))(*given)
    if any(np.ndim(c) or isinstance(c, jax.core.Tracer) for c in flat.consts):
        raise NotElementwise("a constant array")
    made = Program(flat.jaxpr, tuple(np.asarray(c)[()] for c in flat.consts))
    # Evaluated once on a block of another shape, so that what is refused is refused here.
    other = jax.ShapeDtypeStruct((shape[0] + 1, shape[1] + 1), jnp.float32)
    found = jax.eval_shape(made, *[other] * count)
    if any(v.dtype != jnp.float32 for v in found):
        raise NotElementwise("a result that is not float32")
    return made


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A recurrence as elementwise programs and products of its maps.

    Arrays of a step: ``h`` of the states, ``reads``, ``y`` of the maps, ``own`` drives that are no
    maps, ``fixed`` what is the same in all steps.

    Attributes:
        maps: relations, in order.
        static: variables that are the same in all steps, and read.
        shape: ``(B, n)`` of all arrays.
        inputs: ``(h, reads, own, fixed) -> x`` of the maps.
        advance: ``(h, reads, y, own, fixed) -> h``.
        back: ``(h, reads, y, own, fixed, adjoint of h) -> (h, reads, y, own)``, adjoints.
        back_inputs: ``(h, reads, own, fixed, adjoint of x) -> (h, reads, own)``, adjoints.
    """

    maps: tuple[int, ...]
    static: tuple[Any, ...]
    shape: tuple[int, int]
    inputs: Program
    advance: Program
    back: Program
    back_inputs: Program

    def fixed(self, frame: Frame) -> Arrays:
        """``(1, n)`` or ``(B, n)`` each."""
        return [_row(jnp.asarray(frame.static[v]), self.shape) for v in self.static]

    def own(self, values: Sequence[jax.Array]) -> Arrays:
        """Values of neurons for each sample, ``(B, n)``."""
        return [jnp.broadcast_to(_row(jnp.asarray(v), self.shape), self.shape) for v in values]


def blocks_of(graph: StepGraph, of: Recurrence) -> Blocks:
    """See :class:`Blocks`.

    Raises:
        NotElementwise: with what stands against it.
    """
    shapes = {graph.state_vars[i].aval.shape for i in of.states}
    shapes |= {v.aval.shape for v in of.reads}
    kinds = {v.aval.dtype for v in (*of.reads, *(graph.state_vars[i] for i in of.states))}
    maps = tuple(of.inner)
    for r in maps:
        one = graph.relations[r]
        shapes.add(one.shape)
        shapes |= {(one.shape[0], one.blocks[k].size) for k in of.inner[r]}
        if not isinstance(one, MatMul) or len(of.inner[r]) != 1 or graph.dtype != jnp.float32:
            raise NotElementwise("a map that is no dense float32 one of its own spikes")
    if len(shapes) != 1 or kinds != {jnp.dtype(jnp.float32)} or graph.state_dtype is not None:
        raise NotElementwise("arrays of several shapes or types")
    (shape,) = shapes
    if len(shape) != 2:
        raise NotElementwise(f"states of shape {shape}")
    eqns = [eqn for eqn in of.eqns if graph.relation_of(eqn) is None]
    made = {v for eqn in eqns for v in eqn.outvars}
    given = [graph.state_vars[i] for i in of.states] + list(of.reads)
    drives, owns = ([graph.relations[r].y for r in some] for some in (maps, of.values))
    news = [graph.new_vars[i] for i in of.states]
    xs = [graph.relations[r].blocks[of.inner[r][0]].var for r in maps]
    taken = [v for eqn in eqns for v in variables(eqn.invars)] + variables(news)
    static = list(dict.fromkeys(v for v in taken if v not in {*made, *given, *drives, *owns}))
    for v in [*static, *owns]:
        jax.eval_shape(lambda a: _row(a, shape), v.aval)

    def env_of(names: Sequence[Any], arrays: Sequence[jax.Array], wanted: Sequence[Any]) -> Arrays:
        env: Env = dict(zip(names, arrays, strict=True))
        needed, chosen = set(variables(wanted)), []
        for eqn in reversed(eqns):
            if needed & set(eqn.outvars):
                chosen.append(eqn)
                needed |= set(variables(eqn.invars))
        if needed & set(drives) - set(names):
            raise NotElementwise("a map of what another map makes in the same step")
        on_blocks(chosen[::-1], env, derived=True)
        return [jnp.broadcast_to(jnp.asarray(read(env, v), jnp.float32), shape) for v in wanted]

    with_y, without = [*given, *drives, *owns, *static], [*given, *owns, *static]

    def advance(*arrays: jax.Array) -> Arrays:
        return env_of(with_y, arrays, news)

    def inputs(*arrays: jax.Array) -> Arrays:
        return env_of(without, arrays, xs)

    def back_of(fun: Callable[..., Arrays], names: list[Any]) -> Program:
        free, count = len(names) - len(static), len(names)

        def back(*arrays: jax.Array) -> Arrays:
            rest, bars = arrays[free:count], list(arrays[count:])
            _, pull = jax.vjp(lambda *some: fun(*some, *rest), *arrays[:free])
            return list(pull(bars))

        ends = len(news) if fun is advance else len(xs)
        return program(back, count + ends, shape)

    return Blocks(
        maps, tuple(static), shape,
        program(inputs, len(without), shape), program(advance, len(with_y), shape),
        back_of(advance, with_y), back_of(inputs, without),
    )  # fmt: skip


def _row(value: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """``(1, n)`` or ``(B, n)`` of a value that all samples, or all neurons, may share."""
    wide = (1,) * (2 - value.ndim) + value.shape
    if len(wide) != 2 or wide[0] not in (1, shape[0]) or wide[1] not in (1, shape[1]):
        raise NotElementwise(f"a value of shape {value.shape}")
    if value.dtype != jnp.float32:
        raise NotElementwise(f"a value of type {value.dtype}")
    return jnp.broadcast_to(value.reshape(wide), (wide[0], shape[1]))
