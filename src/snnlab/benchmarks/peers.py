"""Our learners beside other frameworks: forward and backward of one network, in one run.

Every row computes the same loss of the same network on the same input with the same weights
(:mod:`snnlab.benchmarks.frameworks` has the equations and each framework's form), without
optimiser; ours from events, the others from a dense array that is made before the clock starts.
All on one device: on a GPU torch is given the same one, is waited for, may multiply float32 with
the bits that XLA uses there, and its bare loop is measured as a CUDA graph too. On
the CPU there are as many threads as the process may use cores. Rows run in turns, each in a process
of its own; compilation and the first run do not count. With several cores, torch's threads wait
for each other actively and lose much where other programs use the cores; on a machine that is not
quiet, compare on one core (``taskset -c 0 python -m snnlab.benchmarks peers``), where CPU time is
measured (:func:`snnlab.benchmarks.cells.clock`).
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from snnlab.benchmarks import machine, processes, report
from snnlab.benchmarks.cells import Cell, clock, device_memory, make_stream, process_peak
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case, Framework, Run, with_torch
from snnlab.benchmarks.report import TIME, ratio

INSTALL = "pip install -e '.[peers]'"
BOUND = "<= 0.6"
N_OUT = 10


@dataclasses.dataclass(frozen=True)
class PeerCell(Cell):
    """A cell that ``framework`` computes; ours, with the cell's learner, where that is empty."""

    kind = "peer"

    framework: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.framework)


def environment(framework: str) -> dict[str, str]:
    """The memory of the device is the framework's, where that computes with torch."""
    theirs = framework and FRAMEWORKS[framework].torch
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if theirs else {}


#: Our rows: what they change of the base cell.
OURS: dict[str, dict[str, Any]] = {
    "BPTT": {"method": "bptt"},
    "ES-D-RTRL": {"method": "expsm_diag"},
    "D-RTRL": {"method": "diag"},
    "BPTT, plain JAX scan": {"method": "bptt", "backend": "plain"},
}


def make_case(cell: Cell) -> tuple[Any, Any, Case]:
    """Network, config and data of a cell.

    Returns:
        A function ``operator -> network``, its parameters by name, and the same as a
        :class:`Case`. All membranes have one time constant.
    """
    import jax

    from snnlab.learners import get_params
    from snnlab.models import ModelConfig, build_network

    model = ModelConfig(
        model="lif-delta", n_rec=cell.n_rec, n_layer=cell.n_layer, tau_mem_sigma=0.0
    )

    def make(operator: Any) -> Any:
        return build_network(model, cell.n_in, N_OUT, operator, cell.seed)

    params = get_params(make("plain"))
    stream = make_stream(cell)
    at = jax.jit(jax.vmap(stream.at))
    stacked = [np.asarray(params[f"layers.{i}.pathways.0.map.weight"]) for i in range(cell.n_layer)]
    case = Case(
        xs=np.asarray(at(np.arange(cell.data_length))),
        labels=np.random.default_rng(1).integers(0, N_OUT, cell.batch_size),
        forward=[w[: -cell.n_rec] for w in stacked],
        recurrent=[w[-cell.n_rec :] for w in stacked],
        out=np.asarray(params["readout.map.weight"]),
        decay=math.exp(-model.dt / model.tau_mem),
        readout_decay=math.exp(-model.dt / model.tau_o),
    )
    return make, params, case


def own_run(cell: Cell) -> Run:
    """The cell's learner on the cell's case."""
    import jax
    import jax.numpy as jnp

    from snnlab.learners import LearnerConfig, make_learner
    from snnlab.training.config import TrainingConfig
    from snnlab.training.objectives import Classification, Targets

    make, params, case = make_case(cell)
    goal = Classification(N_OUT, cell.n_layer, 0, 1.0, TrainingConfig())
    config = LearnerConfig(
        method=cell.method, backend=cell.backend, chunk_size=cell.chunk_size or None,  # type: ignore[arg-type]
        precision=cell.precision, kernels=cell.kernels,  # type: ignore[arg-type]
    )  # fmt: skip
    learner = make_learner(config, make, cell.batch_size, goal)
    targets = Targets(jnp.asarray(case.labels, jnp.int32), jnp.ones(cell.batch_size, jnp.float32))
    stream = jax.tree.map(jnp.asarray, make_stream(cell))

    @jax.jit
    def program(params: Any, stream: Any, targets: Any) -> Any:
        segment = learner.segment(params, learner.fresh(), stream, targets, 0, cell.data_length)
        return segment.metrics.loss, segment.gradients

    def run() -> tuple[Any, list[Any]]:
        loss, found = jax.block_until_ready(program(params, stream, targets))
        return loss, list(found.values())

    return run


def measure(cell: PeerCell) -> dict[str, Any]:
    """Measure a cell in this process; see :func:`timed`."""
    if not cell.framework:
        return timed(cell, lambda: own_run(cell))
    return timed(cell, lambda: their_run(FRAMEWORKS[cell.framework], lambda: make_case(cell)[2]))


