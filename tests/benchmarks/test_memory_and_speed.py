"""The memory and speed evaluation: which cells, what is written, how failures are told."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

import exports
from snnlab import config as configs
from snnlab.analysis import figures
from snnlab.benchmarks import memory_and_speed as sweep
from snnlab.benchmarks.cells import make
from snnlab.errors import UsageError

TINY = ["--n_in", "20", "--n_rec", "6,8", "--n_layer", "1", "--batch_size", "2", "--epoch", "1"]


def cells(*argv: str) -> list[Any]:
    config: Any
    config, _ = configs.parse(
        sweep.MemoryAndSpeed, list(argv), prog="x", description="",
        adapt=lambda given: sweep.PRESETS[given.get("preset", "small")],
    )  # fmt: skip
    return sweep.cells_of(config.sweep)


def test_no_flag_is_a_star_around_the_base() -> None:
    found = cells()
    assert {c.method for c in found} == {"bptt", "diag", "expsm_diag"}
    sizes = {(c.data_length, c.n_rec) for c in found}
    assert sizes == {(100, 128), (200, 128), (400, 128), (100, 64), (100, 256)}
    assert len(found) == 15


def test_the_papers_sizes() -> None:
    found = cells("--preset", "paper")
    assert {(c.n_in, c.n_rec, c.n_layer, c.batch_size) for c in found} == {(32768, 512, 3, 128)}
    assert {c.data_length for c in found} == {50, 100, 200, 500, 1000}
    assert cells("--preset", "paper", "--n_in", "7")[0].n_in == 7  # a flag is above a preset


def test_a_grid_has_all_combinations() -> None:
    found = cells("--sweep", "grid", "--method", "diag", "--data_length", "5,6", "--n_rec", "3,4,5")
    assert len(found) == 6


def test_combinations_without_meaning_are_left_out() -> None:
    found = cells("--backend", "braintrace,plain", "--data_length", "5", "--n_rec", "4")
    assert {(c.method, c.backend) for c in found} == {
        ("bptt", "plain"), ("diag", "braintrace"), ("expsm_diag", "braintrace")
    }  # fmt: skip
    chunks = cells("--method", "bptt,diag", "--chunk_size", "5,auto", "--n_rec", "4",
                   "--data_length", "9")  # fmt: skip
    assert [(c.method, c.chunk_size) for c in chunks] == [("bptt", 0), ("diag", 5), ("diag", 0)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n_rec", "12,x"], "--n_rec x: must be whole numbers from 1"),
        (["--n_rec", "0"], "--n_rec 0: must be"),
        (["--batch_size", ","], "--batch_size ',': give at least one value"),
        (["--method", "sgd"], "--method sgd: must be 'bptt'"),
        (["--model", "hodgkin"], "no such model; valid"),
        (["--method", "bptt", "--backend", "braintrace"], "implements online methods, not bptt"),
        (["--chunk_size", "big"], "--chunk_size big"),
    ],
)
def test_bad_lists(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cells(*argv)
    assert message in str(caught.value)


def test_connectivity_and_rows_from_before_it() -> None:
    """Every cell has it; rows of a sweep that did not know it are those of dense layers."""
    sparse = cells("--connectivity", "0.1", "--n_rec", "8")[0]
    dense = cells("--n_rec", "8")[0]
    assert (sparse.connectivity, dense.connectivity) == (0.1, 1.0)
    old = {k: v for k, v in row(dense).items() if k != "connectivity"}
    assert len(sweep.compared(row(dense), [old])) == 1
    assert not sweep.compared(row(sparse), [old])


def row(cell: Any, **more: Any) -> dict[str, Any]:
    cost = 0.01 * cell.n_rec**2
    return {
        **vars(cell), "device": "cpu", "policies": "cpu", "jax": "0", "compile_seconds": 1.0,
        "peak_temp_bytes": 1000 * cell.data_length, "ms_per_step": cost, **more,
    }  # fmt: skip


def run(folder: Path, *argv: str) -> int:
    return sweep.main("sweep", "", ["--filepath", str(folder), *argv])


def test_rows_figure_and_exponents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "in_fresh_process", lambda cell, devices: row(cell))
    four = ("--data_length", "100,200,400,800", "--n_rec", "128,64,256,512")
    assert run(tmp_path / "a", *four) == 0
    result = json.loads((tmp_path / "a" / "results.json").read_text())
    assert len(result["rows"]) == 21
    fitted = result["exponents"]
    assert fitted["time per step (ms) against neurons per layer"]["diag"] == pytest.approx(2)
    against_t = "against sequence length T (steps)"
    assert fitted[f"peak temporary memory (MB) {against_t}"]["bptt"] == pytest.approx(1)
    with open(tmp_path / "a" / "cells.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == 21
    assert float(table[0]["ms_per_step"]) == pytest.approx(0.01 * 128**2)
    assert (tmp_path / "a" / "figures" / "memory-and-speed.png").is_file()
    assert (tmp_path / "a" / "config.yaml").is_file()
    capsys.readouterr()
    monkeypatch.setattr(
        sweep,
        "in_fresh_process",
        lambda cell, devices: row(cell, ms_per_step=0.005 * cell.n_rec**2),
    )
    assert run(tmp_path / "b", *four, "--compare", str(tmp_path / "a" / "results.json")) == 0
    assert "time x0.50, memory x1.00" in capsys.readouterr().out


def test_out_of_memory_is_a_row_and_an_error_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(cell: Any, devices: str) -> dict[str, Any]:
        if cell.method == "bptt":
            return {**vars(cell), "error": "out of memory"}
        if cell.method == "diag":
            raise RuntimeError("the cell broke\nin two lines")
        return row(cell)

    monkeypatch.setattr(sweep, "in_fresh_process", fake)
    assert run(tmp_path / "a", *TINY, "--data_length", "4") == 1
    rows = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    assert [r.get("error", "")[:13] for r in rows] == ["out of memory", "the cell brok", ""] * 2
    assert "2 of 6 cells failed" in capsys.readouterr().out
    monkeypatch.setattr(
        sweep, "in_fresh_process", lambda cell, devices: {**vars(cell), "error": "out of memory"}
    )
    assert run(tmp_path / "b", *TINY, "--data_length", "4") == 0


def test_on_a_tpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the device says of its memory is told, drawn, fitted and compared."""
    half = 2.0

    def fake(cell: Any, devices: str) -> dict[str, Any]:
        used = int(1e6 * half * cell.data_length)
        return row(cell, device="TPU v5e", policies="accelerator", device_peak_bytes=used,
                   device_limit_bytes=16_000_000_000)  # fmt: skip

    monkeypatch.setattr(sweep, "in_fresh_process", fake)
    flags = ("--method", "diag", "--n_rec", "8", "--data_length", "100,200,400,800")
    assert run(tmp_path / "a", *flags) == 0
    out = capsys.readouterr().out
    assert "(device 0.20 of 16.0 GB)" in out
    assert "TPU v5e (policies of an accelerator)" in out
    result = json.loads((tmp_path / "a" / "results.json").read_text())
    name = "peak memory of the device (MB) against sequence length T (steps)"
    assert result["exponents"][name]["diag"] == pytest.approx(1)
    half = 1.0
    assert run(tmp_path / "b", *flags, "--compare",
               str(tmp_path / "a" / "results.json")) == 0  # fmt: skip
    assert "device memory x0.50" in capsys.readouterr().out


