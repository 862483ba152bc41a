"""Time and memory of the learners against BPTT, as ratios within one run."""

from __future__ import annotations

import dataclasses
from typing import Any

from snnlab.benchmarks import machine, processes, report, roofline
from snnlab.benchmarks.cells import Cell
from snnlab.benchmarks.report import MEMORY, TIME, ratio

#: Sequence lengths of the memory comparison (compiled, not run).
LENGTHS = (200, 2000)
#: A second, small size: 700 inputs, 1 x 128 neurons, batch 128.
SMALL = {"n_in": 700, "n_rec": 128, "n_layer": 1, "batch_size": 128}

#: What is measured: row -> changes of the base cell.
ROWS: dict[str, dict[str, Any]] = {
    "BPTT, plain": {"method": "bptt", "backend": "plain"},
    "BPTT": {"method": "bptt"},
    "BPTT, dense input": {"method": "bptt", "events": False},
    "BPTT, --remat": {"method": "bptt", "backend": "snnlab", "remat": True},
    "BPTT, T 400": {"method": "bptt", "data_length": 400, "repeats": 2},
    "BPTT, --remat, T 400": {
        "method": "bptt", "backend": "snnlab", "remat": True, "data_length": 400, "repeats": 2
    },
    "ES-D-RTRL": {"method": "expsm_diag"},
    "ES-D-RTRL, braintrace": {"method": "expsm_diag", "backend": "braintrace"},
    "D-RTRL": {"method": "diag"},
    "D-RTRL, traces kept": {"method": "diag", "data_length": LENGTHS[0], "repeats": 3},
    "D-RTRL, update at every step": {
        "method": "diag", "update_every": 1, "repeats": 3
    },
    "D-RTRL, braintrace": {
        "method": "diag", "backend": "braintrace", "data_length": 10, "repeats": 2
    },
    "windows of 25": {"method": "diag", "vjp_method": "multi-step", "chunk_size": 25},
    "windows of 25, braintrace": {
        "method": "diag", "vjp_method": "multi-step", "chunk_size": 25, "backend": "braintrace",
        "repeats": 2,
    },
    **{  # of online rules a CPU refuses them
        f"BPTT, {precision}": {"method": "bptt", "precision": precision, "repeats": 3}
        for precision in ("mixed", "bfloat16")
    },
    "hybrid": {"method": "hybrid"},
    # Rules with a trace of two numbers for each weight and sample, against D-RTRL of such neurons;
    # twice as long, since one chunk may be as large as the traces.
    "D-RTRL, two states, traces kept": {
        "method": "diag", "model": "lif-exp-cu", "data_length": 2 * LENGTHS[0], "repeats": 2
    },
    "e-prop, traces kept": {"method": "eprop", "data_length": 2 * LENGTHS[0], "repeats": 2},
    "OTPE, traces kept": {"method": "otpe", "data_length": 2 * LENGTHS[0], "repeats": 2},
    "RFLO, traces kept": {"method": "rflo", "data_length": LENGTHS[0], "repeats": 3},
    "DECOLLE, traces kept": {"method": "decolle", "data_length": LENGTHS[0], "repeats": 3},
    "OTTT": {"method": "ottt"},
    "immediate": {"method": "immediate"},
    "truncated BPTT, windows of 50": {"method": "tbptt", "chunk_size": 50},
    "small: BPTT, plain": {"method": "bptt", "backend": "plain", **SMALL},
    "small: ES-D-RTRL": {"method": "expsm_diag", **SMALL},
}  # fmt: skip
COSINE = "gradient_cosine"
#: Ratios: name -> (row, row it is divided by, what of them, bound).
RATIOS = {
    "D-RTRL, traces kept / BPTT, plain": ("D-RTRL, traces kept", "BPTT, plain", TIME, "<= 2.0"),
    "D-RTRL, one chunk / BPTT, plain": ("D-RTRL", "BPTT, plain", TIME, "<= 1.2"),
    "D-RTRL, braintrace / snnlab": ("D-RTRL, braintrace", "D-RTRL", TIME, ">= 25"),
    "D-RTRL, braintrace / traces kept": ("D-RTRL, braintrace", "D-RTRL, traces kept", TIME, ""),
    "windows of 25, braintrace / snnlab": (
        "windows of 25, braintrace", "windows of 25", TIME, ">= 4"
    ),
    "windows of 25, snnlab / braintrace": (
        "windows of 25", "windows of 25, braintrace", MEMORY, "<= 0.6"
    ),
    "ES-D-RTRL / BPTT, plain": ("ES-D-RTRL", "BPTT, plain", TIME, "<= 0.7"),
    "small: ES-D-RTRL / BPTT, plain": ("small: ES-D-RTRL", "small: BPTT, plain", TIME, "<= 0.4"),
    "BPTT, dense input / plain": ("BPTT, dense input", "BPTT, plain", TIME, "<= 0.85"),
    "BPTT / plain": ("BPTT", "BPTT, plain", TIME, "<= 0.65"),
    "BPTT, --remat / BPTT": ("BPTT, --remat", "BPTT", TIME, ""),
    "BPTT, --remat / BPTT (memory)": ("BPTT, --remat", "BPTT", MEMORY, ""),
    "hybrid / ES-D-RTRL": ("hybrid", "ES-D-RTRL", TIME, "<= 1.1"),
    "e-prop / D-RTRL of two states": (
        "e-prop, traces kept", "D-RTRL, two states, traces kept", TIME, "<= 1.2"
    ),
    "OTPE / D-RTRL of two states": (
        "OTPE, traces kept", "D-RTRL, two states, traces kept", TIME, "<= 1.2"
    ),
    "RFLO / D-RTRL": ("RFLO, traces kept", "D-RTRL, traces kept", TIME, "<= 1.2"),
    "DECOLLE / D-RTRL": ("DECOLLE, traces kept", "D-RTRL, traces kept", TIME, "<= 1.2"),
    "OTTT / ES-D-RTRL": ("OTTT", "ES-D-RTRL", TIME, "<= 1.2"),
    "truncated BPTT / BPTT": ("truncated BPTT, windows of 50", "BPTT", TIME, "<= 1.2"),
    "T 400: BPTT, --remat / BPTT": ("BPTT, --remat, T 400", "BPTT, T 400", TIME, ""),
    "T 400: BPTT, --remat / BPTT (memory)": ("BPTT, --remat, T 400", "BPTT, T 400", MEMORY, ""),
}  # fmt: skip


