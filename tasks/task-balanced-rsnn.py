"""Train balanced spiking networks, and their baselines, on cue accumulation."""

from snnlab.errors import run_command

PROG = "task-balanced-rsnn.py"


def main() -> int:
    from snnlab.experiment import command
    from snnlab.problems.balanced import BalancedRSNN, build, defaults

    return command(BalancedRSNN, build, prog=PROG, description=__doc__, adapt=defaults)


if __name__ == "__main__":
    run_command(main, PROG)
