"""Train a recurrent spiking network to remember: delayed match to sample (DMS)."""

from snnlab.errors import run_command

PROG = "task-rsnn-long-term-dependency.py"


def main() -> int:
    from snnlab.experiment import command
    from snnlab.problems.delayed_match import LongTermDependency, build

    return command(LongTermDependency, build, prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
