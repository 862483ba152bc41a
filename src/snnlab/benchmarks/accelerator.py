"""One prepared measurement of a GPU or TPU: all that a bound is asked of, the important first.

Every cell is a process of its own. A row is written as soon as it is there, so what was measured
stays where the machine or the time ends; called again with the same folder the measurement goes on
with what is missing or failed. On a CPU the same cells run at tiny sizes: that shows that they
work, not how fast they are.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snnlab.benchmarks import machine, processes, prospects, report, roofline
from snnlab.benchmarks.cells import Cell
from snnlab.benchmarks.frameworks import FRAMEWORKS
from snnlab.benchmarks.onm import OnmCell
from snnlab.benchmarks.peers import PeerCell
from snnlab.benchmarks.report import MEMORY, TIME, ratio
from snnlab.errors import UsageError, one_line, shown
from snnlab.training.metrics import write_atomically

ROWS_FILE, PAGE_FILE = "rows.jsonl", "page.md"
TINY = "tiny sizes: these rows show that everything runs, not how fast it is"
#: Groups of rows, in the order in which they are measured.
GROUPS = {
    "steps": "an update at every step",
    "peers": "forward and backward beside other frameworks",
    "long": "long sequences",
    "bits": "fewer bits",
    "sparse": "sparse networks",
    "onm": "the benchmark of Open Neuromorphic",
    "more": "more rows of the table of learners",
}
STEPS = "D-RTRL, update at every step"
LONG: dict[str, Any] = {"batch_size": 128, "data_length": 400}
WIDE: dict[str, Any] = {"n_rec": 2048, "batch_size": 128}
HUNDRED: dict[str, Any] = {"n_in": 512, "n_rec": 100_000, "connectivity": 0.01}
MILLION: dict[str, Any] = {"n_in": 2048, "n_rec": 1_000_000, "connectivity": 1e-4}
ALONE: dict[str, Any] = {"n_layer": 1, "batch_size": 1, "data_length": 50, "method": "diag"}


def plan() -> dict[str, dict[str, Any]]:
    """Group -> name of a row -> its cell, at the sizes of the bounds."""
    learner = functools.partial(Cell, repeats=3)
    peer = functools.partial(PeerCell, repeats=3)
    onm = functools.partial(OnmCell, n=16_384, repeats=3)
    bits = ("float32", "mixed")
    return {
        "steps": {
            **of_kernels({STEPS: learner(method="diag", update_every=1)}),
            **of_kernels({
                f"{STEPS}, mixed": learner(method="diag", update_every=1, precision="mixed")
            }),
        },
        "peers": {
            "BPTT, forward and backward": peer(method="bptt"),
            "D-RTRL, forward and backward": peer(method="diag"),
            "ES-D-RTRL, forward and backward": peer(method="expsm_diag"),
            **{name: peer(framework=name) for name in ("spyx", "torch, CUDA graph", "torch")},
        },
        "long": {
            "BPTT, T 400": learner(method="bptt", **LONG),
            "D-RTRL, T 400": learner(method="diag", **LONG),
            **of_kernels(
                {"D-RTRL, T 400, traces kept": learner(method="diag", chunk_size=100, **LONG)}
            ),
        },
        "bits": {
            **{f"BPTT, 2048, {p}": learner(method="bptt", precision=p, **WIDE) for p in bits},
            **of_kernels({
                f"D-RTRL, 2048, traces kept, {p}": learner(
                    method="diag", chunk_size=50, precision=p, **WIDE
                )
                for p in bits
            }),
        },
        "sparse": {
            "10^5 neurons": learner(**HUNDRED, **ALONE),
            "10^6 neurons": learner(**MILLION, **ALONE),
            "10^5 neurons, T 1000": learner(**HUNDRED, **{**ALONE, "data_length": 1000}),
            "10^5 neurons, update every 10": learner(**HUNDRED, **ALONE, update_every=10),
        },
        "onm": {
            "onm: BPTT": onm(method="bptt"),
            "onm: D-RTRL": onm(method="diag"),
            **{f"onm: {n}": onm(framework=n) for n in ("spyx", "torch, CUDA graph", "torch")},
        },
        "more": {
            "BPTT": learner(method="bptt"),
            "BPTT, plain": learner(method="bptt", backend="plain"),
            "ES-D-RTRL": learner(method="expsm_diag"),
            "D-RTRL": learner(method="diag"),
            "ES-D-RTRL, T 400": learner(method="expsm_diag", **LONG),
            **of_kernels({"D-RTRL, update every 10": learner(method="diag", update_every=10)}),
            **{
                name: peer(framework=name)
                for name in FRAMEWORKS if name not in ("spyx", "torch, CUDA graph", "torch")
            },
        },
    }  # fmt: skip


def of_kernels(cells: dict[str, Cell]) -> dict[str, Cell]:
    """Rows in both forms of ``--kernels``: as XLA makes them, then ours."""
    return {
        f"{name}{', pallas' if form == 'pallas' else ''}": dataclasses.replace(c, kernels=form)
        for form in ("xla", "pallas") for name, c in cells.items()
    }  # fmt: skip


class Ratio(NamedTuple):
    """A row over another, or a row's time against its bound in ms (``below`` a number)."""

    row: str
    below: str | float
    bound: str


