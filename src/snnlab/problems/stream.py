"""An endless stream: learn online, step after step, while the task changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from snnlab.config import SET, option, section
from snnlab.data.endless.config import RECORDED, StreamData
from snnlab.devices import chosen
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.task import Sizes, Task
from snnlab.learners.config import LearnerConfig
from snnlab.learners.methods import METHODS, having
from snnlab.models.config import ModelConfig
from snnlab.models.section import model_defaults
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.training.config import TrainingConfig

if TYPE_CHECKING:
    from snnlab.data.endless.sources import Source

#: Rows of a stream without end.
ENDLESS = 2**62


@section(
    "Run",
    only={"log": ()},
    fixed={
        "mode": "train", "published": False, "shard": "batch", "distributed": "",
        "load_exp_folder": "",
        "use_pretrained_model": False, "only_do_testing": False, "trials": 1,
        "vmap_trials": "auto", "n_show": 1, "animate": False, "plot_epoch_freq": 0,
        "compare_gradient": 0,
    },
)  # fmt: skip
class StreamRun(RunConfig):
    """Where the run goes, and when it is saved."""

    checkpoint_every: int = option(
        default=0, ge=0, unit="steps",
        help="a checkpoint after every so many steps (in whole stretches); 0: never",
    )  # fmt: skip
    checkpoint_minutes: float = option(
        basic=True, default=10.0, ge=0, unit="minutes",
        help="a checkpoint when the last one is older; 0: never",
    )  # fmt: skip


@section("Learner", only={"update_every": ()}, fixed={"remat": False, "checkpoint_block": 0})
class StreamLearner(LearnerConfig):
    """Which gradient, and how often it is used."""

    update_every: int = option(
        basic=True, default=10, gt=0, unit="steps",
        help="update the weights every so many steps; it divides the stretch",
    )  # fmt: skip


@section(
    "Training",
    fixed={
        "epochs": property(lambda self: self.rows), "acc_th": 0.0, "pruning_epochs": 0,
        "pruning_threshold": 0.0, "save_best": True, "loss_steps": "each", "loss_of": "step",
        "warmup_ratio": 0.0, "lr_schedule": "constant", "lr_milestones": "", "lr_gamma": 0.1,
        "lr_patience": 1, "lr_step": 0, "lr_min": 0.0, "goal_of": "validation",
        "loss_reduction": "sum", "use_regularizers": False, "reg_factor": 0.5, "reg_fmin": 0.01,
        "reg_fmax": 0.5,
    },
)  # fmt: skip
class StreamTraining(TrainingConfig):
    """How long, what is measured; loss and optimiser."""

    steps: int = option(
        basic=True, default=0, ge=0, lt=10**15, unit="steps",
        help="end after so many, a multiple of --report_every; 0: no end, Ctrl-C saves",
    )  # fmt: skip
    report_every: int = option(
        basic=True, default=10_000, gt=0, unit="steps",
        help="a row of metrics.jsonl for so many, a multiple of the stretch; of more than 2,000 "
        "rows neighbours become one",
    )  # fmt: skip
    window: int = option(
        basic=True, default=5_000, gt=0, unit="steps",
        help="of the moving accuracy, a multiple of the stretch",
    )  # fmt: skip
    margin: float = option(
        default=0.02, ge=0, lt=1, only={"change_every": SET},
        help="after a change, accuracy is back where it is at most so much below that before it",
    )  # fmt: skip

    @property
    def rows(self) -> int:
        """Rows of the whole stream."""
        return self.steps // self.report_every if self.steps else ENDLESS


@dataclasses.dataclass(frozen=True)
class EndlessStream:
    """Config of ``tasks/task-stream.py``."""

    run: StreamRun = dataclasses.field(default_factory=StreamRun)
    data: StreamData = dataclasses.field(default_factory=StreamData)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    learner: StreamLearner = dataclasses.field(default_factory=StreamLearner)
    training: StreamTraining = dataclasses.field(default_factory=StreamTraining)

    def __post_init__(self) -> None:
        data, method = self.data, self.learner.method
        if "online" not in METHODS[method].has.split() and method != "tbptt":
            raise UsageError(
                f"--method {method} needs whole sequences, and a stream has no end; use "
                f"{', '.join(having('online'))}, or tbptt (windows)"
            )
        try:
            check_model(self.learner, self.model)
        except UsageError as error:
            if "bptt" not in str(error):
                raise
            raise UsageError(
                f"{error}; a stream has no end, so bptt is no way out: leave that option or model"
            ) from None
        if not self.run.resume:  # alone, a resume does not know the other options of its run
            self._check_periods()
        if data.dataset == "reader" and not data.reader:
            raise UsageError(
                "--dataset reader needs --reader, module:object or an entry point's name"
            )

    def _check_periods(self) -> None:
        data, training = self.data, self.training
        span, name = data.span, "--data_length" if data.dataset in RECORDED else "--stretch"
        whole = (
            ("--report_every", training.report_every), ("--window", training.window),
            ("--change_every", data.change_every),
        )  # fmt: skip
        for flag, value in whole:
            if value % span:
                raise UsageError(
                    f"{flag} {value}: must be a multiple of the stretch ({name} {span}), such as "
                    f"{-(-value // span) * span}"
                )
        every = self.learner.update_every
        if span % every:
            raise UsageError(f"--update_every {every} must divide the stretch ({name} {span})")
        if data.dataset == "drift" and span % data.hold:
            raise UsageError(f"--hold {data.hold} must divide --stretch {span}")
        check_steps(training)
        if data.change_every and training.window > data.change_every:
            raise UsageError(
                f"--window {training.window} is longer than the time between changes "
                f"(--change_every {data.change_every}): no recovery could be seen"
            )


def check_steps(training: StreamTraining) -> None:
    """Refuse an end inside a row.

    Raises:
        UsageError: with the next end that is none.
    """
    steps, row = training.steps, training.report_every
    if steps % row:
        raise UsageError(
            f"--steps {steps}: must be a multiple of --report_every {row}, such as "
            f"{-(-steps // row) * row}"
        )


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """A small network that learns the drifting task; of recordings rows of 100 stretches."""
    found: dict[str, Any] = model_defaults(ModelConfig, values) | {
        "method": "diag", "n_layer": 1, "n_rec": 64, "tau_mem": 10.0, "tau_o": 10.0,
        "ff_scale": 2.0, "rec_scale": 1.0, "out_scale": 1.0, "lr": 1e-3, "spk_reg_factor": 3.0,
        "spk_reg_rate": 50.0,
    }  # fmt: skip
    if values.get("dataset", "drift") in RECORDED:
        given = str(values.get("data_length", 60))
        steps = int(given) if given.isdecimal() and 0 < int(given) <= 100_000 else 60
        found |= {
            "data_length": steps, "report_every": 100 * steps, "window": 50 * steps, "lr": 1e-3,
            "batch_size": 16, "n_rec": 256, "ff_scale": 10.0,
        }  # fmt: skip
    return found


def build(config: EndlessStream) -> Problem:
    """Stream and network of a config.

    Raises:
        UsageError: recordings or a reader that cannot be used, or several devices.
    """
    from snnlab.data.endless.loader import StretchLoader
    from snnlab.data.endless.sources import build_source
    from snnlab.training.objectives import StepClassification

    check_steps(config.training)
    if len(chosen(config.run.devices)) > 1:
        raise UsageError(f"--devices {config.run.devices}: a stream is trained on one device")
    source: Source = build_source(config.data, config.run.seed)
    rows = config.training.report_every // source.n_steps
    return Problem(
        task="stream", dataset=config.data.dataset, endless=True, objective=StepClassification,
        train=StretchLoader(source, rows, config.run.seed), val=None, test=None,
        n_in=source.n_in, n_out=source.n_out, n_steps=source.n_steps,
        batch_size=source.batch_size, bin_ms=source.bin_ms, sensor=source.sensor,
        class_names=source.class_names, identity=source.identity, facts=source.facts,
        note=source.note, **parts_of(config, Sizes(source.n_in, source.n_out)),
    )  # fmt: skip


TASK = Task(
    EndlessStream, build, "Learn online on a stream that never ends and changes.", defaults,
    {
        "--steps 200000 --change_every 50000": "inputs trade places every 50,000 steps, D-RTRL",
        "--dataset event-digits --method expsm_diag": "recordings in a loop, until Ctrl-C",
        "--dataset reader --reader my_package.mic:Microphone": "a live reader of your own",
    },
    "stream", network, layers, held_out=False,
)  # fmt: skip
