"""From the first word of a command line to what does it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from snnlab import __version__
from snnlab.errors import UsageError, nearest, shown
from snnlab.registry import load

PROG = "snnlab"


class Command(NamedTuple):
    """A command.

    Attributes:
        usage: what follows its name.
        summary: one line.
        main: ``"module:function"``, called with its name for messages and its arguments; returns
            the exit code.
    """

    usage: str
    summary: str
    main: str


COMMANDS = {
    "run": Command("TASK --flag ...", "train, resume or draw; one task", "run:main"),
    "configs": Command("[list|show NAME]", "experiments that --config takes by name",
                       "configs:main"),
    "info": Command("RUN", "what a run folder holds, and how to go on", "info:main"),
    "compare": Command("RUN RUN ...", "results side by side, and what was asked otherwise",
                       "compare:main"),
    "report": Command("RUN ...", "a page about runs: results over seeds, curves, activity, costs",
                      "report:main"),
    "export": Command("RUN --to nir", "the network of a run as a file for other frameworks",
                      "export:main"),
    "import": Command("FILE.nir", "what a network of another framework becomes here",
                      "import_:main"),
    "sweep": Command("FILE", "all runs of a sweep file; resumable", "sweep:main"),
    "reproduce": Command("[list|table|NAME]", "published figures: runs that test one, its verdict",
                         "reproduce:main"),
    "data": Command("list|prepare|check", "datasets; look through your own recordings",
                    "data:main"),
    "bench": Command("NAME", "measure the learners, the pipeline, other frameworks", "bench:main"),
    "tasks": Command("", "the tasks that run knows", "names:tasks"),
    "models": Command("", "the neurons and layers of --model, the surrogates of --spk_fun",
                      "names:models"),
    "rules": Command("", "the learning rules of --method", "names:rules"),
    "completion": Command("bash|zsh|fish", "completion of the shell", "completion:main"),
}  # fmt: skip
EXAMPLES = {
    "run image-classification --method expsm_diag": "event-based digits, online; some 40 s",
    "run long-term-dependency --config d-rtrl": "a published experiment",
    "run --resume runs/NAME": "go on where a run ended",
    "data check FOLDER": "what recordings of your own hold",
}


def help_text() -> str:
    """The short help."""
    left = {name: f"{name} {about.usage}".strip() for name, about in COMMANDS.items()}
    wide = max(map(len, left.values()))
    lines = [f"snnlab {__version__}: recurrent spiking networks, trained by learners that one "
             "flag swaps", "", f"usage: {PROG} COMMAND ...", ""]  # fmt: skip
    lines += [f"  {left[name]:{wide}}  {about.summary}" for name, about in COMMANDS.items()]
    wide = max(map(len, EXAMPLES))
    lines += ["", "examples:", *(f"  {PROG} {k:{wide}}  {v}" for k, v in EXAMPLES.items())]
    return "\n".join([*lines, "", f"{PROG} COMMAND --help says more of one."])


def main(argv: Sequence[str] | None = None) -> int:
    """The whole command line; its exit code.

    Raises:
        UsageError: no such command, or one that refuses its arguments.
    """
    first, *rest = [*(sys.argv[1:] if argv is None else argv), ""]
    if first in ("", "help", "-h", "--help"):
        print(help_text())
        return 0
    if first in ("-V", "--version"):
        print(f"{PROG} {__version__}")
        return 0
    if first not in COMMANDS:
        raise UsageError(
            f"no command '{shown(first)}'{_meant(first)}; valid: {', '.join(COMMANDS)}"
        )
    return load(f"snnlab.cli.{COMMANDS[first].main}")(f"{PROG} {first}", rest[:-1])


def _meant(word: str) -> str:
    """What a word that is no command may have meant."""
    close = nearest(word, COMMANDS)
    if close:
        return close
    from snnlab.cli.run import names

    return " (did you mean 'snnlab run " + word + "'?)" if word in names() else ""
