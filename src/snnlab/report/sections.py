"""What was run, what it found, what it cost, what it was made with: the tables of a report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from snnlab.errors import one_line, shown
from snnlab.experiment import info
from snnlab.experiment.statistics import limited, spread_of
from snnlab.options import shown_value
from snnlab.report.blocks import Chart, Charts, Commands, Folded, Notes, Section, Table
from snnlab.report.found import (
    WIDEST,
    Experiment,
    Seed,
    command_of,
    differences,
    number,
)
from snnlab.report.svg import dots
from snnlab.scores import SCORES, Score, interval_of_test
from snnlab.training.checkpoint_files import places

#: Rows of a table of ``results.json`` at most.
MOST_ROWS = 60
#: Of the head of ``config.yaml``: what is no version.
FACTS = ("device", "cores", "processes", "written", "recordings", "transform")


def counted(n: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def asked(experiments: Sequence[Experiment]) -> Section:
    """Commands and options, differences first."""
    rows = []
    for one in experiments:
        first = one.first
        dataset = first.options.get("dataset", first.results.get("dataset", "-"))
        method = first.options.get("method", first.results.get("method", "-"))
        task = first.task or info.program_of(first.options) or "-"
        rows.append([one.name, task, shown(method), shown(dataset),
                     ", ".join(seed.seed for seed in one.seeds), _state(one)])  # fmt: skip
    blocks: list[object] = [
        Table("Experiments", ["run", "task", "method", "dataset", "seeds", "state"], rows)
    ]
    blocks[:0] = _differing(experiments)
    commands = [(one.name, command_of(one.first)) for one in experiments]
    commands = [(name, text) for name, text in commands if text]
    if commands:
        blocks.append(Commands("Commands that ask the same", commands))
    folded = [
        Table(f"Options of {one.name} other than the defaults", ["option", "value", "default"],
              [[option, shown(shown_value(value), WIDEST), shown(shown_value(usual), WIDEST)]
               for option, (value, usual) in one.first.asked.items()])
        for one in experiments if one.first.asked
    ]  # fmt: skip
    if folded:
        blocks.append(Folded("Options other than the defaults", folded))
    where = [(one.name, shlex.join(map(str, one.folders))) for one in experiments]
    blocks.append(Folded("Run folders", [Commands("", where)]))
    n = sum(len(one.seeds) for one in experiments)
    text = f"{counted(n, 'run')} of {counted(len(experiments), 'experiment')}."
    return Section("asked", "What was run", blocks, text)


def _differing(experiments: Sequence[Experiment]) -> list[object]:
    """A table for each task of which there are several."""
    tasks = list(dict.fromkeys(one.first.task for one in experiments))
    tables: list[object] = []
    for task in tasks:
        mine = [one for one in experiments if one.first.task == task]
        differing = differences(mine) if task else {}
        rows = [
            [one.name, *(shown(values[k], WIDEST) for values in differing.values())]
            for k, one in enumerate(mine)
        ]
        if differing:
            which = f", {task}" if len(tasks) > 1 else ""
            tables.append(Table(f"Options in which they differ{which}", ["run", *differing], rows,
                                "A dash: the option does not count there."))  # fmt: skip
    return tables


def _state(one: Experiment) -> str:
    """How its seeds stand, in words."""
    if one.wanted == 1 and len(one.seeds) == 1:
        return shown(one.seeds[0].state.words, 160)
    finished = sum(seed.tested and not seed.failed for seed in one.seeds)
    failed = sum(seed.failed for seed in one.seeds)
    rest = len(one.seeds) - finished - failed
    parts = [f"{finished} of {one.wanted} finished"]
    parts += [f"{failed} failed"] * bool(failed) + [f"{rest} not finished"] * bool(rest)
    missing = one.wanted - len(one.seeds)
    return ", ".join([*parts, *[f"{missing} not begun"] * (missing > 0)])


def found(experiments: Sequence[Experiment]) -> Section:
    """Results over seeds: n, mean, spread, intervals, failures."""
    blocks: list[object] = []
    for score in SCORES.values():
        mine = [one for one in experiments if one.score is score and (one.tested or one.first.task)]
        tested = [one for one in mine if one.tested]
        if tested:
            blocks.append(_scores(score, mine))
            blocks.append(_strips(score, tested))
    for one in (one for one in experiments if not one.tested):
        rows = [[name, _value(value)] for name, value in _scalars(one.first).items()]
        if rows:
            blocks.append(Table(f"Results of {one.name}", ["measure", "value"], rows))
        blocks += _listed(one)
    if not blocks:
        blocks.append(Notes("No results yet", [(o.name, _state(o)) for o in experiments]))
    blocks.insert(0, notes) if (notes := _notes(experiments)) else None
    blocks.append(Folded("Each seed", [_seeds(experiments)]))
    return Section("results", "Results", blocks)


def _scores(score: Score, experiments: Sequence[Experiment]) -> Table:
    unit = f"{score.words} (%)" if score.percent else score.words
    digits = 2 if score.percent else 4

    def show(value: float | None) -> str:
        return "-" if value is None else f"{score.scale * value:.{digits}f}"

    rows = []
    for one in experiments:
        spread, numbers = spread_of(one.tested), one.numbers
        val = spread_of(numbers.get(f"val_{score.name}", []))
        failed = sum(seed.failed for seed in one.seeds)
        low, high = limited(spread, score.percent)
        interval = _wilson(one, show) if low is None else f"{show(low)} to {show(high)}"
        rows.append([
            one.name, str(spread.n if spread else 0), str(failed),
            show(spread.mean if spread else None), show(spread.sd if spread else None), interval,
            show(val.mean if val else None),
            _mean(numbers.get("best_epoch", []), int(len(one.seeds) > 1)),
            _mean(numbers.get("best_rate", []), 1),
        ])  # fmt: skip
    note = (
        "n: seeds with a test score; standard deviation over seeds (n - 1); interval: Student's "
        "95 % of the mean over seeds; of one seed Wilson's over its test samples. Validation, best "
        "epoch and rate are of the best epoch."
    )
    columns = ["run", "n", "failed", f"test {unit}", "sd", "95 % interval", "validation",
               "best epoch", "rate (Hz)"]  # fmt: skip
    return Table(f"Test {score.words} over seeds", columns, rows, note)


def _wilson(one: Experiment, show: Callable[[float | None], str]) -> str:
    """The interval of a share of test samples that the results of one seed have."""
    ends = one.first.results.get(f"test_{one.score.name}_wilson95")
    if len(one.tested) != 1 or not isinstance(ends, list) or len(ends) != 2:
        return "-"
    low, high = map(number, ends)
    return "-" if low is None or high is None else f"{show(low)} to {show(high)} (samples)"


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


def _strips(score: Score, experiments: Sequence[Experiment]) -> Charts:
    """The test score of every seed on one axis."""
    everything = [value for one in experiments for value in one.tested]
    intervals = [limited(spread_of(one.tested), score.percent) for one in experiments]
    ends = [*everything, *(end for pair in intervals for end in pair if end is not None)]
    low, high = min(ends), max(ends)
    if low == high:
        low, high = low - 0.005, high + 0.005
    charts = []
    for one, (bottom, top) in zip(experiments, intervals, strict=True):
        values = ", ".join(score.show(value) for value in one.tested)
        text = f"{one.name}: {values}"
        svg = dots(
            one.tested, (low, high), text, None if bottom is None or top is None else (bottom, top)
        )
        charts.append(Chart(one.name, svg))
    note = (
        f"A ring is a seed, the stroke their mean, the bar its 95 % interval; every axis goes from "
        f"{score.show(low)} to {score.show(high)}."
    )
    return Charts(f"Test {score.words} of each seed", charts, note=note, small=True)


def _scalars(seed: Seed) -> dict[str, Any]:
    """What ``results.json`` holds in numbers; of runs that have no score of a test set."""
    if seed.failed:
        return {}
    found = {k: v for k, v in seed.results.items() if number(v) is not None or isinstance(v, str)}
    return {k: v for k, v in found.items() if k not in ("seed", "score", "method", "dataset")}


def _lists(seed: Seed) -> dict[str, list[dict[str, Any]]]:
    """What ``results.json`` holds in rows, such as the cosines of a gradient analysis."""
    found = {} if seed.failed else seed.results
    return {
        name: rows for name, rows in found.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    }  # fmt: skip


def _listed(one: Experiment) -> list[Table]:
    """A table of each; what is the same in all of its rows stands below."""
    tables = []
    for name, rows in _lists(one.first).items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        same = [key for key in columns if len({str(row.get(key)) for row in rows}) == 1]
        words = [k for k in columns if any(isinstance(row.get(k), str) for row in rows)]
        words = [key for key in words if key not in same]
        left = [key for key in columns if key not in (*same, *words)]
        note = ", ".join(f"{key} {_value(rows[0].get(key))}" for key in same)
        note = f"The same in all rows: {note}." if note else ""
        if len(rows) > MOST_ROWS:
            note = f"The first {MOST_ROWS} of {len(rows):,} rows. {note}"
        cells = [_cells(row, words, left) for row in rows[:MOST_ROWS]]
        caption = f"{name.replace('_', ' ')} of {one.name}"
        tables.append(Table(caption, [" ".join(words) or "row", *left], cells, note))
    return tables


def _cells(row: dict[str, Any], words: Sequence[str], left: Sequence[str]) -> list[str]:
    """A row: its words as its name, then its numbers."""
    named = dict.fromkeys(shown(row[k]) for k in words if row.get(k) is not None)
    measured = ("-" if row.get(k) is None else _value(row[k]) for k in left)
    return [", ".join(named) or "-", *measured]


def _value(value: Any) -> str:
    measured = number(value)
    if measured is None:
        return shown(value)
    whole = measured == int(measured) or abs(measured) >= 1000
    return f"{measured:,.0f}" if whole else f"{measured:.4g}"


def _notes(experiments: Sequence[Experiment]) -> Notes | None:
    """Failures, damage, warnings."""
    lines = []
    for one in experiments:
        known = [seed.seed for seed in one.seeds]
        lines += [
            (one.name, f"seed {seed} is there {known.count(seed)} times: n and the interval take "
             "each for a seed of its own")
            for seed in dict.fromkeys(known) if known.count(seed) > 1 and seed != "?"
        ]  # fmt: skip
        for seed in one.seeds:
            name = one.name if len(one.seeds) == 1 else f"{one.name}, seed {seed.seed}"
            told = [*seed.problems]
            if seed.failed or not (seed.tested or _scalars(seed) or _lists(seed)):
                told.insert(0, seed.state.words)
            warned = seed.results.get("warnings")
            told += [f"warning: {one_line(str(w))}" for w in warned] if isinstance(warned, list) \
                else []  # fmt: skip
            lines += [(name, shown(text, 400)) for text in told]
    return Notes("Failures, damage, warnings", lines) if lines else None


def _seeds(experiments: Sequence[Experiment]) -> Table:
    rows = []
    for one in experiments:
        score = one.score
        for seed in one.seeds:
            value = number(seed.results.get(f"test_{score.name}"))
            loss = number(seed.results.get("test_loss"))
            rows.append([
                one.name, seed.seed, seed.path.name, shown(seed.state.words, 160),
                "-" if value is None else score.show(value),
                _interval(score, seed.results) or "-",
                "-" if loss is None else f"{loss:.4f}",
            ])  # fmt: skip
    columns = ["run", "seed", "folder", "state", "test", "interval over test samples", "test loss"]
    note = (
        "The interval over test samples (Wilson) is of this one network: what other seeds would "
        "give is the spread over seeds above."
    )
    return Table("State and test score of each seed", columns, rows, note)


def _interval(score: Score, results: dict[str, Any]) -> str:
    return interval_of_test(score, results).removeprefix("95% interval ")


def costs(experiments: Sequence[Experiment]) -> Section:
    """Time, memory and costs."""

    def of(name: str, digits: int, scale: float = 1.0) -> Callable[[Seed], str]:
        def show(seed: Seed) -> str:
            value = number(seed.results.get(name))
            return "" if value is None else f"{scale * value:,.{digits}f}"

        return show

    measures = {
        "seconds": of("seconds", 1), "of which compiling": of("compile_seconds", 1),
        "seconds / epoch": _per_epoch, "epochs": of("epochs", 0), "batches": of("batches", 0),
        "parameters": of("n_parameters", 0), "checkpoint (MB)": _saved,
        "spikes / neuron and step": of("spikes_per_neuron_step", 4),
    }  # fmt: skip
    blocks: list[object] = []
    cells = {name: [_over(one, measure) for one in experiments]
             for name, measure in measures.items()}  # fmt: skip
    cells = {name: row for name, row in cells.items() if any(value != "-" for value in row)}
    if cells:
        rows = [[one.name, *(row[k] for row in cells.values())]
                for k, one in enumerate(experiments)]  # fmt: skip
        blocks.append(Table("Time and size, mean over seeds", ["run", *cells], rows,
                            "Seeds that were trained as one program (--trials) share its "
                            "seconds."))  # fmt: skip
    blocks += _costs(experiments)
    return Section("costs", "Time, memory, costs", blocks)


def _costs(experiments: Sequence[Experiment]) -> list[object]:
    """What ``costs`` of ``results.json`` holds; a text that all runs have stands below."""
    each = [
        [found for seed in one.seeds if isinstance(found := seed.results.get("costs"), dict)]
        for one in experiments
    ]
    names = dict.fromkeys(name for seeds in each for found in seeds for name in found)
    rows, notes = [], []
    for name in names:
        values = [[found[name] for found in seeds if name in found] for seeds in each]
        texts = {value if isinstance(value, str) else None for own in values for value in own}
        words = shown(name.replace("_", " "), WIDEST)
        if len(texts) == 1 and None not in texts:
            notes.append(f"{words}: {shown(next(iter(texts)), 200)}")
            continue
        cells = [_cost(own) for own in values]
        if any(cell != "-" for cell in cells):
            rows.append([words, *cells])
    if not rows:
        return []
    columns = ["measure", *(one.name for one in experiments)]
    return [Table("Costs, mean over seeds", columns, rows, ". ".join(notes))]


def _cost(values: Sequence[Any]) -> str:
    """One measure of some seeds: the mean of numbers, of lists of numbers place by place."""
    numbers = [value for value in map(number, values) if value is not None]
    if numbers:
        return _value(sum(numbers) / len(numbers))
    lists = [value for value in values if isinstance(value, list) and value]
    if lists and len({len(value) for value in lists}) == 1:
        return ", ".join(_cost(place) for place in zip(*lists, strict=True))
    texts = [t for v in values for t in (v.values() if isinstance(v, dict) else [v])]
    told = dict.fromkeys(shown(text, 120) for text in texts if isinstance(text, str))
    return "; ".join(told) or "-"


def _per_epoch(seed: Seed) -> str:
    seconds, epochs = (number(seed.results.get(name)) for name in ("seconds", "epochs"))
    compiling = number(seed.results.get("compile_seconds")) or 0.0
    return f"{(seconds - compiling) / epochs:.2f}" if seconds is not None and epochs else ""


def _saved(seed: Seed) -> str:
    """Megabytes of the newest checkpoint."""
    folder = seed.path / "checkpoints"
    newest = places(folder)
    if not newest:
        return ""
    try:
        files = (folder / newest[-1].name).rglob("*")
        return f"{sum(f.stat().st_size for f in files if f.is_file()) / 1e6:.2f}"
    except OSError:  # one that is being replaced
        return ""


def _over(one: Experiment, measure: Callable[[Seed], str]) -> str:
    """Mean over the seeds, in the digits of the first."""
    texts = [text for text in map(measure, one.seeds) if text]
    if not texts:
        return "-"
    digits = len(texts[0].partition(".")[2])
    return f"{sum(float(t.replace(',', '')) for t in texts) / len(texts):,.{digits}f}"


def versions(experiments: Sequence[Experiment]) -> Section:
    """Versions, commit, machine; what differs first."""
    experiments = [one for one in experiments if any(seed.head for seed in one.seeds)]
    heads = [_head(one) for one in experiments]
    names = list(dict.fromkeys(name for head in heads for name in head))
    same, other = [], []
    for name in names:
        values = [head.get(name, "-") for head in heads]
        if len(set(values)) == 1:
            same.append([name, shown(values[0], 120)])
        elif name != "written":
            other.append([name, *(shown(v, WIDEST) for v in values)])
    blocks: list[object] = []
    if other:
        columns = ["what", *(one.name for one in experiments)]
        blocks.append(Table("Versions in which they differ", columns, other))
    same.sort(key=lambda row: row[0] not in ("snnlab", "commit", *FACTS))
    if same:
        blocks.append(Table("Versions and machine", ["what", "value"], same))
    return Section("versions", "Versions", blocks)


def _head(one: Experiment) -> dict[str, str]:
    """Of all its seeds; where they differ, all values."""
    found: dict[str, dict[str, None]] = {}
    for seed in one.seeds:
        for name, value in seed.head.items():
            found.setdefault(name, {})[value] = None
    return {name: " / ".join(values) for name, values in found.items()}


def title_of(experiments: Sequence[Experiment]) -> str:
    """``image-classification: 4 experiments, 20 runs``."""
    tasks = list(dict.fromkeys(one.first.task for one in experiments if one.first.task))
    n = sum(len(one.seeds) for one in experiments)
    what = ", ".join(tasks) or "runs"
    if len(experiments) == 1:
        return f"{what}: {experiments[0].name}, {counted(n, 'run')}"
    return f"{what}: {counted(len(experiments), 'experiment')}, {counted(n, 'run')}"
