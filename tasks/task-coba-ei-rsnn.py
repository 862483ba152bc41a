"""Train an excitatory/inhibitory spiking network (coba or cuba) to accumulate evidence."""

from snnlab.errors import run_command

PROG = "task-coba-ei-rsnn.py"


def main() -> int:
    from snnlab.problems.tasks import run_task

    return run_task("coba-ei", prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
