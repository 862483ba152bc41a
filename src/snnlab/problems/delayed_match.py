"""Delayed match to sample (DMS): was the test stimulus the sample, a delay ago?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import option, section
from snnlab.data.periods import Period, n_steps, named, period_steps, steps_of
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.published import Published, Setting, with_published
from snnlab.experiment.task import Sizes, Task
from snnlab.learners import LearnerConfig
from snnlab.learners.config import ONLINE
from snnlab.models.config import GIFConfig
from snnlab.models.section import model_defaults
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.problems.trial_config import TrialConfig, check_length, check_rate, loaders
from snnlab.training.config import TrainingConfig

if TYPE_CHECKING:
    import jax

    from snnlab.data.trials import Trials

N_DIRECTIONS = 8
BACKGROUND, SAMPLE, TEST = range(3)


@section("Task")
class MatchConfig(TrialConfig):
    """Periods and stimuli of a trial. Durations are whole steps of --dt."""

    dataset: Literal["dms"] = option(default="dms", help="the task of this script")
    t_fixation: float = option(default=10.0, help="before the sample (0: none)", unit="ms")
    t_sample: float = option(default=500.0, help="sample stimulus", unit="ms")
    t_delay: float = option(
        basic=True, default=1000.0, help="between sample and test; at least a step", unit="ms"
    )
    t_test: float = option(
        default=500.0, help="test stimulus; the loss is on this period", unit="ms"
    )
    n_in: int = option(
        default=100, help="input neurons, with evenly spaced directions", gt=0, le=1_000_000
    )
    kappa: float = option(default=3.0, help="concentration of the von Mises tuning", ge=0)
    peak_rate: float = option(
        default=100.0, help="rate at the preferred direction", unit="Hz", ge=0, le=1000
    )
    background_rate: float = option(
        default=1.0, help="rate added to all inputs", unit="Hz", ge=0, le=1000
    )


@dataclasses.dataclass(frozen=True)
class DelayedMatch:
    """The task: fixation, sample, delay, test.

    Sample directions are uniform over 8; with probability 1/2 the test has the same one (label
    0, match), otherwise one of the other seven (label 1, non-match). An input with preferred
    direction p fires at ``background + peak exp(kappa (cos(d - p) - 1))`` Hz for a stimulus of
    direction d.

    Args:
        fixation, sample, delay, test: steps.
        n_in: inputs.
        kappa: tuning.
        peak, background: Hz.
        dt_ms: length of a step.
    """

    fixation: int
    sample: int
    delay: int
    test: int
    n_in: int = 100
    kappa: float = 3.0
    peak: float = 100.0
    background: float = 1.0
    dt_ms: float = 1.0

    @property
    def periods(self) -> tuple[Period, ...]:
        return (
            Period("fixation", self.fixation, BACKGROUND),
            Period("sample", self.sample, SAMPLE),
            Period("delay", self.delay, BACKGROUND),
            Period("test", self.test, TEST),
        )

    def rates(self) -> jax.Array:
        """``(8, n_in)`` Hz, of every direction."""
        import jax.numpy as jnp

        preferred = jnp.arange(self.n_in) * (2 * jnp.pi / self.n_in)
        direction = jnp.arange(N_DIRECTIONS) * (2 * jnp.pi / N_DIRECTIONS)
        tuning = jnp.exp(self.kappa * (jnp.cos(direction[:, None] - preferred) - 1.0))
        return self.background + self.peak * tuning

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        import jax
        import jax.numpy as jnp

        from snnlab.data.trials import Trials

        of_sample, of_match, of_other = jax.random.split(key, 3)
        sample = jax.random.randint(of_sample, (batch_size,), 0, N_DIRECTIONS)
        match = jax.random.bernoulli(of_match, 0.5, (batch_size,))
        other = sample + jax.random.randint(of_other, (batch_size,), 1, N_DIRECTIONS)
        test = jnp.where(match, sample, other % N_DIRECTIONS)
        rates = self.rates()
        level = jnp.full((batch_size, self.n_in), self.background)
        hz = jnp.stack([level, rates[sample], rates[test]])
        conditions = {"sample": sample, "test": test}
        return Trials(hz * (self.dt_ms / 1000.0), 1 - match.astype(jnp.int32), conditions)


@dataclasses.dataclass(frozen=True)
class LongTermDependency:
    """Config of ``tasks/task-rsnn-long-term-dependency.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: MatchConfig = dataclasses.field(default_factory=MatchConfig)
    model: GIFConfig = dataclasses.field(default_factory=GIFConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        task_of(self)  # durations
        check_model(self.learner, self.model)
        if self.run.mode == "probe" and self.model.needs_sequences:
            raise UsageError(
                "--mode probe runs a network step by step: not with --bidirectional, nor with "
                "--normalization batchnorm"
            )


def task_of(config: Any) -> DelayedMatch:
    """The task of a config.

    Raises:
        UsageError: a duration that is no whole number of steps, or zero where that has no
            meaning, or a rate above one spike in every step.
    """
    data, dt = config.data, config.model.dt
    check_rate("--background_rate", data.background_rate, dt)
    check_rate("--peak_rate", data.peak_rate, dt, ("--background_rate", data.background_rate))
    task = DelayedMatch(
        fixation=steps_of("t_fixation", data.t_fixation, dt, zero=True),
        sample=steps_of("t_sample", data.t_sample, dt),
        delay=steps_of("t_delay", data.t_delay, dt),
        test=steps_of("t_test", data.t_test, dt),
        n_in=data.n_in, kappa=data.kappa, peak=data.peak_rate, background=data.background_rate,
        dt_ms=dt,
    )  # fmt: skip
    check_length(n_steps(task))
    return task


_BOTH = (
    Setting("trainable", "map_bias"),
    Setting("loss_reduction", "mean", {"method": ("bptt",)}),
    Setting("loss_reduction", "sum", {"method": ONLINE}),
)
_ONLY = {"model": ("gif",), "method": ("bptt", "diag", "expsm_diag", "hybrid")}
#: Wang et al. 2026, Nature Communications 17:1745: the program that their commands have the flags
#: of, whose epochs are batches; and the later one, of their figures, which takes no flag.
PUBLISHED = Published(
    (
        *_BOTH,
        *(
            Setting(option, value, free=True)
            for option, value in {
                "n_rec": 200,
                "ff_scale": 10.0,
                "rec_scale": 2.0,
                "tau_mem": 20.0,
                "tau_syn": 10.0,
                "tau_o": 10.0,
                "tau_I2": 2000.0,
                "t_fixation": 500.0,
                "epochs": 10_000,
            }.items()
        ),
        Setting("out_scale", like="ff_scale"),
        Setting("V_init", "threshold"),
        Setting("epoch_batches", 1),
        Setting("acc_th", 0.95, free=True, off=0.0),
        Setting("goal_of", "smoothed"),
        Setting("weight_L1_at", "step"),
        Setting("weight_L2_as", "decay"),
        Setting("spk_reg_of", "population"),
        Setting("v_reg_square", True),
    ),
    _ONLY,
    (
        Published(
            (
                *_BOTH,
                Setting("ff_scale", 1.0),
                Setting("rec_scale", 1.0),
                Setting("out_scale", 2.0),
                Setting("tau_o", 5.0),
                Setting("diff_spike", True),
                Setting("V_init", "rest"),
                Setting("epoch_batches", 100),
                Setting("acc_th", 0.9, free=True, off=0.0),
                Setting("goal_of", "training"),
            ),
            _ONLY,
        ),
    ),
)


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the model that ``values`` names."""
    own = model_defaults(GIFConfig, values)
    return with_published(PUBLISHED, LongTermDependency, values, own)


def build(config: LongTermDependency) -> Problem:
    """Trials and network of a config."""
    from snnlab.problems.match_probe import probe

    task, data = task_of(config), config.data
    return Problem(
        task="long-term-dependency", dataset="dms",
        **loaders(task, data, config.run.seed), n_in=task.n_in, n_out=2, n_steps=n_steps(task),
        batch_size=data.batch_size,
        **parts_of(config, Sizes(task.n_in, 2)),
        first_scored=period_steps(task, "test").start,
        class_names=("match", "non-match"), periods=named(task),
        facts={"t_delay_ms": data.t_delay},
        probe=lambda *args: probe(config, build, *args),
    )  # fmt: skip


TASK = Task(
    LongTermDependency, build, "Delayed match to sample with GIF neurons.", defaults,
    examples={
        "--method expsm_diag --etrace_decay 0.99": "a delay of 1 s under ES-D-RTRL",
        "--method diag --t_delay 100 --epochs 2": "a short delay under D-RTRL",
        "--resume runs/NAME --mode probe": "what a trained network keeps over longer delays",
    },
    files="long-term-dependency", network=network, layers=layers, published=PUBLISHED,
)  # fmt: skip
