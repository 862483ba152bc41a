"""``make results-check``: runs again what figures of the pages say, and compares.

A row of ``checks.yaml``::

    main job, ES-D-RTRL:
      page: docs/results.md                 # or a config, whose first lines quote figures
      quote: 98.6 / 96.7 / 97.5 %           # stands there to the letter, with all values below
      command: snnlab run image-classification --method expsm_diag
      values: {0: 98.6, 1: 96.7, 2: 97.5}   # seed -> figure; or mean, sd and n
      seeds: [0, 1]                         # run again; without it those of values
      read: [test_accuracy]                 # keys of results.json; of a list {key: value}
      factor: 100                           # of what is read; 1 without it
      samples: 360                          # of the test set, where the figure is a share of it
      recordings: nmnist_subset.zip         # --data_path, in $SNNLAB_TEST_DATA
      seconds: 45                           # of one core and seed

A row holds if the mean of the k seeds run again is as near to the page's mean of n seeds as two
means of the same experiment are in 99 of 100 cases, ``2.58 s sqrt(1/n + 1/k)``, beside half a unit
of the last digit. ``s`` is the standard deviation over the page's seeds, at least the binomial
``sqrt(p (1 - p) / samples)``: seeds that agree by chance must not make a figure look exact. A row
with ``within: 0.02`` in the place of a spread allows 2 % of the figure (bytes). With ``over``, a
second command, the figure is the first one's number divided by the second one's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import queue
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROWS = Path(__file__).with_name("checks.yaml")
#: Two-sided quantile of the normal distribution: a figure that is right fails once in 100 times.
Z_99 = 2.5758293035489004


#: As pages write it: 98.6, 10,395.
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of a page; see the module."""

    name: str
    page: str
    quote: str
    command: str
    read: tuple[Any, ...]
    seconds: float
    values: Mapping[int, float] = dataclasses.field(default_factory=dict)
    mean: float | None = None
    sd: float | None = None
    n: int | None = None
    seeds: tuple[int, ...] = ()
    factor: float = 1.0
    samples: int = 0
    within: float = 0.0
    recordings: str = ""
    over: str = ""

    @property
    def told(self) -> list[float]:
        """The numbers that the page must show."""
        return [*self.values.values(), *(x for x in (self.mean, self.sd) if x is not None)]

    @property
    def digits(self) -> int:
        """Decimals of these numbers, as the page has them."""
        written: dict[float, int] = {}
        for text in NUMBER.findall(self.quote):
            value, decimals = float(text.replace(",", "")), len(text.partition(".")[2])
            written[value] = max(decimals, written.get(value, 0))
        return max(written.get(x, 0) for x in self.told)

    @property
    def again(self) -> tuple[int, ...]:
        """Seeds that are run."""
        return self.seeds or tuple(self.values) or (0,)

    @property
    def centre(self) -> float:
        return self.mean if self.mean is not None else statistics.fmean(self.values.values())

    def tolerance(self) -> float:
        """How far the mean of the seeds run again may be from the page's."""
        digit = 0.5 * 10.0**-self.digits
        if self.within:
            return digit + self.within * abs(self.centre)
        values = list(self.values.values())
        spread = self.sd or (statistics.stdev(values) if len(values) > 1 else 0.0)
        if self.samples:
            share = min(max(self.centre / self.factor, 0.5 / self.samples), 1 - 0.5 / self.samples)
            binomial = self.factor * math.sqrt(share * (1 - share) / self.samples)
            spread = max(spread, binomial)
        return digit + Z_99 * spread * math.sqrt(1 / (self.n or len(values)) + 1 / len(self.again))


def rows(path: Path = ROWS) -> list[Row]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Row(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
            for name, row in found.items()]  # fmt: skip


def value_of(results: Any, read: Sequence[Any]) -> float:
    """What a path of keys leads to; a mapping chooses the one item of a list with its values."""
    for key in read:
        if isinstance(key, dict):
            (results,) = (r for r in results if all(r.get(k) == v for k, v in key.items()))
        else:
            results = results[key]
    return float(results)