#: What is asked. ``TRACES``: one read and one write of the traces, at the rate of this run.
TRACES = "traces read and written once"
RATIOS = (
    Ratio(STEPS, TRACES, "<= 2"),
    Ratio(f"{STEPS}, pallas", TRACES, "<= 2"),
    Ratio("BPTT, forward and backward", "spyx", "<= 0.5"),
    Ratio("D-RTRL, forward and backward", "spyx", "<= 0.4"),
    Ratio("D-RTRL, T 400", "BPTT, T 400", "<= 1.2"),
    Ratio("D-RTRL, T 400, traces kept", "BPTT, T 400", "<= 1.5"),
    Ratio("D-RTRL, T 400, traces kept, pallas", "BPTT, T 400", "<= 1.5"),
    Ratio("BPTT, 2048, mixed", "BPTT, 2048, float32", "<= 0.7"),
    Ratio(
        "D-RTRL, 2048, traces kept, mixed", "D-RTRL, 2048, traces kept, float32", "<= 0.7"
    ),
    Ratio(
        "D-RTRL, 2048, traces kept, mixed, pallas", "D-RTRL, 2048, traces kept, float32, pallas",
        "<= 0.7",
    ),
    Ratio("10^5 neurons", 1.0, "<= 1"),
    Ratio("10^6 neurons", 5.0, "<= 1"),
    Ratio("onm: BPTT", "onm: spyx", ""),
    Ratio("onm: D-RTRL", "onm: spyx", ""),
    Ratio("BPTT, forward and backward", "torch, CUDA graph", ""),
)  # fmt: skip


def tiny(cell: Any) -> Any:
    """The same measurement at a size for a CPU and seconds."""
    if isinstance(cell, OnmCell):
        return dataclasses.replace(cell, n=32, batch_size=2, data_length=20, repeats=1)
    sparse = cell.connectivity < 1
    return dataclasses.replace(
        cell, n_in=40, n_rec=200 if sparse else 16, n_layer=min(cell.n_layer, 2), batch_size=2,
        data_length=20, repeats=1, connectivity=0.05 if sparse else 1.0,
        chunk_size=5 if cell.chunk_size else 0, update_every=min(cell.update_every, 5),
    )  # fmt: skip


def rows_to_measure(groups: list[str], small: bool) -> Iterator[tuple[str, str, Any]]:
    """``(group, name, cell)`` in order."""
    for group, cells in plan().items():
        if group in groups:
            for name, cell in cells.items():
                yield group, name, tiny(cell) if small else cell


