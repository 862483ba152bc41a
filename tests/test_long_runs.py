"""What only shows in long runs: memory, compilations, the cost of checkpoints, many readers."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import runs
from snnlab.training.checkpoint_files import Place, damage, places
from snnlab.training.checkpoint_writer import Writer
from snnlab.training.programs import Programs

pytestmark = pytest.mark.slow


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_300_epochs_cost_no_more_than_30(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and the number of compiled programs do not grow with the epochs."""
    memory: list[int] = []
    compiled: list[int] = []
    made: list[Programs] = []
    real_init, real_save = Programs.__init__, Writer.save

    def init(self: Programs, *args, **kwargs) -> None:
        real_init(self, *args, **kwargs)
        made.append(self)

    def save(self: Writer, place: Place, *args, **kwargs) -> None:
        real_save(self, place, *args, **kwargs)
        gc.collect()
        memory.append(resident_bytes())
        compiled.append(made[0].n_compiled)

    monkeypatch.setattr(Programs, "__init__", init)
    monkeypatch.setattr(Writer, "save", save)
    runs.call("match", "--epochs", "300", "--epoch_batches", "2", "--val_batches", "1",
              "--filepath", str(tmp_path / "run"))  # fmt: skip
    assert len(memory) == 301
    assert set(compiled[1:]) == {2}
    early, late = statistics.median(memory[25:45]), statistics.median(memory[-20:])
    print(f"resident memory {early / 1e6:.0f} -> {late / 1e6:.0f} MB")
    assert late < 1.03 * early + 8e6


def test_100_readers_do_not_harm_a_run(tmp_path: Path) -> None:
    """``--mode sim`` of a run that saves after every batch, without pause."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*runs.command_of("match"), "--epochs", "1000000", "--checkpoint_every", "1", "--filepath",
         str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not places(run / "checkpoints") and time.monotonic() < deadline:
            time.sleep(0.1)
        first = max(places(run / "checkpoints"))
        for _ in range(100):
            assert runs.call("match", "--resume", str(run), "--mode", "sim") == 0
        assert process.poll() is None
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, said
    last = max(places(run / "checkpoints"))
    assert last > first
    assert not damage(run / "checkpoints" / last.name)
