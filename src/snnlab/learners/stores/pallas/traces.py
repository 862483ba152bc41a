"""One pass over the traces of a dense map as one kernel of a GPU or TPU.

For a tile of inputs and neurons, and one sample after the other, the traces ``e_b`` of all S states
are read, used and written:

    g     <-  g + sum_b c_b . e_b + sum_t x_t ybar_t ,
    e_b   <-  sum_a P_ba . e_a + sum_t x_t f_tb .

The gradient ``g`` of a tile stays where the computing is until the last sample has been added, so
memory sees each trace once in and once out, whatever S, and besides them only the vectors of a
chunk, once for each tile. An update at every step is the case of one step ``t``.

Traces may be bfloat16; everything is computed in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton

from snnlab.learners.stores.pallas.platforms import by_platform, parts, power_of_two

#: Steps whose products are written out one by one; more are a loop (GPU) or a product (TPU).
WRITTEN_OUT = 8
#: TPU: bytes of a program's tiles, of 16 MiB, and the largest tile.
TILE_BYTES, ROWS, COLUMNS = 8 * 2**20, 256, 512
#: GPU: numbers of a tile, warps of a program, and programs that keep a large one busy.
TILE_NUMBERS, WARPS, PROGRAMS = 4096, 8, 2048

Arrays = Sequence[jax.Array]


@dataclasses.dataclass(frozen=True)
class Pass:
    """What is the same in all programs of a pass.

    Attributes:
        batch, n_in, n: B, i, n.
        steps: K.
        pairs: ``(s, a)`` of the states with a block of ``P``, in the order of the blocks.
        states: S.
        reads, has_y: whether there are a signal ``c`` and adjoints ``ybar``.
        dtype: of traces.
    """

    batch: int
    n_in: int
    n: int
    steps: int
    pairs: tuple[tuple[int, int], ...]
    states: int
    reads: bool
    has_y: bool
    dtype: Any

    @property
    def gradient(self) -> bool:
        return self.reads or self.has_y

    @property
    def vectors(self) -> int:
        """Vectors of neurons that a sample has."""
        return self.rows[-1] + self.steps * self.has_y

    @property
    def rows(self) -> tuple[int, int, int]:
        """Where ``P``, ``f`` and ``ybar`` begin among the vectors; ``c`` is first."""
        p = self.states if self.reads else 0
        f = p + len(self.pairs)
        return p, f, f + self.states * self.steps


def read_and_advance(
    traces: Arrays,
    c: Arrays | None,
    p: Sequence[Sequence[jax.Array | None]],
    enter: Arrays,
    x: jax.Array,
    y_bar: jax.Array | None = None,
) -> tuple[list[jax.Array], jax.Array | None]:
    """``g = sum_s c_s e_s + sum_t x_t ybar_t``, and ``e_s <- sum_a P_sa e_a + sum_t x_t f_st``.

    Args:
        traces: of the S states, each ``(B, i, n)``; changed in place if nobody else needs them.
            Everything else is float32.
        c: of the S states, ``(B, n)``; ``None`` without a loss.
        p: ``p[s][a] (B, n)``; ``None`` for blocks that are zero.
        enter: of the S states, ``(K, B, n)``.
        x: inputs of the map, ``(K, B, i)``.
        y_bar: ``(K, B, n)``, or ``None``.

    Returns:
        new traces, and ``g (i, n)``; ``None`` without ``c`` and ``y_bar``.
    """
    batch, n_in, n = traces[0].shape
    blocks = {(s, a): v for s, row in enumerate(p) for a, v in enumerate(row) if v is not None}
    of = Pass(
        batch, n_in, n, x.shape[0], tuple(blocks), len(traces), c is not None, y_bar is not None,
        traces[0].dtype,
    )  # fmt: skip

    # What a program needs of a sample lies together, and is put there in one operation.
    once = [*(c or []), *blocks.values()]
    steps = [*enter, *([] if y_bar is None else [y_bar])]
    vectors = jnp.concatenate(
        [v[:, None] for v in once] + [jnp.swapaxes(v, 0, 1) for v in steps], axis=1
    )
    found = by_platform(
        functools.partial(on_gpu, of), functools.partial(on_tpu, of),
        *traces, x, vectors,
    )  # fmt: skip
    return list(found[: of.states]), found[-1] if of.gradient else None


# ------------------------------------------------------------------------------------------ TPU


def tpu_tile(of: Pass) -> tuple[int, int]:
    """Inputs and neurons of a tile: multiples of 128, or all."""
    rows, columns = min(of.n_in, ROWS), min(of.n, COLUMNS)

    def too_large() -> bool:
        tiles = (6 * of.states + 3) * rows * columns  # in, out, twice; old, new, gradient
        return 4 * (tiles + 2 * (of.vectors * columns + of.steps * rows)) > TILE_BYTES

    while columns > 128 and too_large():
        columns = 128 * parts(columns, 256)
    if rows > 128 and too_large():
        rows = 128
    return rows, columns


def on_tpu(of: Pass, *arrays: jax.Array, interpret: bool) -> list[jax.Array]:
    """Programs follow each other, a tile's samples last: its gradient stays in fast memory."""
    rows, columns = tpu_tile(of)
    *traces, x, v = arrays
    arrays = (*traces, jnp.swapaxes(x, 0, 1), v)  # the last two axes are those of a tile
    first_p, first_f, first_y = of.rows
    tile = pl.BlockSpec((1, rows, columns), lambda i, j, b: (b, i, j))
    inputs = pl.BlockSpec((1, of.steps, rows), lambda i, _j, b: (b, 0, i))
    vectors = pl.BlockSpec((1, of.vectors, columns), lambda _i, j, b: (b, 0, j))
    outs = [jax.ShapeDtypeStruct((of.batch, of.n_in, of.n), of.dtype)] * of.states
    out_specs = [tile] * of.states
    if of.gradient:
        outs.append(jax.ShapeDtypeStruct((of.n_in, of.n), jnp.float32))
        out_specs.append(pl.BlockSpec((rows, columns), lambda i, j, _b: (i, j)))

    def kernel(*refs: Any) -> None:
        before, (x, v), after = refs[: of.states], refs[of.states :][:2], refs[of.states + 2 :]
        xs = x[0].T

        def entering(first: int) -> Any:
            """``sum_t x_t v_t`` of the rows from ``first`` on."""
            if of.steps > WRITTEN_OUT:
                return jax.lax.dot(
                    xs, v[0, first : first + of.steps], precision=jax.lax.Precision.HIGHEST,
                    preferred_element_type=jnp.float32,
                )  # fmt: skip
            rows = (v[0, first + t : first + t + 1] for t in range(of.steps))
            return sum(xs[:, t : t + 1] * row for t, row in enumerate(rows))

        e = [ref[0].astype(jnp.float32) for ref in before]
        if of.gradient:
            share = entering(first_y) if of.has_y else 0.0
            for s in range(of.states if of.reads else 0):
                share += v[0, s : s + 1] * e[s]
            gradient, first = after[-1], pl.program_id(2) == 0

            @pl.when(first)
            def _() -> None:
                gradient[...] = share

            @pl.when(jnp.logical_not(first))
            def _() -> None:
                gradient[...] += share

        for s in range(of.states):
            new = entering(first_f + s * of.steps)
            for k, (b, a) in enumerate(of.pairs, first_p):
                if b == s:
                    new += v[0, k : k + 1] * e[a]
            after[s][0] = new.astype(of.dtype)

    found: list[jax.Array] = pl.pallas_call(
        kernel,
        out_shape=outs,
        grid=(parts(of.n_in, rows), parts(of.n, columns), of.batch),
        in_specs=[*[tile] * of.states, inputs, vectors],
        out_specs=out_specs,
        input_output_aliases={s: s for s in range(of.states)},
        compiler_params=mosaic.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="traces_in_one_pass",
    )(*arrays)
    return found


