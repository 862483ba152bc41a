"""Working memory in short trials: store-recall, delayed XOR, copy."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from snnlab.config import option, section
from snnlab.data.periods import n_steps, named, steps_of
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.task import Sizes, Task
from snnlab.learners import LearnerConfig
from snnlab.models.config import AdaptiveConfig
from snnlab.models.section import model_defaults
from snnlab.problems.memory_trials import Copy, DelayedXOR, MemoryTask, StoreRecall
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.problems.trial_config import TrialConfig, check_length, check_rate, loaders
from snnlab.training.config import TrainingConfig

DEFAULT = "alif-delta"


@section("Task")
class MemoryConfig(TrialConfig):
    """Which trials. Durations are whole steps of --dt."""

    dataset: Literal["store-recall", "delayed-xor", "copy"] = option(
        basic=True,
        default="store-recall",
        help="store-recall: a stream of bits with commands to store one and to recall it; "
        "delayed-xor: two cues apart in time, and their exclusive or; copy: symbols, a delay, and "
        "the same symbols again",
        aliases=("kind",),
    )
    t_symbol: float = option(
        basic=True, default=20.0, help="a symbol, a cue, a command or an answer", unit="ms"
    )
    t_delay: float = option(
        basic=True, default=40.0, unit="ms", only={"dataset": ("delayed-xor", "copy")},
        help="behind each cue, or between the last symbol and the first answer; at least a step",
    )  # fmt: skip
    n_symbol: int = option(
        basic=True, default=10, gt=1, le=1000, only={"dataset": ("store-recall", "copy")},
        help="symbols of a trial; of copy, those to be told",
    )  # fmt: skip
    n_kind: int = option(
        basic=True, default=4, help="different symbols", gt=1, le=1000, only={"dataset": ("copy",)}
    )
    command_prob: float = option(
        default=0.2, help="probability that a symbol comes with a command: by turns to store it, "
        "and to recall what was stored", ge=0, le=1, only={"dataset": ("store-recall",)},
    )  # fmt: skip
    n_group: int = option(
        default=10, help="inputs of each population: a symbol's, a command's", gt=0, le=100_000
    )
    cue_rate: float = option(
        default=200.0, help="rate of a population that is on", unit="Hz", ge=0, le=1000
    )
    background_rate: float = option(
        default=5.0, help="rate added to all inputs", unit="Hz", ge=0, le=1000
    )


@dataclasses.dataclass(frozen=True)
class WorkingMemory:
    """Config of ``tasks/task-working-memory.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: MemoryConfig = dataclasses.field(default_factory=MemoryConfig)
    model: AdaptiveConfig = dataclasses.field(default_factory=AdaptiveConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        task_of(self)  # durations
        check_model(self.learner, self.model)


def task_of(config: Any) -> MemoryTask:
    """The trials of a config.

    Raises:
        UsageError: a duration that is no whole number of steps, or a rate above one spike in every
            step.
    """
    data, dt = config.data, config.model.dt
    check_rate("--background_rate", data.background_rate, dt)
    check_rate("--cue_rate", data.cue_rate, dt, ("--background_rate", data.background_rate))
    shared: dict[str, Any] = {
        "symbol": steps_of("t_symbol", data.t_symbol, dt), "n_group": data.n_group,
        "rate": data.cue_rate, "background": data.background_rate, "dt_ms": dt,
    }  # fmt: skip
    task: MemoryTask
    if data.dataset == "store-recall":
        task = StoreRecall(n_symbol=data.n_symbol, command_prob=data.command_prob, **shared)
    else:
        delay = steps_of("t_delay", data.t_delay, dt)
        if data.dataset == "copy":
            task = Copy(n_symbol=data.n_symbol, n_kind=data.n_kind, delay=delay, **shared)
        else:
            task = DelayedXOR(delay=delay, **shared)
    check_length(n_steps(task))
    return task


#: Of the default model: its threshold falls back slowly, and so remembers.
OF_MODEL = {"tau_mem": 20.0, "tau_a": 200.0, "beta": 0.2, "ff_scale": 3.0, "rec_scale": 1.0}
#: Of each dataset: trials that BPTT learns in seconds, and a readout of an untrained layer does
#: not. Of two cues a layer that remembers for longer than the delay has their exclusive or already.
OF_DATASET: dict[str, dict[str, Any]] = {
    "store-recall": {"n_symbol": 10},
    "delayed-xor": {"t_delay": 70.0},
    "copy": {"n_symbol": 3, "t_delay": 20.0, "epochs": 10},
}


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Trials and training of the dataset that ``values`` names."""
    name = str(values.get("dataset", "store-recall"))
    own = {
        "batch_size": 32, "epoch_batches": 60, "epochs": 7, "lr": 3e-3, "lr_schedule": "cosine",
        "spk_reg_factor": 3.0, "spk_reg_rate": 20.0, **model_defaults(AdaptiveConfig, values),
    }  # fmt: skip
    if values.get("model", DEFAULT) == DEFAULT:
        own |= OF_MODEL | ({"tau_a": 100.0} if name == "delayed-xor" else {})
    return own | OF_DATASET.get(name, {})


def build(config: WorkingMemory) -> Problem:
    """Trials and network of a config."""
    from snnlab.training.objectives import Classification, SequenceClassification

    task, data = task_of(config), config.data
    classes = task.classes
    return Problem(
        task="working-memory", dataset=data.dataset,
        **loaders(task, data, config.run.seed), n_in=task.n_in, n_out=len(classes),
        n_steps=n_steps(task), batch_size=data.batch_size,
        **parts_of(config, Sizes(task.n_in, len(classes))),
        objective=SequenceClassification if len(task.spans) > 1 else Classification,
        first_scored=task.spans[0][0], class_names=classes,
        input_groups=tuple((name, task.n_group) for name in task.groups), periods=named(task),
    )  # fmt: skip


TASK = Task(
    WorkingMemory, build, "Store-recall, delayed XOR and copy: short trials that need memory.",
    defaults,
    {
        "--method diag": "store-recall under D-RTRL",
        "--dataset delayed-xor --method eprop --trials 5": "delayed XOR, five seeds in one program",
        "--dataset copy --n_symbol 4": "four symbols, to be told in their order",
    },
    "working-memory", network, layers,
)  # fmt: skip
