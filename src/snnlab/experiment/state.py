"""A run that is being made: what it is, where it is written, how far it got."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from snnlab import config as configs
from snnlab import runs
from snnlab.experiment.agreement import of_rows
from snnlab.experiment.assembly import Assembly, n_parameters
from snnlab.experiment.loggers.beside import Logs
from snnlab.experiment.problem import Problem
from snnlab.learners.functional import Params
from snnlab.scores import Score
from snnlab.training.alarms import alarms
from snnlab.training.averages import Averages
from snnlab.training.checkpoint_files import Place
from snnlab.training.checkpoint_writer import Writer
from snnlab.training.config import TrainingConfig
from snnlab.training.evaluation import Diverged
from snnlab.training.programs import TrainState

#: Share of what was in a smoothed score.
SMOOTHING = 0.8


@dataclasses.dataclass
class Progressed:
    """What a run has reached; saved with every checkpoint.

    Attributes:
        training_score: of the last epoch, if ``--acc_th`` is compared with it; of ``--goal_of
            smoothed`` over epochs.
        ms_per_step: of training, of one seed, in the fastest epoch of two batches or more.
        training_bytes: temporary memory of the training program, of one seed; ``None`` where it
            was read from the cache of compiled programs, which does not know.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    best_loss: float = float(np.finfo(np.float32).max)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    vmapped: bool = False
    training_score: float | None = None
    ms_per_step: float | None = None
    training_bytes: int | None = None

    def trained(self, training: TrainingConfig, value: float) -> None:
        """Note the training score of an epoch."""
        before = self.training_score
        if training.goal_of == "smoothed" and before is not None:
            value = SMOOTHING * before + (1 - SMOOTHING) * value
        self.training_score = None if training.goal_of == "validation" else value


@dataclasses.dataclass
class Run:
    """A run that is being made: what it is, where it is written, how far it got.

    Attributes:
        rows: all that ``metrics.jsonl`` holds.
        best: parameters of the best epoch so far, on the host.
        saved: place of the last checkpoint.
        done: it needs no more training.
        pruned: because it was hopeless.
        given_up: why a hook found it hopeless.
        memory: what hooks keep, JSON-able; saved with every checkpoint.
        logs: loggers beside the folder, if there are any.
        devices: how many seeds of which it is one are spread over, if they are.
    """

    config: Any
    problem: Problem
    parts: Assembly
    folder: runs.RunFolder
    writer: Writer
    best: Params
    progress: Progressed = dataclasses.field(default_factory=Progressed)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    saved: Place | None = None
    done: bool = False
    pruned: bool = False
    given_up: str = ""
    devices: int = 1
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)
    logs: Logs | None = None

    def note(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.folder.metrics.append(row)
        if self.logs is not None:
            self.logs.row(row)

    def save(self, place: Place, state: TrainState, averages: Averages | None) -> None:
        """Write a checkpoint of ``place``; the state may be consumed when this returns."""
        meta = {
            "progress": dataclasses.asdict(self.progress),
            "rows": self.rows,
            **({"memory": self.memory} if self.memory else {}),
            "averages": None if averages is None else averages.state_dict(),
            "loader": self.problem.train.state_dict(),
            "config": configs.to_yaml(self.config),
            "epochs": self.config.training.epochs,
            "identity": self.problem.identity,
            "task": self.problem.task,
            "sizes": {"n_in": self.parts.network.n_in, "n_out": self.parts.network.n_out},
        }
        self.writer.save(place, state, self.best, meta)
        self.saved = place

    def note_stop(self) -> None:
        """Look whether it needs no more training."""
        stop = stopped(self.config.training, self.problem.score, self.progress)
        self.done, self.pruned = bool(stop), stop == "pruned"

    def warnings(self) -> list[str]:
        """All so far, those of its data first."""
        found = alarms(self.rows, self.problem.layer_names, self.config)
        return [*self.problem.facts.get("warnings", ()), *found]


def on_host(params: Params) -> dict[str, Any]:
    return {name: np.array(value, copy=True) for name, value in params.items()}


def stopped(training: TrainingConfig, score: Score, progress: Progressed) -> str:
    """Why a run that got this far needs no more training: ``goal``, ``pruned``, or nothing."""
    best = progress.best_score
    if score.reached(reached_by(training, progress), training.acc_th):
        return "goal"
    given_up = 0 < training.pruning_epochs <= progress.epoch
    return "pruned" if given_up and not score.reached(best, training.pruning_threshold) else ""


def reached_by(training: TrainingConfig, progress: Progressed) -> float | None:
    """The score that ``--acc_th`` is compared with."""
    validation = training.goal_of == "validation"
    return progress.best_score if validation else progress.training_score


def facts_of(this: Run) -> dict[str, Any]:
    config, problem, progress = this.config, this.problem, this.progress
    n_devices = max(this.devices, this.parts.programs.placement.n)
    return {
        "score": problem.score.name,
        f"val_{problem.score.name}": progress.best_score,
        **({} if progress.training_score is None else {"goal_score": progress.training_score}),
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "batches": progress.epoch * len(problem.train),
        "seconds": round(progress.seconds, 2),
        "compile_seconds": round(progress.compile_seconds, 2),
        "ms_per_step": progress.ms_per_step,
        "training_bytes": progress.training_bytes,
        "n_parameters": n_parameters(this.parts),
        "method": config.learner.method,
        "backend": this.parts.programs.learner.backend,
        "dataset": problem.dataset,
        "seed": config.run.seed,
        "bin_ms": problem.step_ms(this.parts.network),
        "dt_ms": this.parts.network.dt_ms,
        **({"pruned": True} if this.pruned or this.given_up else {}),
        **({"given_up": this.given_up} if this.given_up else {}),
        **({"vmapped": True} if progress.vmapped else {}),
        **({"devices": n_devices} if n_devices > 1 else {}),
        **problem.facts,
        **of_rows(this.rows),
        "warnings": this.warnings(),
    }


def note_divergence(this: Run, error: Diverged) -> str:
    """Write down that a run diverged; the line that says so."""
    this.writer.wait()
    this.folder.logger().error("%s", error)
    this.folder.write_results({**facts_of(this), "error": str(error)})
    return (
        f"training stopped: {error}; the checkpoint of {this.saved} is kept in "
        f"{this.folder.checkpoints}; try a smaller --lr or --clip_norm"
    )
