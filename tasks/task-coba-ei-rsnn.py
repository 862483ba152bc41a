"""Train an excitatory/inhibitory spiking network (coba or cuba) to accumulate evidence."""

from snnlab.errors import run_command

PROG = "task-coba-ei-rsnn.py"


def main() -> int:
    from snnlab.experiment import command
    from snnlab.problems.evidence import CobaEI, build

    return command(CobaEI, build, prog=PROG, description=__doc__)


if __name__ == "__main__":
    run_command(main, PROG)
