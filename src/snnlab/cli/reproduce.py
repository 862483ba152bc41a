"""``snnlab reproduce NAME``: the runs that test a published claim, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnlab.errors import UsageError
from snnlab.flags import Parser

#: Words in the place of a claim.
LIST, TABLE = "list", "table"


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "claim", metavar="list|table|NAME", nargs="?", default=LIST,
        help="all claims (the default); a table of verdicts; or a claim: a name, or a file",
    )  # fmt: skip
    parser.add_argument(
        "--filepath", metavar="DIR", default="runs/reproduce",
        help="folder in which each claim has one of its name [default runs/reproduce]",
    )  # fmt: skip
    parser.add_argument(
        "--data_path", metavar="DIR", default="", help="of the runs, where they read a dataset"
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--only", metavar="RUN,...", default="", help="comma list of runs by name; empty: all"
    )
    part.add_argument(
        "--index", type=int, metavar="K",
        help="run this one alone, counted from 0, without a verdict (array jobs)",
    )  # fmt: skip
    part.add_argument(
        "--list", action="store_true", help="show the runs and what became of them, and leave"
    )
    part.add_argument(
        "--judge", action="store_true", help="the verdict on what is there, without running"
    )


def main(prog: str, argv: Sequence[str]) -> int:
    """Run and judge a claim, or show claims and verdicts; 1 if a run failed."""
    parser = Parser(
        prog=prog,
        description="Reproduce published figures: each claim has its runs, and a criterion. A "
        "second time, the runs that are not done.",
    )
    arguments(parser)
    given = parser.parse_args([_respelled(word) for word in argv])
    home = Path(given.filepath).expanduser().resolve()
    if given.claim in (LIST, TABLE):
        if given.only or given.index is not None or given.list or given.judge or given.data_path:
            raise UsageError(f"{prog} {given.claim} takes --filepath alone; which claim is meant?")
        print(_table(home) if given.claim == TABLE else _list(home), end="")
        return 0
    return _reproduce(given, home)


def _respelled(word: str) -> str:
    """``--data-path`` as ``--data_path``."""
    flag, equals, value = word.partition("=")
    return flag.replace("-", "_").replace("__", "--", 1) + equals + value if (
        flag.startswith("--")
    ) else word  # fmt: skip


def _verdicts(home: Path) -> list[Any]:
    """On all claims that come with snnlab."""
    from snnlab.experiment import claims, verdicts

    made = [claims.read(path) for path in claims.names().values()]
    return [verdicts.judge(claim, home / claim.runs) for claim in made]


def _list(home: Path) -> str:
    """Names, verdicts, titles."""
    rows = [(v.claim.name, v.word, v.claim.title) for v in _verdicts(home)]
    if not rows:
        raise UsageError("this installation has no claims: install the wheel, or the repository")
    name, word = (max(len(row[k]) for row in rows) for k in (0, 1))
    return "".join(f"{row[0]:{name}}  {row[1]:{word}}  {row[2]}\n" for row in rows)


def _table(home: Path) -> str:
    """Markdown."""
    from snnlab.experiment import verdicts

    return verdicts.table(_verdicts(home))


def _reproduce(given: Any, home: Path) -> int:
    """Run what is asked of a claim, and judge it."""
    from snnlab.cli.run import OTHERS, names
    from snnlab.console import make_console
    from snnlab.experiment import claims, comparison, info, sweeps, verdicts
    from snnlab.experiment.sweep_command import SweepOptions
    from snnlab.problems.tasks import TASKS, read

    claim, console = claims.find(given.claim), make_console()
    file, index = claim.file, -1 if given.index is None else given.index
    if given.index is not None and given.index < 0:
        raise UsageError(f"--index {given.index}: runs are counted from 0")
    if given.data_path:
        path = str(Path(given.data_path).expanduser().resolve())
        file = file.model_copy(update={"options": {**file.options, "data_path": path}})
    options = SweepOptions(
        sweep=str(claim.path), filepath=str(home / claim.runs), only=given.only, index=index
    )
    short = OTHERS.keys() - info.MARKS.keys()
    sweep = sweeps.Sweep(options, claim.path, file, names(), short)
    chosen = sweep.chosen(options)
    if given.list:
        sweeps.show(sweep, console)
        return 0
    failed: list[str] = []
    if not given.judge:
        sweep.check(chosen, lambda task, argv: read(task, argv) if task in TASKS else None)
        sweep.claim()
        console.print(f"{claim.name}: {claim.cost}")
        failed = sweeps.run_all(sweep, chosen, console)
    if index < 0:
        verdict = verdicts.judge(claim, sweep.folder)
        written: list[Path] = []
        if verdict.done:
            written += verdicts.write(verdict, home / claim.name)
            compared = {m.name: (m, sweep.folder / m.slug) for m in sweep.members}
            written += comparison.compare(compared, sweep.folder)
        for line in verdict.lines():
            console.print(line)
        if written:
            console.print(f"written    {', '.join(str(path) for path in written)}")
    if failed:
        console.print(f"{len(failed)} failed: {', '.join(failed)}")
    return 1 if failed else 0
