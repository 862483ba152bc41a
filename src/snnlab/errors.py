"""Errors that are the user's to mend, apart from bugs.

A ``UsageError`` carries one line: what was wrong and what is valid. The command line
prints it without a traceback and leaves with exit code 2. Every other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import importlib.util
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator

from snnlab import interrupts

#: Characters of a message on the command line.
LONGEST = 400


class UsageError(Exception):
    """Input that cannot be used. The message is one line, complete in itself."""


class SourceFailed(UsageError):
    """Data that come while a run goes on end early; what the run has so far is to be kept."""


#: Whether the caller gives keywords of Python, not flags of a command.
_keywords: contextvars.ContextVar[bool] = contextvars.ContextVar("keywords", default=False)


def by_keywords() -> bool:
    """Whether options come from a Python call."""
    return _keywords.get()


@contextlib.contextmanager
def as_keywords() -> Iterator[None]:
    """A Python call: errors that are raised inside name keywords (``lr``), not flags (``--lr``)."""
    token = _keywords.set(True)
    try:
        yield
    except UsageError as error:
        raise UsageError(re.sub(r"(?<![\w-])--(?=[A-Za-z])", "", str(error))) from None
    finally:
        _keywords.reset(token)


def nearest(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest valid name, or an empty string.

    >>> nearest("epoch", ["epochs", "lr"])
    " (did you mean 'epochs'?)"
    """
    close = difflib.get_close_matches(name[:60], list(valid), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def one_line(text: str) -> str:
    """``text`` with every run of whitespace, line breaks included, made one space."""
    return " ".join(text.split())


def shown(value: object, most: int = 80) -> str:
    """A user's value for a message: one line of at most ``most`` printable characters."""
    text = str(value)
    more = len(text) > most
    text = one_line(text[: most - 3] if more else text) + "..." * more
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def missing(module: str, extra: str) -> str:
    """What a message says of a package that an extra installs; empty if it is installed.

    >>> missing("nothing_of_this_name", "data")
    "the package nothing-of-this-name, of the extra 'data' (pip install -e '.[data]')"
    """
    if importlib.util.find_spec(module) is not None:
        return ""
    name = module.replace("_", "-")
    return f"the package {name}, of the extra '{extra}' (pip install -e '.[{extra}]')"


def out_of_memory(error: BaseException) -> str:
    """A line for the user if ``error`` says that memory ran out, otherwise an empty string."""
    text = str(error)
    of_device = type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError")
    if not isinstance(error, MemoryError) and not (of_device and "RESOURCE_EXHAUSTED" in text):
        return ""
    what = f" ({shown(text, 160)})" if text else ""
    return f"out of memory{what}: fewer neurons, steps or samples of a batch need less"


def run_command(main: Callable[[], int | None], prog: str) -> None:
    """Run a command-line entry point and leave the process.

    Exit codes: 0 (or what ``main`` returns), 2 after a :class:`UsageError` or where memory ran
    out, 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP; any other exception propagates with its
    traceback. ``main`` imports what it needs, so that a signal that comes meanwhile is one line
    too.
    """
    interrupts.install(prog)
    for stream in (sys.stdout, sys.stderr):  # a path need not be text: show its bytes as \\udc..
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main() or 0
        interrupts.check()
    except UsageError as error:
        print(f"{prog}: error: {shown(error, LONGEST)}", file=sys.stderr)
        code = 2
    except interrupts.Interrupted as signal:
        with contextlib.suppress(OSError):
            print(f"{prog}: {signal.line}", file=sys.stderr)
        code = signal.exit_code
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        code = 0
    except Exception as error:
        line = out_of_memory(error)
        if not line:
            raise
        print(f"{prog}: error: {line}", file=sys.stderr)
        code = 2
    sys.exit(code)