def measure(command: str, row: Row, seed: int, core: int | None, folder: Path) -> float:
    """Run a command once; the number that it leaves."""
    words = shlex.split(command)
    if words[:2] == ["snnlab", "run"]:
        words += [f"--seed={seed}", f"--filepath={folder}"]
        if row.recordings:
            words.append(f"--data_path={Path(os.environ['SNNLAB_TEST_DATA']) / row.recordings}")
    pin = ["taskset", "-c", str(core)] if core is not None else []
    done = subprocess.run(
        [*pin, sys.executable, "-m", *words], cwd=ROOT, text=True, capture_output=True, check=False
    )
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(told[-1] if told else f"exit code {done.returncode}")
    left = folder / "results.json"
    results = json.loads(left.read_text() if left.is_file() else done.stdout)
    return row.factor * value_of(results, row.read)


def verdict(row: Row, found: Sequence[float]) -> tuple[bool, str]:
    """Whether a row holds, and why."""
    mean, allowed = statistics.fmean(found), row.tolerance()
    each = " / ".join(f"{x:,.{row.digits}f}" for x in found)
    seeds = " / ".join(map(str, row.again))
    holds = abs(mean - row.centre) <= allowed
    word = "holds" if holds else "DOES NOT HOLD"
    return holds, (
        f"{word}: {each} in seed{'s' * (len(found) > 1)} {seeds}; mean {mean:,.{row.digits}f}, "
        f"page {row.centre:,.{row.digits}f}, allowed ± {allowed:,.{row.digits + 1}f}"
    )


class Checking:
    """Rows that several workers, one a core, run, the longest first."""

    def __init__(self, chosen: Sequence[Row], folder: Path) -> None:
        self.folder = folder
        self.left: queue.SimpleQueue[Row] = queue.SimpleQueue()
        for row in sorted(chosen, key=lambda r: -r.seconds * len(r.again)):
            self.left.put(row)
        self.failed: list[str] = []
        self.printing = threading.Lock()

    def work(self, core: int | None) -> None:
        while True:
            try:
                row = self.left.get_nowait()
            except queue.Empty:
                return
            start = time.monotonic()
            try:
                found = [self.value(row, seed, core) for seed in row.again]
                holds, told = verdict(row, found)
            except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
                holds, told = False, f"DOES NOT RUN: {error}"
            with self.printing:
                took = time.monotonic() - start
                print(f"{row.name} ({row.page}): {told}; {took:.0f} s", flush=True)
                self.failed += [row.name] * (not holds)

    def stop(self) -> None:
        """Begin no other row."""
        while not self.left.empty():
            self.left.get_nowait()

    def value(self, row: Row, seed: int, core: int | None) -> float:
        place = self.folder / f"{row.name}-{seed}"
        found = measure(row.command, row, seed, core, place)
        if row.over:
            found /= measure(row.over, row, seed, core, place.with_name(f"{place.name}-over"))
        return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run again what figures of the pages say.")
    parser.add_argument("--only", action="append", help="rows with this in their name; repeatable")
    parser.add_argument("--list", action="store_true", help="say what would be run, and leave")
    parser.add_argument("--cores", default="", help="comma list; empty: all that there are")
    given = parser.parse_args(argv)
    wanted = given.only or [""]
    chosen = [row for row in rows() if any(part in row.name for part in wanted)]
    if not chosen:
        parser.error(f"--only {', '.join(wanted)}: no such row; --list shows all")
    if given.list:
        for row in chosen:
            cost = row.seconds * len(row.again)
            print(f"{row.name}: {row.quote}  ({row.page}; {row.command}; {cost:.0f} s)")
        return 0
    there = Path(os.environ.get("SNNLAB_TEST_DATA") or "/")
    ready = []
    for row in chosen:
        if row.recordings and not (there / row.recordings).exists():
            print(f"{row.name} ({row.page}): not run, $SNNLAB_TEST_DATA has no {row.recordings}")
        else:
            ready.append(row)
    with tempfile.TemporaryDirectory() as folder:
        checking = Checking(ready, Path(folder))
        workers = [threading.Thread(target=checking.work, args=[c]) for c in cores(given.cores)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:  # the runs have it too
            checking.stop()
            for worker in workers:
                worker.join()
            return 130
    print(f"{len(ready) - len(checking.failed)} of {len(ready)} rows hold")
    return 1 if checking.failed else 0


def cores(given: str) -> list[int | None]:
    """One worker for each core of this process, pinned where the system can."""
    if given:
        return [int(part) for part in given.split(",")]
    if sys.platform != "linux":
        return [None]
    return list(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
