"""Train balanced spiking networks, and their baselines, on cue accumulation."""

from snnlab.errors import run_command

PROG = "task-balanced-rsnn.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("balanced-rsnn", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
