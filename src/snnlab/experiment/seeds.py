"""Several seeds of one experiment, as one vmapped program where that is possible."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from snnlab import config as configs
from snnlab import interrupts, runs
from snnlab.analysis import figures
from snnlab.devices import chosen, memory
from snnlab.errors import UsageError
from snnlab.experiment import agreement
from snnlab.experiment.assembly import assemble
from snnlab.experiment.opening import announce, go_on, keep, opened
from snnlab.experiment.problem import Problem
from snnlab.experiment.run import finish, train
from snnlab.experiment.state import Progressed, Run, facts_of, note_divergence, stopped
from snnlab.interrupts import Interrupted
from snnlab.scores import Score
from snnlab.training import seeds as together
from snnlab.training.checkpoint_files import Place
from snnlab.training.checkpoints import Reader
from snnlab.training.costs import over_seeds
from snnlab.training.evaluation import Diverged
from snnlab.training.hooks import Moment
from snnlab.training.placement import ALONE, Placement

Member = tuple[Any, Problem]


def run_seeds(config: Any, build: Callable[[Any], Problem], console: Console) -> dict[str, Any]:
    """Train ``--trials`` seeds and leave a folder with a run folder for each, and all together.

    The seeds are one vmapped program where memory allows (``--vmap_trials``), otherwise they
    are trained one after another; the numbers are the same up to rounding. ``--resume`` of the
    folder goes on as it was: seeds that have finished are kept.

    Returns:
        What ``results.json`` holds: every seed, mean, standard deviation, how many reached
        ``--acc_th``.
    """
    if config.run.mode != "train":
        raise UsageError(
            f"--mode {config.run.mode} draws one run: give the folder of a seed (.../seed-0) to "
            "--resume, without --trials"
        )
    first = build(config)
    if config.run.resume:
        folder = runs.RunFolder.existing(config.run.resume)
        folder.lock()
    else:
        folder = runs.RunFolder.create(
            config.run.filepath, first.task, config.learner.method, config.run.exp_name
        )
    try:
        with runs.disk_errors(folder.path), interrupts.leaving(go_on(folder)):
            return _run_all(config, build, first, folder, console)
    except Interrupted as error:
        raise Interrupted(error.signum, go_on(folder)) from None
    finally:
        folder.unlock()


def _run_all(
    config: Any, build: Callable[[Any], Problem], first: Problem, folder: runs.RunFolder,
    console: Console,
) -> dict[str, Any]:  # fmt: skip
    keep(folder, first.files)
    folder.write_config(configs.to_yaml(config, {**runs.provenance(), **first.identity}))
    seeds = range(config.run.seed, config.run.seed + config.run.trials)
    results: dict[int, dict[str, Any]] = {}
    left: dict[int, Member] = {}
    for seed in seeds:
        path = folder.path / f"seed-{seed}"
        found = _result(config, first.score, path)
        if found:
            results[seed] = found
            continue
        begun = str(path) if runs.RunFolder(path).holds_a_run else ""
        own = dataclasses.replace(config.run, seed=seed, trials=1, filepath=str(path), resume=begun)
        member = dataclasses.replace(config, run=own)
        source = dataclasses.replace(own, resume=begun or config.run.resume)  # who keeps the files
        left[seed] = member, build(dataclasses.replace(config, run=source))
    if not left and folder.results.is_file():
        raise UsageError(
            f"{folder.path} has finished its {len(results)} seeds; a higher --epochs would "
            "continue them"
        )
    if left:
        apart = config.run.vmap_trials == "no" or config.run.only_do_testing or results
        done = None if apart else _together(list(left.values()), config, console)
        if done is None:
            done = [_alone(*member, console) for member in left.values()]
        results.update(zip(left, done, strict=True))
    return _summary(config, first, folder, [results[s] for s in seeds], console)


def _summary(
    config: Any, problem: Problem, folder: runs.RunFolder, results: list[dict[str, Any]],
    console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Figure, ``results.json`` and last lines of all seeds."""
    rows = [runs.RunFolder(folder.path / f"seed-{r['seed']}").metrics.rows() for r in results]
    drawn = [r for r in rows if any(row["split"] == "train" for row in r)]
    if drawn:
        curves = figures.learning_curves(drawn, rate_label=problem.rate_label)
        figures.save(curves, folder.figures / "learning-curves.png")
    found = {
        **together.aggregate(
            results, problem.score, config.training.acc_th, problem.objective.beside
        ),
        "method": config.learner.method, "dataset": problem.dataset, **problem.facts,
        **{name: results[0].get(name) for name in ("bin_ms", "dt_ms")},
        "warnings": [f"seed {r['seed']}: {t}" for r in results for t in r.get("warnings", ())],
        "vmapped": any(r.get("vmapped") for r in results),
        "costs": over_seeds([r["costs"] for r in results if r.get("costs")]),
        **agreement.over_seeds(results),
        **{name: together.mean_of(name, results) for name in ("ms_per_step", "training_bytes")},
    }  # fmt: skip
    folder.write_results(found)
    score = problem.score
    mean, sd = found[f"test_{score.name}"], found[f"test_{score.name}_sd"]
    told = "no seed finished"
    if mean is not None:
        spread = "of the only one that finished" if sd is None else f"± {score.show(sd)}"
        told = f"test {score.words} {score.show(mean)} {spread}"
    reached = ""
    if "goal" in found:
        reached = f", {found['reached_goal']} reached {score.show(found['goal'], 0)}"
    console.print(
        f"{told} over {len(results)} seeds ({found['failed']} failed{reached})", highlight=False
    )
    console.print(f"run folder {folder.path}", highlight=False, markup=False)
    return found


