"""The terminal of a command."""

from __future__ import annotations

import os
import signal
import sys
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
