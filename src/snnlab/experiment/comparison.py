"""What the runs of a sweep found, side by side: a table, a CSV file, a figure."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from snnlab.errors import UsageError
from snnlab.experiment.agreement import MEASURES
from snnlab.lazy import lazy
from snnlab.options import shown_value
from snnlab.runs import RunFolder
from snnlab.scores import ACCURACY, NMSE, SCORES, Score, score_of
from snnlab.training.metrics import write_atomically

figures = lazy("snnlab.analysis.figures")  # a table needs no matplotlib
#: More runs than this are not drawn as lines over epochs.
MOST_LINES = 7


#: Why a task refused a run, in the run's folder.
REFUSED = "refused.txt"
#: Options that say where a run is, not what it is.
PLACES = ("filepath", "resume", "exp_name", "data_path", "devices")


class Named(Protocol):
    """A run of a sweep; see :class:`snnlab.experiment.sweeps.Member`."""

    @property
    def group(self) -> str: ...
    @property
    def point(self) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        results: of the run.
        rows: of ``metrics.jsonl`` of each of its seeds.
        seeds: results of each of its seeds.
        refused: why its task refused it, if it did.
    """

    results: dict[str, Any]
    rows: list[list[dict[str, Any]]]
    seeds: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    refused: str = ""

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        """Of a run folder, or of one with a folder ``seed-<s>`` for every seed."""
        seeds = [p for p in folder.glob("seed-*") if p.name[5:].isdecimal() and p.is_dir()]
        seeds.sort(key=lambda p: int(p.name[5:]))
        runs = [RunFolder(p) for p in seeds or [folder]]
        rows = [_rows(run) for run in runs]
        refused = folder / REFUSED
        return cls(
            RunFolder(folder).read_results(), [r for r in rows if r],
            [run.read_results() for run in runs],
            refused.read_text(encoding="utf-8").strip() if refused.is_file() else "",
        )  # fmt: skip

    @property
    def score(self) -> Score:
        """By which it is judged."""
        return score_of(row for rows in self.rows for row in rows)

    def tested(self) -> dict[int, float]:
        """Seed -> its test score."""
        name = f"test_{self.score.name}"
        return {
            r["seed"]: r[name] for r in self.seeds if is_number(r.get(name)) and "seed" in r
        }  # fmt: skip

    @property
    def state(self) -> str:
        if self.refused:
            return "refused"
        if not self.results:
            return "not finished" if self.rows else "not run"
        failed = self.results.get("failed", int("error" in self.results))
        return f"{failed} failed" if failed else ""

    def best_rows(self) -> list[dict[str, Any]]:
        """Of each seed the validation row of its best epoch, as the run itself chose it."""
        found = []
        for rows in self.rows:
            score = score_of(rows)
            val = [r for r in rows if r["split"] == "val" and is_number(r.get(score.name))]
            found += [_best(val, score)] if val else []
        return found

    def numbers(self) -> dict[str, list[float]]:
        """Measure -> a value for each seed that has it (accuracies as fractions, rates in Hz).

        ``best_*`` are of the epoch with the best validation score (of equal ones, the least loss),
        averaged over layers; ``last_*`` of the last epoch (of training, the mean over its
        batches); ``initial_*`` of the untrained network; ``balance`` scores the neurons whose
        currents vary, ``balance_all`` all of them, a constant current as 0. Of a stream
        ``moving_accuracy`` is the last one, ``recovered`` the share of the changes that it is back
        after, ``recovery_steps`` the mean of these.
        """
        found: dict[str, list[float]] = {}

        def add(name: str, value: Any) -> None:
            values = [v for v in (value if isinstance(value, list) else [value]) if is_number(v)]
            if values:
                found.setdefault(name, []).append(statistics.fmean(values))

        for rows in self.rows:
            score = score_of(rows)
            name = score.name
            by_split: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                by_split.setdefault(row["split"], []).append(row)
            val = [row for row in by_split.get("val", []) if is_number(row.get(name))]
            if val:
                best = _best(val, score)
                add("best_epoch", best["epoch"])
                add(f"val_{name}", best[name])
                add(f"last_val_{name}", val[-1][name])
                add("best_rate", best.get("firing_rates"))
                for measure in ("balance", "balance_all", "balance_constant"):
                    add(f"best_{measure}", best.get(measure))
            for row in by_split.get("initial", [])[:1]:
                for measure in ("balance", "balance_all"):
                    add(f"initial_{measure}", row.get(measure))
            for split in ("train", "test"):
                for row in by_split.get(split, [])[-1:]:
                    add(f"{'last_' * (split == 'train')}{split}_{name}", row.get(name))
            for measure, value in _of_stream(rows).items():
                add(measure, value)
        if self.results.get("mode") == "sim":
            add("initial_rate", self.results.get("firing_rates"))
        for results in self.seeds:
            for measure, value in _of_results(results).items():
                add(measure, value)
        seconds = self.results.get("seconds")
        if seconds is not None:
            # Seeds in one vmapped program share their time.
            together = bool(self.results.get("vmapped"))
            every = seconds if isinstance(seconds, list) else [seconds]
            every = [s for s in every if is_number(s)] or [0.0]
            found["seconds"] = [max(every) if together else sum(every)]
        return found


