"""Run all experiments of a sweep file, and compare them; resumable, here or as an array job."""

from snnlab.errors import run_command

PROG = "task-sweep.py"


def main() -> int:
    from snnlab.cli import sweep

    return sweep.main(PROG)


if __name__ == "__main__":
    run_command(main, PROG)
