"""A trial as a process of its own: ``python -m snnlab.search.trial STUDY NUMBER TASK --flag ...``.

It is ``snnlab run TASK --flag ...``, and tells the study after every epoch what validation found;
where the study's pruner says so the run is given up, and its results say by what.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from snnlab.errors import run_command
from snnlab.problems.tasks import run_task
from snnlab.search.pruning import Pruning

PROG = "snnlab"


def main(argv: Sequence[str] | None = None) -> int:
    """Train a trial; the exit code of its run."""
    study, number, task, *rest = sys.argv[1:] if argv is None else argv
    sys.argv = [PROG, "run", task, *rest]  # what log.txt and messages say: it can be typed
    hook = Pruning(Path(study), int(number))
    return run_task(task, prog=f"{PROG} run {task}", argv=rest, hooks=(hook,))


if __name__ == "__main__":
    run_command(main, PROG)
