"""Measurements in processes of their own, so that none sees what another has left."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from typing import Any

from snnlab import interrupts
from snnlab.benchmarks.cells import Cell
from snnlab.errors import UsageError, shown

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "MemoryError", "std::bad_alloc")


class Late(Exception):
    """A measurement took longer than it was given."""


def in_fresh_process(
    cell: Cell, devices: str = "0", timeout: float | None = None
) -> dict[str, Any]:
    """The measurement of a cell in a process of its own, on ``devices``.

    Args:
        cell: what is measured.
        devices: see :mod:`snnlab.devices`.
        timeout: seconds.

    Returns:
        The row; ``{"error": "out of memory"}`` beside the cell's fields if it did not fit.

    Raises:
        UsageError: sizes, a learner or a device that cannot be.
        RuntimeError: the cell failed otherwise; with what it printed.
        Late: it took longer than ``timeout``.
    """
    fields = dataclasses.asdict(cell)
    done = _run({"kind": cell.kind, **fields}, devices, cell.environment, timeout)
    if done.returncode == 0:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return row
    if done.returncode == -9 or any(word in done.stderr for word in OUT_OF_MEMORY):
        return {**fields, "error": "out of memory"}
    raise _failed(str(cell), done)


def _of_others(cell: Any, devices: str) -> dict[str, Any]:
    """A row, also where a framework that is not ours fails."""
    try:
        return in_fresh_process(cell, devices)
    except RuntimeError as error:
        if not getattr(cell, "framework", ""):
            raise
        last = str(error).strip().splitlines()[-1]
        return {**dataclasses.asdict(cell), "error": f"failed: {shown(last, 160)}"}


def machine_of(devices: str = "0") -> dict[str, Any]:
    """:func:`snnlab.benchmarks.machine.describe` in a process of its own.

    Raises:
        UsageError: a device that is not there.
        RuntimeError: it failed otherwise.
    """
    done = _run({"kind": "machine"}, devices, {}, None)
    if done.returncode:
        raise _failed("the rates of the machine", done)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(
    job: dict[str, Any], devices: str, environment: dict[str, str], timeout: float | None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snnlab.benchmarks", "cell", "--job", json.dumps(job)]
    try:
        return subprocess.run(
            [*command, "--devices", devices], capture_output=True, text=True, check=False,
            env=interrupts.for_child() | environment, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Late(f"not finished after {timeout:.0f} s") from None


def _failed(what: str, done: subprocess.CompletedProcess[str]) -> Exception:
    if done.returncode == 2:
        return UsageError(done.stderr.strip().removeprefix("benchmarks: error: "))
    return RuntimeError(f"{what} failed ({done.returncode}):\n{done.stderr[-4000:]}")


def in_turns(cells: list[Cell], rounds: int, devices: str = "0") -> list[dict[str, Any]]:
    """Measure cells ``rounds`` times, in turns, so that a slow spell of the machine hits all.

    Returns:
        A row for each cell, with the median over rounds of ``ms_per_step`` and all values in
        ``rounds_ms_per_step``. Another framework that failed is a row with the last line that it
        printed as ``error``.
    """
    rows = [[_of_others(c, devices) for c in cells] for _ in range(max(rounds, 1))]
    merged = []
    for i in range(len(cells)):
        mine = [r[i] for r in rows]
        row = dict(mine[0])
        times = [r["ms_per_step"] for r in mine if "ms_per_step" in r]
        if times:
            row["ms_per_step"] = round(statistics.median(times), 4)
            row["rounds_ms_per_step"] = times
        merged.append(row)
    return merged
