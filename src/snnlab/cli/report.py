"""``snnlab report RUN ...``: a page about runs, which needs nothing but itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from snnlab.flags import Parser


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN", nargs="+",
        help="folders of runs, of several seeds, of sweeps; of a folder of run folders: all",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE.html", default="report.html",
        help="the page; a report that is there is replaced [default report.html]",
    )  # fmt: skip
    parser.add_argument(
        "--markdown", action="store_true", help="write the same as Markdown beside it, FILE.md"
    )


def main(prog: str, argv: Sequence[str]) -> int:
    """Write the report."""
    parser = Parser(
        prog=prog,
        description="Commands, results over seeds, learning curves, confusion matrices, activity, "
        "weights, costs and versions of runs, as one page of HTML.",
    )
    arguments(parser)
    given = parser.parse_args(argv)
    from snnlab.report.write import write

    files = write(
        given.run, Path(given.out).expanduser(), markdown=given.markdown,
        command=f"{prog} {shlex.join(argv)}",
    )  # fmt: skip
    for path in files:
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0
