"""The table of learners: which rows are divided by which."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from snnlab.benchmarks import cells, learners, processes
from snnlab.learners import LearnerConfig
from snnlab.learners.methods import METHODS

COST = dict.fromkeys(METHODS, 4.0) | {"bptt": 2.0, "diag": 3.0, "expsm_diag": 1.0}


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(cell: Any, devices: str = "0") -> dict[str, Any]:
        row = {**dataclasses.asdict(cell), "compile_seconds": 1.0, "peak_temp_bytes": 5000}
        row |= {"product_flop_per_step": 5e5, "traffic_bytes_per_step": 2e6}
        if cell.backend == "braintrace" and cell.method == "diag":
            return {**dataclasses.asdict(cell), "error": "out of memory"}
        return row | ({"ms_per_step": COST[cell.method]} if cell.repeats else {})

    def machine(devices: str) -> dict[str, Any]:
        return {"device": "x", "product_flop_per_second": 1e9, "memory_bytes_per_second": 2e9}

    monkeypatch.setattr(processes, "in_fresh_process", fake)
    monkeypatch.setattr(processes, "machine_of", machine)


def test_the_whole_table() -> None:
    found = learners.run(cells.Cell(n_in=5, n_rec=10, n_layer=2, batch_size=3), rounds=2)
    ratios = {r["name"]: r["value"] for r in found["ratios"]}
    assert ratios["D-RTRL, one chunk / BPTT, plain"] == 1.5
    assert ratios["ES-D-RTRL / BPTT, plain"] == 0.5
    assert ratios["D-RTRL, T 2000 / T 200"] == 1.0
    assert ratios["D-RTRL, braintrace / snnlab"] is None  # it did not fit
    traces = 4 * 3 * (15 * 10 + 20 * 10 + 10 * 10)
    assert ratios["D-RTRL, traces kept / the traces"] == round(5000 / traces, 3)
    step_ms = 2 * traces / 2e9 * 1e3
    per_step = ratios["D-RTRL, update at every step / traces read and written once"]
    assert per_step == round(3.0 / step_ms, 3)
    rows = {row["row"]: row for row in found["rows"]}
    assert rows["BPTT"]["product_share"] == 0.25  # 0.5 Mflop of 1 Gflop/s in 2 ms
    assert rows["ES-D-RTRL"]["memory_share"] == 1.0  # 2 MB of 2 GB/s in 1 ms
    assert "product_share" not in rows["D-RTRL, braintrace"]
    assert ratios["hybrid / ES-D-RTRL"] == 4.0
    text = learners.table(found)
    assert "out of memory" in text
    assert "unknown" in text


def test_some_learners_only() -> None:
    found = learners.run(cells.Cell(), 1, ["diag:snnlab"])
    assert [r["row"] for r in found["rows"]] == ["BPTT, plain", "diag:snnlab"]
    assert [r["value"] for r in found["ratios"]] == [1.5, 1.0]


def test_rows_are_learners_that_exist() -> None:
    for changes in learners.ROWS.values():
        names = {f.name for f in dataclasses.fields(LearnerConfig)}
        LearnerConfig(**{k: v for k, v in changes.items() if k in names})
    for a, b, _, _ in learners.RATIOS.values():
        assert a in learners.ROWS
        assert b in learners.ROWS