def _of_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Measures of ``results.json`` of a seed: beside BPTT, time, memory, costs."""
    found = {name: results.get(name) for name in ("ms_per_step", "training_bytes")}
    gradient, costs = results.get("gradient"), results.get("costs")
    for name in MEASURES if isinstance(gradient, dict) else ():
        parts = gradient.get(name)  # type: ignore[union-attr]
        found |= {f"{name}_{k}": v for k, v in (parts if isinstance(parts, dict) else {}).items()}
    if isinstance(costs, dict):
        each = [costs.get(f"synaptic_operations_effective_{kind}") for kind in ("acs", "macs")]
        found["operations"] = math.fsum(each) if all(map(is_number, each)) else None  # type: ignore[arg-type]
        found["energy_nj"] = costs.get("energy_estimate_nj")
    return found


def _of_stream(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Measures of the rows of a stream, whether it has ended or not; empty of others."""
    mine = [row for row in rows if "moving_accuracy" in row]
    if not mine:
        return {}

    def total(name: str) -> float:
        return math.fsum(row[name] for row in mine if is_number(row.get(name)))

    changes, recovered = total("changes"), total("recovered")
    return {
        "moving_accuracy": mine[-1]["moving_accuracy"],
        "recovered": recovered / changes if changes else None,
        "recovery_steps": total("recovery_steps") / recovered if recovered else None,
    }


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of a run that have an epoch and a split."""
    found: list[Any] = folder.metrics.rows()
    return [
        row for row in found
        if isinstance(row, dict) and isinstance(row.get("split"), str)
        and is_number(row.get("epoch"))
    ]  # fmt: skip


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _best(val: Sequence[dict[str, Any]], score: Score) -> dict[str, Any]:
    """As a run itself chooses it; rows without a loss are those of other programs."""

    def key(row: dict[str, Any]) -> tuple[tuple[float, float], float]:
        loss: Any = row.get("loss")
        return score.rank(row[score.name], loss if is_number(loss) else math.inf), -row["epoch"]

    return max(val, key=key)


def _of_score(score: Score) -> dict[str, tuple[str, float, int]]:
    unit = "%" if score.percent else score.words
    digits = 1 if score.percent else 4
    parts = {"validation": "val", "last epoch": "last_val", "test": "test"}
    return {
        f"{part} ({unit})": (f"{split}_{score.name}", score.scale, digits)
        for part, split in parts.items()
    }


#: Columns of the table: heading -> (measure, factor, digits).
COLUMNS = {
    **_of_score(ACCURACY),
    **_of_score(NMSE),
    "moving accuracy (%)": ("moving_accuracy", 100.0, 1),
    "recovered (%)": ("recovered", 100.0, 1),
    "steps to recovery": ("recovery_steps", 1.0, 0),
    "best epoch": ("best_epoch", 1.0, 0),
    "rate, untrained (Hz)": ("initial_rate", 1.0, 2),
    "rate (Hz)": ("best_rate", 1.0, 2),
    "balance, untrained": ("initial_balance", 1.0, 3),
    "balance, trained": ("best_balance", 1.0, 3),
    "all neurons, untrained": ("initial_balance_all", 1.0, 3),
    "all neurons, trained": ("best_balance_all", 1.0, 3),
    "seconds": ("seconds", 1.0, 0),
}


def differing(
    options: Mapping[str, Mapping[str, Any]],
    ignore: Collection[str] = PLACES,
    asked: Collection[str] | None = None,
) -> dict[str, list[str]]:
    """Option -> its value for each run, of the options in which runs differ.

    Args:
        options: run -> its options; one that it does not have is shown as ``-``.
        ignore: options that are no difference.
        asked: options that somebody has set. Another one that counts in some runs alone, with one
            value, follows from those, and is left out; ``None``: all are shown.
    """

    def tells(option: str) -> bool:
        values = {repr(own[option]) for own in options.values() if option in own}
        return len(values) > 1 or asked is None or option in asked

    return {
        option: [shown_value(own.get(option, "-")) for own in options.values()]
        for option in dict.fromkeys(o for own in options.values() for o in own)
        if option not in ignore
        and len({repr(own.get(option)) for own in options.values()}) > 1
        and tells(option)
    }


#: What makes another table and another figure: outcomes by name -> markdown, figure or ``None``.
Crossing = Callable[[Mapping[str, "Outcome"]], tuple[str, Any]]


def compare(
    runs: Mapping[str, tuple[Named, Path]], folder: Path, crossing: Crossing | None = None
) -> list[Path]:
    """Write ``table.md``, ``results.csv`` and, once runs have epochs, ``comparison.png``.

    Args:
        runs: name -> (run of the sweep, its folder).
        folder: where to write.
        crossing: of a sweep with a named axis, in the place of a line for each run.

    Returns:
        The files written.

    Raises:
        UsageError: there they cannot be written.
    """
    found = {name: Outcome.of(path) for name, (_, path) in runs.items()}
    numbers = {name: outcome.numbers() for name, outcome in found.items()}
    written = [folder / "table.md", folder / "results.csv"]
    text, figure = crossing(found) if crossing else (table(found, numbers), None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(written[0], text)
        write_atomically(written[1], _csv(runs, numbers))
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    drawn = {n: o.rows for n, o in found.items() if any(_epochs(r) for r in o.rows)}
    if crossing is not None:
        pass
    elif _axis(runs):
        figure = _over_grid(runs, numbers)
    elif drawn and len(drawn) <= MOST_LINES:
        figure = figures.comparison_figure(drawn)
    if figure is not None:
        written += figures.save(figure, folder / "comparison.png")
    return written


def _epochs(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["split"] == "val" or "moving_accuracy" in row for row in rows)


def table(found: Mapping[str, Outcome], numbers: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Markdown: a line for each run, mean ± standard deviation over its seeds."""
    used = {h: c for h, c in COLUMNS.items() if any(c[0] in n for n in numbers.values())}
    lines = [" | ".join(["| run", "seeds", *used]) + " |", "|---" * (len(used) + 2) + "|"]
    for name, outcome in found.items():
        cells = [
            spread(numbers[name].get(measure, []), factor, digits)
            for measure, factor, digits in used.values()
        ]
        state = f" ({outcome.state})" if outcome.state else ""
        title = name.replace("|", "\\|")
        lines.append(" | ".join([f"| {title}{state}", str(len(outcome.rows)), *cells]) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], factor: float = 1.0, digits: int = 1) -> str:
    """``mean ± standard deviation`` (n - 1), the mean alone for one value, or nothing."""
    if not values:
        return ""
    mean = f"{factor * statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {factor * statistics.stdev(values):.{digits}f}"


