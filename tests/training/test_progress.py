"""What a user sees of a run, on terminals of several widths and in a file."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnlab.console import make_console
from snnlab.scores import ACCURACY
from snnlab.training.averages import Averages
from snnlab.training.progress import ProgressDisplay

ROWS = (
    {"epoch": 2, "split": "train", "loss": 0.1234567, "accuracy": 0.98611, "seconds": 1.26},
    {"epoch": 2, "split": "val", "loss": 12.3456, "accuracy": 0.5, "firing_rates": [12.1, 0.083],
     "seconds": 1.26},
)  # fmt: skip
LONG = (
    "epoch   2/1000  train loss 0.1235 acc 98.61%  val loss 12.3456 acc 50.00%  "
    "rate 12.1/0.083 Hz  1.3 s *\n"
)


def averages() -> Averages:
    found = Averages()
    found.add({
        "count": 64, "loss": 0.5, "rates": np.array([12.1, 0.083]),
        "measures": {"accuracy": type("Ratio", (), {"above": 63, "below": 64})},
    })  # fmt: skip
    return found


def shown(width: int, terminal: bool = True, seed: str = "") -> str:
    """All that is written in two batches and an epoch."""
    out = io.StringIO()
    options: dict[str, Any] = {"file": out, "width": width, "force_terminal": terminal}
    console = make_console(**options, legacy_windows=False, color_system=None)
    with ProgressDisplay(1000, 2, 20, 100, ACCURACY, console) as display:
        display._bar.refresh()
        for number in (1, 2):
            display.batch(2, number, averages())
            display._bar.refresh()
        display.epoch(2, ROWS, True, seed)
    return out.getvalue()


def lines(text: str) -> list[str]:
    """What stands in a line at some time, without the terminal's control sequences."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in re.split(r"[\r\n]", text)]


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140])
def test_a_line_fits_the_terminal(width: int) -> None:
    found = lines(shown(width))
    assert max(map(len, found)) <= width
    bars = [line for line in found if "left" in line]
    assert any("compiling" in line for line in bars)
    last = bars[-1]
    assert "epoch 2/1000" in last
    assert shown(width).count("\x1b[1A") <= 1  # at the end; never a second line to take back
    assert "loss 0.500  acc  98.4%" in last
    assert ("steps/s" in last) == (width >= 100)
    assert re.search(r"left +(-:--:--|--:--|\d+:\d\d)", last)


def test_lines_of_epochs() -> None:
    assert LONG in shown(110)
    assert "epoch 2/1000 train 0.1235 98.61% val 12.35 50.00% 1.3 s *" in shown(70)
    assert "seed 3: epoch 2/1000 train 0.123 98.61% val 12.3 50.00% 1.3 s *\n" in shown(
        64, seed="seed 3: "
    )
    assert "seed 13: epoch 2/1000 val 12.3 50.00% 1.3 s *\n" in shown(60, seed="seed 13: ")
    assert max(map(len, lines(shown(60, seed="seed 123: ")))) <= 60
    named = shown(120, seed="seed 3: ")
    assert "seed 3: " + LONG in named


def test_a_file_has_lines_of_epochs_alone() -> None:
    assert shown(60, terminal=False) == LONG


def test_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from run_folders import config_of
    from snnlab.experiment.command import greet

    for options, line in (
        ({"method": "expsm_diag", "seed": 3}, "starting, expsm_diag, seed 3"),
        ({"trials": 4, "seed": 3}, "starting, bptt, seeds 3 to 6"),
        ({"resume": "runs/a"}, "going on with runs/a, bptt, seed 0"),
        ({"mode": "sim"}, "starting, seed 0"),
    ):
        greet(config_of(**options), make_console())
        assert capsys.readouterr().out == line + "\n"
