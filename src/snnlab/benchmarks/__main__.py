"""``python -m snnlab.benchmarks learners|pipeline|events``: ratios within one run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from snnlab.benchmarks import cells, events, learners, pipeline
from snnlab.devices import select_device
from snnlab.errors import UsageError, run_command

PROG = "benchmarks"


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] == "pipeline":
        return pipeline.main(argv[1:])
    if argv and argv[0] == "events":
        return events.main(argv[1:])
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("learners", help="time and memory of learners against BPTT")
    learn.add_argument(
        "--methods",
        default="",
        help="comma list of method or method:backend, in place of the whole table",
    )
    for name in ("n_in", "n_rec", "n_layer", "batch_size", "data_length", "repeats"):
        default = getattr(cells.Cell(), name)
        learn.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", dest=name, type=int, default=default
        )
    learn.add_argument("--rounds", type=int, default=3, help="fresh processes per learner")
    learn.add_argument("--json", default="", help="file for the rows and ratios")
    one = commands.add_parser("cell", help="one measurement, given as JSON")
    one.add_argument("--job", required=True)
    one.add_argument("--devices", default="0")
    commands.add_parser("pipeline", help="event pipeline against tonic and torch")
    commands.add_parser("events", help="event-driven first layer against the dense product")
    given = vars(parser.parse_args(argv))
    if given["command"] == "cell":
        select_device(given["devices"])
        print(json.dumps(cells.measure(cells.Cell(**json.loads(given["job"])))))
        return 0
    sizes = ("n_in", "n_rec", "n_layer", "batch_size", "data_length", "repeats")
    bad = [n for n in (*sizes[:-1], "rounds") if given[n] < 1]
    if bad:
        raise UsageError(f"--{bad[0]} {given[bad[0]]}: must be at least 1")
    base = cells.Cell(**{n: given[n] for n in sizes})
    only = [m for m in given["methods"].split(",") if m] or None
    result = learners.run(base, given["rounds"], only)
    print(learners.table(result))
    if given["json"]:
        Path(given["json"]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_command(main, PROG)
