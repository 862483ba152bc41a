"""``snnlab import FILE.nir``: what a network of a file becomes here, and how to train it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from snnlab.exchange.labels import KINDS, table
from snnlab.flags import Parser

TITLE = """What the network of a NIR file becomes, node by node, and the command that trains it.
Nothing is written: tasks take the file by --model nir --network FILE."""


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="NIR file")
    parser.add_argument(
        "--dt", type=float, default=None, metavar="MS",
        help="length of a step in ms; what snnlab wrote, or 1, by default",
    )  # fmt: skip
    parser.add_argument(
        "--nir_step", "--nir-step", choices=["euler", "exponential"], default=None,
        help="decay of a step: 1 - dt/tau (the default), or exp(-dt/tau); of a file that snnlab "
        "has written it is known",
    )  # fmt: skip

    parser.add_argument(
        "--nir_reset", "--nir-reset", choices=["value", "subtract"], default=None,
        help="a spike sets the membrane to v_reset (the default), or subtracts the threshold",
    )  # fmt: skip


def main(prog: str, argv: Sequence[str]) -> int:
    """Read the file, and say what each node of it becomes."""
    parser = Parser(prog=prog, description=TITLE)
    arguments(parser)
    given = parser.parse_args(argv)
    from snnlab.exchange.files import read

    graph = read(given.file)
    from snnlab.exchange import from_nir

    made = from_nir(graph, dt_ms=given.dt, scheme=given.nir_step, reset=given.nir_reset)
    net, kinds = made.network, [label.kind for label in made.labels]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)
    layers = ", ".join(str(layer.n) for layer in net.layers)
    print(table(made.labels))
    print(f"\n{given.file}: {len(kinds)} nodes, {counted}; {net.n_in} inputs, layers of {layers} "
          f"neurons, {net.n_out} outputs, steps of {net.dt_ms:g} ms")  # fmt: skip
    flags = ["--model", "nir", "--network", given.file]
    flags += ["--dt", f"{net.dt_ms:g}"] if net.dt_ms != 1 else []
    flags += ["--nir_step", given.nir_step] if given.nir_step and not made.original else []
    flags += ["--nir_reset", given.nir_reset] if given.nir_reset else []
    print(f"train it: snnlab run TASK --method diag {shlex.join(flags)}")
    return 0
