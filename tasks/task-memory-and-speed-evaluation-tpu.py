"""Measure time and memory of the learners over sequence lengths and sizes (TPU, GPU or CPU)."""

from snnlab.errors import run_command

PROG = "task-memory-and-speed-evaluation-tpu.py"


def main() -> int:
    from snnlab.benchmarks import memory_and_speed

    return memory_and_speed.main(PROG, __doc__ or "")


if __name__ == "__main__":
    run_command(main, PROG)
