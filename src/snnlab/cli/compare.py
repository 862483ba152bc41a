"""``snnlab compare RUN RUN ...``: results side by side, and what was asked otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from snnlab.errors import UsageError, shown
from snnlab.experiment import comparison, info
from snnlab.flags import Parser
from snnlab.library import Run
from snnlab.problems.tasks import changed
from snnlab.runs import RunFolder

#: Most characters of a value.
_WIDEST = 24


class _Compared(NamedTuple):
    """A run, for :func:`snnlab.experiment.comparison.compare`."""

    group: str
    point: Mapping[str, Any]


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN", nargs="+", help="folders of runs; of a sweep: all its runs"
    )
    parser.add_argument(
        "--filepath", metavar="DIR", default="",
        help="folder for table.md, results.csv and comparison.png; empty: they are not written",
    )  # fmt: skip


def main(prog: str, argv: Sequence[str]) -> int:
    """Compare the runs."""
    parser = Parser(
        prog=prog, description="Results of runs side by side, and the options in which they differ."
    )
    arguments(parser)
    given = parser.parse_args(argv)
    paths: list[Path] = []
    for name in given.run:
        path = Path(name).expanduser()
        paths += info.members_of_sweep(path) or [RunFolder.existing(str(path)).path]
    if len(paths) < 2:
        raise UsageError(f"one run, {shown(paths[0])}: two or more are compared")
    names = _names(paths)
    options = {name: info.options_of(RunFolder(path)) for name, path in names.items()}
    differing = comparison.differing(options, asked=_asked(paths))
    found = {name: comparison.Outcome.of(path) for name, path in names.items()}
    numbers = {name: outcome.numbers() for name, outcome in found.items()}
    print(aligned(comparison.table(found, numbers)))
    print()
    if differing:
        rows = [["option", *names]]
        rows += [[o, *(shown(value, _WIDEST) for value in row)] for o, row in differing.items()]
        print(_columns(rows))
    else:
        print("they were asked the same")
    if given.filepath:
        compared = {name: (_Compared(name, {}), path) for name, path in names.items()}
        written = comparison.compare(compared, Path(given.filepath).expanduser())
        print(f"\nwritten {', '.join(map(str, written))}")
    return 0


def _asked(paths: Sequence[Path]) -> set[str] | None:
    """The options that are not the defaults of some run; ``None`` where that cannot be told."""
    found: set[str] = set()
    for path in paths:
        run = Run(path)
        try:
            found |= set(changed(run.task, run.config))
        except UsageError:
            return None
    return found


def _names(paths: Sequence[Path]) -> dict[str, Path]:
    """The runs by the names of their folders, or by their paths where names are equal."""
    names = [path.resolve().name for path in paths]
    same = len(set(names)) < len(names)
    found = {str(path) if same else name: path for name, path in zip(names, paths, strict=True)}
    if len(found) < len(paths):
        raise UsageError("a run is given twice")
    return found


def aligned(table: str) -> str:
    """A Markdown table with columns of one width."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    return _columns([[cell.strip() for cell in row] for k, row in enumerate(rows) if k != 1])


def _columns(rows: Sequence[Sequence[str]]) -> str:
    wide = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(f"{c:{w}}" for c, w in zip(row, wide)).rstrip() for row in rows)
