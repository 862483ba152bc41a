"""The composition root: from a config to a finished run.

A *task* (image classification, ...) provides a :class:`Problem`; everything after it, training,
checkpoints, figures, results, is the same for all of them.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.analysis import figures
from snnlab.analysis.recording import Recording, SensorShape
from snnlab.config import option, section
from snnlab.devices import free_memory, select_device
from snnlab.errors import UsageError
from snnlab.learners import PureNetwork, get_params, make_learner
from snnlab.models import Network
from snnlab.models.maps import Operator
from snnlab.training import trials
from snnlab.training.checkpoints import Checkpoints, rank
from snnlab.training.loop import Averages, Diverged, evaluate, fit, targets_of
from snnlab.training.losses import Classification
from snnlab.training.metrics import write_atomically
from snnlab.training.optim import Plateau, make_optimizer
from snnlab.training.programs import Programs, TrainState
from snnlab.training.progress import ProgressDisplay, show_rates


@section("Run")
class RunConfig:
    """Where a run goes, and what is done."""

    mode: Literal["train", "sim", "probe"] = option(
        default="train",
        help="train; sim: run the untrained (or --resume'd) network on a batch and draw it; probe: "
        "the task's own measurements of the --resume'd network",
    )
    seed: int = option(
        default=0, help="of parameters, splits, order and augmentation", ge=0, lt=2**31
    )
    devices: str = option(
        default="0", help="comma list of accelerator ids, all, or cpu", aliases=("gpu",)
    )
    filepath: str = option(
        default="",
        help="folder of the run; empty: runs/<task>-<method>-<time>",
        aliases=("new_exp_folder",),
    )
    exp_name: str = option(default="", help="name that the run's folder carries")
    resume: str = option(default="", help="folder of a run to continue (with sim: to draw)")
    trials: int = option(
        default=1, gt=0, le=1000,
        help="train this many seeds, from --seed on; results.json then holds all of them",
    )  # fmt: skip
    vmap_trials: Literal["auto", "yes", "no"] = option(
        default="auto",
        help="several seeds as one vmapped program (auto: if memory allows), or one by one",
    )
    max_to_keep: int = option(default=2, help="latest checkpoints kept, beside the best one", gt=0)
    n_show: int = option(default=3, help="test samples in the figure", ge=1, le=16)


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a task hands to :func:`run`.

    Attributes:
        task: short name, part of the run folder's name.
        dataset: name for ``results.json``.
        train, val, test: loaders.
        n_in, n_classes, n_steps: sizes.
        batch_size: of every batch.
        sensor: (height, width, polarities) of the input, or ``None``.
        make_network: network for an operator, the same parameters every time.
        layer_names: of the recurrent layers, for messages.
        facts: further numbers for ``results.json``.
        first_scored: step at which the loss begins, if not with ``--warmup_ratio`` later.
        class_names: of the readout units; their numbers where empty.
        probe: what ``--mode probe`` does: (parameters, folder, console) -> figures for
            ``probe.json``.
        measure: further numbers of a network for the validation row of an epoch, and of the
            untrained one for a row ``initial`` of epoch 0: parameters -> numbers.
        renew: what replaces the parameters after every epoch, or ``None``.
        shown_from: first step that figures show as scored, if it is not that of the loss.
        note: a line for the user at the start of a run, if there is something to say.
    """

    task: str
    dataset: str
    train: Any
    val: Any
    test: Any
    n_in: int
    n_classes: int
    n_steps: int
    batch_size: int
    sensor: tuple[int, int, int] | None
    make_network: Callable[[Operator], Network]
    layer_names: tuple[str, ...]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    first_scored: int = 0
    class_names: tuple[str, ...] = ()
    probe: Callable[[Any, Path, Console], dict[str, Any]] | None = None
    measure: Callable[[Any], dict[str, Any]] | None = None
    renew: Callable[[Any], Any] | None = None
    shown_from: int | None = None
    note: str = ""


#: Options that may differ between a run and its continuation.
FREE_ON_RESUME = (
    "mode", "devices", "filepath", "exp_name", "resume", "max_to_keep", "n_show", "epochs",
    "data_path", "n_data_worker",
)  # fmt: skip


