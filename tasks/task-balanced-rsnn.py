"""Train balanced spiking networks, and their baselines, on cue accumulation."""

from snnlab.errors import run_command
from snnlab.experiment import command
from snnlab.problems.balanced import BalancedRSNN, build, defaults

PROG = "task-balanced-rsnn.py"

if __name__ == "__main__":
    run_command(
        lambda: command(BalancedRSNN, build, prog=PROG, description=__doc__, adapt=defaults), PROG
    )
