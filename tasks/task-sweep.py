"""Run all experiments of a sweep file, and compare them; resumable, here or as an array job."""

from snnlab.errors import run_command
from snnlab.experiment import sweeps

PROG = "task-sweep.py"

if __name__ == "__main__":
    run_command(lambda: sweeps.main(PROG, __doc__ or ""), PROG)
