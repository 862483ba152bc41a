"""Train an excitatory/inhibitory spiking network (coba or cuba) to accumulate evidence."""

from snnlab.errors import run_command
from snnlab.experiment import command
from snnlab.problems.evidence import CobaEI, build

PROG = "task-coba-ei-rsnn.py"

if __name__ == "__main__":
    run_command(lambda: command(CobaEI, build, prog=PROG, description=__doc__), PROG)
