"""A linear layer and LIF neurons: the benchmark of Open Neuromorphic, with our learners beside it.

Lenz et al., "Spiking Neural Network Library Benchmarks", open-neuromorphic.org (2023, updated
2024): one dense layer from n to n and n LIF neurons without recurrence, batch 16, 500 steps, n =
4,096, 8,192 and 16,384; the loss is the sum of all spikes. There each framework runs the layer as
its documentation has it: with its own time constant and surrogate, in torch with a bias and
normally distributed input, in spyx without a bias, with ones, of fewer bits. Forward and backward
are timed apart, each for two seconds or three runs at least, and averaged (of spyx, whose gradient
is both, the difference counts as backward); the GPU is not waited for.

Here all have the same input, weights (uniform within ``1 / sqrt(n)``, as torch's ``Linear``),
decay (0.95) and surrogate, no bias and float32, forward and backward are one time, the device is
waited for, and what is shown is the median over runs and processes in turns.
:mod:`snnlab.benchmarks.frameworks` has the equations.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np

from snnlab.benchmarks import machine, peers, processes, report
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case, Run
from snnlab.benchmarks.report import TIME, ratio

DECAY = 0.95


@dataclasses.dataclass(frozen=True)
class OnmCell:
    """One measurement.

    Attributes:
        n: neurons, and inputs.
        batch_size, data_length: B, T.
        method: our learner.
        framework: what computes it; ours where that is empty.
        repeats: timed runs.
        seed: of input and weights.
    """

    kind: ClassVar[str] = "onm"

    n: int = 512
    batch_size: int = 16
    data_length: int = 500
    method: str = "bptt"
    framework: str = ""
    repeats: int = 5
    seed: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return peers.environment(self.framework)


#: Our rows, and their learner.
OURS = {"BPTT": "bptt", "D-RTRL": "diag"}


def make_case(cell: OnmCell) -> Case:
    """Input and weights."""
    rng, n = np.random.default_rng(cell.seed), cell.n
    xs = rng.standard_normal((cell.data_length, cell.batch_size, n), dtype=np.float32)
    weights = rng.uniform(-(n**-0.5), n**-0.5, (n, n)).astype(np.float32)
    labels = np.zeros(cell.batch_size, np.int32)
    return Case(xs, labels, [weights], [], None, DECAY, 0.0)


def own_run(cell: OnmCell) -> Run:
    """The cell's learner on the cell's case."""
    import jax
    import jax.numpy as jnp

    from snnlab.learners.pure import learner
    from snnlab.models.surrogates import surrogate

    case, spike = make_case(cell), surrogate("relu")

    def step(params: Any, u: Any, x: Any) -> tuple[Any, Any]:
        u = case.decay * (u - spike(u - 1.0)) + x @ params
        return u, spike(u - 1.0)

    made = learner(
        cell.method, step, case.forward[0], carry=jnp.zeros((cell.batch_size, cell.n)), n_in=cell.n,
        loss=lambda spikes, _: spikes.sum(-1), update_every=0,
    )  # fmt: skip
    params, xs = jax.device_put((made.params, case.xs))

    @jax.jit
    def program(params: Any, xs: Any) -> Any:
        return made.value_and_grad(params, made.init(), xs)[:2]

    def run() -> tuple[Any, list[Any]]:
        loss, found = jax.block_until_ready(program(params, xs))
        return loss, [found]

    return run


def measure(cell: OnmCell) -> dict[str, Any]:
    """Measure a cell in this process; see :func:`snnlab.benchmarks.peers.timed`."""
    if not cell.framework:
        return peers.timed(cell, lambda: own_run(cell))
    framework = FRAMEWORKS[cell.framework]
    return peers.timed(cell, lambda: peers.their_run(framework, lambda: make_case(cell)))


def run(sizes: list[int], base: OnmCell, rounds: int = 3, devices: str = "0") -> dict[str, Any]:
    """Measure ours and every framework that is installed.

    Args:
        sizes: n, one table after the other.
        base: the other sizes.
        rounds: fresh processes per row, in turns.
        devices: which accelerator, or ``cpu``.

    Returns:
        ``rows``, ``ratios`` (ours over the others, of each size), ``machine``.
    """
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    for n in sizes:
        cell = functools.partial(dataclasses.replace, base, n=n)
        cells = {name: cell(method=method) for name, method in OURS.items()}
        cells |= {name: cell(framework=name) for name in FRAMEWORKS}
        found = peers.measured(cells, rounds, devices)
        rows += found
        times = {row["row"]: row.get(TIME) for row in found}
        ratios += [
            {"name": f"n {n}: {own} / {name}", "of": TIME, "bound": "",
             "value": ratio(times[own], times[name])}
            for own in OURS for name in FRAMEWORKS if times[name]
        ]  # fmt: skip
    return {"machine": processes.machine_of(devices), "rows": rows, "ratios": ratios}


#: What is shown of a row.
COLUMNS: report.Columns = {
    "row": lambda r: f"{r['row']}, n {r['n']}",
    "B": lambda r: str(r["batch_size"]),
    "T": lambda r: str(r["data_length"]),
    "forward and backward, s": lambda r: f"{r[TIME] * r['data_length'] / 1e3:.4g}",
    "of the rounds, s": lambda r: " to ".join(
        f"{pick(r['rounds_ms_per_step']) * r['data_length'] / 1e3:.4g}" for pick in (min, max)
    ),
    "process MB": lambda r: f"{r['process_peak_bytes'] / 1e6:,.0f}",
    "spikes per sample and step": lambda r: f"{r['loss']:.1f}",
}


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    return "\n".join([
        machine.line(result["machine"]), machine.about(result["machine"]),
        report.text(result["rows"], COLUMNS), report.text(result["ratios"], report.RATIOS),
    ])  # fmt: skip
