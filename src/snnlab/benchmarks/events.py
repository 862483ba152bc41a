"""Whether an event-driven first layer would pay.

The product of the first layer with its input, and its weight's gradient, made from packed events
(add a row of the weight, or of the adjoint, for each event) against the dense products that the
learners make, which need the events made dense first. Parts run in turns in one process; the
whole BPTT step of the same size, in a process of its own, says what a saving would be worth.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from snnlab.benchmarks.cells import Cell, in_fresh_process, make_stream
from snnlab.errors import UsageError

#: Steps of a product: a chunk.
STEPS = 25
#: Share of a whole step that must be saved for a second kind of first layer to be worth it.
WORTH = 0.15


def parts(cell: Cell) -> dict[str, tuple[Callable[..., Any], tuple]]:
    """Programs of one chunk and their arguments, by name."""
    import jax
    import jax.numpy as jnp

    stream = make_stream(cell)
    length, n_in, n_rec = cell.data_length, cell.n_in, cell.n_rec
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.standard_normal((n_in, n_rec)), jnp.float32)
    g = jnp.asarray(rng.standard_normal((length, cell.batch_size, n_rec)), jnp.float32)
    offsets = np.asarray(stream.offsets)
    at = np.asarray(stream.cell)[: offsets[-1]]
    steps = np.repeat(np.arange(length), np.diff(offsets))
    sample = jnp.asarray(steps * cell.batch_size + at // n_in, jnp.int32)  # of all steps' samples
    source = jnp.asarray(at % n_in, jnp.int32)
    by_source = np.argsort(np.asarray(source), kind="stable")
    sorted_events = sample[by_source], source[by_source]
    x = jax.block_until_ready(jax.jit(lambda: stream.window(0, length))())

    def add_rows(to: jax.Array, rows: jax.Array, total: jax.Array, of: jax.Array) -> jax.Array:
        def body(e: Any, total: jax.Array) -> jax.Array:
            return total.at[to[e]].add(of[rows[e]], mode="promise_in_bounds")

        return jax.lax.fori_loop(0, to.shape[0], body, total)

    def from_events(w: jax.Array, sample: jax.Array, source: jax.Array) -> jax.Array:
        y = add_rows(sample, source, jnp.zeros((length * cell.batch_size, n_rec)), w)
        return y.reshape(g.shape)

    def gradient_from_events(g: jax.Array, sample: jax.Array, source: jax.Array) -> jax.Array:
        flat = g.reshape(-1, n_rec)
        return add_rows(source, sample, jnp.zeros((n_in, n_rec)), flat)

    return {
        "events made dense": (lambda stream: stream.window(0, length), (stream,)),
        "product, dense": (lambda x, w: x @ w, (x, w)),
        "product, events": (from_events, (w, sample, source)),
        "gradient, dense": (lambda x, g: jnp.einsum("tbi,tbn->in", x, g), (x, g)),
        "gradient, events": (gradient_from_events, (g, *sorted_events)),
    }


def run(cell: Cell, repeats: int = 20, whole: bool = True) -> dict[str, Any]:
    """Measure the parts in turns.

    Args:
        cell: sizes and density.
        repeats: runs of each part.
        whole: measure the BPTT step too.

    Returns:
        by clock (``wall``, ``processor``: of all threads) the median ms/step of each part, of
        ``dense`` and ``events`` (their sums), and with ``whole`` of the ``step`` and ``saved``,
        the share of it that events would save; ``error``, the largest relative difference between
        the two ways.
    """
    import jax

    chunk = dataclasses.replace(cell, data_length=STEPS)
    made = {name: (jax.jit(fun), args) for name, (fun, args) in parts(chunk).items()}
    values = {name: np.asarray(fun(*args)) for name, (fun, args) in made.items()}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    spent: dict[str, dict[str, list[float]]] = {c: {n: [] for n in made} for c in clocks}
    for _ in range(repeats):
        for name, (fun, args) in made.items():
            began = {c: clock() for c, clock in clocks.items()}
            jax.block_until_ready(fun(*args))
            for c, clock in clocks.items():
                spent[c][name].append((clock() - began[c]) / STEPS * 1e3)
    result: dict[str, Any] = {"error": max(_difference(values, n) for n in ("product", "gradient"))}
    row = in_fresh_process(cell) if whole else {}
    for c, field in (("wall", "ms_per_step"), ("processor", "cpu_ms_per_step")):
        found = {name: statistics.median(times) for name, times in spent[c].items()}
        events = sum(v for n, v in found.items() if n.endswith(", events"))
        found |= {"dense": sum(found.values()) - events, "events": events}
        if whole:
            found["step"] = row[field]
            found["saved"] = (found["dense"] - found["events"]) / row[field]
        result[c] = found
    return result


def _difference(values: dict[str, np.ndarray], name: str) -> float:
    """Largest difference between the two ways over the largest value."""
    dense = values[f"{name}, dense"]
    return float(np.abs(values[f"{name}, events"] - dense).max() / np.abs(dense).max())


def main(argv: list[str]) -> int:
    """``python -m snnlab.benchmarks events``."""
    parser = argparse.ArgumentParser(prog="benchmarks events", description=__doc__)
    base = Cell()
    for name in ("n_in", "n_rec", "batch_size", "repeats"):
        default = 20 if name == "repeats" else getattr(base, name)
        parser.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", dest=name, type=int, default=default
        )
    parser.add_argument("--density", type=float, default=base.density)
    given = vars(parser.parse_args(argv))
    bad = next((n for n, v in given.items() if n != "density" and v < 1), "")
    if bad:
        raise UsageError(f"--{bad} {given[bad]}: must be at least 1")
    if not 0 < given["density"] <= 1:
        raise UsageError(f"--density {given['density']:g}: must be above 0 and at most 1")
    repeats = given.pop("repeats")
    result = run(dataclasses.replace(base, **given), repeats)
    wall, processor = result["wall"], result["processor"]
    print(f"{'ms/step (medians)':20} {'wall':>8} {'processor':>10}")
    for name, value in wall.items():
        shown = ".2f" if name == "saved" else ".3f"
        print(f"{name:20} {value:8{shown}} {processor[name]:10{shown}}")
    verdict = "pays" if wall["saved"] > WORTH else "does not pay"
    print(f"step: BPTT, {base.n_layer} layers; events {verdict} (above {WORTH:g} of the step)")
    return 0