def run(
    out: Path,
    devices: str = "0",
    seconds: float = 0.0,
    groups: list[str] | None = None,
    sizes: str = "auto",
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure what is missing in ``out``.

    Args:
        out: folder for ``rows.jsonl`` (the machine, then a line for each row) and ``page.md``.
        devices: which accelerator, or ``cpu``.
        seconds: time after which nothing is begun and what runs is ended; 0: no limit.
        groups: of :data:`GROUPS`; all by default.
        sizes: ``full``, ``tiny``, or ``auto``: tiny on a CPU.
        tell: where progress goes.

    Returns:
        ``machine``, ``rows``, ``ratios``.

    Raises:
        UsageError: a folder with the measurements of another machine or version.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    here = processes.machine_of(devices)
    small = sizes == "tiny" or (sizes == "auto" and here["platform"] == "cpu")
    here["sizes"] = "tiny" if small else "full"
    if small:
        tell(TINY)
    there, rows = _read(out / ROWS_FILE)
    _check_same(there, here, out)
    wanted = list(rows_to_measure(groups or list(GROUPS), small))
    for group, name, cell in wanted:
        fields = json.loads(json.dumps(dataclasses.asdict(cell)))
        old = rows.get(name, {})
        if TIME in old and all(old.get(k) == v for k, v in fields.items()):
            continue
        left = seconds - (time.monotonic() - began) if seconds else None
        if left is not None and left <= 0:
            tell(f"{seconds:.0f} s are over: {name} and what follows were not measured")
            break
        row = {"row": name, "group": group, **_measured(cell, devices, left)}
        rows[name] = row | roofline.shares(row, here)
        _write(out, here, rows)
        tell(report.text([rows[name]], COLUMNS).splitlines()[-1])
    order = [name for cells in plan().values() for name in cells]
    rows = {name: rows[name] for name in order if name in rows}
    _write(out, here, rows)
    return _result(here, rows)


def _measured(cell: Any, devices: str, left: float | None) -> dict[str, Any]:
    """A row; what fails is a row that says why, so that the others are measured."""
    if getattr(cell, "framework", "") and not FRAMEWORKS[cell.framework].installed:
        return {**dataclasses.asdict(cell), "error": "not installed"}
    try:
        return processes.in_fresh_process(cell, devices, left)
    except (UsageError, processes.Late) as error:
        reason = one_line(str(error))
    except RuntimeError as error:
        reason = f"failed: {str(error).strip().splitlines()[-1]}"
    return {**dataclasses.asdict(cell), "error": shown(reason, 200)}


def _read(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The machine and the rows of an earlier call; empty if there was none."""
    if not file.exists():
        return {}, {}
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return lines[0]["machine"], {line["row"]: line for line in lines[1:]}
    except (OSError, ValueError, LookupError, TypeError):
        raise UsageError(f"{file} holds no measurement; choose another --out") from None


def _check_same(there: Mapping[str, Any], here: Mapping[str, Any], out: Path) -> None:
    def of(found: Mapping[str, Any]) -> tuple[Any, ...]:
        versions = found.get("versions", {})
        return found["device"], versions.get("commit"), versions.get("jax")

    if there and of(there) != of(here):
        raise UsageError(
            f"{out} holds measurements of {of(there)}, this is {of(here)}; choose another --out"
        )


def _write(out: Path, here: dict[str, Any], rows: Mapping[str, dict[str, Any]]) -> None:
    lines = [json.dumps({"machine": here}), *(json.dumps(row) for row in rows.values())]
    write_atomically(out / ROWS_FILE, "\n".join(lines) + "\n")
    write_atomically(out / PAGE_FILE, page(_result(here, rows)) + "\n")


def _result(here: dict[str, Any], rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {"machine": here, "rows": list(rows.values()), "ratios": ratios(here, rows)}


def ratios(here: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the bounds are of, as far as the rows are there."""
    times = {name: row.get(TIME) for name, row in rows.items()}
    found = []
    for name, below, bound in RATIOS:
        if not times.get(name):
            continue
        against: Any = below if isinstance(below, float) else times.get(below)
        if below == TRACES:
            size = roofline.trace_bytes(Cell(**_fields(rows[name], Cell)))
            against = 2 * size / here["memory_bytes_per_second"] * 1e3
        label = f"{below:g} ms/step" if isinstance(below, float) else below
        found.append(
            {"name": f"{name} / {label}", "of": TIME, "value": ratio(times[name], against),
             "bound": bound if here.get("sizes") == "full" else "(tiny)"}
        )  # fmt: skip
    return found


def _fields(row: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {f.name: row[f.name] for f in dataclasses.fields(kind)}


def _mega(row: report.Row, name: str) -> str:
    return f"{row[name] / 1e6:,.0f}" if row.get(name) else ""


#: What is shown of a row.
COLUMNS: report.Columns = {
    "row": lambda r: str(r["row"]),
    "B": lambda r: str(r["batch_size"]),
    "T": lambda r: str(r["data_length"]),
    "chunk": lambda r: str(r.get("chunk", "")),
    "ms/step": lambda r: f"{r[TIME]:.4g}",
    "temporary MB": lambda r: _mega(r, MEMORY),
    "device MB": lambda r: _mega(r, "device_peak_bytes"),
    "compile s": lambda r: f"{r['compile_seconds']:.1f}" if "compile_seconds" in r else "",
    "of the product rate": lambda r: f"{r['product_share']:.0%}" if "product_share" in r else "",
    "of the memory rate": lambda r: f"{r['memory_share']:.0%}" if "memory_share" in r else "",
}


def page(
    result: Mapping[str, Any], command: str = "python -m snnlab.benchmarks accelerator"
) -> str:
    """The result in Markdown, with what it means for larger networks."""
    meant = prospects.markdown(result["machine"]["memory_bytes_per_second"])
    note = f"{TINY}\n\n" if result["machine"].get("sizes") == "tiny" else ""
    return note + report.page(result, command, COLUMNS) + "\n\n" + meant


def table(result: Mapping[str, Any]) -> str:
    """The result as lines of text."""
    return "\n".join([
        machine.line(result["machine"]), machine.about(result["machine"]),
        report.text(result["rows"], COLUMNS), report.text(result["ratios"], report.RATIOS),
    ])  # fmt: skip
