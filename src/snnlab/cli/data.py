"""``snnlab data``: the datasets, their cache, and a look at recordings of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnlab.errors import UsageError
from snnlab.flags import Parser

TITLE = "Datasets of --dataset; recordings of your own."


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    words = parser.add_subparsers(dest="what", metavar="list|prepare|check", required=True)

    def word(name: str, text: str) -> Any:
        return words.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    word("list", "datasets, what they need, what is prepared")
    one = word("prepare", "make the cache of a dataset, downloading if need be")
    one.add_argument("name", help="of list")
    one.add_argument("--data_path", "--data-path", metavar="DIR", default="",
                     help="folder of the recordings; empty: the cache, downloaded to")  # fmt: skip
    look = word("check", "recordings, classes, events, durations, units, and what is wrong")
    look.add_argument("path", metavar="PATH", nargs="+", help=".bin, .npz, .h5, AEDAT, WAV, "
                      "FLAC, images; files, folders, zips")  # fmt: skip


def main(prog: str, argv: Sequence[str]) -> int:
    """List, prepare or check; 1 if a check finds something wrong."""
    parser = Parser(prog=prog, description=TITLE)
    arguments(parser)
    given = parser.parse_args(argv)
    if given.what == "check":
        return max(_checked(path, alone=len(given.path) == 1) for path in given.path)
    from snnlab.data import prepared

    if given.what == "prepare":
        print(f"{given.name}: {prepared.prepare(given.name, given.data_path)}")
        return 0
    names = prepared.names()
    wide = max(map(len, names)) + 2
    for name, summary in names.items():
        stores, needs = prepared.prepared(name), prepared.needs(name)
        print(f"{name:{wide}}{summary}")
        for store in stores:
            print(f"{'':{wide}}prepared: {store.n:,} recordings, {store.bytes / 1e6:,.0f} MB, "
                  f"{store.path}")  # fmt: skip
        if needs and not stores:
            print(f"{'':{wide}}needs {needs}")
    return 0


def _checked(path: str, alone: bool) -> int:
    """:func:`check`; of several paths one that is nothing does not keep the others from it."""
    try:
        return check(path)
    except UsageError as error:
        if alone:
            raise
        print(f"{path}\n  problem: {error}")
        return 1


def check(path: str) -> int:
    """Print what a path holds; 1 if something of it cannot be used.

    Raises:
        UsageError: nothing is there that is known.
    """
    from snnlab.data.examine import examine
    from snnlab.data.sources import expanded

    wrong = 0
    for found in examine(expanded(path, "check")):
        print(f"{path}: {found.kind}")
        for part in found.parts:
            print("\n".join(f"  {line}" for line in part.lines()))
        for line in found.problems:
            print(f"  problem: {line}")
        wrong |= bool(found.problems)
        if found.use and not found.problems:
            print(f"  use: {found.use}")
    return int(wrong)
