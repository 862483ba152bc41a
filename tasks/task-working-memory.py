"""Train a spiking network to remember: store-recall, delayed XOR, copy."""

from snnlab.errors import run_command

PROG = "task-working-memory.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("working-memory", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
