"""``--distributed``: the commands in two processes on this machine, beside the same in one.

Each command has a deadline, and what is left of it is killed. Processes end themselves before a
step that the test names, so that the others are inside an operation that needs all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import runs
import snnlab
from snnlab import processes
from snnlab.rendezvous import free_port
from snnlab.training.checkpoint_files import Place, damage, places

pytestmark = pytest.mark.slow
DEADLINE_S = 400
#: Before the step that is asked, the process sends itself a signal.
WRAPPER = """
import os, runpy, sys
from snnlab import processes
left, signum, real = int(sys.argv[1]), int(sys.argv[2]), processes.step
def step():
    global left
    real()
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signum)
processes.step = step
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Machine:
    """Runs commands, one or several processes at a time.

    Args:
        folder: for what they share: compiled programs, the cache of the data.
    """

    def __init__(self, folder: Path) -> None:
        self.environment = {
            **os.environ, "SNNLAB_CACHE": str(folder / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }  # fmt: skip

    def run(
        self, problem: str, *flags: str, count: int = 1, own: dict[int, tuple[str, ...]] = {},  # noqa: B006 (read only)
        ends: tuple[int, int, int] | None = None,
    ) -> list[tuple[int, str]]:  # fmt: skip
        """Exit code and output of each process, and how long the last one took after the first.

        Args:
            problem: of ``runs.TINY``; its own flags are left out with ``--resume``.
            flags: of all.
            count: processes.
            own: flags of some.
            ends: a process, and the signal that it sends itself before which step.
        """
        python, script, *given = runs.command_of(problem)
        if "--resume" in flags:
            given = ["--devices", "cpu"]
        port, members = free_port(), []
        for i in range(count):
            wrapped = []
            if ends is not None and ends[0] == i:
                wrapped = ["-c", WRAPPER, str(ends[2]), str(ends[1])]
            where = ["--distributed", f"127.0.0.1:{port},{count},{i}"] if count > 1 else []
            members.append(subprocess.Popen(
                [python, *wrapped, script, *given, *flags, *own.get(i, ()), *where],
                env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ))  # fmt: skip
        try:
            until = time.monotonic() + DEADLINE_S
            gone: dict[int, float] = {}
            while len(gone) < count and time.monotonic() < until:
                for i, member in enumerate(members):
                    if member.poll() is not None:
                        gone.setdefault(i, time.monotonic())
                time.sleep(0.05)
            self.apart_s = max(gone.values()) - min(gone.values())
            assert len(gone) == count, f"{count - len(gone)} of {count} processes hang"
        finally:
            for member in members:
                member.kill()
        return [(m.returncode, m.communicate()[0]) for m in members]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


def errors(said: str) -> list[str]:
    """Lines of output that are no part of a run that goes well."""
    return [line for line in said.splitlines() if "error" in line or "Traceback" in line]


def assert_close(run: Path, whole: Path, most: float = 1e-5) -> None:
    """Parameters, final and best, differ by rounding alone, relative to the largest of an array."""
    mine, wanted = runs.state_of(run), runs.state_of(whole)
    assert list(mine) == list(wanted)
    names = [name for name in wanted if name.startswith(("['params']", "['best']"))]
    assert names
    for name in names:
        size = float(np.abs(wanted[name]).max())
        np.testing.assert_allclose(mine[name] / size, wanted[name] / size, atol=most, err_msg=name)


@pytest.fixture(scope="module")
def alone(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that those of two are compared with."""
    run = tmp_path_factory.mktemp("alone") / "run"
    ((code, said),) = machine.run("match", "--filepath", str(run))
    assert code == 0, said
    return run


@pytest.fixture(scope="module")
def whole(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    found = machine.run("match", "--filepath", str(run), count=2)
    assert [code for code, _ in found] == [0, 0], found
    assert "test accuracy" in found[0][1]
    assert "epoch" not in found[1][1]
    return run


def assert_alike(both: Path, alone: Path) -> None:
    """Two processes made the run of one, and one run folder."""
    assert_close(both, alone)
    assert "# processes: 2" in (both / "config.yaml").read_text()
    rows = [
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (both, alone)
    ]
    for mine, wanted in zip(*rows, strict=True):
        assert mine["split"] == wanted["split"]
        if mine["split"] != "initial":  # of the untrained network: no samples, no loss
            assert mine["samples"] == wanted["samples"]
            assert mine["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    for name in ("confusion.png", "test-samples.png"):
        assert (both / "figures" / name).is_file()
    mine, wanted = (snnlab.load(f).predictions for f in (both, alone))
    assert [(r["index"], r["label"]) for r in mine] == [(r["index"], r["label"]) for r in wanted]
    right = np.mean([row["label"] == row["prediction"] for row in mine])
    assert right == snnlab.load(both).results["test_accuracy"]


def test_trials_of_two_processes_are_those_of_one(alone: Path, whole: Path) -> None:
    assert_alike(whole, alone)


@pytest.mark.parametrize(
    ("problem", "flags", "devices"),
    [
        ("image", ("--n_data_worker", "1", "--aug_drop", "0.1", "--epochs", "2"), "cpu:2"),
        ("balanced", ("--epochs", "2"), "cpu"),
    ],
)
def test_two_processes_make_the_run_of_one(
    problem: str, flags: tuple[str, ...], devices: str, machine: Machine, tmp_path: Path
) -> None:
    """Events with workers and augmentation, on two devices of each; balanced networks, which are
    measured and fitted again after every epoch."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    ((code, said),) = machine.run(problem, *flags, "--filepath", str(alone))
    assert code == 0, said
    flags = (*flags, "--devices", devices)
    found = machine.run(problem, *flags, "--filepath", str(both), count=2)
    assert [code for code, _ in found] == [0, 0], found
    assert_alike(both, alone)


@pytest.mark.parametrize("who", [1, 0])
def test_the_end_of_one_process_is_one_line_and_the_run_resumes(
    who: int, machine: Machine, alone: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed in the second epoch; the run goes on in one process, and in two."""
    run = tmp_path / "run"
    # An epoch is 4 batches of training and 2 of validation.
    found = machine.run(
        "match", "--checkpoint_every", "1", "--filepath", str(run), count=2,
        ends=(who, signal.SIGKILL, 9),
    )  # fmt: skip
    other = 1 - who
    assert found[who][0] == -signal.SIGKILL
    assert found[other][0] == processes.LOST, found[other][1]
    assert machine.apart_s < 60
    (line,) = errors(found[other][1])
    assert f"process {who} of 2 ended without a word, so this one, process {other}, ends" in line
    assert "what was saved before is kept; go on with: python" in line
    assert f"--resume {run}" in line
    saved = max(places(run / "checkpoints"))
    assert Place(1) <= saved < Place(1, 4)
    assert damage(run / "checkpoints" / saved.name) == ""
    again = machine.run("match", "--resume", str(run), count=2 - who)
    assert [code for code, _ in again] == [0] * (2 - who), again
    if who:
        assert_close(run, alone)
    else:
        assert_equal(run, whole)


def assert_equal(run: Path, whole: Path) -> None:
    """The same bits."""
    mine, wanted = runs.state_of(run), runs.state_of(whole)
    for name, value in wanted.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


def test_a_signal_to_one_process_stops_both(machine: Machine, alone: Path, tmp_path: Path) -> None:
    """The checkpoint is of where both stopped, and one process goes on from there."""
    run = tmp_path / "run"
    found = machine.run("match", "--filepath", str(run), count=2, ends=(1, signal.SIGTERM, 8))
    assert [code for code, _ in found] == [143, 143], found
    for _, said in found:
        assert "ended by SIGTERM; go on with: python" in said.splitlines()[-1]
    assert Place(1) < max(places(run / "checkpoints")) <= Place(1, 4)
    ((code, said),) = machine.run("match", "--resume", str(run))
    assert code == 0, said
    assert_close(run, alone)


def test_what_differs_is_refused_before_anything_is_written(
    machine: Machine, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    found = machine.run("match", "--filepath", str(run), count=2, own={1: ("--n_rec", "11")})
    assert [code for code, _ in found] == [2, 2]
    for _, said in found:
        (line,) = errors(said)
        assert "--distributed: --n_rec is 11 in process 1 and 10 in process 0" in line
    assert not run.exists()


def test_an_error_of_one_process_is_known_to_the_other(machine: Machine, alone: Path) -> None:
    """A run folder that holds a run: only process 0 looks at it."""
    found = machine.run("match", "--filepath", str(alone), count=2)
    assert [code for code, _ in found] == [2, processes.LOST], found
    assert "holds a run already" in errors(found[0][1])[0]
    assert "process 0 of 2 ended (" in errors(found[1][1])[0]
    assert "holds a run already" in errors(found[1][1])[0]


def test_the_python_call_takes_it_too(machine: Machine, tmp_path: Path) -> None:
    code = (
        "import sys, snnlab\n"
        "run = snnlab.train('long-term-dependency', devices='cpu', n_rec=8, batch_size=4,\n"
        "    t_fixation=0, t_sample=20, t_delay=10, t_test=20, tau_neu=10, tau_syn=10, epochs=1,\n"
        "    epoch_batches=2, val_batches=1, test_batches=1, distributed=sys.argv[1])\n"
        "print(run.results['epochs'])\n"
    )
    port = free_port()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"127.0.0.1:{port},2,{i}"], cwd=tmp_path, text=True,
            env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=DEADLINE_S)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [text.splitlines()[-1] for text in said] == ["1", "1"], said
    assert len(list((tmp_path / "runs").iterdir())) == 1
