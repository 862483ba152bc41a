"""All steps of a recurrence in one launch, on a GPU or TPU.

A layer's own recurrence, states and the product of its own spikes with its weights ``W (n, n)``,
cannot be done for all steps at once. As operations of XLA it is some launches for every step; here
a program goes through all K steps with the states beside the arithmetic. The equations are those
of the network, generated (:mod:`snnlab.learners.graph.blocks`); the adjoint is the same loop from
the last step to the first.

A TPU multiplies a block of samples with W, which stays in its fast memory, while the arrays of the
next step are fetched. A processor of a GPU has too little of that for W from about 220 neurons on,
and two launches' worth of time would go into reading all of it at every step. So a program is one
sample, and it reads the rows of W that count: forward those of neurons that have spiked, back those
of neurons whose spikes have a derivative in this step; W itself stays in the second
cache.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton

from snnlab.learners.graph.blocks import Blocks
from snnlab.learners.stores.pallas.platforms import by_platform, parts, power_of_two

#: Neurons of a layer at most: W, twice, is half of a TPU core's fast memory.
LARGEST = 1024
#: TPU: bytes of a program's arrays, of 16 MiB, and its samples at most.
PROGRAM_BYTES, SAMPLES = 12 * 2**20, 128
#: GPU: numbers of W that are read at once, and warps of a program.
TILE_NUMBERS, WARPS = 4096, 8

Arrays = Sequence[jax.Array]
#: ``step(carry, rows of this step, once, multiply) -> (carry, rows)``.
Step = Callable[..., tuple[list[jax.Array], list[jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop over steps, the same for both compilers.

    Attributes:
        step: what a step does with blocks of samples.
        counts: how many arrays there are: carried ``(B, n)``; of each step ``(K, B, n)``, that it
            takes and that it makes; the same in all steps, ``(B, n)`` or ``(1, n)``; weights.
        steps, batch, n: K, B, n.
        back: whether it goes from the last step to the first, with transposed weights.
    """

    step: Step
    counts: tuple[int, int, int, int, int]
    steps: int
    batch: int
    n: int
    back: bool

    def split(self, refs: Sequence[Any]) -> tuple[Sequence[Any], ...]:
        """Arguments: carried, of each step, once, weights."""
        carried, taken, _, once, weights = self.counts
        ends = (0, carried, carried + taken, carried + taken + once)
        return *(refs[a:b] for a, b in itertools.pairwise(ends)), refs[
            ends[-1] : ends[-1] + weights
        ]

    @property
    def outs(self) -> list[jax.ShapeDtypeStruct]:
        """Carried at the end, then made in each step."""
        shape = (self.batch, self.n)
        return [jax.ShapeDtypeStruct(shape, jnp.float32)] * self.counts[0] + [
            jax.ShapeDtypeStruct((self.steps, *shape), jnp.float32)
        ] * self.counts[2]


def forward(
    of: Blocks, h: Arrays, reads: Arrays, known: Sequence[jax.Array | None], own: Arrays,
    fixed: Arrays, weights: Arrays, length: int,
) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array], list[jax.Array]]:  # fmt: skip
    """Advance by ``length`` steps.

    Args:
        of: the recurrence.
        h: states before the chunk, ``(B, n)``.
        reads, known: ``(K, B, n)`` what it reads, and of each map what is known of its drive.
        own, fixed: see :class:`~snnlab.learners.graph.blocks.Blocks`.
        weights: of each map, ``(n, n)``.

    Returns:
        states after the chunk; ``(K, B, n)`` states before each step, drives, inputs of maps.
    """
    states, maps, there = len(h), len(of.maps), [y is not None for y in known]

    def step(carry: Any, taken: Any, once: Any, multiply: Any) -> Any:
        reads, some = taken[: len(taken) - sum(there)], iter(taken[len(taken) - sum(there) :])
        xs = of.inputs(*carry, *reads, *once)
        ys = []
        for m, x in enumerate(xs):
            y = multiply(m, x)
            ys.append(y + next(some) if there[m] else y)
        own, fixed = once[: len(once) - len(of.static)], once[len(once) - len(of.static) :]
        new = of.advance(*carry, *reads, *ys, *own, *fixed)
        return new, [*carry, *ys, *xs]

    taken = [*reads, *(y for y in known if y is not None)]
    counts = (states, len(taken), states + 2 * maps, len(own) + len(fixed), maps)
    loop = Loop(step, counts, length, *of.shape, back=False)
    found = _launch(loop, *h, *taken, *own, *fixed, *weights)
    ends = (0, states, 2 * states, 2 * states + maps, 2 * states + 2 * maps)
    end, before, ys, xs = (list(found[a:b]) for a, b in itertools.pairwise(ends))
    return end, before, ys, xs


