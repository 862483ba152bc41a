"""Time and memory of the learners over lists of sizes: the memory and speed evaluation.

This process never touches the device: every cell has one of its own (see
:mod:`snnlab.benchmarks.cells`), so that no cell sees the memory of another, and so that devices
which only one process may hold (a TPU) are free for it. There a row has, beside XLA's temporary
memory, what the device says that arrays and programs took of it at most, of how much, and which
policies planned the program (:mod:`snnlab.learners.tuning`).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from snnlab import __version__, runs
from snnlab import config as configs
from snnlab.benchmarks.cells import Cell
from snnlab.benchmarks.processes import in_fresh_process
from snnlab.config import CommaText, NameText, PathText, option, section
from snnlab.console import make_console
from snnlab.errors import UsageError, one_line, shown
from snnlab.learners import LearnerConfig
from snnlab.models.registry import MODELS
from snnlab.training.metrics import write_atomically

if TYPE_CHECKING:
    from snnlab.analysis import figures

#: What ``--preset`` sets, below flags and files.
PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "paper": {
        "n_in": "32768", "n_rec": "512", "n_layer": "3", "batch_size": "128",
        "data_length": "100,50,200,500,1000",
    },
}  # fmt: skip
#: For ``--help``.
TITLE = "Measure time and memory of the learners over sequence lengths and sizes (TPU, GPU or CPU)."
EXAMPLES = {
    "--devices cpu": "BPTT, D-RTRL and ES-D-RTRL, three lengths and three sizes; minutes",
    "--method expsm_diag --data_length 100,1000,10000 --memory_eval": "memory against length",
    "--preset paper": "the published sizes, on an accelerator",
}
#: What is compared with an earlier sweep.
COMPARED = {
    "time": "ms_per_step", "memory": "peak_temp_bytes", "device memory": "device_peak_bytes"
}  # fmt: skip
#: Cells of one sweep.
MOST_CELLS = 10_000
SIZES = ("data_length", "n_rec", "n_layer", "batch_size", "n_in")
#: Fields that say which cell a row is of; the others are how often and with which numbers.
#: With their defaults, for sweeps from before a field was there.
IDENTITY = {
    f.name: f.default
    for f in dataclasses.fields(Cell)
    if f.name not in ("repeats", "seed", "remat", "events", "precision", "kernels")
}  # fmt: skip


@section("Sweep")
class SweepConfig:
    """What is measured. A list is separated by commas; its first value is the base."""

    method: CommaText = option(basic=True, default="bptt,diag,expsm_diag", help="list of learners")
    backend: CommaText = option(default="auto", help="list of their implementations")
    chunk_size: CommaText = option(default="auto", help="list of chunk sizes", unit="steps")
    model: CommaText = option(default="lif-delta", help="list of layer models")
    data_length: CommaText = option(
        basic=True, default="100,200,400", help="list of sequence lengths T"
    )
    n_rec: CommaText = option(basic=True, default="128,64,256", help="list of neurons per layer")
    n_layer: CommaText = option(basic=True, default="3", help="list of depths")
    batch_size: CommaText = option(basic=True, default="16", help="list of batch sizes")
    n_in: CommaText = option(basic=True, default="512", help="list of numbers of inputs")
    density: float = option(default=0.02, help="share of inputs active in a step", ge=0, le=1)
    connectivity: float = option(
        default=1.0, help="share of the connections onto each layer that exist", gt=0, le=1
    )
    sweep: Literal["star", "grid"] = option(
        default="star",
        help="star: vary one size at a time, the others at their base; grid: all combinations",
    )
    epoch: int = option(
        default=5, help="timed runs of a cell, after one that warms up", gt=0,
        only={"memory_eval": (False,)},
        aliases=("epochs", "repeats"),
    )  # fmt: skip
    memory_eval: bool = option(basic=True, default=False, help="compile only: memory without times")
    preset: Literal["small", "paper"] = option(
        basic=True,
        default="small",
        help="sizes that are not given: small fits two cores and five minutes; paper is 32768 "
        "inputs, 3 x 512 neurons, batch 128, T 50 to 1000",
    )


@section("Run")
class SweepRun:
    """Where it goes."""

    devices: CommaText = option(
        basic=True, default="0", help="an accelerator's id, all, or cpu", aliases=("gpu",)
    )
    filepath: PathText = option(
        basic=True, default="", help="folder; empty: runs/memory-and-speed-<time>"
    )
    exp_name: NameText = option(default="", help="name that the folder carries")
    compare: PathText = option(
        default="", help="results.json of an earlier sweep: show ratios to it"
    )


@dataclasses.dataclass(frozen=True)
class MemoryAndSpeed:
    """Config of ``tasks/task-memory-and-speed-evaluation-tpu.py``."""

    run: SweepRun = dataclasses.field(default_factory=SweepRun)
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)

    def __post_init__(self) -> None:
        cells_of(self.sweep)


def _of_preset(given: dict[str, Any]) -> dict[str, Any]:
    return PRESETS.get(str(given.get("preset", "small")), {})


def cells_of(config: Any) -> list[Cell]:
    """The cells of a sweep, in the order in which they are measured.

    Combinations that mean nothing (a backend that does not implement a method) are left out.

    Raises:
        UsageError: a list with something that cannot be, or nothing left to measure.
    """
    names = ("method", "backend", "chunk_size", "model", *SIZES)
    read: dict[str, Callable[[str, str], Any]] = dict.fromkeys(SIZES, _size)
    read |= {"method": _text, "backend": _text, "model": _model, "chunk_size": _chunk}
    lists = {name: _list(name, getattr(config, name), read[name]) for name in names}
    n_learners = math.prod(len(lists[n]) for n in names[:4])
    n_sizes = [len(lists[n]) for n in SIZES]
    n_cells = n_learners * (math.prod(n_sizes) if config.sweep == "grid" else sum(n_sizes))
    if n_cells > MOST_CELLS:
        raise UsageError(f"{n_cells:,} cells to measure; at most {MOST_CELLS:,} go into one sweep")
    learners = list(itertools.product(*(lists[n] for n in names[:4])))
    sizes: Iterable[Sequence[int]]
    if config.sweep == "grid":
        sizes = itertools.product(*(lists[n] for n in SIZES))
    else:
        base = [lists[n][0] for n in SIZES]
        varied = [
            [value if i == j else b for j, b in enumerate(base)]
            for i, n in enumerate(SIZES) for value in lists[n][1:]
        ]  # fmt: skip
        sizes = [base, *varied]
    found: dict[Cell, None] = {}
    refused = ""
    for size in sizes:
        for method, backend, chunk, model in learners:
            try:
                learner = LearnerConfig(method=method, backend=backend, chunk_size=chunk or None)
            except pydantic.ValidationError as error:
                message = one_line(str(error.errors()[0]["msg"]))
                message = message.replace("Input should be", "must be")
                refused = f"--method {method}: {message.removeprefix('Value error, ')}"
                if error.errors()[0]["loc"]:
                    raise UsageError(refused) from None
                continue
            cell = Cell(
                method=learner.method, backend=backend, model=model,
                chunk_size=0 if method == "bptt" else chunk, density=config.density,
                connectivity=config.connectivity,
                repeats=0 if config.memory_eval else config.epoch,
                **dict(zip(SIZES, size, strict=True)),
            )  # fmt: skip
            found[cell] = None
    if not found:
        raise UsageError(refused)
    return list(found)


def _list(name: str, given: str, read: Callable[[str, str], Any]) -> list[Any]:
    parts = [p.strip() for p in str(given).split(",") if p.strip()]
    if not parts:
        raise UsageError(f"--{name} '{given}': give at least one value")
    return [read(name, p) for p in parts]


def _text(_name: str, value: str) -> str:
    return value


def _size(name: str, value: str) -> int:
    if not (value.isdecimal() and len(value) <= 8) or not 0 < int(value) <= 10_000_000:
        raise UsageError(f"--{name} {shown(value)}: must be whole numbers from 1 to 10000000")
    return int(value)


def _chunk(name: str, value: str) -> int:
    return 0 if value in ("auto", "none") else _size(name, value)


def _model(_name: str, value: str) -> str:
    known = [name for name, model in MODELS.items() if not model.network]
    if value not in known:
        valid = ", ".join(known)
        raise UsageError(f"--model {shown(value)}: no such model; valid: {valid}")
    return value


def label(row: Mapping[str, Any]) -> str:
    """Learner of a row in a few words."""
    chunk = f" K={row['chunk_size']}" if row["chunk_size"] else ""
    backend = f" ({row['backend']})" if row["backend"] != "auto" else ""
    return f"{row['method']}{chunk}{backend}"


def main(prog: str, description: str, argv: list[str] | None = None) -> int:
    """The whole command line.

    Returns:
        1 if a cell failed for another reason than memory, else 0.
    """
    config: Any
    config, dry_run = configs.parse(
        MemoryAndSpeed, argv, prog=prog, description=description,
        adapt=_of_preset, examples=EXAMPLES,
    )  # fmt: skip
    console = make_console()
    if dry_run:
        given, _ = configs.given_values(MemoryAndSpeed, argv, prog=prog)
        defaults = configs.defaults_beside(MemoryAndSpeed, given, adapt=_of_preset)
        text = configs.to_yaml(config, defaults=defaults)
        console.print(text, markup=False, highlight=False, end="")
        return 0
    from snnlab.analysis import figures

    old = read_rows(config.run.compare) if config.run.compare else []
    cells = cells_of(config.sweep)
    folder = runs.RunFolder.create(config.run.filepath, "memory-and-speed", "", config.run.exp_name)
    facts = {"snnlab": __version__, "commit": runs.commit()}
    folder.write_config(configs.to_yaml(config, facts))
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(cells, start=1):
        try:
            row = in_fresh_process(cell, config.run.devices)
        except (UsageError, RuntimeError) as error:
            row = {**dataclasses.asdict(cell), "error": str(error)}
        rows.append(row)
        write(folder, rows)
        console.print(f"{number:3}/{len(cells)}  {told(row)}", highlight=False, markup=False)
        for line in compared(row, old):
            console.print(f"         {line}", highlight=False, markup=False)
    drawn = panels(rows)
    if drawn:
        figures.save(figures.scaling_figure(drawn), folder.figures / "memory-and-speed.png")
    devices = sorted({
        f"{row['device']} (policies of {'a CPU' if row['policies'] == 'cpu' else 'an accelerator'})"
        for row in rows if "policies" in row
    })  # fmt: skip
    console.print(f"device     {', '.join(devices) or 'none: every cell failed'}")
    console.print(f"run folder {folder.path}", highlight=False)
    failed = [r for r in rows if r.get("error") not in (None, "out of memory")]
    if failed:
        console.print(f"{len(failed)} of {len(rows)} cells failed; results.json says why")
    return 1 if failed else 0


def told(row: Mapping[str, Any]) -> str:
    """A row as a line of text."""
    what = (
        f"{label(row):28} T {row['data_length']:5} n_rec {row['n_rec']:5} "
        f"layers {row['n_layer']} batch {row['batch_size']:4} n_in {row['n_in']:6}"
    )
    if "error" in row:
        return f"{what}  {one_line(str(row['error']))[:200]}"
    time = f"{row['ms_per_step']:9.3f} ms/step" if "ms_per_step" in row else "    (not timed)"
    memory = row.get("peak_temp_bytes")
    shown = f"{memory / 1e6:9.1f} MB" if memory is not None else "  unknown"
    if row.get("device_peak_bytes"):
        limit = row.get("device_limit_bytes")
        of = f" of {limit / 1e9:.1f}" if limit else ""
        shown += f" (device {row['device_peak_bytes'] / 1e9:.2f}{of} GB)"
    elif "process_peak_bytes" in row:
        shown += f" (process {row['process_peak_bytes'] / 1e6:.0f} MB)"
    fires = f"  {', '.join(f'{rate:g}' for rate in row['rates'])} Hz" if row.get("rates") else ""
    done = f"compiled in {row['compile_seconds']:.1f} s on {row['device']}"
    return f"{what} {time} {shown}{fires}  {done}"


def write(folder: runs.RunFolder, rows: Sequence[Mapping[str, Any]]) -> None:
    """``results.json`` and ``cells.csv``, complete after every cell."""
    folder.write_results({"rows": list(rows), "exponents": exponents(panels(rows))})
    names = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    table = csv.DictWriter(out, names, restval="")
    table.writeheader()
    table.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()}
                    for r in rows)  # fmt: skip
    write_atomically(folder.path / "cells.csv", out.getvalue())


def read_rows(path: str) -> list[dict[str, Any]]:
    """Rows of an earlier sweep.

    Raises:
        UsageError: the file is not there or holds no sweep.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    except OSError as error:
        raise UsageError(f"--compare {path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f'--compare {path}: holds no sweep (JSON with "rows")') from None
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise UsageError(f'--compare {path}: its "rows" are no list of rows')
    return rows


def compared(row: Mapping[str, Any], old: Sequence[Mapping[str, Any]]) -> list[str]:
    """How a row compares with the earlier rows of the same cell, a line each."""
    lines = []
    for before in old:
        if any(before.get(n, default) != row.get(n, default) for n, default in IDENTITY.items()):
            continue
        parts = [
            f"{word} x{row[name] / before[name]:.2f}"
            for word, name in COMPARED.items()
            if row.get(name) and before.get(name)
        ]
        on = "" if before.get("device") == row.get("device") else f" on {before.get('device')}"
        lines.append(f"against {before.get('jax', 'an earlier run')}{on}: {', '.join(parts)}")
    return lines


def panels(rows: Sequence[Mapping[str, Any]]) -> list[figures.Panel]:
    """What is drawn: time and memory (of the device too, where it tells) against T, time against
    neurons.

    A line is one learner at the sizes of the first row, but for the one that is varied.
    """
    from snnlab.analysis import figures

    if not rows:
        return []

    def time(row: Mapping[str, Any]) -> tuple[float, ...]:  # quartiles: rows of earlier had none
        return (row["ms_per_step"], *row.get("ms_per_step_quartiles", ()))

    wanted = (
        ("data_length", "sequence length T (steps)", "time per batch (ms)",
         lambda r: [ms * r["data_length"] for ms in time(r)], "ms_per_step"),
        ("data_length", "sequence length T (steps)", "peak temporary memory (MB)",
         lambda r: [r["peak_temp_bytes"] / 1e6], "peak_temp_bytes"),
        ("data_length", "sequence length T (steps)", "peak memory of the device (MB)",
         lambda r: [r["device_peak_bytes"] / 1e6], "device_peak_bytes"),
        ("n_rec", "neurons per layer", "time per step (ms)", time, "ms_per_step"),
    )  # fmt: skip
    made = []
    for axis, x, y, value, needed in wanted:
        fixed = [n for n in ("model", *SIZES) if n != axis]
        lines: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            if row.get(needed) and all(row[n] == rows[0][n] for n in fixed):
                lines.setdefault(label(row), []).append((row[axis], *value(row)))
        lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
        if lines:
            several = any(len(p) > 2 for points in lines.values() for p in points)
            made.append(figures.Panel(x, y, lines, "bars: quartiles of the rounds" * several))
    return made


def exponents(drawn: Sequence[figures.Panel]) -> dict[str, dict[str, float]]:
    """Fitted exponents by panel and line, for ``results.json``."""
    from snnlab.analysis import figures

    return {
        f"{panel.y} against {panel.x}": {
            name: round(found, 3)
            for name, points in panel.lines.items()
            if math.isfinite(found := figures.exponent(points))
        }
        for panel in drawn
    }
