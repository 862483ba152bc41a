"""``python -m snnlab.benchmarks ...``: measurements, as ratios in one run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnlab.benchmarks import (
    accelerator,
    cells,
    learners,
    machine,
    onm,
    peers,
    pipeline,
    prospects,
    report,
)
from snnlab.devices import select_device
from snnlab.errors import UsageError, run_command
from snnlab.flags import Parser

PROG = "benchmarks"
SIZES = ("n_in", "n_rec", "n_layer", "batch_size", "data_length", "repeats")
#: What a job of ``cell`` is: its fields, and how it is measured.
KINDS: dict[str, tuple[type, Callable[[Any], dict[str, Any]]]] = {
    kind.kind: (kind, measure)
    for kind, measure in (
        (cells.Cell, cells.measure), (peers.PeerCell, peers.measure), (onm.OnmCell, onm.measure)
    )
}  # fmt: skip


def parsed(argv: list[str], prog: str = PROG) -> dict[str, Any]:
    """The command line as options."""
    parser = Parser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def flag(command: argparse.ArgumentParser, name: str, **how: Any) -> None:
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        command.add_argument(*spellings, dest=name, **how)

    learn = commands.add_parser("learners", help="time and memory of learners against BPTT")
    flag(learn, "methods", default="",
         help="comma list of method or method:backend, in place of the whole table")  # fmt: skip
    beside = commands.add_parser("peers", help="our learners beside other frameworks")
    linear = commands.add_parser("onm", help="a linear layer and LIF, as Open Neuromorphic has it")
    flag(linear, "neurons", default="512", help="comma list; published: 4096,8192,16384")
    for command, cell in ((learn, cells.Cell()), (beside, cells.Cell()), (linear, onm.OnmCell())):
        for name in SIZES:
            if hasattr(cell, name):
                flag(command, name, type=int, default=getattr(cell, name))
        flag(command, "rounds", type=int, default=3, help="fresh processes per row")
        flag(command, "json", default="", help="file for the rows and ratios")
        flag(command, "markdown", default="",
             help="page for the tables, in the place of those of the same benchmark")  # fmt: skip
        flag(command, "devices", default="0", help="an accelerator's id, or cpu")
    all_of = commands.add_parser(
        "accelerator", help="everything that a bound is asked of, on one GPU or TPU, in one go"
    )
    flag(all_of, "out", default="runs/accelerator",
         help="folder for rows.jsonl and page.md; what it has is not measured again")  # fmt: skip
    flag(all_of, "seconds", type=float, default=0.0, help="stop after this time; 0: no limit")
    about = "; ".join(f"{name} = {what}" for name, what in accelerator.GROUPS.items())
    flag(all_of, "groups", default=",".join(accelerator.GROUPS), help=f"comma list: {about}")
    flag(
        all_of,
        "sizes",
        choices=("auto", "full", "tiny"),
        default="auto",
        help="auto: tiny on a CPU",
    )
    flag(all_of, "devices", default="0", help="an accelerator's id, or cpu")
    least = commands.add_parser("prospects", help="what memory allows larger networks: computed")
    flag(least, "memory_rate", type=float, required=True, help="bytes read and written, GB/s")
    one = commands.add_parser("cell", help="one measurement, given as JSON")
    one.add_argument("--job", required=True)
    one.add_argument("--devices", default="0")
    commands.add_parser("pipeline", help="event pipeline against tonic and torch")
    commands.add_parser("memory-and-speed", help="time and memory over lists of sizes and learners")
    return vars(parser.parse_args(argv))


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process: fields of a cell, and its ``kind``."""
    kind = job.pop("kind", cells.Cell.kind)
    if kind == "machine":
        return machine.describe()
    if kind not in KINDS:
        raise UsageError(f"--job: no kind '{kind}'; valid: {', '.join([*KINDS, 'machine'])}")
    cell, measure = KINDS[kind]
    strange = set(job) - {f.name for f in dataclasses.fields(cell)}
    if strange:
        raise UsageError(f"--job: a {kind} has no {', '.join(sorted(strange))}")
    return measure(cell(**job))


def main(argv: list[str] | None = None, prog: str = PROG) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] == "pipeline":
        return pipeline.main(argv[1:])
    if argv and argv[0] == "memory-and-speed":
        from snnlab.benchmarks import memory_and_speed as scaling

        return scaling.main(f"{prog} memory-and-speed", scaling.TITLE, argv[1:])
    given = parsed(argv, prog)
    if given["command"] == "cell":
        select_device(given["devices"])
        print(json.dumps(measured(json.loads(given["job"]))))
        return 0
    command = given["command"]
    if command == "prospects":
        if not 0 < given["memory_rate"] < float("inf"):
            raise UsageError(f"--memory_rate {given['memory_rate']:g}: must be above 0")
        print(prospects.markdown(given["memory_rate"] * 1e9))
        return 0
    if command == "accelerator":
        return _accelerator(given)
    needed = [n for n in (*SIZES, "rounds") if n in given]
    least = {"repeats": 0} if command == "learners" else {}
    bad = [n for n in needed if given[n] < least.get(n, 1)]
    if bad:
        raise UsageError(f"--{bad[0]} {given[bad[0]]}: must be at least {least.get(bad[0], 1)}")
    report.check_page(given["markdown"])
    sizes = {n: given[n] for n in SIZES if n in given}
    rounds, devices = given["rounds"], given["devices"]
    columns: report.Columns
    if command == "onm":
        result = onm.run(_sizes(given["neurons"]), onm.OnmCell(**sizes), rounds, devices)
        text, columns = onm.table(result), onm.COLUMNS
    elif command == "peers":
        result = peers.run(cells.Cell(**sizes), rounds, devices)
        text, columns = peers.table(result), peers.columns(result)
    else:
        only = [m for m in given["methods"].split(",") if m] or None
        result = learners.run(cells.Cell(**sizes), rounds, only, devices)
        text, columns = learners.table(result), learners.COLUMNS
    print(text)
    if given["json"]:
        Path(given["json"]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if given["markdown"]:
        line = f"python -m snnlab.benchmarks {shlex.join(_without_files(argv))}"
        report.write_page(given["markdown"], command, report.page(result, line, columns))
    return 0


def _accelerator(given: dict[str, Any]) -> int:
    groups = [g.strip() for g in given["groups"].split(",") if g.strip()]
    strange = [g for g in groups if g not in accelerator.GROUPS]
    if strange or not groups:
        valid = ", ".join(accelerator.GROUPS)
        raise UsageError(f"--groups {given['groups']}: must be a comma list of {valid}")
    if not 0 <= given["seconds"] < float("inf"):
        raise UsageError(f"--seconds {given['seconds']:g}: must be 0 or more")
    out = Path(given["out"])
    result = accelerator.run(out, given["devices"], given["seconds"], groups, given["sizes"])
    print(accelerator.table(result))
    print(
        f"{out / accelerator.PAGE_FILE} has the tables, {out / accelerator.ROWS_FILE} all numbers"
    )
    return 0


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    wrong = [p for p in parts if not (p.isdecimal() and 0 < int(p) < 10**6)]
    if wrong:
        raise UsageError(f"--neurons {text}: must be a comma list of whole numbers below 1000000")
    return [int(part) for part in parts]


def _without_files(argv: list[str]) -> list[str]:
    """A command without where it writes."""
    kept, skip = [], False
    for part in argv:
        is_file = part.partition("=")[0] in ("--json", "--markdown")
        if not skip and not is_file:
            kept.append(part)
        skip = is_file and "=" not in part
    return kept


if __name__ == "__main__":
    run_command(main, PROG)
