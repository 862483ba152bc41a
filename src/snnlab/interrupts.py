"""Signals that end a command: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

A command is in one of two moods. By default a signal ends it where it is, by an
:class:`Interrupted` raised in the main thread. Inside :func:`held` a signal is only noted; the code
there looks with :func:`check` where it can stop, and saves first. A second signal leaves at once in
either mood, also where the main thread is inside a long compilation: a thread of its own watches.

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
from collections.abc import Iterator, Sequence
from pathlib import Path

#: A second signal so shortly after the first is the same one, sent to a whole group of processes.
SAME_S = 0.3
#: Environment variable with the process that a command must not outlive.
_PARENT = "SNNLAB_PARENT"
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(BaseException):
    """A signal ended the command. No ``except Exception`` swallows it.

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
    def name(self) -> str:
        return "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name


class _Watch:
    """What came so far, and whether the main thread wants to be left in peace."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.at = 0.0
        self.holding = 0
        self.told = ""

    def handle(self, signum: int, frame: object) -> None:
        """The handler proper: runs in the main thread, between two of its instructions."""
        self.note(signum)
        if not self.holding:
            raise Interrupted(signum)

    def note(self, signum: int) -> None:
        if self.first is None:
            self.first, self.at = signum, time.monotonic()

    def watch(self, source: socket.socket) -> None:
        """Read signal numbers as they come in, whatever the main thread is doing."""
        while True:
            try:
                data = source.recv(64)
            except OSError:
                return
            for signum in data:
                if signum not in _SIGNALS:
                    continue
                if self.first is not None and time.monotonic() - self.at > SAME_S:
                    os._exit(128 + signum)
                self.note(signum)
                if self.holding and self.told:
                    told, self.told = self.told, ""
                    with contextlib.suppress(OSError):
                        os.write(2, f"{Interrupted(signum).name}: {told}\n".encode())


_watch = _Watch()
_installed: list[socket.socket] = []


def install() -> None:
    """Take over the signals of this process; a second call changes nothing.

    A signal that is ignored (SIGHUP under ``nohup``) stays so. Outside the main thread nothing
    is done.
    """
    if _installed or threading.current_thread() is not threading.main_thread():
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _installed.extend((ours, theirs))
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch.watch, args=(ours,), daemon=True).start()
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _watch.handle)
    _end_with_parent()


@contextlib.contextmanager
def held(told: str = "") -> Iterator[None]:
    """Signals are noted, not raised; :func:`check` raises them.

    Args:
        told: written to standard error when the first one comes.
    """
    check()
    before, _watch.told = _watch.told, told
    _watch.holding += 1
    try:
        yield
    finally:
        _watch.holding -= 1
        _watch.told = before


def check() -> None:
    """Raise :class:`Interrupted` if a signal came, also one whose exception was swallowed."""
    if _watch.first is not None:
        raise Interrupted(_watch.first)


def serve(number: int = 0) -> None:
    """For a worker of ``multiprocessing``: signals to the whole group are not its business, and it
    ends when the process that it works for does, however that one dies.

    Args:
        number: of the worker; any.
    """
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    owner = multiprocessing.parent_process()
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def wait_for(command: Sequence[str], cwd: Path) -> int:
    """Run a command that ends by itself when this process does; its exit code.

    It has a process group of its own, so that a signal reaches it once: from here.

    Raises:
        Interrupted: a signal came; it was passed on, and the command has ended.
    """
    environment = {**os.environ, _PARENT: str(os.getpid())}
    with held():
        process = subprocess.Popen(command, cwd=cwd, env=environment, process_group=0)
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


def _end_with_parent() -> None:
    """If :func:`wait_for` started this process: get SIGTERM when that one dies, however it dies."""
    parent = os.environ.pop(_PARENT, "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # too late
        os.kill(os.getpid(), signal.SIGTERM)
