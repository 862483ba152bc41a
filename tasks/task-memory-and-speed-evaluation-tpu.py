"""Measure time and memory of the learners over sequence lengths and sizes (TPU, GPU or CPU)."""

from snnlab.benchmarks import sweep
from snnlab.errors import run_command

PROG = "task-memory-and-speed-evaluation-tpu.py"

if __name__ == "__main__":
    run_command(lambda: sweep.main(PROG, __doc__ or ""), PROG)
