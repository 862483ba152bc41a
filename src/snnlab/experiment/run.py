"""One run: its folder, its training, its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from snnlab import interrupts
from snnlab.errors import UsageError
from snnlab.experiment import endless
from snnlab.experiment import hooks as own
from snnlab.experiment.assembly import assemble
from snnlab.experiment.compared import compared
from snnlab.experiment.decided import Decided
from snnlab.experiment.opening import announce, opened
from snnlab.experiment.problem import Problem
from snnlab.experiment.show import draw, probe, simulate
from snnlab.experiment.state import Run, facts_of, note_divergence
from snnlab.experiment.warn import warn
from snnlab.scores import interval_of_test
from snnlab.training import seeds
from snnlab.training.costs import Costs
from snnlab.training.evaluation import Diverged, evaluate
from snnlab.training.hooks import Hook, Moment
from snnlab.training.loop import fit
from snnlab.training.predictions import Predictions
from snnlab.training.programs import Programs
from snnlab.training.progress import show_rates


def run(
    config: Any, problem: Problem, console: Console, hooks: Sequence[Hook] = ()
) -> dict[str, Any]:
    """Train (or simulate), and leave a complete run folder.

    Args:
        config, problem: what is trained.
        console: where to say how it goes.
        hooks: what else is to be done beside training, after the run's own.

    Returns:
        What ``results.json`` holds.
    """
    if problem.endless:
        return endless.run(config, problem, console, hooks)
    parts = assemble(config, problem)
    if config.run.mode == "sim":
        return simulate(config, problem, parts, console)
    if config.run.mode == "probe":
        return probe(config, problem, parts, console)
    with opened(config, problem, parts, console) as (this, start):
        announce(config, problem, parts, this.folder, console)
        if not config.run.only_do_testing:
            try:
                train([this], parts.programs, start, console, hooks)
            except Diverged as error:
                raise UsageError(note_divergence(this, error)) from None
        return finish(this, console)


def train(
    members: list[Run], programs: Programs | seeds.SeedPrograms, start: Moment, console: Console,
    hooks: Sequence[Hook] = (),
) -> None:  # fmt: skip
    """Train one run, or several as one program (then ``programs`` and states are stacked)."""
    if all(this.done for this in members):
        return
    lead = members[0]
    beside = (
        own.Metrics(members), *compared(members, programs), own.Speed(members, programs),
        own.Checkpoints(members, programs), own.Progress(members, console),
        own.Warnings(members, console), own.Figures(members), *hooks, own.Stopping(members),
    )  # fmt: skip

    def loader(split: str) -> Any:
        loaders = [getattr(this.problem, split) for this in members]
        return seeds.SeedLoaders(loaders) if len(members) > 1 else loaders[0]

    told = "ends after this batch, with a checkpoint; once more: at once, without"
    with interrupts.held(told):
        fit(
            programs, start, loader("train"), loader("val"), beside,
            epochs=lead.config.training.epochs, plateau=lead.parts.plateau,
            layer_names=lead.problem.layer_names, renew=lead.problem.renew,
        )  # fmt: skip


def finish(this: Run, console: Console) -> dict[str, Any]:
    """Restore the best epoch, read the test set once, write results and figures."""
    config, problem, parts = this.config, this.problem, this.parts
    folder, progress = this.folder, this.progress
    this.writer.wait()
    log = folder.logger()
    log.info("test with the parameters of epoch %s of %s", progress.best_epoch, progress.epoch)
    best = jax.tree.map(jax.numpy.asarray, this.best)
    predictions, costs = Predictions(), Costs()
    try:
        test = evaluate(
            parts.programs, best, problem.test, progress.best_epoch, "test", problem.layer_names,
            predictions, costs,
        )  # fmt: skip
    except Diverged as error:
        raise UsageError(note_divergence(this, error)) from None
    this.note(test)
    warn(this, 1, console)
    score = problem.score
    decided = Decided(predictions.gather(), parts.network.n_out, problem.class_names)
    results: dict[str, Any] = {
        **{f"test_{one.name}": test[one.name] for one in (score, *problem.objective.beside)},
        **facts_of(this),
        **{name: test[name] for name in ("firing_rates", "mean_outputs") if name in test},
        "test_loss": test["loss"],
        **decided.facts(),
        "costs": parts.programs.cost_facts(best, costs),
    }
    folder.write_results(results)
    paths = decided.write(folder)
    rate, interval = show_rates(test), interval_of_test(score, results)
    paths += draw(config, problem, parts, best, folder.figures, this.rows, progress.best_epoch)
    if this.logs is not None:
        this.logs.end(results, paths)
    console.print(
        f"test {score.words} {score.show(test[score.name])} ({interval}{'; ' * bool(interval)}"
        f"best epoch {progress.best_epoch} of {progress.epoch}, {rate}{', ' * bool(rate)}"
        f"{progress.seconds:.0f} s of which {progress.compile_seconds:.0f} s compiling)",
        highlight=False,
    )
    log.info("finished: results and figures are written")
    console.print(f"run folder {folder.path}", highlight=False)
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    return results
