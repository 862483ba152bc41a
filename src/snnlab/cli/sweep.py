"""``snnlab sweep FILE``: all runs of a sweep file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from snnlab.experiment import sweep_command
from snnlab.problems.tasks import TASKS, read
from snnlab.search import command as search

TITLE = (
    "Run all experiments of a sweep file and compare them, or search over options; resumable, here "
    "or (experiments) as an array job."
)


def main(prog: str, argv: Sequence[str] | None = None) -> int:
    """The command line of sweeps, whose file needs no flag."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given[:1] = ["--sweep", given[0]]
    return sweep_command.main(prog, TITLE, given, TASKS.names(), search.main, read)
