"""Compare gradients of learning rules with those of backpropagation through time."""

from snnlab.errors import run_command

PROG = "task-gradient-analysis.py"


def main() -> int:
    from snnlab.problems.gradient_analysis import command

    return command(prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