def run(
    base: Cell, rounds: int = 3, only: list[str] | None = None, devices: str = "0"
) -> dict[str, Any]:
    """Measure the learners of one size in turns, and how their memory grows with the sequence.

    Args:
        base: sizes; ``ROWS`` says what each row changes.
        rounds: fresh processes per row.
        only: ``method`` or ``method:backend`` to compare with plain BPTT, in place of ``ROWS``.
        devices: which accelerator, or ``cpu``.

    Returns:
        ``rows`` (each with its name), ``ratios`` (name -> value, what of, bound) and ``machine``
        (:func:`snnlab.benchmarks.machine.describe`).
    """
    chosen = ROWS if only is None else {"BPTT, plain": ROWS["BPTT, plain"]}
    for name in only or []:
        method, _, backend = name.partition(":")
        chosen[name] = {"method": method, "backend": backend or "auto"}
    cells = [dataclasses.replace(base, **changes) for changes in chosen.values()]
    rows = dict(zip(chosen, processes.in_turns(cells, rounds, devices), strict=True))
    wanted = RATIOS if only is None else {
        f"{n} / BPTT, plain": (n, "BPTT, plain", TIME, "") for n in only
    }  # fmt: skip
    ratios = [
        {"name": name, "of": what, "value": ratio(rows[a].get(what), rows[b].get(what)),
         "bound": bound}
        for name, (a, b, what, bound) in wanted.items()
    ]  # fmt: skip
    lengths = [n for n in ("ES-D-RTRL", "D-RTRL") if n in rows] if only is None else only
    for name in lengths:
        cell = dataclasses.replace(base, repeats=0, **chosen[name])
        peaks = [
            processes.in_fresh_process(dataclasses.replace(cell, data_length=n), devices).get(
                MEMORY
            )
            for n in LENGTHS
        ]
        label = f"{name}, T {LENGTHS[1]} / T {LENGTHS[0]}"
        ratios.append(
            {"name": label, "of": MEMORY, "value": ratio(peaks[1], peaks[0]), "bound": "<= 1.05"}
        )
    here = processes.machine_of(devices)
    if only is None:
        ratios += _against_the_machine(base, rows, here)
    return {
        "machine": here, "ratios": ratios,
        "rows": [
            {"row": name, **row, **roofline.shares(row, here)} for name, row in rows.items()
        ],
    }  # fmt: skip


def _against_the_machine(
    base: Cell, rows: dict[str, Any], here: dict[str, Any]
) -> list[dict[str, Any]]:
    trace = roofline.trace_bytes(base)
    once = 2 * trace / here["memory_bytes_per_second"] * 1e3
    step = rows["D-RTRL, update at every step"].get(TIME)
    kept = rows["D-RTRL, traces kept"].get(MEMORY)
    return [
        {"name": "D-RTRL, update at every step / traces read and written once", "of": TIME,
         "value": ratio(step, once), "bound": "<= 2.0"},
        {"name": "D-RTRL, traces kept / the traces", "of": MEMORY, "value": ratio(kept, trace),
         "bound": "<= 1.3"},
    ]  # fmt: skip


#: What is shown of a row.
COLUMNS: report.Columns = {
    "row": lambda r: str(r["row"]),
    "T": lambda r: str(r["data_length"]),
    "ms/step": lambda r: f"{r.get(TIME, 0):.3f}",
    "temporary MB": lambda r: f"{(r[MEMORY] or 0) / 1e6:,.1f}",
    "compile s": lambda r: f"{r['compile_seconds']:.1f}",
    "Mflop/step": lambda r: f"{r[roofline.FLOP] / 1e6:,.1f}",
    "of the product rate": lambda r: f"{r.get('product_share', 0):.0%}",
    "MB/step": lambda r: f"{r[roofline.BYTES] / 1e6:,.1f}",
    "of the memory rate": lambda r: f"{r.get('memory_share', 0):.0%}",
    "gradient's cosine": lambda r: f"{r[COSINE]:.4f}" if COSINE in r else "",
}


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    return "\n".join([
        machine.line(result["machine"]), machine.about(result["machine"]),
        report.text(result["rows"], COLUMNS), report.text(result["ratios"], report.RATIOS),
    ])  # fmt: skip
