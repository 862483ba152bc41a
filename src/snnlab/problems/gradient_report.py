"""What a gradient analysis shows: means over seeds, a table on the console, figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.analysis import figures
from snnlab.analysis.gradients import HIDDEN, LAYER
from snnlab.problems.gradient_analysis import Cell, GradientAnalysis, Plan, rules_of
from snnlab.problems.gradient_table import Table, of_cell

#: Swept option -> label of its axis.
AXES = {
    "data_length": "sequence length T (steps)", "n_layer": "layers",
    "rec_scale": "scale of recurrent weights", "tau_mem": "membrane time constant (ms)",
    "spk_fun": "surrogate gradient", "model": "model", "update": "updates",
}  # fmt: skip
COSINE, RATIO = "cosine with BPTT", "norm / BPTT's norm"
#: Column of ``layers.csv`` -> label.
SHARES = {"own_norm": "share of the squared norm", "own_rows": "share of the row sums"}
#: Settings that are so far apart are drawn on a logarithmic axis.
APART = 8.0
#: Rates, in spikes of a step, outside of which a gradient says little.
LIVE = (0.001, 0.5)
Rows = Sequence[Mapping[str, Any]]


def named(cell: Cell, base: Cell) -> str:
    """In which a cell differs from the base."""
    other = {k: v for k, v in cell.values.items() if v != base.values[k] and v is not None}
    if "model" in other:
        other = {"model": other["model"]}
    return " ".join(f"{name} {_text(value)}" for name, value in other.items()) or "base"


def told(cell: Cell, seed: int, table: Table) -> str:
    """The rows of a cell and seed as text: the hidden cosine of each rule."""
    rows = [r for r in of_cell(table.rows, cell) if r["seed"] == seed and not r["trained_by"]]
    parts = [f"{r['rule']} {_number(r['cosine'])}" for r in rows if r["scope"] == HIDDEN]
    return ", ".join([*parts, *(f"{r['rule']} refused" for r in rows if r["refused"])])


def spread(values: Iterable[Any]) -> tuple[float | None, float | None, int]:
    """Mean, standard deviation (of two or more), and number of those that are numbers."""
    found = [float(v) for v in values if v is not None]
    mean = statistics.fmean(found) if found else None
    return mean, statistics.stdev(found) if len(found) > 1 else None, len(found)


def results(config: GradientAnalysis, plan: Plan, table: Table) -> dict[str, Any]:
    """What ``results.json`` holds: means and deviations over the seeds asked for.

    ``agreement``: of each cell, rule, scope and name; with ``update`` and ``trained_by`` on the way
    of a training. ``layers``: rates and shares of the hidden Jacobian. ``refused``: rules that
    cannot train a network, with the reason.
    """
    seeds = set(config.seeds)
    mine = [row for row in _wanted(config, plan, table.rows) if row["seed"] in seeds]
    own = [row for row in _wanted(config, plan, table.layers) if row["seed"] in seeds]
    refused = {(r["rule"], r["refused"]) for r in mine if r["refused"]}
    return {
        "seeds": sorted(seeds),
        "agreement": _means([r for r in mine if not r["refused"]], ("cosine", "norm_ratio")),
        "layers": _means(own, ("spikes_per_step", *SHARES)),
        "refused": [{"rule": rule, "reason": reason} for rule, reason in sorted(refused)],
    }


def _wanted(
    config: GradientAnalysis, plan: Plan, rows: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Rows of the cells and rules of a config: a folder may have more."""
    rules, drift = rules_of(config), config.training
    for cell in plan.cells:
        for row in of_cell(rows, cell):
            asked = row["update"] <= drift.updates and row["update"] % drift.every == 0
            if row.get("rule", "") in {"", *rules} and (asked or row["update"] == 0):
                yield row


