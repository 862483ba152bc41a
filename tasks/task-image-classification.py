"""Classify events (event-digits, spoken-digits, N-MNIST, SHD) with a recurrent spiking network."""

from snnlab.errors import run_command

PROG = "task-image-classification.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("image-classification", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
