"""The summary of a search: importances, table and figure of trials in every state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snnlab.analysis.figures import Dot, Slice, save, search_figure
from snnlab.experiment.sweep_file import read_sweep
from snnlab.search.plan import Plan

TEXT = """
task: image-classification
search: {n_trials: 14, sampler: random, pruner: none,
         space: {lr: {low: 1e-4, high: 1e-1, log: true}, n_rec: [8, 16]}}
"""


def test_importances_and_a_table_of_all_states(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed: extra 'search'")
    from snnlab.search import study as studies
    from snnlab.search.summary import summarise

    path = tmp_path / "s.yaml"
    path.write_text(TEXT)
    plan = Plan.of(path, read_sweep(path))
    study = studies.opened(tmp_path / "study.jsonl", plan)
    states = optuna.trial.TrialState
    for number in range(14):
        studies.use_sampler(study, plan.search, number)
        study.ask()
        point = studies.drawn(studies.trial_of(study, number), plan)
        state = {3: states.FAIL, 5: states.PRUNED}.get(number, states.COMPLETE)
        if state == states.PRUNED:
            studies.trial_of(study, number).report(0.1, 1)
        value = 1 - abs(float(point["lr"]) - 0.01)  # the rate alone decides
        study.tell(number, value if state == states.COMPLETE else None, state)
    written = summarise(study, plan, tmp_path)
    assert [p.name for p in written] == ["table.md", "results.csv", "search.png"]
    lines = written[0].read_text().splitlines()
    values = [float(line.split("|")[3]) for line in lines[2:14]]
    assert values == sorted(values, reverse=True)
    assert lines[14].startswith("| trial-005 | pruned | 10.00 | ")
    assert lines[15].startswith("| trial-003 | failed |  |")

    shares = _titles(study, plan)
    assert shares["lr"] > 0.9 > 0.1 > shares["n_rec"]


def _titles(study: Any, plan: Plan) -> dict[str, float]:
    from snnlab.search import summary

    return summary._importances(study, plan)


def test_the_figure_shows_every_state(tmp_path: Path) -> None:
    dots = [
        Dot(0, "complete", 0.4, {"lr": 0.1, "rule": "a"}),
        Dot(1, "failed", None, {"lr": 0.2, "rule": "b"}),
        Dot(2, "pruned", 0.9, {"lr": 0.3}),
        Dot(3, "complete", 0.3, {"lr": 0.3, "rule": "b"}),
    ]
    slices = [Slice("lr", log=True, importance=0.7), Slice("rule", choices=("a", "b"))]
    figure = search_figure(dots, slices, "loss", rises=False)
    history, rate, rule = figure.axes
    (best,) = [line for line in history.lines if len(line.get_xdata()) == 3]
    assert list(best.get_ydata()) == [0.4, 0.3, 0.3]  # the pruned one is not the best
    assert rate.get_xscale() == "log"
    assert rate.get_title(loc="left") == "importance 0.70"
    assert sum(len(line.get_xdata()) for line in rate.lines) == 3
    assert sum(len(line.get_xdata()) for line in rule.lines) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["complete", "pruned", "failed"]
    save(figure, tmp_path / "search.png")