def _means(rows: Rows, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that differ in seed and measures alone, as one each."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    left_out = {"seed", "norm", "norm_bptt", "refused", *measures}
    for row in rows:
        head = tuple((k, v) for k, v in row.items() if k not in left_out)
        groups.setdefault(head, []).append(row)
    found = []
    for head, group in groups.items():
        one: dict[str, Any] = {k: v for k, v in head if v is not None}
        for name in measures:
            mean, deviation, n = spread(row[name] for row in group)
            one |= {name: mean, f"{name}_sd": deviation, f"{name}_n": n}
        found.append(one)
    return found


# ------------------------------------------------------------------------ the table


def lines(config: GradientAnalysis, plan: Plan, table: Table) -> list[str]:
    """The console's table: the base by layer, then each swept quantity, mean and deviation."""
    seeds, rules = set(config.seeds), list(rules_of(config))
    rows = [r for r in table.rows if r["seed"] in seeds]
    layers = [r for r in table.layers if r["seed"] in seeds]
    found = ["", f"cosine with BPTT, norm / BPTT's norm ({_seeds(config)})"]
    base = [r for r in of_cell(rows, plan.base) if not r["trained_by"]]
    names = dict.fromkeys(r["name"] for r in base if r["scope"] in (HIDDEN, LAYER))
    if "layer 2" not in names:  # all hidden parameters are those of layer 1
        names.pop(HIDDEN, None)
    wide = max(map(len, rules))
    for name in names:
        for rule in rules:
            mine = [r for r in base if r["name"] == name and r["rule"] == rule]
            if mine:
                both = f"{_pair(mine, 'cosine')}  {_pair(mine, 'norm_ratio')}"
                found.append(f"  {name:9} {rule:{wide}}  {both}")
    for swept, cells in plan.sweeps.items():
        found += ["", f"--{swept}: cosine of the hidden layers"]
        for cell in cells:
            mine = [r for r in of_cell(rows, cell) if not r["trained_by"]]
            found.append(_hidden(_text(cell.values[swept]), mine, rules))
    if config.training.updates:
        found += ["", "updates: cosine of the hidden layers while training"]
        trained = [r for r in of_cell(rows, plan.base) if r["trained_by"]]
        for place in _places(config):
            found.append(_hidden(str(place), [r for r in trained if r["update"] == place], rules))
    own = [r for r in of_cell(layers, plan.base) if r["own_norm"] is not None]
    if own:
        found += ["", "hidden Jacobian on its neurons' own blocks: squared norm, row sums"]
    for name in dict.fromkeys(r["layer"] for r in own):
        if name in names or HIDDEN in names:
            mine = [r for r in own if r["layer"] == name]
            found.append(f"  {name:9} {_pair(mine, 'own_norm')}  {_pair(mine, 'own_rows')}")
    return [*found, *_warnings(rows, layers, plan)]


def _hidden(head: str, rows: Rows, rules: Sequence[str]) -> str:
    """A line: the hidden cosine of each rule."""
    parts = []
    for rule in rules:
        mine = [r for r in rows if r["scope"] == HIDDEN and r["rule"] == rule]
        parts.append(f"{rule} {_pair(mine, 'cosine')}")
    return f"  {head:9} {'  '.join(parts)}"


def _warnings(rows: Rows, layers: list[dict[str, Any]], plan: Plan) -> list[str]:
    said = []
    for cell in plan.cells:
        for layer in dict.fromkeys(r["layer"] for r in of_cell(layers, cell)):
            rate = spread(
                r["spikes_per_step"] for r in of_cell(layers, cell) if r["layer"] == layer
            )[0]
            if rate is not None and not LIVE[0] <= rate <= LIVE[1]:
                said.append(
                    f"{named(cell, plan.base)}: {layer} has {rate:.2g} spikes of a neuron and "
                    "step, so its gradients say little"
                )
    for rule, why in dict.fromkeys((r["rule"], r["refused"]) for r in rows if r["refused"]):
        said.append(f"{rule} was refused: {why}")
    return ["", *said] if said else []


def _seeds(config: GradientAnalysis) -> str:
    first, last = config.seeds[0], config.seeds[-1]
    if first == last:
        return f"seed {first}"
    return f"seeds {first} to {last}, mean and standard deviation"


def _places(config: GradientAnalysis) -> range:
    return range(0, config.training.updates + 1, config.training.every)


def _pair(rows: Rows, measure: str) -> str:
    mean, deviation, _ = spread(row[measure] for row in rows)
    text = _number(mean)
    return f"{text} ± {_number(deviation)}" if deviation is not None else text


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.1e}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


# ------------------------------------------------------------------------ figures


def draw(config: GradientAnalysis, plan: Plan, table: Table, folder: Path) -> list[Path]:
    """``cosine-<option>.png`` and ``jacobian-<option>.png`` of each swept quantity, and
    ``cosine-update.png`` of a training; written."""
    seeds, rules = set(config.seeds), list(rules_of(config))
    rows = [r for r in table.rows if r["seed"] in seeds and not r["refused"]]
    layers = [r for r in table.layers if r["seed"] in seeds]
    made = []

    def keep(name: str, columns: Mapping[str, Any], setting: str, at: Sequence[Any]) -> None:
        if not any(line for panels in columns.values() for line in panels.values()):
            return
        words = [str(value) for value in at if isinstance(value, str)]
        log = not words and min(at) > 0 and max(at) / min(at) >= APART
        fig = figures.dependence_grid(
            columns, AXES[setting], words=words, log_x=log, log_y=(RATIO,)
        )
        made.extend(figures.save(fig, folder / f"{name}-{setting}.png"))

    for name, cells in plan.sweeps.items():
        at = [cell.values[name] for cell in cells]
        places = [k if isinstance(v, str) else v for k, v in enumerate(at)]
        of = [of_cell(rows, cell) for cell in cells]
        of = [[r for r in part if not r["trained_by"]] for part in of]
        keep("cosine", {rule: _panels(places, of, rule) for rule in rules}, name, at)
        own = [of_cell(layers, cell) for cell in cells]
        shares = {
            "hidden Jacobian": {
                label: _lines(places, own, "layer", column) for column, label in SHARES.items()
            }
        }
        keep("jacobian", shares, name, at)
    if config.training.updates:
        at = list(_places(config))
        trained = [r for r in of_cell(rows, plan.base) if r["trained_by"]]
        of = [[r for r in trained if r["update"] == place] for place in at]
        keep("cosine", {rule: _panels(at, of, rule) for rule in rules}, "update", at)
    return made


def _panels(at: Sequence[Any], of: Sequence[Rows], rule: str) -> dict[str, Any]:
    """Cosine and norm ratio of a rule by layer."""
    mine = [[r for r in part if r["rule"] == rule and r["scope"] == LAYER] for part in of]
    return {
        COSINE: _lines(at, mine, "name", "cosine"), RATIO: _lines(at, mine, "name", "norm_ratio")
    }  # fmt: skip


def _lines(at: Sequence[Any], of: Sequence[Rows], by: str, measure: str) -> dict[str, Any]:
    """Line (a layer) -> points of the settings, with the values of the seeds."""
    names = sorted({r[by] for part in of for r in part})
    found: dict[str, list[tuple[Any, list[float]]]] = {}
    for name in names:
        for place, part in zip(at, of, strict=True):
            values = [r[measure] for r in part if r[by] == name and r[measure] is not None]
            if values:
                found.setdefault(name, []).append((place, values))
    return found
