"""``snnlab``, and ``python -m snnlab``: the command (:mod:`snnlab.cli`)."""

import os

from snnlab.errors import run_command

PROG = "snnlab"


def main() -> int:
    if "_ARGCOMPLETE" in os.environ:
        from snnlab.cli.completion import complete

        complete()
    from snnlab.cli.main import main as command

    return command()


def script() -> None:
    """The console script."""
    run_command(main, PROG)


if __name__ == "__main__":
    script()
