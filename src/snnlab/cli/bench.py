"""``snnlab bench NAME``: measurements, as ratios within one run."""

from __future__ import annotations

from collections.abc import Sequence

#: The sweep over sizes and learners, which is a command line of its own.
SCALING = "memory-and-speed"
TITLE = "Measure time and memory of the learners over sequence lengths and sizes."


def main(prog: str, argv: Sequence[str]) -> int:
    """The command line of the benchmark that is named."""
    if argv and argv[0] == SCALING:
        from snnlab.benchmarks import memory_and_speed

        return memory_and_speed.main(f"{prog} {SCALING}", TITLE, list(argv[1:]))
    from snnlab.benchmarks.__main__ import main as benchmarks

    return benchmarks(list(argv), prog)
