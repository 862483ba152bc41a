"""Several seeds of one experiment as one program, over a leading axis of seeds.

The programs of two seeds are the same computation with other constants: drawn time constants,
connection masks. :class:`SeedPrograms` traces every seed's program, checks that they differ in
nothing but such constants, and vmaps the computation over them. Every seed then sees the
numbers that it would see alone, up to the rounding of a batched matrix product.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from snnlab.learners.functional import Params
from snnlab.scores import Score
from snnlab.training.averages import Averages
from snnlab.training.optim import Plateau
from snnlab.training.placement import Spread
from snnlab.training.programs import Programs, temporary_bytes


class NotAlike(Exception):
    """The seeds' programs differ in more than constants."""


def stack(trees: Sequence[Any]) -> Any:
    """Pytrees of the same structure as one, with a leading axis of seeds."""

    def join(*leaves: Any) -> Any:
        on_host = all(isinstance(leaf, np.ndarray) for leaf in leaves)
        return np.stack(leaves) if on_host else jnp.stack(leaves)

    return jax.tree.map(join, *trees)


def member(tree: Any, seed: int) -> Any:
    """One seed of a stacked pytree, by its number there."""
    return jax.tree.map(lambda a: a[seed], tree)


def observe(plateau: Plateau, rule: Any, scores: Sequence[float], n_seeds: int | None) -> Any:
    """The plateau rule of each seed after an epoch; ``n_seeds`` is ``None`` without a seed axis."""
    if n_seeds is None:
        return plateau.observe(rule, scores[0])
    return stack([plateau.observe(member(rule, i), s) for i, s in enumerate(scores)])


class SeedLoaders:
    """The loaders of several seeds as one whose batches have a leading axis of seeds."""

    def __init__(self, loaders: Sequence[Any]) -> None:
        if len({len(loader) for loader in loaders}) != 1:
            raise NotAlike("the seeds have different numbers of batches")
        self.loaders = list(loaders)

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.loaders):
            yield stack(batches)

    def set_epoch(self, epoch: int) -> None:
        for loader in self.loaders:
            loader.set_epoch(epoch)


class SeedPrograms:
    """:class:`~snnlab.training.programs.Programs` of several seeds, vmapped.

    Every argument and result has a leading axis of length ``n_seeds``.

    Args:
        members: the programs of each seed, of one device; their own compiled programs are not used.
        devices: over which the seeds are spread, in equal numbers.
    """

    def __init__(self, members: Sequence[Programs], devices: Sequence[jax.Device] = ()) -> None:
        self.members = list(members)
        self.n_seeds = len(self.members)
        self.spread = Spread(devices, self.n_seeds)
        self.compile_seconds = 0.0
        self._compiled: dict[Any, Any] = {}

    def averages(self) -> list[Averages]:
        """Those of a split that begins, of each seed."""
        return [total for member in self.members for total in member.averages()]

    def train(self, state: Any, stream: Any, targets: Any) -> tuple[Any, dict[str, jax.Array]]:
        """One batch of every seed; ``state`` is consumed."""
        args = (state, stream, targets)
        return self.program("train", [m.train_fn for m in self.members], args)(*args)

    def evaluate(self, params: Params, stream: Any, targets: Any) -> dict[str, jax.Array]:
        """Loss, measures and rates of one batch of every seed."""
        args = (params, stream, targets)
        return self.program("eval", [m.evaluate_fn for m in self.members], args)(*args)

    def train_bytes(self, state: Any, stream: Any, targets: Any) -> int:
        """Memory of the training program in bytes on a device, compiled for these arguments."""
        args = (state, stream, targets)
        compiled = self.program("train", [m.train_fn for m in self.members], args)
        found: Any = compiled.compiled.memory_analysis()
        return int(found.temp_size_in_bytes + found.argument_size_in_bytes)

    def temporary_bytes(self) -> int:
        """Of one seed: its share of the temporary memory of the training program."""
        made = [one.compiled for (name, _), one in self._compiled.items() if name == "train"]
        return temporary_bytes(made) * self.spread.n // self.n_seeds

    def program(self, name: str, functions: Sequence[Any], args: tuple) -> _Program:
        """The executable for the shapes of ``args``; compiled at first use.

        Raises:
            NotAlike: the functions differ in more than constants.
        """
        shapes = tuple((jnp.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(args))
        key = (name, shapes)
        if key not in self._compiled:
            began = time.perf_counter()
            self._compiled[key] = _Program(functions, args, name == "train", self.spread)
            self.compile_seconds += time.perf_counter() - began
        return self._compiled[key]


class _Program:
    """Functions that differ in constants only, vmapped over constants and arguments."""

    def __init__(self, functions: Sequence[Any], args: tuple, donate: bool, spread: Spread) -> None:
        example = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(jnp.shape(a)[1:], jnp.result_type(a)), args
        )
        traced = [jax.make_jaxpr(f, return_shape=True)(*example) for f in functions]
        jaxprs = [jaxpr for jaxpr, _ in traced]
        treedef = jax.tree.structure(traced[0][1])
        signatures = [signature(j.jaxpr) for j in jaxprs]
        if any(s != signatures[0] for s in signatures):
            raise NotAlike("the seeds' programs are not the same computation")
        columns = list(zip(*(j.consts for j in jaxprs)))
        shared = [all(_same(c, column[0]) for c in column) for column in columns]
        self._consts = [c[0] if same else jnp.stack(c) for c, same in zip(columns, shared)]
        axes = [None if same else 0 for same in shared]

        def one(consts: Any, *args: Any) -> Any:
            flat = jax.core.eval_jaxpr(jaxprs[0].jaxpr, consts, *jax.tree.leaves(args))
            return jax.tree.unflatten(treedef, flat)

        vmapped = jax.vmap(one, in_axes=(axes, *(0 for _ in args)))
        self._place = spread.place
        self._consts = [
            (spread.same if same else spread.place)(c)
            for c, same in zip(self._consts, shared, strict=True)
        ]
        mine = ([not same for same in shared], *(True for _ in args))
        jitted = jax.jit(spread.over(vmapped, mine), donate_argnums=(1,) if donate else ())
        self.compiled = jitted.lower(self._consts, *self._place(args)).compile()

    def __call__(self, *args: Any) -> Any:
        return self.compiled(self._consts, *self._place(args))


