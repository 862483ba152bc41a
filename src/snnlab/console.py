"""The terminal of a command."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from snnlab.interrupts import Interrupted


class _Console(Console):
    """A console whose reader may leave (``| head``)."""

    def on_broken_pipe(self) -> None:
        """The command ends as by a signal: what trains saves first."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        raise Interrupted(signal.SIGPIPE) from None


def make_console(**options: Any) -> Console:
    """A console that prints text as it is: ``[x]`` and ``:x:`` in names and paths are no markup."""
    return _Console(
        **{"soft_wrap": True, "markup": False, "emoji": False, "highlight": False} | options
    )


def this_command() -> str:
    """What a user types for the command that runs: ``snnlab run TASK``, ``python tasks/x.py``."""
    script, words = Path(sys.argv[0] or "the-same-task"), list(sys.argv[1:])
    if script.name != "__main__.py" and script.suffix not in ("", ".exe"):
        return _program(script)  # one command, whatever follows
    named = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    return f"{_program(script)} {shlex.join(words[:named])}".rstrip()


def typed_command() -> str:
    """The command that runs, with all its arguments."""
    return f"{_program(Path(sys.argv[0]))} {shlex.join(sys.argv[1:])}".rstrip()


def _program(script: Path) -> str:
    if script.name == "__main__.py":
        return f"python -m {script.parent.name}"
    if script.suffix not in ("", ".exe"):
        return f"python {shlex.quote(str(script))}"
    return script.stem if shutil.which(script.stem) else shlex.quote(str(script))
