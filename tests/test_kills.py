"""Runs that are killed (SIGKILL) at any moment: resumed, they end as if nothing had happened.

A run is a process of its own. Half of the kills come at a random time, half at one of the
operations by which files appear: there a wrapper of the script counts them and kills the process
before the k-th, so that every step of writing a checkpoint has its turn.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import runs
from snnlab.training.checkpoint_files import places

EVERY = 2
#: Flags: a checkpoint after every second batch, and nothing drawn but what must be.
FLAGS = ["--checkpoint_every", str(EVERY)]
WRAPPER = """
import os, runpy, signal, sys, threading
left, lock = int(sys.argv[1]), threading.Lock()
def counted(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global left
        with lock:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, name, call)
for name in ("rename", "replace", "mkdir", "fsync", "rmdir", "unlink"):
    counted(name)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Killer:
    """Starts a problem's command, kills it, and resumes it until it is done."""

    def __init__(self, problem: str, folder: Path) -> None:
        self.problem, self.folder = problem, folder
        # Programs compiled by one process are read by the next.
        self.environment = {
            **os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }  # fmt: skip
        self.whole = folder / "whole"
        self.start(self.whole).communicate()
        began = time.monotonic()
        second = folder / "second"
        self.start(second).communicate()
        self.seconds = time.monotonic() - began
        runs.assert_same(second, self.whole)

    def start(self, run: Path, operations: int | None = None) -> subprocess.Popen[str]:
        begun = (run / "config.yaml").exists() or places(run / "checkpoints")
        python, script, *flags = runs.command_of(self.problem)
        if begun:
            flags = ["--devices", "cpu", "--resume", str(run)]
        else:
            flags = [*flags, *FLAGS, "--filepath", str(run)]
        wrapped = [] if operations is None else ["-c", WRAPPER, str(operations)]
        return subprocess.Popen(
            [python, *wrapped, script, *flags], env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def batches_saved(self, run: Path) -> float:
        newest = max(places(run / "checkpoints"), default=None)
        return -1.0 if newest is None else newest.epoch * 1000.0 + newest.batch

    def killed_and_resumed(self, run: Path, rng: random.Random) -> str:
        """What was done, for messages; the run is finished afterwards."""
        if rng.random() < 0.5:
            operations = int(rng.expovariate(1 / 150))
            process = self.start(run, operations)
            said = process.communicate(timeout=300)[0]
            what = f"before operation {operations}"
        else:
            process = self.start(run)
            wait = rng.uniform(0.3, 1.05) * self.seconds
            try:
                said = process.communicate(timeout=wait)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[0]
            what = f"after {wait:.2f} s"
        assert process.returncode in (0, -signal.SIGKILL), f"{what}: {said}"
        assert "Traceback" not in said, f"{what}: {said}"
        if process.returncode == 0:
            return f"{what}: too late"
        process = self.start(run)
        said = process.communicate(timeout=300)[0]
        assert process.returncode in (0, 2), f"killed {what}: {said}"
        if process.returncode == 2:  # killed when all was done
            assert "has finished" in said, f"killed {what}: {said}"
        runs.assert_same(run, self.whole)
        return what


@pytest.mark.slow
@pytest.mark.parametrize("problem", sorted(runs.TINY))
def test_killed_at_any_moment(problem: str, tmp_path: Path) -> None:
    kills = int(os.environ.get("SNNLAB_KILLS", "25"))
    killer, rng = Killer(problem, tmp_path), random.Random(problem)
    done = k = 0
    while done < kills:
        what = killer.killed_and_resumed(tmp_path / f"run-{k}", rng)
        done, k = done + ("too late" not in what), k + 1
        print(problem, k, what, flush=True)


def alive(token: str) -> list[str]:
    """Command lines of the processes that carry a token in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:
            continue
    return found


def wait_until(reached: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.05)
    return reached()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_run_leaves_no_data_workers(signum: signal.Signals, tmp_path: Path) -> None:
    run, token = tmp_path / "run", f"SNNLAB_TOKEN={tmp_path.name}-{signum}"
    name, _, value = token.partition("=")
    process = subprocess.Popen(
        [*runs.command_of("image"), "--epochs", "10000", "--n_data_worker", "2", "--filepath",
         str(run)], env={**os.environ, name: value}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert wait_until((run / "checkpoints" / "1").is_dir, 120)
    assert len(alive(token)) > 3
    process.send_signal(signum)
    process.wait(60)
    assert wait_until(lambda: not alive(token), 20), alive(token)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_ended_ends_its_member(signum: signal.Signals, tmp_path: Path) -> None:
    """By a signal that it can pass on, or by one that it cannot."""
    _, flags = runs.TINY["match"]
    options: dict[str, Any] = dict(zip(*[iter(flags.replace("--", "").split())] * 2, strict=True))
    options |= {"epochs": 100_000, "devices": "cpu"}
    script = "tasks/task-rsnn-long-term-dependency.py"
    sweep = {"task": script, "options": options, "runs": {"one": None}}
    file, folder = tmp_path / "sweep.yaml", tmp_path / "sweep"
    file.write_text(yaml.safe_dump(sweep))
    token = f"SNNLAB_TOKEN={tmp_path.name}"
    name, _, value = token.partition("=")
    process = subprocess.Popen(
        [sys.executable, str(runs.ROOT / "tasks" / "task-sweep.py"), "--sweep", str(file),
         "--filepath", str(folder)], env={**os.environ, name: value}, cwd=runs.ROOT, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert wait_until((folder / "one" / "checkpoints" / "2").is_dir, 120)
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert "Traceback" not in said
    assert wait_until(lambda: not alive(token), 20), alive(token)
    assert "interrupted after epoch" in (folder / "one" / "log.txt").read_text()


def test_a_killed_run_loses_no_more_than_a_checkpoint(tmp_path: Path) -> None:
    """The short form, in the middle of an epoch: what was trained since is lost, nothing else."""
    run = tmp_path / "run"
    command = [*runs.command_of("match"), "--epochs", "100000", *FLAGS, "--filepath", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "3").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    newest = max(places(run / "checkpoints"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = max(r["epoch"] for r in rows)
    assert newest.epoch >= last - 1  # an epoch whose rows are written is saved, or being saved
    ended = [sys.executable, command[1], "--devices", "cpu", "--resume", str(run), "--epochs",
             str(newest.epoch + 1)]  # fmt: skip
    said = subprocess.run(ended, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    again = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in again if r["split"] == "val"] == [*range(1, newest.epoch + 2)]
