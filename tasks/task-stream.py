"""Train a spiking network online on a stream that never ends and changes."""

from snnlab.errors import run_command

PROG = "task-stream.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("stream", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