def test_programs_of_a_sweep_for_gpu_and_tpu() -> None:
    """With the policies of an accelerator a sequence is one chunk, and the program has a lowering.

    The memory of 20 traces is far below the chunk's: on a CPU it would be cut.
    """
    argv = ("--n_in", "300", "--n_rec", "64", "--n_layer", "1", "--batch_size", "2")
    cell = cells(*argv, "--method", "diag", "--data_length", "4000")[0]
    assert make(cell).learner.longest(4000) < 4000
    with exports.for_accelerators():
        made = make(cell)
        assert made.learner.longest(4000) == 4000
        exports.exported(made.programs.train_fn, made.state, *made.batch)


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--method bptt,expsm_diag", "--method diag --connectivity 0.5"])
def test_other_programs_of_a_sweep_for_gpu_and_tpu(flags: str) -> None:
    for cell in cells(*TINY, "--data_length", "30", *flags.split()):
        with exports.for_accelerators():
            made = make(cell)
            exports.exported(made.programs.train_fn, made.state, *made.batch)


@pytest.mark.parametrize("content", ["{}", "no json", '{"rows": 3}'])
def test_compare_wants_a_sweep(content: str, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(content)
    with pytest.raises(UsageError, match="--compare"):
        run(tmp_path / "a", "--compare", str(old))
    with pytest.raises(UsageError, match="cannot be read"):
        run(tmp_path / "a", "--compare", str(tmp_path / "none.json"))
    assert not (tmp_path / "a").exists()


def test_a_real_cell_in_its_own_process(tmp_path: Path) -> None:
    argv = [*TINY, "--method", "diag", "--data_length", "6", "--n_rec", "6"]
    assert run(tmp_path / "a", *argv) == 0
    (first,) = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    for name in ("ms_per_step", "compile_seconds", "samples_per_second", "chunk"):
        assert first[name] > 0
    assert first["process_peak_bytes"] > 1e7
    assert (first["method"], first["n_in"]) == ("diag", 20)
    assert first["device"]
    assert first["policies"] == "cpu"
    assert first["device_peak_bytes"] is None  # a CPU does not tell


def test_an_exponent_needs_four_lengths() -> None:
    assert figures.exponent([(1, 2), (2, 8), (4, 32), (8, 128)]) == pytest.approx(2)
    for few in ([(1, 2), (2, 8), (4, 32)], [(1, 2), (1, 3), (1, 4), (1, 5)]):
        assert math.isnan(figures.exponent(few))
    four = [(2, 8), (1, 2), (4, 32), (8, 128)]
    lines = {"a": four, "b": [(1, 3), (2, 3)], "c": [(1, 3), (2, 3), (4, 5)]}
    fig = figures.scaling_figure([figures.Panel("x", "y", lines)])
    handles, labels = fig.axes[0].get_legend_handles_labels()
    assert labels == ["a: 2.00", "b", "c"]
    drawn = [handle.lines[0] for handle in handles]
    assert [line.get_linestyle() for line in drawn] == ["-", "None", "-"]
    assert list(drawn[0].get_xdata()) == [1, 2, 4, 8]
    few = figures.scaling_figure([figures.Panel("x", "y", {"b": lines["b"]})])
    assert few.axes[0].get_legend().get_title().get_text() == ""
    with pytest.raises(ValueError, match="no panel"):
        figures.scaling_figure([])


def test_times_have_their_spread() -> None:
    cell = cells("--method", "diag", "--n_rec", "8")[0]
    rows = [
        row(cell, data_length=t, ms_per_step=2.0, ms_per_step_quartiles=[1.5, 3.0])
        for t in (100, 200)
    ]
    time, memory = sweep.panels(rows)
    assert time.lines["diag"] == [(100, 200.0, 150.0, 300.0), (200, 400.0, 300.0, 600.0)]
    assert time.spread == "bars: quartiles of the rounds"
    assert (memory.lines["diag"][0], memory.spread) == ((100, 0.1), "")
    fig = figures.scaling_figure([time])
    bars = fig.axes[0].containers[0].lines[2][0].get_segments()
    assert [list(bar[:, 1]) for bar in bars] == [[150.0, 300.0], [300.0, 600.0]]
    earlier = sweep.panels([row(cell, data_length=t) for t in (1, 2)])  # rows without quartiles
    assert [panel.spread for panel in earlier] == ["", ""]
