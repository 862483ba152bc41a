"""An online learner's memory does not grow with the sequence; BPTT's does."""

from __future__ import annotations

import pytest

from snnlab.benchmarks.cells import Cell, make_stream, measure

SIZE = {"n_in": 200, "n_rec": 64, "n_layer": 2, "batch_size": 8, "repeats": 0}


def temporary(method: str, steps: int) -> int:
    return measure(Cell(method=method, data_length=steps, **SIZE))["peak_temp_bytes"]


@pytest.mark.parametrize("method", ["expsm_diag", "diag"])
def test_online_memory_is_flat(method: str) -> None:
    short, long = temporary(method, 100), temporary(method, 1000)
    assert short > 10_000
    assert long <= 1.05 * short


def test_bptt_memory_grows() -> None:
    assert temporary("bptt", 1000) > 3 * temporary("bptt", 100)


def test_the_stream_of_a_cell_has_its_density() -> None:
    cell = Cell(n_in=300, batch_size=4, data_length=50, density=0.05)
    dense = make_stream(cell).window(0, 50)
    assert dense.shape == (50, 4, 300)
    assert abs(float(dense.mean()) - 0.05) < 0.005
    assert float(dense.max()) == 1.0
