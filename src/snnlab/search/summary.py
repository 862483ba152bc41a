"""What a search found, in files: ``table.md``, ``results.csv``, ``search.png``."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab.analysis import figures
from snnlab.analysis.figures import Dot, Slice
from snnlab.runs import RunFolder
from snnlab.scores import SCORES
from snnlab.search.command import best_of, folder_name, shown_value, test_in_words
from snnlab.search.plan import Plan
from snnlab.training.metrics import write_atomically

if TYPE_CHECKING:
    import optuna

#: Optuna's names of states -> ours.
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
#: Complete trials from which on importances are told.
FEWEST = 10


def summarise(study: optuna.Study, plan: Plan, folder: Path) -> list[Path]:
    """Write the summary; the files."""
    dots = _dots(study)
    written = [folder / "table.md", folder / "results.csv"]
    write_atomically(written[0], _table(dots, study, plan, folder))
    write_atomically(written[1], _csv(dots, plan, folder))
    if dots:
        score = SCORES.get(plan.metric)
        label = f"validation {score.axis if score else plan.metric}"
        shares = _importances(study, plan)
        slices = [
            Slice(name, bool(part.log), tuple(map(str, part.choices or ())), shares.get(name))
            for name, part in plan.space.items()
        ]
        figure = figures.search_figure(
            dots, slices, label, plan.direction == "maximize", score.scale if score else 1.0
        )
        written += figures.save(figure, folder / "search.png")
    return written


def _dots(study: optuna.Study) -> list[Dot]:
    return [
        Dot(t.number, STATES[t.state.name], t.value, dict(t.params))
        for t in study.get_trials(deepcopy=False) if t.state.name in STATES
    ]  # fmt: skip


def _facts(folder: Path, number: int) -> dict[str, Any]:
    return RunFolder(folder / folder_name(number)).read_results()


def _table(dots: list[Dot], study: optuna.Study, plan: Plan, folder: Path) -> str:
    """Markdown: the best trial first, failed ones last; of the test set the best one's alone."""
    score = SCORES.get(plan.metric)
    percent = bool(score and score.percent)
    unit = f"validation {plan.metric}{' (%)' * percent}"
    head = ["trial", "state", unit, "epochs", *plan.space]
    sign = 1 if plan.direction == "maximize" else -1
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(dots, key=lambda d: (order[d.state], -sign * (d.value or 0.0), d.number))
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for dot in ranked:
        value = "" if dot.value is None else f"{100 * dot.value:.2f}" if percent else ""
        if dot.value is not None and not percent:
            value = f"{dot.value:.4g}"
        epochs = _facts(folder, dot.number).get("epochs", "")
        drawn = [shown_value(dot.point[n]) if n in dot.point else "" for n in plan.space]
        cells = [folder_name(dot.number), dot.state, value, str(epochs), *drawn]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    best = best_of(study)
    tested = test_in_words(folder / folder_name(best.number)) if best else ""
    if tested:
        lines += ["", f"{folder_name(best.number)}: {tested}; no trial was chosen by the test set."]
    return "\n".join(lines) + "\n"


def _csv(dots: list[Dot], plan: Plan, folder: Path) -> str:
    """A row for each trial."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", f"val_{plan.metric}", "epochs", "seconds", *plan.space])
    for dot in dots:
        facts = _facts(folder, dot.number)
        drawn = [dot.point.get(name, "") for name in plan.space]
        value = "" if dot.value is None else dot.value
        own = [facts.get("epochs", ""), facts.get("seconds", "")]
        writer.writerow([folder_name(dot.number), dot.state, value, *own, *drawn])
    return out.getvalue()


def _importances(study: optuna.Study, plan: Plan) -> dict[str, float]:
    """Share of the metric's variance that each option explains (fANOVA; Hutter et al. 2014).

    Of options that every complete trial has, once there are ten trials; the forest has a seed.
    """
    import optuna

    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    shared = [n for n in plan.space if done and all(n in t.params for t in done)]
    if len(done) < FEWEST or len(shared) < 2 or len({t.value for t in done}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=plan.search.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an option that was drawn with one value alone
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=shared)
    return {name: float(share) for name, share in found.items()}
