"""Our learners beside other frameworks: forward and backward of one network, in one run.

Every row computes the same loss of the same network on the same input with the same weights
(:mod:`snnlab.benchmarks.frameworks` has the equations and each framework's form), without
optimiser; ours from events, the others from a dense array that is made before the clock starts. On
the CPU there are as many threads as the process may use cores. Rows run in turns, each in a process
of its own; compilation and the first run do not count. With several cores, torch's threads wait
for each other actively and lose much where other programs use the cores; on a machine that is not
quiet, compare on one core (``taskset -c 0 python -m snnlab.benchmarks peers``), where CPU time is
measured (:func:`snnlab.benchmarks.cells.clock`).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import resource
import statistics
from typing import Any

import numpy as np

from snnlab.benchmarks.cells import Cell, clock, in_turns, make_stream
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case, Run
from snnlab.benchmarks.learners import TIME, machine_line, rates, ratio, ratio_lines
from snnlab.errors import one_line

INSTALL = "pip install -e '.[peers]'"
BOUND = "<= 0.6"
N_OUT = 10


@dataclasses.dataclass(frozen=True)
class PeerCell(Cell):
    """A cell that ``framework`` computes; ours, with the cell's learner, where that is empty."""

    framework: str = ""


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
    config = LearnerConfig(method=cell.method, backend=cell.backend)  # type: ignore[arg-type]
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
    """Measure a cell in this process.

    Returns:
        The cell's fields, ``ms_per_step`` (median, by :func:`snnlab.benchmarks.cells.clock`),
        ``loss`` per step, ``threads``, ``process_peak_bytes``; or ``error`` where the framework
        cannot be imported.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    row: dict[str, Any] = {**dataclasses.asdict(cell), "threads": threads}
    if cell.framework:
        framework = FRAMEWORKS[cell.framework]
        try:
            importlib.import_module(framework.module)
        except Exception as error:  # noqa: BLE001 (what a broken installation raises is unknown)
            return row | {"error": f"cannot be imported: {one_line(str(error))[:120]}"}
        if framework.torch:
            import torch

            torch.set_num_threads(threads or 1)
        run = framework.make(make_case(cell)[2])
    else:
        run = own_run(cell)
    loss, times, now = run()[0], [], clock()
    for _ in range(cell.repeats):
        began = now()
        run()
        times.append((now() - began) / cell.data_length * 1e3)
    return row | {
        TIME: round(statistics.median(times), 4),
        "loss": float(loss) / cell.data_length,
        "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def run(base: Cell, rounds: int = 3) -> dict[str, Any]:
    """Measure our learners and every framework that is installed, in turns.

    Args:
        base: sizes.
        rounds: fresh processes per row.

    Returns:
        ``rows`` (each with its name; frameworks with what they do differently; ``error`` where
        one is not installed), ``ratios`` (name -> value, what of, bound) and ``machine``.
    """
    sizes = {f.name: getattr(base, f.name) for f in dataclasses.fields(Cell)}
    cells = {name: PeerCell(**{**sizes, **changes}) for name, changes in OURS.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, framework in FRAMEWORKS.items():
        cell = PeerCell(**sizes, framework=name)
        rows[name] = {**dataclasses.asdict(cell), "error": f"not installed: {INSTALL}"}
        if framework.installed:
            cells[name] = cell
    measured = dict(zip(cells, in_turns(list(cells.values()), rounds), strict=True))
    rows = {name: {"row": name, **row} for name, row in {**measured, **(rows | measured)}.items()}
    for name, framework in FRAMEWORKS.items():
        rows[name]["differs"] = framework.differs
    return {"machine": rates(), "rows": list(rows.values()), "ratios": _ratios(rows)}


def _ratios(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    def one(own: str, other: str, name: str = "", bound: str = "") -> dict[str, Any]:
        value = ratio(rows[own].get(TIME), rows[other].get(TIME))
        return {"name": f"{own} / {name or other}", "of": TIME, "value": value, "bound": bound}

    others = [n for n in FRAMEWORKS if TIME in rows[n]]
    with_torch = [n for n in others if FRAMEWORKS[n].torch]
    found = []
    if with_torch:
        fastest = min(with_torch, key=lambda n: rows[n][TIME])
        found.append(one("BPTT", fastest, f"{fastest} (the fastest with torch)", BOUND))
    others += [n for n in OURS if n not in own_rows()]
    return found + [one(a, b) for b in others for a in own_rows()]


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    threads = {row["threads"] for row in result["rows"] if "threads" in row}
    lines = [
        machine_line(result["machine"]) + f"; {', '.join(map(str, sorted(threads)))} threads",
        f"{'row':22} {'ms/step':>9} {'rounds':>17} {'process MB':>10} {'loss':>8}  "
        + "  ".join(f"{own} / it" for own in own_rows())
        + "  differs in",
    ]
    ratios = {r["name"]: r for r in result["ratios"]}
    for row in result["rows"]:
        if "error" in row:
            lines.append(f"{row['row']:22} {row['error']}")
            continue
        rounds = row["rounds_ms_per_step"]
        lines.append(
            f"{row['row']:22} {row[TIME]:9.3f} {min(rounds):8.3f}-{max(rounds):8.3f} "
            f"{row['process_peak_bytes'] / 1e6:10.0f} {row['loss']:8.4f}  "
            + "  ".join(_cell(ratios.pop(f"{own} / {row['row']}", None), own) for own in own_rows())
            + f"  {row.get('differs', '')}"
        )
    return "\n".join([*lines, *ratio_lines(list(ratios.values()))])


def own_rows() -> list[str]:
    """The rows that every other is compared with."""
    return [name for name, changes in OURS.items() if "backend" not in changes]


def _cell(found: dict[str, Any] | None, own: str) -> str:
    width = len(f"{own} / it")
    return " " * width if found is None else f"{found['value']:{width}.2f}"
