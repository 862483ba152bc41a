"""``snnlab bench NAME``: measurements, as ratios within one run."""

from __future__ import annotations

from collections.abc import Sequence

from snnlab.benchmarks.__main__ import main as benchmarks


def main(prog: str, argv: Sequence[str]) -> int:
    """The command line of the benchmark that is named."""
    return benchmarks(list(argv), prog)