def backward(
    of: Blocks, h_bar: Arrays, h: Arrays, reads: Arrays, ys: Arrays,
    seen: Sequence[jax.Array | None], own: Arrays, fixed: Arrays, weights: Arrays,
) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array], list[jax.Array]]:  # fmt: skip
    """The adjoint, from the last step to the first.

    Args:
        of: the recurrence.
        h_bar: adjoint of the states after the chunk, ``(B, n)``.
        h, reads, ys: ``(K, B, n)`` states before each step, what it reads, drives.
        seen: ``(K, B, n)`` adjoints of what others see, or ``None``: of each state before a step,
            of each after it, of each drive.
        own, fixed, weights: as forward.

    Returns:
        adjoints of the states before the chunk; ``(K, B, n)`` of what is read, and of drives;
        ``(B, n)`` of ``own``, summed over steps.
    """
    s, r, m, o = len(h), len(reads), len(of.maps), len(own)
    there = [v is not None for v in seen]

    def step(carry: Any, taken: Any, once: Any, multiply: Any) -> Any:
        h_bar, total = carry[:s], carry[s:]
        h, reads, ys = taken[:s], taken[s : s + r], taken[s + r : s + r + m]
        some = iter(taken[s + r + m :])
        shown = [next(some) if t else None for t in there]
        own, fixed = once[:o], once[o:]
        h_bar = [_plus(a, b) for a, b in zip(h_bar, shown[s : 2 * s], strict=True)]
        found = of.back(*h, *reads, *ys, *own, *fixed, *h_bar)
        h_bar, reads_bar, y_bar, own_bar = _cut(found, s, r, m, o)
        y_bar = [_plus(a, b) for a, b in zip(y_bar, shown[2 * s :], strict=True)]
        before = *h, *reads, *own, *fixed

        def slopes(which: int) -> Any:
            """What depends on a map's input at all, as numbers that are not zero there."""
            ones = [jnp.full_like(y, float(k == which)) for k, y in enumerate(y_bar)]
            return sum(abs(v) for v in of.back_inputs(*before, *ones))

        if m:
            x_bar = [multiply(k, y, slopes) for k, y in enumerate(y_bar)]
            more = _cut(of.back_inputs(*before, *x_bar), s, r, o)
            h_bar, reads_bar, own_bar = (
                [a + b for a, b in zip(one, other, strict=True)]
                for one, other in zip((h_bar, reads_bar, own_bar), more, strict=True)
            )
        h_bar = [_plus(a, b) for a, b in zip(h_bar, shown[:s], strict=True)]
        total = [a + b for a, b in zip(total, own_bar, strict=True)]
        return [*h_bar, *total], [*reads_bar, *y_bar]

    taken = [*h, *reads, *ys, *(v for v in seen if v is not None)]
    counts = (s + o, len(taken), r + m, o + len(fixed), m)
    loop = Loop(step, counts, h[0].shape[0], *of.shape, back=True)
    start = [*h_bar, *(jnp.zeros_like(v) for v in own)]
    found = _launch(loop, *start, *taken, *own, *fixed, *weights)
    h_bar, own_bar, reads_bar, y_bar = _cut(found, s, o, r, m)
    return h_bar, reads_bar, y_bar, own_bar