def _same(a: Any, b: Any) -> bool:
    return a is b or (
        jnp.shape(a) == jnp.shape(b) and bool(np.array_equal(np.asarray(a), np.asarray(b)))
    )


def signature(jaxpr: Any) -> list[Any]:
    """What a jaxpr computes, constants of its own left open: names, shapes, embedded values."""
    found: list[Any] = [str(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars)]
    for eqn in jaxpr.eqns:
        found.append(eqn.primitive.name)
        found += [_value(v) for v in eqn.invars]
        found += [str(v.aval) for v in eqn.outvars]
        for param in eqn.params.values():
            for part in param if isinstance(param, list | tuple) else (param,):
                if isinstance(part, jex.ClosedJaxpr):
                    found.append([_bytes(c) for c in part.consts])
                    found.append(signature(part.jaxpr))
                elif isinstance(part, jex.Jaxpr):
                    found.append(signature(part))
    return found


def _value(atom: Any) -> Any:
    return (str(atom.aval), _bytes(atom.val)) if hasattr(atom, "val") else str(atom.aval)


def _bytes(value: Any) -> bytes:
    return np.asarray(value).tobytes()


def mean_of(name: str, results: Sequence[dict[str, Any]]) -> float | None:
    """Mean over the seeds that have this number; ``None`` if none has."""
    values = [r[name] for r in results if r.get(name) is not None]
    return statistics.fmean(values) if values else None


def aggregate(
    results: Sequence[dict[str, Any]], score: Score, goal: float, beside: Sequence[Score] = ()
) -> dict[str, Any]:
    """Figures over seeds: every seed, mean, standard deviation, how many reached the goal.

    A deviation needs two seeds; without, it is ``None``.

    Args:
        results: what ``results.json`` of each seed holds; one that failed has ``error`` and
            counts as not reached, and in no mean.
        score: what they are judged by.
        goal: of the test score; 0 for none.
        beside: further scores of the test.
    """
    scores = [r[f"test_{score.name}"] for r in results if r.get(f"test_{score.name}") is not None]
    found: dict[str, Any] = {
        "trials": len(results),
        "failed": sum(1 for r in results if "error" in r),
        "score": score.name,
        **_over_seeds(results, score),
        "seeds": [r["seed"] for r in results],
        "batches": [r["batches"] for r in results],
        "seconds": [r["seconds"] for r in results],
    }
    if goal > 0:
        found["goal"] = goal
        found["reached_goal"] = sum(1 for value in scores if score.reached(value, goal))
    for one in beside:
        found |= _over_seeds(results, one)
    return found


def _over_seeds(results: Sequence[dict[str, Any]], score: Score) -> dict[str, Any]:
    """Mean, standard deviation and values of a score of the test."""
    name = f"test_{score.name}"
    scores = [r[name] for r in results if r.get(name) is not None]
    return {
        name: mean_of(name, results),
        f"{name}_sd": statistics.stdev(scores) if len(scores) > 1 else None,
        f"test_{score.each}": [r.get(name) for r in results],
    }
