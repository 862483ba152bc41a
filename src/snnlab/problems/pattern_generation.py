"""Pattern generation: readouts follow sums of sines while the network hears frozen noise."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import CommaText, option, section
from snnlab.data.periods import steps_of
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.task import Sizes, Task
from snnlab.learners.config import LearnerConfig
from snnlab.models.config import ModelConfig
from snnlab.models.section import model_defaults
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.problems.trial_config import check_length, check_rate
from snnlab.training.config import RegressionTraining

if TYPE_CHECKING:
    pass


@section("Task")
class PatternConfig:
    """The trial. There is one, of the run's seed: training, validation and test are this trial.

    Validation is the network as it is at the end of an epoch, test the best epoch's.
    """

    dataset: Literal["sines"] = option(default="sines", help="the task of this script")
    t_trial: float = option(basic=True, default=1000.0, help="length of the trial", unit="ms", gt=0)
    frequencies: CommaText = option(
        basic=True,
        default="1,2,3,5",
        help="comma list of the sines' frequencies in each target, in Hz",
    )
    n_out: int = option(
        basic=True, default=3, help="targets, each of a readout unit", gt=0, le=10_000
    )
    n_in: int = option(basic=True, default=100, help="inputs of frozen noise", gt=0, le=1_000_000)
    noise_rate: float = option(default=10.0, help="rate of the noise", unit="Hz", gt=0, le=1000)
    epoch_batches: int = option(
        basic=True, default=50, help="optimiser updates of an epoch, the trial once for each", gt=0,
    )  # fmt: skip

    @property
    def hz(self) -> tuple[float, ...]:
        """``frequencies`` as numbers."""
        try:
            found = tuple(float(part) for part in self.frequencies.split(","))
        except ValueError:
            found = ()
        if not found or not all(math.isfinite(f) and f > 0 for f in found):
            raise UsageError(
                f"--frequencies {self.frequencies}: must be positive numbers of Hz, such as 1,2,3,5"
            )
        return found


@dataclasses.dataclass(frozen=True)
class PatternGeneration:
    """Config of ``tasks/task-pattern-generation.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: PatternConfig = dataclasses.field(default_factory=PatternConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: RegressionTraining = dataclasses.field(default_factory=RegressionTraining)

    def __post_init__(self) -> None:
        n_steps_of(self)
        check_model(self.learner, self.model)


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """A network that learns the patterns in half a minute."""
    return model_defaults(ModelConfig, values) | {
        "n_layer": 1, "n_rec": 100, "tau_mem": 20.0, "tau_o": 20.0, "ff_scale": 5.0,
        "rec_scale": 1.0, "out_scale": 0.5, "lr": 3e-3, "lr_schedule": "cosine", "epochs": 30,
        "spk_reg_factor": 3.0, "spk_reg_rate": 20.0,
    }  # fmt: skip


def n_steps_of(config: PatternGeneration) -> int:
    """Steps of the trial.

    Raises:
        UsageError: a duration that is no whole number of steps, a rate above one spike in every
            step, or a frequency that steps cannot show.
    """
    data, dt = config.data, config.model.dt
    check_rate("--noise_rate", data.noise_rate, dt)
    if max(data.hz) > 500.0 / dt:
        raise UsageError(
            f"--frequencies {data.frequencies}: steps of --dt {dt:g} ms show at most "
            f"{500.0 / dt:g} Hz"
        )
    steps = steps_of("t_trial", data.t_trial, dt)
    check_length(steps)
    return steps


def build(config: PatternGeneration) -> Problem:
    """Trial and network of a config."""
    from snnlab.data.patterns import FrozenLoader, Noise, draw_sines
    from snnlab.training.objectives import Regression

    data, dt, seed, steps = config.data, config.model.dt, config.run.seed, n_steps_of(config)
    noise = Noise(data.n_in, steps, data.noise_rate * dt / 1000.0)
    targets = draw_sines(data.n_out, data.hz, dt, steps, 1, seed)

    return Problem(
        task="pattern-generation", dataset="sines",
        train=FrozenLoader(noise, targets, data.epoch_batches, seed),
        val=FrozenLoader(noise, targets, 1, seed), test=FrozenLoader(noise, targets, 1, seed),
        n_in=data.n_in, n_out=data.n_out, n_steps=steps, batch_size=1,
        **parts_of(config, Sizes(data.n_in, data.n_out)),
        objective=Regression, facts={"frequencies_hz": list(data.hz)},
    )  # fmt: skip


TASK = Task(
    PatternGeneration, build, "Spiking networks that generate sums of sines from frozen noise.",
    defaults,
    {
        "--method eprop": "the task of the e-prop paper under e-prop",
        "--method diag --trials 3": "three seeds under D-RTRL, in one program",
        "--model alif-delta --n_out 1 --frequencies 0.5,4": "one target of a slow and a fast sine",
    },
    "pattern-generation", network, layers, held_out=False,
)  # fmt: skip