def fits(of: Blocks) -> bool:
    """Whether there is memory for the weights of a recurrence beside its states."""
    return len(of.maps) * of.shape[1] ** 2 <= LARGEST**2 and of.shape[1] <= LARGEST


def _plus(a: Any, b: Any) -> Any:
    return a if b is None else a + b


def _cut(found: Sequence[Any], *sizes: int) -> list[list[Any]]:
    left = iter(found)
    return [[next(left) for _ in range(size)] for size in sizes]


def _launch(loop: Loop, *arrays: jax.Array) -> Sequence[jax.Array]:
    found: Sequence[jax.Array] = by_platform(
        functools.partial(on_gpu, loop), functools.partial(on_tpu, loop), *arrays
    )
    return found


# ------------------------------------------------------------------------------------------ TPU


def samples(loop: Loop) -> int:
    """Samples of a program: a multiple of 8, or all. Every array is there twice, while the next
    step's is fetched, and the equations make about as many numbers again."""
    carried, taken, made, once, weights = loop.counts
    row = 4 * loop.n * (2 * (2 * carried + taken + made + once) + 8)
    most = (PROGRAM_BYTES - 8 * loop.n**2 * weights) // row // 8 * 8
    return min(loop.batch, SAMPLES, max(8, most))


def on_tpu(loop: Loop, *arrays: jax.Array, interpret: bool) -> list[jax.Array]:
    """Steps follow each other; what is carried stays in fast memory, at the results' place."""
    rows = samples(loop)
    carried, n = loop.counts[0], loop.n

    def at(t: Any) -> Any:
        return loop.steps - 1 - t if loop.back else t

    each = pl.BlockSpec((1, rows, n), lambda i, t: (at(t), i, 0))
    block = pl.BlockSpec((rows, n), lambda i, _t: (i, 0))

    def spec(a: Any) -> Any:
        if a.ndim == 3:
            return each
        return block if a.shape[0] == loop.batch else pl.BlockSpec((1, n), lambda _i, _t: (0, 0))

    *some, weights = loop.split(arrays)
    square = pl.BlockSpec((n, n), lambda _i, _t: (0, 0))

    def kernel(*refs: Any) -> None:
        start, taken, once, weights = loop.split(refs)
        outs = refs[len(arrays) :]
        carry, made = outs[:carried], outs[carried:]

        @pl.when(pl.program_id(1) == 0)
        def _() -> None:
            for ref, first in zip(carry, start, strict=True):
                ref[...] = first[...]

        def multiply(m: int, x: Any, _slopes: Any = None) -> Any:
            return jax.lax.dot_general(
                x, weights[m][...], (((1,), (1 if loop.back else 0,)), ((), ())),
                precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32,
            )  # fmt: skip

        new, found = loop.step(
            [ref[...] for ref in carry], [ref[0] for ref in taken], [ref[...] for ref in once],
            multiply,
        )  # fmt: skip
        for ref, value in zip(carry, new, strict=True):
            ref[...] = jnp.broadcast_to(value, ref.shape)
        for ref, value in zip(made, found, strict=True):
            ref[0] = jnp.broadcast_to(value, ref.shape[1:])

    found: list[jax.Array] = pl.pallas_call(
        kernel,
        out_shape=loop.outs,
        grid=(parts(loop.batch, rows), loop.steps),
        in_specs=[*(spec(a) for part in some for a in part), *[square] * len(weights)],
        out_specs=[*[block] * carried, *[each] * loop.counts[2]],
        compiler_params=mosaic.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="recurrence_of_a_chunk",
    )(*arrays)
    return found


# ------------------------------------------------------------------------------------------ GPU