def timed(cell: Any, made: Callable[[], Run | str]) -> dict[str, Any]:
    """Time forward and backward in this process.

    Args:
        cell: with ``repeats``, ``data_length``.
        made: makes what is timed, or says why it cannot be.

    Returns:
        The cell's fields, ``ms_per_step`` (median, by :func:`snnlab.benchmarks.cells.clock`),
        ``loss`` per step, ``threads``, ``device``, what
        :func:`snnlab.benchmarks.cells.device_memory` says, ``process_peak_bytes``; or ``error``.
    """
    device = machine.here()
    row = {**dataclasses.asdict(cell), "threads": _threads(), "device": device.device_kind}
    run = made()
    if isinstance(run, str):
        return row | {"error": run}
    loss, times, now = run()[0], [], clock()
    for _ in range(cell.repeats):
        began = now()
        run()
        times.append((now() - began) / cell.data_length * 1e3)
    return row | device_memory(device) | {
        TIME: round(statistics.median(times), 4),
        "loss": float(loss) / cell.data_length,
        "process_peak_bytes": process_peak(),
    }  # fmt: skip


def their_run(framework: Framework, case: Callable[[], Case]) -> Run | str:
    """The network in a framework, on this process's device; or why it cannot be, in a line."""
    reason = framework.trouble()
    if reason or not framework.torch:
        return reason or framework.make(case())
    import torch

    here = machine.here()
    if here.platform == "cpu":
        if framework.graph:
            return "a CUDA graph needs a GPU"
        torch.set_num_threads(_threads())
        return framework.make(case())
    if here.platform != "gpu" or not torch.cuda.is_available():
        return f"torch {torch.__version__} cannot use the {here.device_kind}"
    torch.set_float32_matmul_precision("high")
    name = f"cuda:{here.local_hardware_id}"
    with torch.device(name), torch.cuda.device(name):
        run = framework.make(case())
        run = with_torch.captured(run) if framework.graph else run
    return with_torch.waited(run)


def _threads() -> int:
    """Threads that this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return there or 1


def run(base: Cell, rounds: int = 3, devices: str = "0") -> dict[str, Any]:
    """Measure our learners and every framework that is installed, in turns.

    Args:
        base: sizes.
        rounds: fresh processes per row.
        devices: which accelerator, or ``cpu``.

    Returns:
        ``rows`` (each with its name; frameworks with what they do differently; ``error`` where
        one is not installed), ``ratios`` (name -> value, what of, bound) and ``machine``.
    """
    sizes = {f.name: getattr(base, f.name) for f in dataclasses.fields(Cell)}
    cells = {name: PeerCell(**{**sizes, **changes}) for name, changes in OURS.items()}
    cells |= {name: PeerCell(**sizes, framework=name) for name in FRAMEWORKS}
    rows = measured(cells, rounds, devices)
    return {"machine": processes.machine_of(devices), "rows": rows, "ratios": _ratios(rows)}


def measured(cells: dict[str, Any], rounds: int, devices: str) -> list[dict[str, Any]]:
    """Rows of cells in turns, each with its name; frameworks with what they do differently.

    A framework that is not installed is a row that says so.
    """
    there = {
        name: cell for name, cell in cells.items()
        if not cell.framework or FRAMEWORKS[cell.framework].installed
    }  # fmt: skip
    found = dict(zip(there, processes.in_turns(list(there.values()), rounds, devices), strict=True))
    rows = []
    for name, cell in cells.items():
        row = found.get(name) or {**dataclasses.asdict(cell), "error": f"not installed: {INSTALL}"}
        differs = {"differs": FRAMEWORKS[cell.framework].differs} if cell.framework else {}
        rows.append({"row": name, **row, **differs})
    return rows


def _ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = {row["row"]: row.get(TIME) for row in rows}

    def one(own: str, other: str, name: str = "", bound: str = "") -> dict[str, Any]:
        value = ratio(times[own], times[other])
        return {"name": f"{own} / {name or other}", "of": TIME, "value": value, "bound": bound}

    others = [n for n in FRAMEWORKS if times.get(n)]
    with_torch = [n for n in others if FRAMEWORKS[n].torch]
    found = []
    if with_torch:
        fastest = min(with_torch, key=lambda n: times[n] or math.inf)
        found.append(one("BPTT", fastest, f"{fastest} (the fastest with torch)", BOUND))
    others += [n for n in OURS if n not in own_rows()]
    return found + [one(a, b) for b in others for a in own_rows()]


def columns(result: dict[str, Any]) -> report.Columns:
    """What is shown of a row, with its ratios."""
    ratios = {r["name"]: r["value"] for r in result["ratios"]}

    def divided(own: str) -> Callable[[report.Row], str]:
        def of(row: report.Row) -> str:
            value = ratios.get(f"{own} / {row['row']}")
            return "" if value is None else report.shown(value)

        return of

    return {
        "row": lambda r: str(r["row"]),
        "ms/step": lambda r: f"{r[TIME]:.3f}",
        "of the rounds": _spread,
        "process MB": lambda r: f"{r['process_peak_bytes'] / 1e6:,.0f}",
        "loss": lambda r: f"{r['loss']:.4f}",
        **{f"{own} / it": divided(own) for own in own_rows()},
        "differs in": lambda r: str(r.get("differs", "")),
    }


def _spread(row: report.Row) -> str:
    rounds = row["rounds_ms_per_step"]
    return f"{min(rounds):.3f} to {max(rounds):.3f}"


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    threads = {row["threads"] for row in result["rows"] if "threads" in row}
    known = [r for r in result["ratios"] if "fastest" in r["name"]]
    return "\n".join([
        machine.line(result["machine"]) + f"; {', '.join(map(str, sorted(threads)))} threads",
        machine.about(result["machine"]),
        report.text(result["rows"], columns(result)), report.text(known, report.RATIOS),
    ])  # fmt: skip


def own_rows() -> list[str]:
    """The rows that every other is compared with."""
    return [name for name, changes in OURS.items() if "backend" not in changes]
