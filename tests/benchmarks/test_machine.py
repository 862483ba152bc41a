"""What a measurement says of its machine, and the pages that it writes."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest

from snnlab.benchmarks import __main__ as command
from snnlab.benchmarks import cells, machine, report
from snnlab.errors import UsageError


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"product_flop_per_second": 2e9, "memory_bytes_per_second": 3e9}
    monkeypatch.setattr(machine, "rates", lambda: rates)
    found = command.measured({"kind": "machine"})
    json.dumps(found)
    assert found["platform"] == "cpu"
    assert found["cores"] > 0
    assert {"jax", "snnlab", "python"} <= set(found["versions"])
    assert "products 2 GFLOP/s, memory 3 GB/s" in machine.line(found)
    assert f"jax {found['versions']['jax']}" in machine.about(found)
    assert found["date"][:10] in machine.about(found)


def test_clocks_of_a_gpu(tmp_path: Path) -> None:
    """As ``nvidia-smi`` prints them; where it says nothing, nothing is said."""
    tool = tmp_path / "smi"
    tool.write_text("#!/bin/sh\necho '580.95.05, 1980, [N/A], 700.00'\n", encoding="utf-8")
    tool.chmod(0o755)
    found = machine.of_nvidia(0, str(tool))
    assert found == {
        "driver": "580.95.05", "clock_mhz": 1980, "memory_clock_mhz": "[N/A]", "power_limit_w": 700
    }  # fmt: skip
    for text in ("#!/bin/sh\nexit 9\n", "#!/bin/sh\necho no devices\n"):
        tool.write_text(text, encoding="utf-8")
        assert machine.of_nvidia(0, str(tool)) == {}
    assert machine.of_nvidia(0, str(tmp_path / "none")) == {}


def test_memory_of_a_device() -> None:
    stats = {"peak_bytes_in_use": 5, "bytes_limit": 9, "num_allocs": 3}
    tpu: Any = types.SimpleNamespace(memory_stats=lambda: stats)
    assert cells.device_memory(tpu) == {"device_peak_bytes": 5, "device_limit_bytes": 9}
    cpu: Any = types.SimpleNamespace(memory_stats=lambda: None)
    assert cells.device_memory(cpu) == {"device_peak_bytes": None, "device_limit_bytes": None}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"kind": "magic"}, "no kind 'magic'; valid: learner"),
        ({"method": "bptt", "colour": 3}, "a learner has no colour"),
    ],
)
def test_jobs_that_cannot_be(job: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command.measured(job)


ROWS = [{"row": "a|b", "x": 3}, {"row": "c", "error": "out of memory"}]
COLUMNS: report.Columns = {"row": lambda r: r["row"], "x": lambda r: str(r["x"])}


def test_a_table_as_text_and_as_markdown() -> None:
    assert report.text(ROWS, COLUMNS).splitlines() == ["row  x", "a|b  3", "c    out of memory"]
    lines = report.markdown(ROWS, COLUMNS).splitlines()
    assert lines == ["| row | x |", "| --- | --- |", "| a\\|b | 3 |", "| c | out of memory |"]


def test_a_page_keeps_what_others_wrote(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text("# A page\n\nWritten by hand.\n", encoding="utf-8")
    for name, body in (("learners", "one"), ("peers", "two"), ("learners", "three\nfour")):
        report.write_page(str(page), name, body)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(
        "# A page\n\nWritten by hand.\n\n<!-- learners: begin -->\nthree\nfour\n"
    )
    assert text.endswith("<!-- peers: begin -->\ntwo\n<!-- peers: end -->\n")
    assert text.count("<!-- learners: end -->") == 1
    page.write_text("<!-- peers: begin -->\nhalf", encoding="utf-8")
    with pytest.raises(UsageError, match="is not followed by"):
        report.write_page(str(page), "peers", "x")
    assert page.read_text(encoding="utf-8").endswith("half")
    with pytest.raises(UsageError, match="there is no folder"):
        command.main(["peers", "--markdown", str(tmp_path / "no" / "page.md")])