def on_gpu(loop: Loop, *arrays: jax.Array, interpret: bool) -> list[jax.Array]:
    """A program is a sample, and goes through all steps."""
    carried, _, made, _, maps = loop.counts
    columns = power_of_two(loop.n)
    rows = min(columns, max(1, TILE_NUMBERS // columns))
    # What a program hands to itself in another order: x, and where it counts (back).
    handed = [jax.ShapeDtypeStruct((loop.batch, loop.n), jnp.float32)] * (2 * maps)

    def kernel(*refs: Any) -> None:
        start, taken, once, weights = loop.split(refs)
        outs = refs[len(arrays) :]
        ends, each, pairs = outs[:carried], outs[carried : carried + made], outs[carried + made :]
        sample, every = pl.ds(pl.program_id(0), 1), pl.ds(0, columns)
        inside = (jnp.arange(columns) < loop.n)[None, :]

        def load(ref: Any, *lead: Any) -> Any:
            one = pl.ds(0, 1) if ref.shape[-2] == 1 else sample
            return triton.load(ref.at[(*lead, one, every)], mask=inside, other=0.0)

        def store(ref: Any, value: Any, *lead: Any) -> None:
            value = jnp.broadcast_to(value, inside.shape)
            triton.store(ref.at[(*lead, sample, every)], value, mask=inside)

        def wait() -> None:
            if not interpret:
                triton.debug_barrier()

        def tile(m: int, ref: Any, k: Any) -> tuple[Any, Any, Any, Any]:
            """Rows of W that count, their numbers in ``ref (1, rows)``, where they are."""
            at = pl.ds(k * rows, rows)
            there = (k * rows + jnp.arange(rows) < loop.n)[None, :]
            x = triton.load(ref.at[sample, at], mask=there, other=0.0).reshape(rows, 1)
            w = triton.load(weights[m].at[at, every], mask=(x != 0.0) & inside, other=0.0)
            return x, w, at, there

        def times(m: int, x: Any) -> Any:
            store(pairs[2 * m], x)
            wait()

            def add(k: Any, total: Any) -> Any:
                x, w, _, _ = tile(m, pairs[2 * m], k)
                return total + jnp.sum(x * w, axis=0, keepdims=True)

            nothing = jnp.zeros(inside.shape, jnp.float32)
            total = jax.lax.fori_loop(0, parts(loop.n, rows), add, nothing)
            wait()
            return total

        def back(m: int, y: Any, slopes: Any) -> Any:
            y = jnp.where(inside, y, 0.0)
            store(pairs[2 * m + 1], slopes(m))
            wait()

            def put(k: Any, carry: Any) -> Any:
                _, w, at, there = tile(m, pairs[2 * m + 1], k)
                x = jnp.sum(w * y, axis=1, keepdims=True).reshape(1, rows)
                triton.store(pairs[2 * m].at[sample, at], x, mask=there)
                return carry

            jax.lax.fori_loop(0, parts(loop.n, rows), put, 0)
            wait()
            return load(pairs[2 * m])

        same = [load(ref) for ref in once]

        def body(t: Any, carry: Any) -> Any:
            t = loop.steps - 1 - t if loop.back else t
            new, found = loop.step(
                list(carry), [load(ref, t) for ref in taken], same, back if loop.back else times
            )
            for ref, value in zip(each, found, strict=True):
                store(ref, value, t)
            return tuple(jnp.broadcast_to(v, inside.shape) for v in new)

        end = jax.lax.fori_loop(0, loop.steps, body, tuple(load(ref) for ref in start))
        for ref, value in zip(ends, end, strict=True):
            store(ref, value)

    whole = pl.BlockSpec(memory_space=pl.ANY)
    found: list[jax.Array] = pl.pallas_call(
        kernel,
        out_shape=[*loop.outs, *handed],
        grid=(loop.batch,),
        in_specs=[whole] * len(arrays),
        out_specs=[whole] * (len(loop.outs) + len(handed)),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="recurrence_of_a_chunk",
    )(*arrays)
    return found[: len(loop.outs)]
