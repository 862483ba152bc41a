"""Train a recurrent spiking network to remember: delayed match to sample (DMS)."""

from snnlab.errors import run_command

PROG = "task-rsnn-long-term-dependency.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("long-term-dependency", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
