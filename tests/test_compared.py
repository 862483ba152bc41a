"""``--compare_gradient``: a rule's gradient beside BPTT's while a network trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import runs
from snnlab.experiment import agreement
from snnlab.interrupts import Interrupted
from test_resume import Stop, stop

__all__ = ["stop"]


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared") / "run"
    assert not runs.call("patterns", "--compare_gradient", "2", "--filepath", str(path))
    return path


def test_it_changes_nothing_and_is_in_the_results(compared: Path, tmp_path: Path) -> None:
    assert not runs.call("patterns", "--filepath", str(tmp_path / "plain"))
    mine, wanted = runs.state_of(compared), runs.state_of(tmp_path / "plain")
    for name, value in wanted.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)

    def trained(run: Path) -> list[dict]:
        return [
            {k: v for k, v in row.items() if k not in runs.TIMED}
            for row in rows_of(run) if row["split"] != agreement.SPLIT
        ]  # fmt: skip

    assert trained(compared) == trained(tmp_path / "plain")
    found = [row for row in rows_of(compared) if row["split"] == agreement.SPLIT]
    assert [row["epoch"] for row in found] == [0, 2, 3]
    # D-RTRL is exact for the readout; of the layer's weights it leaves terms out.
    for row in found:
        assert row["readout_cosine"] == pytest.approx(1, abs=1e-5)
        assert row["readout_norm_ratio"] == pytest.approx(1, abs=1e-4)
        assert 0 < row["cosine"] < 1 - 1e-5
    assert len({row["cosine"] for row in found}) == 3  # of other parameters each time
    results = json.loads((compared / "results.json").read_text())
    told = results["gradient"]
    assert told["epochs"] == [2, 3]
    assert told["cosine"]["start"] == found[0]["cosine"]
    assert told["cosine"]["during"] == pytest.approx((found[1]["cosine"] + found[2]["cosine"]) / 2)
    assert told["norm_ratio"]["end"] == found[2]["norm_ratio"]
    plain = json.loads((tmp_path / "plain" / "results.json").read_text())
    assert "gradient" not in plain
    assert results["training_bytes"] > 0  # the first one was compiled, not read back
    assert plain["ms_per_step"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 5])
def test_a_resumed_run_has_the_same_rows(
    compared: Path, tmp_path: Path, stop: Stop, after: int
) -> None:
    """Ended before the first batch, and in the middle of the second epoch."""
    path = tmp_path / "run"
    stop.after = after
    with pytest.raises(Interrupted):
        runs.call("patterns", "--compare_gradient", "2", "--filepath", str(path))
    assert not runs.call("patterns", "--resume", str(path))
    runs.assert_same(path, compared)


def test_means_over_seeds_leave_out_what_is_no_number() -> None:
    def rows(start: float | None, later: float) -> list[dict]:
        head = {"split": "gradient", "readout_cosine": 1.0}
        return [{**head, "epoch": 0, "cosine": start}, {**head, "epoch": 1, "cosine": later},
                {"split": "val", "epoch": 1}]  # fmt: skip

    found = agreement.over_seeds([agreement.of_rows(rows(None, 0.5)),
                                  agreement.of_rows(rows(0.25, 1.0)), {}])["gradient"]  # fmt: skip
    assert found["cosine"] == {"start": 0.25, "during": 0.75, "end": 0.75}
    assert found["norm_ratio"] == {"start": None, "during": None, "end": None}
    assert agreement.of_rows([{"split": "val", "epoch": 1}]) == {}
