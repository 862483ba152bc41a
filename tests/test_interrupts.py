"""Signals, in processes of their own that need nothing but the module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
from pathlib import Path
from snnlab import interrupts
from snnlab.errors import run_command

def ready():
    print("ready", flush=True)

"""
#: Sleeps, like a library whose callbacks swallow every exception.
DEAF = """
def main():
    ready()
    while True:
        try:
            time.sleep(30)
        except BaseException:
            pass
run_command(main, "prog")
"""
PATIENT = """
def main():
    with interrupts.leaving("go on with: prog --resume"), interrupts.held("after this batch"):
        ready()
        for _ in range(400):
            time.sleep(0.05)
            try:
                interrupts.check()
            except interrupts.Interrupted as error:
                raise interrupts.Interrupted(error.signum, "saved") from None
run_command(main, "prog")
"""
STUBBORN = """
def main():
    with interrupts.leaving("go on"), interrupts.held("after this batch"):
        ready()
        time.sleep(30)
run_command(main, "prog")
"""
UNDO = """
def main():
    scratch = Path(sys.argv[1])
    scratch.write_text("half")
    with interrupts.leaving(undo=scratch.unlink):
        ready()
        time.sleep(30)
run_command(main, "prog")
"""
LATE = """
def main():
    with interrupts.held():
        ready()
        time.sleep(1)
run_command(main, "prog")
"""


@pytest.fixture(autouse=True)
def hangups() -> Iterator[None]:
    """They reach what a test starts, though a suite under nohup ignores them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(code: str, *args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, list[str]]:
    for k, signum in enumerate(signals):
        time.sleep(0.5 if k else 0.0)
        process.send_signal(signum)
    _, said = process.communicate(timeout=20)
    return process.returncode, said.splitlines()


@pytest.mark.parametrize(
    ("signum", "code", "name"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"),
     (signal.SIGHUP, 129, "SIGHUP")],
)  # fmt: skip
def test_a_signal_ends_a_command_with_a_line(signum: signal.Signals, code: int, name: str) -> None:
    """Also one that sleeps in a library and swallows every exception."""
    assert end(start(DEAF), signum) == (code, [f"prog: ended by {name}"])


def test_what_is_held_ends_where_it_can() -> None:
    code, said = end(start(PATIENT), signal.SIGTERM)
    assert (code, said) == (143, ["SIGTERM: after this batch", "prog: ended by SIGTERM; saved"])


def test_a_second_signal_leaves_at_once() -> None:
    began = time.monotonic()
    code, said = end(start(STUBBORN), signal.SIGTERM, signal.SIGINT)
    assert (code, said) == (130, ["SIGTERM: after this batch", "prog: ended by Ctrl-C; go on"])
    assert time.monotonic() - began < 15


def test_one_signal_sent_twice_is_one() -> None:
    """As by a scheduler to a whole group, and by the process that passes it on."""
    process = start(PATIENT)
    process.send_signal(signal.SIGTERM)
    code, said = end(process, signal.SIGTERM)
    assert (code, said[-1]) == (143, "prog: ended by SIGTERM; saved")


def test_what_is_half_done_is_removed(tmp_path: Path) -> None:
    process = start(UNDO, str(tmp_path / "scratch"))
    assert (tmp_path / "scratch").exists()
    assert end(process, signal.SIGTERM)[0] == 143
    assert not (tmp_path / "scratch").exists()


def test_a_signal_after_the_last_look_is_not_lost() -> None:
    assert end(start(LATE), signal.SIGTERM) == (143, ["prog: ended by SIGTERM"])


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(PATIENT)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    assert end(process, signal.SIGTERM)[0] == 143


def test_a_command_waits_for_what_it_started(tmp_path: Path) -> None:
    """The signal is passed on, and its own line comes after the other's."""
    child = tmp_path / "child.py"
    child.write_text(HEAD + PATIENT)
    code = f"""
def main():
    ready()
    return interrupts.wait_for([sys.executable, {str(child)!r}], Path({str(tmp_path)!r}))
run_command(main, "parent")
"""
    process = start(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"  # the child's
    returned, said = end(process, signal.SIGTERM)
    assert returned == 143
    assert said == ["SIGTERM: after this batch", "prog: ended by SIGTERM; saved",
                    "parent: ended by SIGTERM"]  # fmt: skip


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(HEAD + PATIENT + "\n")
    note = tmp_path / "pid"
    child.write_text(
        f"import os; open({str(note)!r}, 'w').write(str(os.getpid()))\n" + HEAD + PATIENT
    )
    code = f"""
def main():
    return interrupts.wait_for([sys.executable, {str(child)!r}], Path({str(tmp_path)!r}))
run_command(main, "parent")
"""
    process = start(code)  # the child's "ready"
    process.kill()
    process.communicate(timeout=20)
    pid = int(note.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
