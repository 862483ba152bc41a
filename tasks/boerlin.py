"""Simulate a spiking network that tracks a linear system (the balanced-network sandbox)."""

from snnlab.errors import run_command

PROG = "boerlin.py"


def main() -> int:
    from snnlab.problems.boerlin import command

    return command(prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
