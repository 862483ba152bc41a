"""Signals that end a command: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

A signal ends a command at once, with one line. Inside :func:`held` it is only noted: the code
there looks with :func:`check` where it can stop, and saves first; a second signal ends it at once.

A thread of its own waits for signals. No exception is raised where the main thread happens to be:
callbacks of libraries would swallow it or abort, and a long compilation would not see it.

Needs nothing but the standard library, so that the first line of a script can install it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

#: A second signal so shortly after the first is the same one, sent to a whole group of processes.
SAME_S = 0.3
#: So long a worker goes on after a SIGTERM to the group: what it serves may be saving.
GRACE_S = 20.0
#: Environment variable with the process that a command must not outlive.
_PARENT = "SNNLAB_PARENT"
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(BaseException):
    """A signal came, and the command has saved what it had. No ``except Exception`` swallows it.

    Attributes:
        signum: the signal.
        told: what the user should know, such as the command that goes on.
    """

    def __init__(self, signum: int, told: str = "") -> None:
        super().__init__(told)
        self.signum = signum
        self.told = told

    @property
    def exit_code(self) -> int:
        """As a shell reports a process that a signal ended: 130, 143 or 129."""
        return 128 + self.signum

    @property
    def line(self) -> str:
        """For the user."""
        name = "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name
        return f"ended by {name}" + (f"; {self.told}" if self.told else "")


class _Watch:
    """What came so far, and what is to be done about it."""

    def __init__(self) -> None:
        self.prog = ""
        self.first: int | None = None
        self.at = 0.0
        self.held: list[str] = []  # what is told when a signal comes, innermost last
        self.leaving: list[tuple[str, Callable[[], object] | None]] = []

    def watch(self, source: socket.socket) -> None:
        """Read the numbers of signals as they come in, whatever the main thread is doing."""
        while True:
            try:
                data = source.recv(64)
            except OSError:
                return
            for signum in data:
                if signum in _SIGNALS:
                    self.take(signum)

    def take(self, signum: int) -> None:
        again = self.first is not None and time.monotonic() - self.at > SAME_S
        known = self.first is not None
        if not known:
            self.first, self.at = signum, time.monotonic()
        if again or not self.held:
            self.leave(signum)
        elif not known and self.held[-1]:
            name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
            _tell(f"{name}: {self.held[-1]}")

    def leave(self, signum: int) -> None:
        self.end(lambda told: Interrupted(signum, told).line, 128 + signum)

    def end(self, line: Callable[[str], str], code: int) -> None:
        """End the process, wherever its main thread is."""
        told = next((told for told, _ in reversed(self.leaving) if told), "")
        for _, undo in reversed(self.leaving):
            if undo is not None:
                with contextlib.suppress(Exception):  # the process ends in any case
                    undo()
        _tell(f"{self.prog}: {line(told)}" if self.prog else line(told))
        os._exit(code)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


_watch = _Watch()
_installed: list[socket.socket] = []


def install(prog: str) -> None:
    """Take over the signals of this process; a second call changes nothing.

    A signal that is ignored (SIGHUP under ``nohup``) stays so. Outside the main thread nothing
    is done.

    Args:
        prog: name of the command, for the line that says how it ended.
    """
    if _installed or threading.current_thread() is not threading.main_thread():
        return
    _watch.prog = prog
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _installed.extend((ours, theirs))
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch.watch, args=(ours,), daemon=True).start()
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda _signum, _frame: None)  # the thread does it
    _end_with_parent()


@contextlib.contextmanager
def held(told: str = "") -> Iterator[None]:
    """Signals are noted; :func:`check` raises them, and so does the end of this block.

    Args:
        told: written to standard error when the first one comes.
    """
    check()
    _watch.held.append(told)
    try:
        yield
        check()
    finally:
        _watch.held.pop()


@contextlib.contextmanager
def leaving(told: str = "", undo: Callable[[], object] | None = None) -> Iterator[None]:
    """What is to be done and told if a signal ends the process inside this block.

    Args:
        told: such as the command that goes on.
        undo: removes what would be left half done; called from another thread.
    """
    entry = (told, undo)
    _watch.leaving.append(entry)
    try:
        yield
    finally:
        _watch.leaving.remove(entry)


def end(line: str, code: int) -> None:
    """End the process at once, from any thread, as a signal does.

    Args:
        line: for the user; what :func:`leaving` tells follows it.
        code: of the exit.
    """
    _watch.end(lambda told: line + (f"; {told}" if told else ""), code)


def came() -> int:
    """The signal that came, so that :func:`check` would raise; 0 if none did."""
    return _watch.first or 0


def check() -> None:
    """Raise :class:`Interrupted` if a signal came."""
    if _watch.first is not None:
        raise Interrupted(_watch.first)


def serve(_number: int = 0) -> None:
    """For a worker of ``multiprocessing``: signals to the whole group are not its business, and it
    ends when the process that it works for does, however that one dies.

    SIGTERM, by which ``multiprocessing`` ends a worker that is left over, acts after ``GRACE_S``.

    Args:
        _number: of the worker; any.
    """
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    owner = multiprocessing.parent_process()
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner.sentinel,), daemon=True).start()


def _end_soon(_signum: int, _frame: object) -> None:
    timer = threading.Timer(GRACE_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def wait_for(command: Sequence[str], cwd: Path, errors: IO[bytes] | None = None) -> int:
    """Run a command that ends by itself when this process does; its exit code.

    It has a process group of its own, so that a signal reaches it once: from here.

    Args:
        command, cwd: what, and where.
        errors: file for what it writes to standard error, if not the same as ours.

    Raises:
        Interrupted: a signal came; it was passed on, and the command has ended.
    """
    with held():
        process = subprocess.Popen(
            command, cwd=cwd, env=for_child(), process_group=0, stderr=errors
        )
        passed_on = False
        while True:
            try:
                code = process.wait(0.1)
            except subprocess.TimeoutExpired:
                if _watch.first is not None and not passed_on:
                    process.send_signal(_watch.first)
                    passed_on = True
                continue
            check()
            return code


def for_child() -> dict[str, str]:
    """Environment for a command of ours that must not outlive this process."""
    return {**os.environ, _PARENT: str(os.getpid())}


def _end_with_parent() -> None:
    """If another process started this one with :func:`for_child`: get SIGTERM when it dies."""
    parent = os.environ.pop(_PARENT, "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # too late
        os.kill(os.getpid(), signal.SIGTERM)
