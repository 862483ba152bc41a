"""Simulate a spiking network that tracks a linear system (the balanced-network sandbox)."""

from snnlab.errors import run_command
from snnlab.problems.boerlin import command

PROG = "boerlin.py"

if __name__ == "__main__":
    run_command(lambda: command(prog=PROG, description=__doc__), PROG)