def _csv(
    runs: Mapping[str, tuple[Named, Path]], numbers: Mapping[str, Mapping[str, list[float]]]
) -> str:
    """A row for each run: its point of the grid, mean and spread of every measure."""
    keys = list(dict.fromkeys(k for member, _ in runs.values() for k in member.point))
    measures = list(dict.fromkeys(m for n in numbers.values() for m in n))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    stats = [f"{m}{end}" for m in measures for end in ("", "_sd", "_n")]
    writer.writerow(["run", "group", *keys, *stats])
    for name, (member, _) in runs.items():
        row: list[Any] = [name, member.group, *(member.point.get(k, "") for k in keys)]
        for measure in measures:
            values = numbers[name].get(measure, [])
            sd = statistics.stdev(values) if len(values) > 1 else ""
            row += [statistics.fmean(values) if values else "", sd, len(values)]
        writer.writerow(row)
    return out.getvalue()


def _axis(runs: Mapping[str, tuple[Named, Path]]) -> str | None:
    """The flag of the grid with most different numbers, if it has three or more."""
    values: dict[str, set[float]] = {}
    for member, _ in runs.values():
        for key, value in member.point.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(key, set()).add(float(value))
    most = max(values, key=lambda k: len(values[k]), default=None)
    return most if most is not None and len(values[most]) >= 3 else None


def _over_grid(
    runs: Mapping[str, tuple[Named, Path]], numbers: Mapping[str, Mapping[str, list[float]]]
) -> Any:
    axis = _axis(runs)
    assert axis is not None
    found = [s for s in SCORES.values() if any(f"test_{s.name}" in n for n in numbers.values())]
    if not found:
        return None
    score = found[0]
    lines: dict[str, list[tuple[float, list[float]]]] = {}
    for name, (member, _) in runs.items():
        values = numbers[name].get(f"test_{score.name}", [])
        if values:
            others = [member.group] * bool(member.group)
            others += [f"{k} {str(v).lower()}" for k, v in member.point.items() if k != axis]
            line = lines.setdefault(", ".join(others) or "test", [])
            line.append((float(member.point[axis]), [score.scale * v for v in values]))
    return figures.dependence_figure(lines, axis, f"test {score.axis}", joined=axis != "seed")
