"""Time and memory of the learners against BPTT, as ratios within one run."""

from __future__ import annotations

import dataclasses
from typing import Any

from snnlab.benchmarks.cells import Cell, in_fresh_process, in_turns


def run(
    methods: list[str], base: Cell, rounds: int = 3, lengths: tuple[int, int] = (100, 1000)
) -> dict[str, Any]:
    """Measure learners of one size, in turns, and how their memory grows with the sequence.

    Args:
        methods: ``method`` or ``method:backend``; BPTT is always measured.
        base: sizes.
        rounds: fresh processes per learner.
        lengths: two sequence lengths for the memory comparison (compiled, not run).

    Returns:
        ``rows``, and ``ratios``: for each learner its time over BPTT's and its temporary memory
        at the longer over that at the shorter sequence.
    """
    cells = [dataclasses.replace(base, method="bptt", backend="plain")]
    for name in methods:
        method, _, backend = name.partition(":")
        if method != "bptt":
            cells.append(dataclasses.replace(base, method=method, backend=backend or base.backend))
    rows = in_turns(cells, rounds)
    ratios = {}
    for cell, row in zip(cells, rows, strict=True):
        memory = [
            in_fresh_process(dataclasses.replace(cell, data_length=n, repeats=0))
            for n in lengths
        ]  # fmt: skip
        peaks = [m.get("peak_temp_bytes") for m in memory]
        label = cell.method if cell.method == "bptt" else f"{cell.method}:{cell.backend}"
        ratios[label] = {
            "time_over_bptt": _ratio(row.get("ms_per_step"), rows[0].get("ms_per_step")),
            f"temp_bytes_T{lengths[0]}": peaks[0],
            f"temp_bytes_T{lengths[1]}": peaks[1],
            "memory_growth": _ratio(peaks[1], peaks[0]),
        }
    return {"rows": rows, "ratios": ratios}


def _ratio(a: float | None, b: float | None) -> float | None:
    return round(a / b, 3) if a and b else None


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    lines = [f"{'learner':26} {'ms/step':>9} {'/ BPTT':>7} {'temp MB':>9} {'growth':>7}"]
    for row, (label, ratio) in zip(result["rows"], result["ratios"].items(), strict=True):
        if "error" in row:
            lines.append(f"{label:26} {row['error']}")
            continue
        lines.append(
            f"{label:26} {row.get('ms_per_step', 0):9.3f} {ratio['time_over_bptt'] or 0:7.2f} "
            f"{(row['peak_temp_bytes'] or 0) / 1e6:9.1f} {ratio['memory_growth'] or 0:7.2f}"
        )
    return "\n".join(lines)