def _result(config: Any, score: Score, path: Path) -> dict[str, Any]:
    """``results.json`` of a seed that needs nothing more, or nothing."""
    folder = runs.RunFolder(path)
    found = folder.read_results()
    if "error" in found:
        return found
    if not folder.finished or "seed" not in found:
        return {}
    best = found.get("goal_score", found.get(f"val_{score.name}"))
    enough = found.get("pruned") or score.reached(best, config.training.acc_th)
    enough = enough or config.run.only_do_testing
    return found if enough or found.get("epochs", 0) >= config.training.epochs else {}


def _alone(config: Any, problem: Problem, console: Console) -> dict[str, Any]:
    """Train one seed of several; its divergence is a result, not the end of the others."""
    parts = assemble(config, problem, _split(config, problem, console))
    with opened(config, problem, parts, console) as (this, start):
        announce(config, problem, parts, this.folder, console)
        if not config.run.only_do_testing:
            try:
                train([this], parts.programs, start, console)
            except Diverged as error:
                told = note_divergence(this, error)
                console.print(f"seed {config.run.seed}: {told}", highlight=False, markup=False)
                return {**facts_of(this), "error": str(error)}
        return finish(this, console)


def _split(config: Any, problem: Problem, console: Console) -> Placement:
    """The devices of one seed's batch: all, if it can be split evenly over them, else the first."""
    devices = chosen(config.run.devices)
    if problem.batch_size % max(1, len(devices)) == 0:
        return Placement(devices)
    console.print(
        f"a batch of {problem.batch_size} cannot be split evenly over {len(devices)} devices: one "
        "is used", highlight=False,
    )  # fmt: skip
    return ALONE


def _together(members: list[Member], config: Any, console: Console) -> list[dict[str, Any]] | None:
    """Train all seeds as one vmapped program; ``None`` if that cannot be done."""
    where = _common(members)
    if where is None:
        return None
    made = [(c, p, assemble(c, p, ALONE)) for c, p in members]
    devices = chosen(config.run.devices)
    programs = together.SeedPrograms([parts.programs for _, _, parts in made], devices)
    state = together.stack([parts.state for _, _, parts in made])
    try:
        batch = next(iter(together.SeedLoaders([p.train for _, p in members])))
        needed = programs.train_bytes(state, batch.stream, batch.targets)
    except together.NotAlike as error:
        console.print(f"one seed after another: {error}", highlight=False)
        return None
    finally:
        for _, p in members:
            p.train.set_epoch(-1)  # forget the batch that was taken
    there, used = memory(), programs.spread.n
    if there is not None and devices and devices[0].platform == "cpu":
        needed *= used  # of the same memory
    if config.run.vmap_trials == "auto" and there is not None and needed > 0.8 * there.free:
        console.print(
            f"one seed after another: all at once need {needed / 2**30:.1f} GiB, "
            f"{there.free / 2**30:.1f} GiB are free", highlight=False,
        )  # fmt: skip
        return None
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(opened(c, p, parts, console, at))
            for (c, p, parts), at in zip(made, where, strict=True)
        ]
        these = [this for this, _ in both]
        for this in these:
            this.progress.vmapped, this.devices = True, used
        if len(devices) > 1:
            console.print(
                f"{len(members)} seeds on {used} of {len(devices)} devices", highlight=False
            )
        announce(
            members[0][0], members[0][1], made[0][2],
            runs.RunFolder(these[0].folder.path.parent), console,
        )  # fmt: skip
        try:
            train(these, programs, _joined(these, [start for _, start in both]), console)
        except Diverged as error:
            console.print(f"one seed after another, since one diverged: {error}", highlight=False)
        else:
            return [finish(this, console) for this in these]
    for this in these:
        shutil.rmtree(this.folder.path)
        own = dataclasses.replace(this.config.run, resume="")
        this.config = dataclasses.replace(this.config, run=own)
    return [_alone(this.config, this.problem, console) for this in these]


def _joined(these: list[Run], starts: list[Moment]) -> Moment:
    """The stacked start of all; a seed that has stopped stands where it stopped."""
    lead = next((s for this, s in zip(these, starts) if not this.done), starts[0])
    state = together.stack([s.state for s in starts])
    if lead.averages is None:
        return Moment(state, lead.place)
    each = [s.averages or lead.averages for s in starts]
    return Moment(state, lead.place, [mine[0] for mine in each])


def _common(members: list[Member]) -> list[Place | None] | None:
    """Where each seed goes on so that all stand at one place; ``None`` if there is no such place.

    A new seed has no place. A seed that has stopped (``--acc_th``) goes on where it stopped.
    """
    if not any(config.run.resume for config, _ in members):
        return [None] * len(members)
    found: list[Place | None] = []
    shared: set[Place] | None = None
    for config, problem in members:
        reader = Reader(runs.RunFolder(Path(config.run.filepath)).checkpoints)
        mine = set(reader.sound())
        if not mine:
            return None
        newest, meta = reader.newest()
        progress = Progressed(**meta["progress"])
        if not progress.vmapped:
            return None
        if stopped(config.training, problem.score, progress):
            found.append(newest)
            continue
        found.append(None)
        shared = mine if shared is None else shared & mine
    if shared is None:
        return found
    if not shared:
        return None
    return [place or max(shared) for place in found]
