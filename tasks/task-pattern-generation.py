"""Train a spiking network to generate sums of sines from frozen noise."""

from snnlab.errors import run_command

PROG = "task-pattern-generation.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("pattern-generation", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
