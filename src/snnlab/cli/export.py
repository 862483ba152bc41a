"""``snnlab export RUN --to nir``: the network of a run for other frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnlab.exchange.labels import KINDS, table
from snnlab.exchange.packages import require_nir
from snnlab.exchange.readers import READERS
from snnlab.flags import Parser

TITLE = """The network of a run, with the weights of its best epoch, as a file for other frameworks.
Each node is exact, approximate or unsupported, for the steps that the reader makes."""


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--to", choices=["nir"], required=True, help="format of the file")
    parser.add_argument("--out", metavar="FILE", default="",
                        help="file; RUN's name with .nir, in this folder, by default")  # fmt: skip
    parser.add_argument(
        "--reader", choices=list(READERS), default="nir",
        help="; ".join(f"{name}: {reader.summary}" for name, reader in READERS.items()),
    )  # fmt: skip
    parser.add_argument("--without_readout", "--without-readout", action="store_true",
                        help="end with the spikes of the last layer")  # fmt: skip
    parser.add_argument(
        "--unsupported", action="store_true",
        help="write nodes that leave out a part of what the network does",
    )  # fmt: skip


def main(prog: str, argv: Sequence[str]) -> int:
    """Write the file, and say what each node of it is."""
    parser = Parser(prog=prog, description=TITLE)
    arguments(parser)
    given = parser.parse_args(argv)
    from snnlab.library import load

    run = load(given.run)
    require_nir()
    out = given.out or f"{Path(given.run).expanduser().resolve().name}.nir"
    from snnlab.exchange import to_nir, write

    made = to_nir(run.network(), given.reader, readout=not given.without_readout,
                  unsupported=given.unsupported)  # fmt: skip
    path = write(out, made.graph)
    kinds = [label.kind for label in made.labels]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)
    print(table(made.labels))
    print(f"\n{path}: {len(kinds)} nodes, {counted}; steps of {made.dt:g} s")
    return 0