def command(
    config_type: type,
    build: Callable[[Any], Problem],
    *,
    prog: str,
    description: str,
    argv: list[str] | None = None,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> int:
    """The whole command line of a task: parse, build, run.

    Args:
        config_type: frozen dataclass of sections with at least ``run``, ``learner``,
            ``training``.
        build: config -> problem.
        prog, description: for ``--help`` and messages.
        argv: arguments; those of the process by default.
        adapt: defaults that depend on other options.
    """
    config: Any
    config, dry_run = configs.parse(
        config_type, argv, prog=prog, description=description, adapt=adapt
    )
    console = Console(soft_wrap=True)
    if config.run.resume:
        config = _resumed_config(config_type, config, argv, prog, adapt)
    if dry_run:
        console.print(configs.to_yaml(config), markup=False, highlight=False, end="")
        return 0
    note = select_device(config.run.devices)
    if note:
        console.print(note, highlight=False)
    if config.run.trials > 1:
        run_trials(config, build, console)
    else:
        run(config, build(config), console)
    return 0


def _resumed_config(
    config_type: type, config: Any, argv: list[str] | None, prog: str, adapt: Any
) -> Any:
    """The saved config of the run to resume, with this command's free options over it.

    Raises:
        UsageError: this command sets an option that the saved run had otherwise.
    """
    folder = runs.RunFolder.existing(config.run.resume)
    saved = folder.read_config()
    known = configs.entries(config_type)
    stranger = [k for k in saved if k not in known]
    missing = [k for k in ("method", "seed") if k not in saved]
    if stranger or missing:
        raise UsageError(
            f"--resume {config.run.resume} holds a run of another task "
            f"(option {(stranger or missing)[0]} does not belong to both)"
        )
    given, _ = configs.given_values(config_type, argv, prog=prog)
    merged = {**saved, **{k: v for k, v in given.items() if k in FREE_ON_RESUME}}
    merged["filepath"] = str(folder.path)
    merged["resume"] = config.run.resume
    merged["mode"] = given.get("mode", "train")
    result: Any = configs.build(config_type, merged)
    asked: Any = configs.build(config_type, {**saved, **given})
    changed = configs.differences(asked, result, ignore=FREE_ON_RESUME)
    if changed:
        raise UsageError(
            f"--resume {config.run.resume} holds another experiment (asked != saved): "
            + "; ".join(changed)
        )
    return result


# ------------------------------------------------------------------------ running


@dataclasses.dataclass
class Parts:
    """The pieces of a run, built once."""

    programs: Programs
    plateau: Plateau
    state: TrainState
    network: Network


def build_parts(config: Any, problem: Problem) -> Parts:
    """Learner, optimiser, programs and initial state of a problem."""
    plain = problem.make_network("plain")
    objective = Classification(
        problem.n_classes, len(problem.layer_names),
        max(problem.first_scored, config.training.warmup_steps(problem.n_steps)), plain.dt_ms,
        config.training,
    )  # fmt: skip
    if objective.warmup >= problem.n_steps:
        raise UsageError(
            f"--warmup_ratio {config.training.warmup_ratio:g}: {objective.warmup} steps without "
            f"loss leave none of the sequence's {problem.n_steps}"
        )
    learner = make_learner(config.learner, problem.make_network, problem.batch_size, objective)
    every = min(config.learner.update_every or problem.n_steps, problem.n_steps)
    per_epoch = len(problem.train) * -(-problem.n_steps // every)
    optimizer = make_optimizer(config.training, per_epoch)
    plateau = Plateau(config.training)
    params = jax.tree.map(jnp.copy, get_params(plain))  # training consumes its state
    programs = Programs(
        learner, optimizer, objective, PureNetwork(plain, problem.batch_size),
        problem.n_steps, config.learner.update_every,
    )  # fmt: skip
    key = jax.random.key_data(jax.random.key(config.run.seed))
    state = TrainState(params, optimizer.init(params), plateau.init(), key, jnp.int32(0))
    return Parts(programs, plateau, state, plain)


def run(config: Any, problem: Problem, console: Console) -> dict[str, Any]:
    """Train (or simulate), and leave a complete run folder.

    Returns:
        What ``results.json`` holds.
    """
    parts = build_parts(config, problem)
    if config.run.mode == "sim":
        return simulate(config, problem, parts, console)
    if config.run.mode == "probe":
        return probe(config, problem, parts, console)
    this, state = _open(config, problem, parts)
    _announce(config, problem, parts, this.folder.path, console)
    try:
        _train([this], parts.programs, state, console)
    except Diverged as error:
        raise UsageError(_note_divergence(this, error)) from None
    return _finish(this, console)


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
    results = None if config.run.vmap_trials == "no" else _together(members, config, console)
    if results is None:
        results = [_alone(*member, console) for member in members]
    found = {
        **trials.aggregate(results, config.training.acc_th),
        "method": config.learner.method, "dataset": first.dataset, **first.facts,
        "vmapped": "vmapped" in results[0],
    }  # fmt: skip
    folder.write_results(found)
    rows = [runs.RunFolder(folder.path / f"seed-{s}").metrics.rows() for s in seeds]
    drawn = [r for r in rows if any(row["split"] == "train" for row in r)]
    if drawn:
        figures.save(figures.learning_curves(drawn), folder.figures / "learning-curves.png")
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
    this, state = _open(config, problem, parts)
    _announce(config, problem, parts, this.folder.path, console)
    try:
        _train([this], parts.programs, state, console)
    except Diverged as error:
        console.print(f"seed {config.run.seed}: {_note_divergence(this, error)}", highlight=False)
        return {**_facts(this), "error": str(error)}
    return _finish(this, console)


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
    runs_made = [_open(c, p, parts)[0] for c, p, parts in made]
    _announce(members[0][0], members[0][1], made[0][2], runs_made[0].folder.path.parent, console)
    try:
        _train(runs_made, programs, state, console)
    except Diverged as error:
        console.print(f"one seed after another, since one diverged: {error}", highlight=False)
        for this in runs_made:
            this.checkpoints.close()
            shutil.rmtree(this.folder.path)
        return None
    return [{**_finish(this, console), "vmapped": True} for this in runs_made]


@dataclasses.dataclass
class _Run:
    """A run that is being made: what it is, where it is written, how far it got."""

    config: Any
    problem: Problem
    parts: Parts
    folder: runs.RunFolder
    checkpoints: Checkpoints
    progress: _Progressed
    done: bool = False


def _open(config: Any, problem: Problem, parts: Parts) -> tuple[_Run, TrainState]:
    """Make (or, with ``--resume``, open) the run folder; the state from which to go on."""
    resuming = bool(config.run.resume)
    folder = (
        runs.RunFolder.existing(config.run.resume)
        if resuming
        else runs.RunFolder.create(
            config.run.filepath, problem.task, config.learner.method, config.run.exp_name
        )
    )
    log = folder.logger()
    checkpoints = Checkpoints(folder.checkpoints, config.run.max_to_keep)
    state, progress = parts.state, _Progressed()
    if resuming:
        state, meta = checkpoints.restore(parts.state)
        progress = _Progressed(**meta["progress"])
        if progress.epoch >= config.training.epochs:
            raise UsageError(
                f"{folder.path} has finished its {progress.epoch} epochs; "
                f"--epochs {2 * progress.epoch} would continue it"
            )
        problem.train.load_state_dict(meta["loader"])
        folder.metrics.keep_until(progress.epoch)
        folder.write_config(configs.to_yaml(config, runs.provenance()))
        log.info("resumed after epoch %d", progress.epoch)
    else:
        facts = runs.provenance()
        folder.write_config(configs.to_yaml(config, facts))
        log.info("started %s", facts)
        if problem.measure:
            measured = problem.measure(state.params)
            folder.metrics.append({"epoch": 0, "split": "initial", **measured})
        _save(checkpoints, state, problem, progress)
    return _Run(config, problem, parts, folder, checkpoints, progress), state


def _note_divergence(this: _Run, error: Diverged) -> str:
    """Write down that a run diverged; the line that says so."""
    this.folder.logger().error("%s", error)
    last = this.checkpoints.epochs[-1]
    this.folder.write_results({**_facts(this), "error": str(error)})
    return (
        f"training stopped: {error}; the checkpoint of epoch {last} is kept in "
        f"{this.folder.checkpoints}; try a smaller --lr or --clip_norm"
    )


@dataclasses.dataclass
class _Progressed:
    """What a run has reached; saved with every checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float(np.finfo(np.float32).max)
    seconds: float = 0.0
    compile_seconds: float = 0.0


def _save(
    checkpoints: Checkpoints, state: TrainState, problem: Problem, progress: _Progressed,
    row: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    meta = {
        "val_accuracy": row["accuracy"] if row else -1.0,
        "val_loss": row["loss"] if row else float(np.finfo(np.float32).max),
        "progress": dataclasses.asdict(progress),
        "loader": problem.train.state_dict(),
    }
    checkpoints.save(progress.epoch, state, meta)


def _announce(config: Any, problem: Problem, parts: Parts, folder: Path, console: Console) -> None:
    n = _n_parameters(parts)
    backend = "" if config.learner.method == "bptt" else f" ({config.learner.backend})"
    console.print(
        f"{problem.task}: {problem.dataset}, {problem.n_steps} steps, {n:,} parameters, "
        f"{config.learner.method}{backend} on {jax.devices()[0].platform}; run folder "
        f"{folder}", highlight=False,
    )  # fmt: skip
    if problem.note:
        console.print(problem.note, highlight=False)


def _n_parameters(parts: Parts) -> int:
    return int(sum(p.size for p in parts.state.params.values()))


def _train(
    members: list[_Run], programs: Programs | trials.TrialPrograms, state: TrainState,
    console: Console,
) -> None:  # fmt: skip
    """Train one run, or several as one program (then ``programs`` and ``state`` are stacked)."""
    lead = members[0]
    training, several = lead.config.training, len(members) > 1
    first = lead.progress.epoch + 1
    before, compiled = lead.progress.seconds, lead.progress.compile_seconds
    began = time.perf_counter()
    display = ProgressDisplay(
        training.epochs, first, len(lead.problem.train), lead.problem.n_steps, console
    )

    def on_batch(epoch: int, number: int, batches: int, totals: Averages) -> None:
        display.batch(epoch, number, batches, totals)

    def on_epoch(epoch: int, state: TrainState, rows: list[dict[str, Any]]) -> bool:
        for i, this in enumerate(members):
            if this.done:
                continue
            this.progress.seconds = before + time.perf_counter() - began
            this.progress.compile_seconds = compiled + programs.compile_seconds
            own = trials.member(state, i) if several else state
            pair = rows[2 * i : 2 * i + 2]
            is_best = _note_epoch(this, epoch, own, pair)
            display.epoch(epoch, pair, is_best)
            this.done = 0 < training.acc_th <= pair[0]["accuracy"]
        return all(this.done for this in members)

    def loader(split: str) -> Any:
        loaders = [getattr(this.problem, split) for this in members]
        return trials.TrialLoaders(loaders) if several else loaders[0]

    with display:
        fit(
            programs, state, loader("train"), loader("val"), epochs=training.epochs,
            first_epoch=first, plateau=lead.parts.plateau,
            layer_names=lead.problem.layer_names, on_batch=on_batch, on_epoch=on_epoch,
            renew=lead.problem.renew,
        )  # fmt: skip


def _note_epoch(this: _Run, epoch: int, state: TrainState, rows: list[dict[str, Any]]) -> bool:
    """Write an epoch of a run; whether it is the best so far."""
    val, progress = rows[1], this.progress
    progress.epoch = epoch
    if this.problem.measure:
        val.update(this.problem.measure(state.params))
    found = {"val_accuracy": val["accuracy"], "val_loss": val["loss"], "epoch": epoch}
    best = {
        "val_accuracy": progress.best_accuracy, "val_loss": progress.best_loss,
        "epoch": progress.best_epoch,
    }  # fmt: skip
    is_best = rank(found) > rank(best)
    if is_best:
        progress.best_epoch = epoch
        progress.best_accuracy, progress.best_loss = val["accuracy"], val["loss"]
    for row in rows:
        this.folder.metrics.append(row)
    _save(this.checkpoints, state, this.problem, progress, val)
    this.folder.logger().info("%s", rows)
    return is_best


def _facts(this: _Run) -> dict[str, Any]:
    config, problem, progress = this.config, this.problem, this.progress
    return {
        "val_accuracy": progress.best_accuracy if progress.best_epoch else None,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "batches": progress.epoch * len(problem.train),
        "seconds": round(progress.seconds, 2),
        "compile_seconds": round(progress.compile_seconds, 2),
        "n_parameters": _n_parameters(this.parts),
        "method": config.learner.method,
        "backend": "snnlab" if config.learner.method == "bptt" else config.learner.backend,
        "dataset": problem.dataset,
        "seed": config.run.seed,
        **problem.facts,
    }


def _finish(this: _Run, console: Console) -> dict[str, Any]:
    """Restore the best epoch, read the test set once, write results and figures."""
    config, problem, parts = this.config, this.problem, this.parts
    folder, checkpoints, progress = this.folder, this.checkpoints, this.progress
    best, _ = checkpoints.restore(parts.state, progress.best_epoch)
    test = evaluate(parts.programs, best.params, problem.test, progress.best_epoch, "test")
    folder.metrics.append(test)
    results = {
        "test_accuracy": test["accuracy"],
        **_facts(this),
        "firing_rates": test["firing_rates"],
        "test_loss": test["loss"],
    }
    folder.write_results(results)
    paths = draw(config, problem, parts, best, folder.figures, folder.metrics.rows(),
                 progress.best_epoch)  # fmt: skip
    console.print(
        f"test accuracy {test['accuracy']:.2%} (best epoch {progress.best_epoch} of "
        f"{progress.epoch}, rate {show_rates(test['firing_rates'])}, "
        f"{progress.seconds:.0f} s of which {progress.compile_seconds:.0f} s compiling)",
        highlight=False,
    )
    console.print(f"run folder {folder.path}", highlight=False)
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    checkpoints.close()
    return results


def simulate(config: Any, problem: Problem, parts: Parts, console: Console) -> dict[str, Any]:
    """Run the untrained or restored network on one test batch and draw it."""
    state = parts.state
    if config.run.resume:
        folder = runs.RunFolder.existing(config.run.resume)
        state = _best_state(config, parts, folder)
        target = folder.path / "sim"
    else:
        folder = runs.RunFolder.create(
            config.run.filepath, problem.task, "sim", config.run.exp_name
        )
        folder.write_config(configs.to_yaml(config, runs.provenance()))
        target = folder.figures
    batch = next(iter(problem.test))
    row = evaluate(parts.programs, state.params, [batch], 0, "sim")
    paths = draw(config, problem, parts, state, target, [], 0)
    console.print(
        f"one batch of {row['samples']}: accuracy {row['accuracy']:.2%}, loss {row['loss']:.4f}, "
        f"rate {show_rates(row['firing_rates'])}", highlight=False,
    )  # fmt: skip
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    return row


def probe(config: Any, problem: Problem, parts: Parts, console: Console) -> dict[str, Any]:
    """The task's own measurements of a trained network, in ``probe/`` of its run folder."""
    if problem.probe is None:
        raise UsageError(f"--mode probe: {problem.task} has nothing to probe")
    if not config.run.resume:
        raise UsageError("--mode probe needs a trained network: --resume <its run folder>")
    folder = runs.RunFolder.existing(config.run.resume)
    state = _best_state(config, parts, folder)
    target = folder.path / "probe"
    target.mkdir(exist_ok=True)
    found = problem.probe(state.params, target, console)
    write_atomically(target / "probe.json", json.dumps(found, indent=2) + "\n")
    console.print(f"numbers    {target / 'probe.json'}", highlight=False)
    return found


def _best_state(config: Any, parts: Parts, folder: runs.RunFolder) -> TrainState:
    """The best state of a run so far; the latest one if none was measured."""
    checkpoints = Checkpoints(folder.checkpoints, config.run.max_to_keep)
    state, meta = checkpoints.restore(parts.state)
    best = meta["progress"]["best_epoch"]
    if best:
        state, _ = checkpoints.restore(parts.state, best)
    checkpoints.close()
    return state


def draw(
    config: Any, problem: Problem, parts: Parts, state: TrainState, folder: Path,
    rows: list[dict[str, Any]], best_epoch: int,
) -> list[Path]:  # fmt: skip
    """Draw learning curves (if there are rows) and a few test samples of different classes."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if any(r["split"] == "train" for r in rows):
        path = folder / "learning-curves.png"
        figures.save(figures.learning_curves(rows, best_epoch=best_epoch or None), path)
        drawn.append(path)
    recording, indices = record(config, problem, parts, state)
    path = folder / "test-samples.png"
    figures.save(figures.samples_figure(recording, indices), path)
    drawn.append(path)
    return drawn


def record(
    config: Any, problem: Problem, parts: Parts, state: TrainState
) -> tuple[Recording, list[int]]:
    """What the network does on a few samples of the first test batch, one of each class."""
    batch = next(iter(problem.test))
    labels, mask = np.asarray(batch.labels), np.asarray(batch.mask)
    seen: list[int] = []
    for i in range(len(labels)):
        if mask[i] and labels[i] not in labels[seen] and len(seen) < config.run.n_show:
            seen.append(i)
    seen.sort(key=lambda i: labels[i])
    xs, out = parts.programs.record(state.params, batch.stream, np.asarray(seen, np.int32))
    objective = parts.programs.objective
    steps = np.arange(problem.n_steps)
    readout = np.asarray(out.readout)
    predictions = readout[steps >= objective.warmup].sum(0).argmax(-1)
    first = objective.warmup if problem.shown_from is None else problem.shown_from
    scored = steps >= first
    sensor = SensorShape(*problem.sensor) if problem.sensor else None
    recording = Recording(
        inputs=np.asarray(xs), spikes=tuple(np.asarray(s) for s in out.spikes),
        membrane=tuple(np.asarray(v) for v in out.membrane), readout=readout,
        targets=labels[seen], predictions=predictions,
        dt_ms=parts.network.dt_ms, sensor=sensor, scored=scored, class_names=problem.class_names,
        thresholds=parts.network.thresholds,
    )  # fmt: skip
    return recording, list(range(len(seen)))
