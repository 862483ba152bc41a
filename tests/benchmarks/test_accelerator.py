"""The prepared measurement: its order, what is left when it is stopped, and what is divided."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from snnlab.benchmarks import __main__ as command
from snnlab.benchmarks import accelerator, processes, prospects
from snnlab.errors import UsageError

STEPS = accelerator.STEPS
MACHINE = {
    "device": "G", "platform": "gpu", "product_flop_per_second": 1e12,
    "memory_bytes_per_second": 1e12, "versions": {"commit": "abc", "jax": "1"},
}  # fmt: skip


class Machine:
    """In the place of the processes: what was asked for, and what goes wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, platform: str = "gpu") -> None:
        self.cells: list[Any] = []
        self.fail_at, self.error = -1, Exception()
        monkeypatch.setattr(processes, "in_fresh_process", self.measure)
        monkeypatch.setattr(processes, "machine_of", lambda devices: {**MACHINE, **self.more})
        self.more: dict[str, Any] = {"platform": platform}
        monkeypatch.setattr(
            "snnlab.benchmarks.frameworks.base.Framework.installed", property(lambda self: True)
        )

    def measure(self, cell: Any, devices: str, timeout: float | None = None) -> dict[str, Any]:
        self.cells.append(cell)
        if len(self.cells) - 1 == self.fail_at:
            raise self.error
        return {**dataclasses.asdict(cell), "ms_per_step": float(len(self.cells))}


def names(out: Path) -> list[str]:
    lines = (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert "machine" in json.loads(lines[0])
    return [json.loads(line)["row"] for line in lines[1:]]


def test_everything_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds are of comes first; every ratio has its rows; a page is written."""
    fake = Machine(monkeypatch)
    result = accelerator.run(tmp_path, tell=lambda line: None)
    planned = [name for cells in accelerator.plan().values() for name in cells]
    assert names(tmp_path) == planned == [row["row"] for row in result["rows"]]
    assert planned[0] == STEPS
    assert len(result["ratios"]) == len(accelerator.RATIOS)
    assert [r["bound"] for r in result["ratios"]] == [r.bound for r in accelerator.RATIOS]
    values = {r["name"]: r["value"] for r in result["ratios"]}
    first, fifth = planned.index("BPTT, forward and backward") + 1, planned.index("spyx") + 1
    ours_to_theirs = pytest.approx(first / fifth, abs=1e-3)
    assert values["BPTT, forward and backward / spyx"] == ours_to_theirs
    forms = [fake.cells[i].kernels for i, name in enumerate(planned) if STEPS in name]
    assert forms == ["xla", "pallas"] * 2
    weights = (2312 + 512 + 2 * 1024) * 512 + 512 * 10
    once = 2 * 4 * 32 * weights / 1e12 * 1e3
    assert values[f"{STEPS} / {accelerator.TRACES}"] == pytest.approx(1 / once, rel=1e-2)
    assert (
        values["10^6 neurons / 5 ms/step"]
        == fake.cells.index(accelerator.plan()["sparse"]["10^6 neurons"]) / 5 + 0.2
    )
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| 10^5 neurons / 1 ms/step |" in page
    assert "Computed, not measured" in page


def test_a_stop_leaves_what_was_measured_and_a_second_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, told = Machine(monkeypatch), []
    fake.fail_at, fake.error = 1, processes.Late("not finished after 7 s")
    clock = iter([0.0, *(30.0 * i for i in range(100))])
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: next(clock))
    accelerator.run(tmp_path, seconds=100, tell=told.append)
    assert len(names(tmp_path)) == 4
    assert any("were not measured" in line for line in told)
    second = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[2])
    assert second["error"] == "not finished after 7 s"
    accelerator.run(tmp_path, groups=["steps"], tell=told.append)
    # What was there was not measured again; what had failed was.
    assert len(fake.cells) == 4 + 1
    assert fake.cells[4] == fake.cells[1]
    assert "error" not in json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[2])


def test_another_version_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Machine(monkeypatch)
    accelerator.run(tmp_path, groups=["steps"], tell=lambda line: None)
    fake.more = {"versions": {"commit": "new", "jax": "1"}}
    with pytest.raises(UsageError, match="holds measurements of"):
        accelerator.run(tmp_path, groups=["steps"], tell=lambda line: None)
    (tmp_path / "rows.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no measurement"):
        accelerator.run(tmp_path, groups=["steps"], tell=lambda line: None)


def test_what_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU sizes are tiny, and the other rows are measured all the same."""
    fake, told = Machine(monkeypatch, "cpu"), []
    fake.fail_at, fake.error = 1, RuntimeError("it failed (1):\nTraceback\nValueError: no kernel")
    result = accelerator.run(tmp_path, groups=["steps", "long"], tell=told.append)
    assert [row.get("error", "") for row in result["rows"] if "error" in row] == [
        "failed: ValueError: no kernel"
    ]
    assert len(result["rows"]) == 8
    assert max(cell.n_rec for cell in fake.cells) <= 200
    assert {r["bound"] for r in result["ratios"]} == {"(tiny)"}
    assert (tmp_path / "page.md").read_text(encoding="utf-8").startswith("tiny sizes")
    assert "tiny sizes" in told[0]


def test_words_that_cannot_be() -> None:
    for argv, message in (
        (["--groups", "steps,all"], "--groups steps,all: must be a comma list of steps"),
        (["--seconds", "-1"], "--seconds -1: must be 0 or more"),
    ):
        with pytest.raises(UsageError, match=message):
            command.main(["accelerator", *argv])
    with pytest.raises(UsageError, match="--memory_rate 0: must be above 0"):
        command.main(["prospects", "--memory_rate", "0"])


def test_prospects(capsys: pytest.CaptureFixture[str]) -> None:
    """10^8 weights, one sample: 0.4 GB of traces, read and written in 0.8 ms at 1 TB/s."""
    rows = prospects.rows(1e12)
    million = next(r for r in rows if (r["n"], r["k"], r["devices"]) == (10**6, 100, 1))
    assert million["trace_bytes"] == 0.4e9
    assert million["ms_each_step"] == pytest.approx(0.8 + 0.016)
    assert million["ms_in_chunks"] == pytest.approx(0.008 + 0.016)
    on_eight = next(r for r in rows if (r["n"], r["k"], r["devices"]) == (10**6, 100, 8))
    assert on_eight["ms_each_step"] == million["ms_each_step"]  # each has one of the 8 samples
    assert command.main(["prospects", "--memory_rate", "1000"]) == 0
    assert "| 1,000,000 | 100 | 1 | 1 | 0.4 | 0.816 |" in capsys.readouterr().out


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    """At tiny sizes, each in its process, as the command does it."""
    assert command.main(["accelerator", "--out", str(tmp_path), "--devices", "cpu"]) == 0
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    rows = [json.loads(line) for line in lines]
    assert len(rows) == sum(map(len, accelerator.plan().values()))
    of_accelerators = ("a CUDA graph needs a GPU", "--kernels pallas", "--precision mixed")
    allowed = ("not installed", "cannot be imported", *of_accelerators)
    wrong = [row for row in rows if not row.get("error", allowed[0]).startswith(allowed)]
    assert not wrong
    assert all(row["ms_per_step"] > 0 for row in rows if "error" not in row)
