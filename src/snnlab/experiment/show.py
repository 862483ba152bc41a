"""A trained network at work: figures, ``--mode sim``, ``--mode probe``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import processes, runs
from snnlab.analysis import figures
from snnlab.analysis.recording import Recording, SensorShape
from snnlab.data.share import whole
from snnlab.errors import UsageError
from snnlab.experiment.assembly import Assembly
from snnlab.experiment.problem import Problem
from snnlab.experiment.warn import show
from snnlab.learners.functional import Params, param_states
from snnlab.models import Network
from snnlab.training.alarms import alarms
from snnlab.training.checkpoints import Reader
from snnlab.training.evaluation import evaluate
from snnlab.training.programs import TrainState
from snnlab.training.progress import show_rates


def simulate(config: Any, problem: Problem, parts: Assembly, console: Console) -> dict[str, Any]:
    """Run the untrained or restored network on one test batch and draw it."""
    params, lock = parts.state.params, None
    if config.run.resume:
        folder = runs.RunFolder.existing(config.run.resume)
        params = best_params(parts, folder, console)
        target = folder.path / "sim"
    else:
        folder = lock = runs.RunFolder.create(
            config.run.filepath, problem.task, "sim", config.run.exp_name
        )
        folder.write_config(configs.to_yaml(config, {**runs.provenance(), **problem.identity}))
        target = folder.figures
    batch = next(iter(problem.test))
    row = evaluate(parts.programs, params, [batch], 0, "sim")
    with runs.disk_errors(folder.path, going_on=False):
        paths = draw(config, problem, parts, params, target, [], 0)
    if lock is not None:
        with runs.disk_errors(folder.path, going_on=False):
            lock.write_results({"mode": "sim", **row})
        lock.unlock()
    score = problem.score
    console.print(
        f"one batch of {row['samples']}, {problem.steps_in_words(parts.network)}: "
        f"{score.words} {score.show(row[score.name])}, loss {row['loss']:.4f}, "
        f"{show_rates(row)}".removesuffix(", "), highlight=False,
    )  # fmt: skip
    for text in alarms([row], problem.layer_names, config):
        show(text, console)
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    return row


def probe(config: Any, problem: Problem, parts: Assembly, console: Console) -> dict[str, Any]:
    """The task's own measurements of a trained network, in ``probe/`` of its run folder."""
    if problem.probe is None:
        raise UsageError(f"--mode probe: {problem.task} has nothing to probe")
    if not config.run.resume:
        raise UsageError("--mode probe needs a trained network: --resume <its run folder>")
    folder = runs.RunFolder.existing(config.run.resume)
    params = best_params(parts, folder, console)
    target = folder.path / "probe"
    with runs.disk_errors(folder.path, going_on=False):
        target.mkdir(exist_ok=True)
        found = problem.probe(params, target, console)
        runs.write_json(target / "probe.json", found)
    console.print(f"numbers    {target / 'probe.json'}", highlight=False)
    return found


def best_params(parts: Assembly, folder: runs.RunFolder, console: Console) -> Params:
    """The best parameters of a run so far; the latest ones if none was measured."""

    state, best, meta = Reader(folder.checkpoints, _teller(console)).restore(parts.state)
    return best if meta["progress"]["best_epoch"] else state.params


def _teller(console: Console) -> Callable[[str], None]:
    """What a reader has to say, on the console."""
    return lambda line: console.print(line, markup=False, highlight=False)


def pretrained(config: Any, parts: Assembly, console: Console) -> TrainState:
    """The initial state with the best parameters of ``--load_exp_folder``.

    Raises:
        UsageError: there is no run, or one of another network.
    """
    wanted = Path(config.run.load_exp_folder).expanduser()
    own = wanted / f"seed-{config.run.seed}"
    folder = runs.RunFolder.existing(str(own if own.is_dir() else wanted))
    params = Reader(folder.checkpoints, _teller(console)).best_params(parts.state.params)
    return parts.state._replace(params=params)


def draw(
    config: Any, problem: Problem, parts: Assembly, params: Params, folder: Path,
    rows: list[dict[str, Any]], best_epoch: int, split: str = "test",
) -> list[Path]:  # fmt: skip
    """Draw learning curves (if there are rows) and a few samples; process 0 of several does."""
    if not processes.leads():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if any(r["split"] == "train" for r in rows):
        path = folder / "learning-curves.png"
        curves = figures.learning_curves(
            rows, best_epoch=best_epoch or None, rate_label=problem.rate_label
        )
        figures.save(curves, path)
        drawn.append(path)
    recording, indices = record(config, problem, parts, params, split)
    path = folder / f"{split}-samples.png"
    figures.save(figures.samples_figure(recording, indices), path)
    drawn.append(path)
    if config.run.animate and split == "test":
        drawn.append(figures.animate(recording, indices[0], path.with_suffix(".gif")))
    return drawn


def record(
    config: Any, problem: Problem, parts: Assembly, params: Params, split: str = "test"
) -> tuple[Recording, list[int]]:
    """What the network does on a few samples of a split's first batch: of classes, one of each."""
    batch = next(iter(whole(getattr(problem, split))))
    objective = parts.programs.objective
    seen = objective.choose(batch.targets, config.run.n_show)
    xs, out = parts.programs.record(params, batch.stream, np.asarray(seen, np.int32))
    readout = np.asarray(out.readout)
    targets, predictions = objective.shown(readout, batch.targets, seen)
    first = objective.warmup if problem.shown_from is None else problem.shown_from
    scored = np.arange(problem.n_steps) >= first
    sensor = SensorShape(*problem.sensor) if problem.sensor else None
    network = parts.network
    recording = Recording(
        inputs=np.asarray(xs), spikes=tuple(np.asarray(s) for s in out.spikes),
        membrane=tuple(np.asarray(v) for v in out.membrane), readout=readout,
        targets=targets, predictions=predictions,
        dt_ms=network.dt_ms, sensor=sensor, scored=scored, class_names=problem.class_names,
        thresholds=thresholds_of(network, params), bin_ms=problem.bin_ms,
        input_groups=problem.input_groups, populations=network.populations,
        periods=problem.periods, graded=problem.graded,
        spans=getattr(batch.targets.values, "spans", ()),
    )  # fmt: skip
    return recording, list(range(len(seen)))


def thresholds_of(network: Network, params: Params) -> tuple[np.ndarray | float, ...]:
    """The network's thresholds with other parameters than its own: they may be trained."""
    states = param_states(network)
    own = {name: state.value for name, state in states.items()}
    try:
        for name, state in states.items():
            tree = jax.tree.structure(own[name])
            state.value = jax.tree.unflatten(tree, [params[name]])
        return jax.device_get(network.thresholds)
    finally:
        for name, state in states.items():
            state.value = own[name]