# ------------------------------------------------------------------------------------------ GPU


def gpu_tile(of: Pass) -> tuple[int, int, int]:
    """Inputs and neurons of a tile, powers of two, and samples that a program goes through."""
    columns = min(128, power_of_two(of.n))
    rows = min(power_of_two(of.n_in), max(1, TILE_NUMBERS // power_of_two(of.states) // columns))
    tiles = parts(of.n_in, rows) * parts(of.n, columns)
    # A group of samples has a gradient of its own: groups of at least eight, so that these are
    # few numbers beside the traces.
    groups = max(1, min(of.batch // 8, parts(PROGRAMS, tiles)))
    return rows, columns, parts(of.batch, groups)


def on_gpu(of: Pass, *arrays: jax.Array, interpret: bool) -> list[jax.Array]:
    """Programs run at the same time, so that each goes through the samples of its tile."""
    first_p, first_f, first_y = of.rows
    rows, columns, samples = gpu_tile(of)
    groups = parts(of.batch, samples)
    outs = [jax.ShapeDtypeStruct((of.batch, of.n_in, of.n), of.dtype)] * of.states
    if of.gradient:
        outs.append(jax.ShapeDtypeStruct((groups, of.n_in, of.n), jnp.float32))

    def kernel(*refs: Any) -> None:
        before, (xs, v), after = refs[: of.states], refs[of.states :][:2], refs[of.states + 2 :]
        # Edges of the map need not be those of tiles: nothing is read or written beyond.
        i = pl.ds(pl.program_id(0) * rows, rows)
        j = pl.ds(pl.program_id(1) * columns, columns)
        in_map = (pl.program_id(0) * rows + jnp.arange(rows) < of.n_in)[None, :]
        in_layer = (pl.program_id(1) * columns + jnp.arange(columns) < of.n)[None, :]
        inside = in_map.reshape(rows, 1) & in_layer

        def vector(b: Any, row: Any) -> Any:
            """``(1, columns)`` of a sample."""
            return triton.load(v.at[b, pl.ds(row, 1), j], mask=in_layer, other=0.0)

        def step(b: Any, share: Any, new: tuple[Any, ...], t: Any) -> tuple[Any, tuple[Any, ...]]:
            x = triton.load(xs.at[pl.ds(t, 1), b, i], mask=in_map, other=0.0).reshape(rows, 1)
            if of.has_y:
                share += x * vector(b, first_y + t)
            return share, tuple(
                value + x * vector(b, first_f + s * of.steps + t) for s, value in enumerate(new)
            )

        def sample(b: Any, share: Any) -> Any:
            e = [
                triton.load(ref.at[b, i, j], mask=inside, other=0.0).astype(jnp.float32)
                for ref in before
            ]
            for s in range(of.states if of.reads else 0):
                share += vector(b, s) * e[s]
            kept = [jnp.zeros((rows, columns), jnp.float32) for _ in e]
            for k, (s, a) in enumerate(of.pairs, first_p):
                kept[s] += vector(b, k) * e[a]
            new = tuple(kept)
            if of.steps > WRITTEN_OUT:
                share, new = jax.lax.fori_loop(
                    0, of.steps, lambda t, carry: step(b, carry[0], carry[1], t), (share, new)
                )
            else:
                for t in range(of.steps):
                    share, new = step(b, share, new, t)
            for s, value in enumerate(new):
                triton.store(after[s].at[b, i, j], value.astype(of.dtype), mask=inside)
            return share

        group = pl.program_id(2)
        first = group * samples
        end = jnp.minimum(first + samples, of.batch)
        nothing = jnp.zeros((rows, columns), jnp.float32)
        share = jax.lax.fori_loop(first, end, sample, nothing)
        if of.gradient:
            triton.store(after[-1].at[group, i, j], share, mask=inside)

    whole = pl.BlockSpec(memory_space=pl.ANY)
    found: list[jax.Array] = pl.pallas_call(
        kernel,
        out_shape=outs,
        grid=(parts(of.n_in, rows), parts(of.n, columns), groups),
        in_specs=[whole] * len(arrays),
        out_specs=[whole] * len(outs),
        input_output_aliases={s: s for s in range(of.states)},
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=2),
        interpret=interpret,
        name="traces_in_one_pass",
    )(*arrays)
    if of.gradient:
        found = [*found[:-1], found[-1].sum(0)]
    return found
