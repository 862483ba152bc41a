"""``snnlab configs``: the experiments that ``--config`` takes by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnlab import config_files
from snnlab.errors import UsageError, nearest, shown
from snnlab.flags import Parser


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    words = parser.add_subparsers(dest="what", metavar="list|show")
    listing = words.add_parser("list", help="names, and what they are (the default)")
    listing.add_argument("folder", nargs="?", default="", help="such as coba-ei; all by default")
    one = words.add_parser("show", help="a file as it is: the command, what to expect, options")
    one.add_argument("name", help="of list, or the last part of one")


def main(prog: str, argv: Sequence[str]) -> int:
    """List the configs, or print one."""
    parser = Parser(
        prog=prog,
        description="Experiments that --config takes by name, sweeps of snnlab sweep, and "
        "published claims of snnlab reproduce.",
    )
    arguments(parser)
    given = parser.parse_args(argv)
    if given.what == "show":
        print(Path(_found(given.name)).read_text(encoding="utf-8"), end="")
        return 0
    found = config_files.names()
    folder = getattr(given, "folder", "")
    if folder and folder not in {path.parent.name for path in found.values()}:
        folders = dict.fromkeys(path.parent.name for path in found.values())
        raise UsageError(
            f"no folder '{shown(folder)}' of configs{nearest(folder, folders)}; valid: "
            f"{', '.join(folders)}"
        )
    found = config_files.names(folder)
    if not found:
        raise UsageError("this installation has no configs: install the wheel, or the repository")
    wide = max(map(len, found))
    for name, path in found.items():
        print(f"{name:{wide}}  {config_files.title(path)}")
    return 0


def _found(name: str) -> str:
    """The file of a name, sweeps and claims included."""
    first = name.partition("/")[0]
    folder = first if first in (config_files.SWEEPS, config_files.CLAIMS) else ""
    path = config_files.find(name, folder)
    if not Path(path).is_file():
        raise UsageError(f"no config '{shown(name)}'{nearest(name, config_files.names())}")
    return path
