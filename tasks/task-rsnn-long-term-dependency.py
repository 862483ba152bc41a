"""Train a recurrent spiking network to remember: delayed match to sample (DMS)."""

from snnlab.errors import run_command
from snnlab.experiment import command
from snnlab.problems.delayed_match import LongTermDependency, build

PROG = "task-rsnn-long-term-dependency.py"

if __name__ == "__main__":
    run_command(lambda: command(LongTermDependency, build, prog=PROG, description=__doc__), PROG)
