"""Several seeds of one experiment, as one vmapped program where that is possible."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from typing import Any

from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.analysis import figures
from snnlab.devices import free_memory
from snnlab.errors import UsageError
from snnlab.experiment.parts import build_parts
from snnlab.experiment.problem import Problem
from snnlab.experiment.run import announce, facts_of, finish, note_divergence, open_run, train
from snnlab.training import trials
from snnlab.training.loop import Diverged, targets_of


def run_trials(config: Any, build: Callable[[Any], Problem], console: Console) -> dict[str, Any]:
    """Train ``--trials`` seeds and leave a folder with a run folder for each, and all together.

    The seeds are one vmapped program where memory allows (``--vmap_trials``), otherwise they
    are trained one after another; the numbers are the same up to rounding.

    Returns:
        What ``results.json`` holds: every seed, mean, standard deviation, how many reached
        ``--acc_th``.
    """
    if config.run.mode != "train" or config.run.resume:
        raise UsageError(
            "--trials trains new runs; to continue or draw one of them give its own folder "
            "(.../seed-0) to --resume, without --trials"
        )
    seeds = range(config.run.seed, config.run.seed + config.run.trials)
    first = build(config)
    folder = runs.RunFolder.create(
        config.run.filepath, first.task, config.learner.method, config.run.exp_name
    )
    folder.write_config(configs.to_yaml(config, runs.provenance()))
    members = []
    for seed in seeds:
        where = str(folder.path / f"seed-{seed}")
        own = dataclasses.replace(config.run, seed=seed, trials=1, filepath=where)
        member_config = dataclasses.replace(config, run=own)
        members.append((member_config, build(member_config)))
    apart = config.run.vmap_trials == "no" or config.run.only_do_testing
    results = None if apart else _together(members, config, console)
    if results is None:
        results = [_alone(*member, console) for member in members]
    found = {
        **trials.aggregate(results, config.training.acc_th),
        "method": config.learner.method, "dataset": first.dataset, **first.facts,
        **{name: results[0][name] for name in ("bin_ms", "dt_ms")},
        "warnings": [f"seed {r['seed']}: {text}" for r in results for text in r["warnings"]],
        "vmapped": "vmapped" in results[0],
    }  # fmt: skip
    folder.write_results(found)
    rows = [runs.RunFolder(folder.path / f"seed-{s}").metrics.rows() for s in seeds]
    drawn = [r for r in rows if any(row["split"] == "train" for row in r)]
    if drawn:
        curves = figures.learning_curves(drawn, rate_label=first.rate_label)
        figures.save(curves, folder.figures / "learning-curves.png")
    mean, sd = found["test_accuracy"], found["test_accuracy_sd"]
    reached = f", {found['reached_goal']} reached {found['goal']:.0%}" if "goal" in found else ""
    told = "no seed finished" if mean is None else f"test accuracy {mean:.2%} ± {sd:.2%}"
    console.print(
        f"{told} over {len(results)} seeds ({found['failed']} failed{reached})", highlight=False
    )
    console.print(f"run folder {folder.path}", highlight=False)
    return found


def _alone(config: Any, problem: Problem, console: Console) -> dict[str, Any]:
    """Train one seed of several; its divergence is a result, not the end of the others."""
    parts = build_parts(config, problem)
    this, state = open_run(config, problem, parts)
    announce(config, problem, parts, this.folder.path, console)
    if config.run.only_do_testing:
        return finish(this, console)
    try:
        train([this], parts.programs, state, console)
    except Diverged as error:
        console.print(f"seed {config.run.seed}: {note_divergence(this, error)}", highlight=False)
        return {**facts_of(this), "error": str(error)}
    return finish(this, console)


def _together(
    members: list[tuple[Any, Problem]], config: Any, console: Console
) -> list[dict[str, Any]] | None:
    """Train all seeds as one vmapped program; ``None`` if that cannot be done."""
    made = [(c, p, build_parts(c, p)) for c, p in members]
    programs = trials.TrialPrograms([parts.programs for _, _, parts in made])
    state = trials.stack([parts.state for _, _, parts in made])
    try:
        batch = next(iter(trials.TrialLoaders([p.train for _, p in members])))
        needed = programs.train_bytes(state, batch.stream, targets_of(batch))
    except trials.NotAlike as error:
        console.print(f"one seed after another: {error}", highlight=False)
        return None
    finally:
        for _, p in members:
            p.train.set_epoch(-1)  # forget the batch that was taken
    free = free_memory()
    if config.run.vmap_trials == "auto" and free is not None and needed > 0.8 * free:
        console.print(
            f"one seed after another: all at once need {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free", highlight=False,
        )  # fmt: skip
        return None
    opened = [open_run(c, p, parts) for c, p, parts in made]
    runs_made, state = [this for this, _ in opened], trials.stack([s for _, s in opened])
    announce(members[0][0], members[0][1], made[0][2], runs_made[0].folder.path.parent, console)
    try:
        train(runs_made, programs, state, console)
    except Diverged as error:
        console.print(f"one seed after another, since one diverged: {error}", highlight=False)
        for this in runs_made:
            this.checkpoints.close()
            shutil.rmtree(this.folder.path)
        return None
    return [{**finish(this, console), "vmapped": True} for this in runs_made]
