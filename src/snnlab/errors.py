"""Errors that are the user's to mend, apart from bugs.

A ``UsageError`` carries one line: what was wrong and what is valid. The command line
prints it without a traceback and leaves with exit code 2. Every other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Iterable

from snnlab import interrupts


class UsageError(Exception):
    """Input that cannot be used. The message is one line, complete in itself."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def one_line(text: str) -> str:
    """``text`` with every run of whitespace, line breaks included, made one space."""
    return " ".join(text.split())


def run_command(main: Callable[[], int | None], prog: str) -> None:
    """Run a command-line entry point and leave the process.

    Exit codes: 0 (or what ``main`` returns), 2 after a :class:`UsageError`, 130, 143 or 129 after
    Ctrl-C, SIGTERM or SIGHUP; any other exception propagates with its traceback. ``main`` imports
    what it needs, so that a signal that comes meanwhile is one line too.
    """
    interrupts.install()
    try:
        code = main() or 0
        interrupts.check()
    except UsageError as error:
        print(f"{prog}: error: {one_line(str(error))}", file=sys.stderr)
        code = 2
    except interrupts.Interrupted as signal:
        told = f"; {signal.told}" if signal.told else ""
        with contextlib.suppress(OSError):
            print(f"{prog}: ended by {signal.name}{told}", file=sys.stderr)
        code = signal.exit_code
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        code = 0
    sys.exit(code)
