"""Training on a stream that never ends: as a command, killed and resumed, in flat memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import runs
import snnlab
from exports import exported, for_accelerators
from snnlab import config as configs
from snnlab import interrupts
from snnlab.cli import main as cli
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.experiment.info import state_of
from snnlab.interrupts import Interrupted
from snnlab.learners.methods import METHODS
from snnlab.problems import stream
from snnlab.problems.tasks import run_task
from snnlab.runs import RunFolder
from snnlab.training.checkpoint_files import Place, places
from snnlab.training.hooks import Hook

#: A run of 8 rows with 4 stretches each, and a change every 10 stretches.
FLAGS = (
    "--n_rec 6 --n_in 8 --stretch 20 --hold 10 --update_every 10 --report_every 80 --window 40 "
    "--change_every 200 --steps 640 --devices cpu --checkpoint_minutes 0"
)
TINY = FLAGS.split()


def call(*argv: str, hooks: tuple[Hook, ...] = ()) -> int:
    return run_task("stream", prog="p", argv=list(argv), hooks=hooks)


def config_of(*argv: str) -> Any:
    return configs.parse(
        stream.EndlessStream, list(argv), prog="p", description="", adapt=stream.defaults
    )[0]


def rows_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in runs.TIMED} for x in lines]


def assert_same(run: Path, whole: Path) -> None:
    """State, traces, rows and results, bit for bit."""
    mine, wanted = runs.state_of(run), runs.state_of(whole)
    assert any("carry" in name for name in wanted)
    assert list(mine) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)
    assert rows_of(run) == rows_of(whole)
    timed = {*runs.TIMED, "ms_per_step"}
    found = [json.loads((f / "results.json").read_text()) for f in (run, whole)]
    assert [{k: v for k, v in r.items() if k not in timed} for r in found[:1]] == [
        {k: v for k, v in found[1].items() if k not in timed}
    ]
    assert (run / "figures" / "stream.png").is_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert call(*TINY, "--filepath", str(run)) == 0
    return run


def test_a_run_leaves_rows_results_and_a_figure(whole: Path) -> None:
    rows, results = rows_of(whole), json.loads((whole / "results.json").read_text())
    assert [row["step"] for row in rows] == list(range(80, 641, 80))
    assert sum(row["changes"] for row in rows) == results["changes"] == 3
    assert results["steps"] == 640
    assert results["updates"] == 64
    mean = sum(row["accuracy"] for row in rows) / 8
    assert mean == pytest.approx(results["accuracy"])
    assert (whole / "figures" / "stream.png").stat().st_size > 5000
    assert state_of(RunFolder(whole), RunFolder(whole).read_config()).words == (
        "finished after 640 steps"
    )
    run = snnlab.load(whole)
    assert run.task == "stream"
    assert not results["warnings"]
    assert run.record(np.ones((5, 8), np.float32)).readout.shape == (5, 4)


def test_it_goes_on_for_more_steps(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "half"
    argv = [a if a != "640" else "320" for a in TINY]
    assert call(*argv, "--filepath", str(run)) == 0
    with pytest.raises(UsageError, match="has its 320 steps; --steps 640"):
        call("--resume", str(run), "--devices", "cpu")
    assert call("--resume", str(run), "--devices", "cpu", "--steps", "640") == 0
    assert_same(run, whole)


@pytest.mark.parametrize(
    "after", [4, pytest.param(2, marks=pytest.mark.slow), pytest.param(15, marks=pytest.mark.slow)]
)
def test_interrupted_and_resumed(
    after: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a row, at its last stretch, and behind a change; the run was to have no end."""
    left = after

    def came() -> int:
        nonlocal left
        left -= 1
        return signal.SIGINT if left <= 0 else 0

    def check() -> None:
        if left <= 0:
            raise Interrupted(signal.SIGINT)

    run = tmp_path / "run"
    argv = [a if a != "640" else "0" for a in TINY]
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "came", came)
        patch.setattr(interrupts, "check", check)
        with pytest.raises(Interrupted, match=r"go on with: .* --resume "):
            call(*argv, "--filepath", str(run))
    assert max(places(run / "checkpoints")) == Place((after - 1) // 4, (after - 1) % 4 + 1)
    assert state_of(RunFolder(run), RunFolder(run).read_config()).goes_on
    ended = json.loads((run / "results.json").read_text())
    assert ended["steps"] == 20 * after
    assert ended["accuracy"] is not None
    assert call("--resume", str(run), "--devices", "cpu", "--steps", "640") == 0
    assert_same(run, whole)


def test_compared(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Side by side with one that has not its steps yet, which has no results."""
    shutil.copytree(whole, tmp_path / "other")
    (tmp_path / "other" / "results.json").unlink()
    assert (
        cli.main(["compare", str(whole), str(tmp_path / "other"), "--filepath", str(tmp_path)]) == 0
    )
    results = json.loads((whole / "results.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[-1].strip() == "seconds"
    for line in lines[1:3]:
        assert f"{100 * results['moving_accuracy']:.1f}" in line
        assert f"{100 * results['recovered'] / results['changes']:.1f}" in line
    assert (tmp_path / "comparison.png").stat().st_size > 5000


@pytest.mark.slow
def test_killed_and_resumed(whole: Path, tmp_path: Path) -> None:
    """SIGKILL, after a checkpoint inside a row; the run had no end."""
    run = tmp_path / "run"
    argv = [a if a != "640" else "0" for a in TINY]
    process = subprocess.Popen(
        [sys.executable, str(runs.ROOT / "tasks" / "task-stream.py"), *argv, "--filepath", str(run),
         "--checkpoint_every", "60", "--max_to_keep", "100000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(runs.ROOT / "src")},
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while len(places(run / "checkpoints")) < 5:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for place in places(run / "checkpoints")[4:]:  # as it was a little earlier
        shutil.rmtree(run / "checkpoints" / place.name)
    assert [p.name for p in places(run / "checkpoints")][1:] == [
        "0-batch-3",
        "1-batch-2",
        "2-batch-1",
    ]
    assert call("--resume", str(run), "--devices", "cpu", "--steps", "640",
                "--checkpoint_every", "0") == 0  # fmt: skip
    assert_same(run, whole)


def segments(method: str, *argv: str) -> tuple[Any, Any, Any]:
    """The programs, state and batches of a small stream."""
    config = config_of(*TINY, "--method", method, *argv)
    problem = stream.build(config)
    parts = assemble(config, problem)
    problem.train.set_epoch(1)
    return parts.programs, parts.state, problem.train


ONLINE = [n for n, about in METHODS.items() if "online" in about.has] + ["tbptt"]


@pytest.mark.parametrize(
    "method",
    [m if m == "diag" else pytest.param(m, marks=pytest.mark.slow)
     for m in ONLINE],
)  # fmt: skip
def test_traces_go_on_over_stretches(method: str) -> None:
    """Two stretches are one of twice the length, of a rule that each k-step update sees alone."""
    extra = ["--chunk_size", "5"] if method == "tbptt" else []
    programs, state, train = segments(method, *extra)
    long, other, _ = segments(method, *extra, "--stretch", "40", "--window", "40")
    batches = [train.batch(k) for k in range(2)]
    joined = jax.tree.map(lambda a, b: a if a.ndim == 1 else np.concatenate([a, b]), *batches)
    for batch in batches:
        state, _ = programs.train(state, batch.stream, batch.targets)
    other, _ = long.train(other, joined.stream, joined.targets)
    assert len(state.carry) == len(other.carry) > 0
    for mine, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params)):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6, atol=1e-7)
    for mine, wanted in zip(state.carry, other.carry, strict=True):
        if jax.dtypes.issubdtype(mine.dtype, np.floating):
            np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, why in (
        ("--method bptt", "needs whole sequences, and a stream has no end"),
        ("--update_every 7", "must divide the stretch"),
        ("--window 1000 --change_every 500", "longer than the time between changes"),
        ("--dataset event-digits --report_every 100", "multiple of the stretch .--data_length 60"),
        ("--dataset event-digits --data_length x", "--data_length x: must be a valid integer"),
        ("--hold 30", "--hold 30 must divide --stretch 500"),
        ("--n_in 30 --dataset event-digits", "does not apply to --dataset event-digits"),
    ):
        with pytest.raises(UsageError, match=why):
            config_of(*flags.split())
    monkeypatch.setattr(stream, "chosen", lambda _devices: [0, 1])
    with pytest.raises(UsageError, match="trained on one device"):
        stream.build(config_of())


READER = '''
import os

import numpy as np
from snnlab.data.endless.readers import Read


class Played:
    """A file that is played in a loop."""

    n_in, n_out, batch_size = 8, 2, 1

    def __init__(self, options, seed):
        self.file, self.at = np.load({path!r}, mmap_mode="r"), 0

    def read(self, steps):
        if self.at == 1000 and os.path.exists({path!r} + ".unplugged"):
            self.at = None
            raise OSError("unplugged")
        t = (self.at + np.arange(steps)) % len(self.file)
        self.at += steps
        return Read(self.file[t][:, None], (t // 20 % 2)[:, None])

    def state_dict(self):
        return {{"at": self.at + 0}}

    def load_state_dict(self, state):
        self.at = state["at"]

    def close(self):
        with open({path!r} + ".closed", "a") as file:
            file.write("1")
'''


def test_a_reader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is learned, and a resume goes on where it stood."""
    t = np.arange(80) // 20 % 2
    on = np.arange(8) < 4
    xs = np.where(t[:, None] == 0, on, ~on)
    xs ^= np.random.default_rng(0).random(xs.shape) < 0.05  # no two stretches alike
    xs = xs.astype(np.uint8)
    np.save(tmp_path / "xs.npy", xs)
    (tmp_path / "played_reader.py").write_text(READER.format(path=str(tmp_path / "xs.npy")))
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = (
        "--dataset reader --reader played_reader:Played --n_rec 10 --stretch 40 --update_every 40 "
        "--report_every 400 --window 400 --lr 0.01 --tau_mem 3 --tau_o 3 --devices cpu --steps"
    )
    argv = flags.split()
    assert call(*argv, "1600", "--filepath", str(tmp_path / "whole")) == 0
    assert rows_of(tmp_path / "whole")[-1]["accuracy"] > 0.8
    assert call(*argv, "800", "--filepath", str(tmp_path / "run")) == 0
    assert call("--resume", str(tmp_path / "run"), "--devices", "cpu", "--steps", "1600") == 0
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "xs.npy.closed").read_text() == "111"
    # One that fails loses nothing of what it had read, though it cannot say where it was.
    unplugged = tmp_path / "xs.npy.unplugged"
    unplugged.touch()
    with pytest.raises(UsageError, match=r"reader failed \(unplugged\); what was read before"):
        call(*argv, "1600", "--filepath", str(tmp_path / "cut"))
    assert max(places(tmp_path / "cut" / "checkpoints")) == Place(2, 5)
    assert (tmp_path / "cut" / "figures" / "stream.png").is_file()
    unplugged.unlink()
    assert call("--resume", str(tmp_path / "cut"), "--devices", "cpu") == 0
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_the_program_is_one_of_accelerators_too() -> None:
    with for_accelerators():
        programs, state, train = segments("diag")
        batch = train.batch(0)
        assert len(exported(programs.train_fn, state, batch.stream, batch.targets)) > 1000


class Rss(Hook):
    """Resident memory by step, in bytes."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}

    def on_epoch(self, now: Any) -> None:
        text = Path("/proc/self/statm").read_text().split()[1]
        self.found[now.rows[0][0]["step"]] = int(text) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_flat_over_ten_million_steps(tmp_path: Path) -> None:
    """From 10^6 to 10^7 steps, with checkpoints, changes and rows."""
    rss = Rss()
    flags = "--change_every 200000 --n_rec 32 --devices cpu --checkpoint_every 1000000"
    argv = ["--steps", "10000000", *flags.split()]
    assert call(*argv, "--filepath", str(tmp_path / "run"), hooks=(rss,)) == 0
    assert rss.found[10**7] <= 1.01 * rss.found[10**6]
    assert len(rows_of(tmp_path / "run")) <= 2000
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size < 1e6
