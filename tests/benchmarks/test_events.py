"""The measurement of an event-driven first layer: both ways compute the same."""

from __future__ import annotations

import pytest

from snnlab.benchmarks import events
from snnlab.benchmarks.cells import Cell
from snnlab.errors import UsageError


def test_both_ways_agree_and_all_parts_are_timed() -> None:
    cell = Cell(n_in=30, n_rec=7, batch_size=3, density=0.1)
    result = events.run(cell, repeats=2, whole=False)
    assert result["error"] < 1e-5
    for clock in ("wall", "processor"):
        found = result[clock]
        parts = {name: value for name, value in found.items() if name not in ("dense", "events")}
        assert len(parts) == 5
        assert found["dense"] + found["events"] == pytest.approx(sum(parts.values()))
        assert found["events"] == parts["product, events"] + parts["gradient, events"]


@pytest.mark.parametrize(
    ("argv", "message"), [(["--n_rec", "0"], "--n_rec 0"), (["--density", "2"], "--density 2")]
)
def test_sizes_that_cannot_be(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        events.main(argv)
