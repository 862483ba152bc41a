"""Evidence accumulation with excitatory/inhibitory networks: which side had more cues?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from snnlab.analysis.config import Metric
from snnlab.config import option, section
from snnlab.data.periods import GROUPS, Period, n_steps, named, period_steps, steps_of
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.published import Published, Setting, with_published
from snnlab.experiment.task import Sizes, Task
from snnlab.learners import LearnerConfig
from snnlab.learners.config import ONLINE
from snnlab.models.config import EIConfig
from snnlab.models.kinds.populations import n_excitatory
from snnlab.models.section import model_defaults
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.problems.trial_config import TrialConfig, check_length, check_rate, loaders
from snnlab.training.config import TrainingConfig

if TYPE_CHECKING:
    import jax

    from snnlab.data.trials import Trials

#: Trials on which the balance of currents is measured, and the number of their split.
N_BALANCE, BALANCE_SPLIT = 16, 4
#: Groups of inputs, in this order.
LEFT, RIGHT, RECALL, NOISE = range(4)


@section("Task")
class EvidenceConfig(TrialConfig):
    """Periods and stimuli of a trial. Durations are whole steps of --dt."""

    dataset: Literal["evidence"] = option(default="evidence", help="the task of this script")
    n_cue: int = option(basic=True, default=7, help="cues of a trial, an odd number", gt=0, le=1001)
    t_interval: float = option(default=50.0, help="gap before every cue (0: none)", unit="ms")
    t_cue: float = option(default=100.0, help="a cue", unit="ms")
    t_delay: float = option(
        basic=True, default=1000.0, help="between last cue and recall; at least a step", unit="ms"
    )
    t_recall: float = option(
        default=150.0, help="recall signal; the loss is on this period", unit="ms"
    )
    n_group: int = option(default=25, help="inputs of each of the four groups", gt=0, le=100_000)
    cue_prob: float = option(
        default=0.3, help="p: a cue is left with p or, as often, with 1 - p", ge=0, le=1
    )
    cue_rate: float = option(default=40.0, help="rate of a cued group", unit="Hz", ge=0, le=1000)
    noise_rate: float = option(
        default=10.0, help="rate of the noise group", unit="Hz", ge=0, le=1000
    )
    balance_metric: Metric = option(
        default="lowpass", help="filter of the currents whose balance is measured after every epoch"
    )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The task: cues after gaps, delay, recall (Morcos & Harvey 2016, Nat. Neurosci. 19:1672).

    Inputs are four groups: left, right, recall, noise. In every trial a cue is left with
    probability ``prob`` or ``1 - prob``, each in half of the trials; label 0 is more left cues,
    label 1 more right ones. The noise group fires all the time.

    Args:
        n_cue: odd.
        interval, cue, delay, recall: steps.
        n_group: inputs of a group.
        prob: see above.
        cue_rate, noise_rate: Hz.
        dt_ms: length of a step.
    """

    n_cue: int
    interval: int
    cue: int
    delay: int
    recall: int
    n_group: int = 25
    prob: float = 0.3
    cue_rate: float = 40.0
    noise_rate: float = 10.0
    dt_ms: float = 1.0

    @property
    def n_in(self) -> int:
        return 4 * self.n_group

    @property
    def periods(self) -> tuple[Period, ...]:
        """Level 0 is noise alone, 1 .. n_cue the cues, the last one recall."""
        cues = [
            period
            for k in range(self.n_cue)
            for period in (
                Period(f"gap {k}", self.interval, 0), Period(f"cue {k}", self.cue, k + 1)
            )
        ]  # fmt: skip
        end = (Period("delay", self.delay, 0), Period("recall", self.recall, self.n_cue + 1))
        return (*cues, *end)

    def draw(self, key: jax.Array, batch_size: int) -> Trials:
        import jax
        import jax.numpy as jnp

        from snnlab.data.trials import Trials

        of_side, of_cues = jax.random.split(key)
        mostly_right = jax.random.bernoulli(of_side, 0.5, (batch_size,))
        p_left = jnp.where(mostly_right, self.prob, 1.0 - self.prob)
        left = jax.random.bernoulli(of_cues, p_left[:, None], (batch_size, self.n_cue))
        right = jnp.logical_not(left)
        silent = jnp.zeros((batch_size, 1), bool)
        recalled = jnp.zeros(self.n_cue + 2, bool).at[-1].set(True)
        on = jnp.stack(
            [
                jnp.concatenate([silent, left, silent], axis=1),
                jnp.concatenate([silent, right, silent], axis=1),
                jnp.broadcast_to(recalled, (batch_size, self.n_cue + 2)),
            ],
            axis=-1,
        )  # (B, n_levels, 3 groups)
        noise = jnp.full((batch_size, self.n_cue + 2, 1), self.noise_rate)
        hz = jnp.concatenate([on * self.cue_rate, noise], axis=-1)
        hz = jnp.repeat(hz, self.n_group, axis=-1).transpose(1, 0, 2)
        labels = (right.sum(1) > left.sum(1)).astype(jnp.int32)
        return Trials(hz * (self.dt_ms / 1000.0), labels, {"right": right})


@dataclasses.dataclass(frozen=True)
class CobaEI:
    """Config of ``tasks/task-coba-ei-rsnn.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: EvidenceConfig = dataclasses.field(default_factory=EvidenceConfig)
    model: EIConfig = dataclasses.field(default_factory=EIConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        task_of(self)  # durations
        check_model(self.learner, self.model)


def task_of(config: Any) -> Evidence:
    """The task of a config.

    Raises:
        UsageError: an even number of cues, a duration that is no whole number of steps, or a
            rate above one spike in every step.
    """
    data, dt = config.data, config.model.dt
    for flag in ("cue_rate", "noise_rate"):
        check_rate(f"--{flag}", getattr(data, flag), dt)
    if data.n_cue % 2 == 0:
        raise UsageError(f"--n_cue {data.n_cue}: must be odd, or a trial may have no majority")
    task = Evidence(
        n_cue=data.n_cue,
        interval=steps_of("t_interval", data.t_interval, dt, zero=True),
        cue=steps_of("t_cue", data.t_cue, dt),
        delay=steps_of("t_delay", data.t_delay, dt),
        recall=steps_of("t_recall", data.t_recall, dt),
        n_group=data.n_group, prob=data.cue_prob, cue_rate=data.cue_rate,
        noise_rate=data.noise_rate, dt_ms=dt,
    )  # fmt: skip
    check_length(n_steps(task))
    return task


_TRACED = ("diag", "expsm_diag", "hybrid")
#: Wang et al. 2026, Nature Communications 17:1745: their program, whose epochs are batches.
PUBLISHED = Published(
    (
        *(
            Setting(option, value, free=True) for option, value in {
                "n_rec": 200, "ff_scale": 1.0, "rec_scale": 0.5, "tau_mem": 100.0,
                "tau_I2": 1000.0, "epochs": 10_001,
            }.items()
        ),
        Setting("lr_step", 5, free=True, off=0),
        Setting("acc_th", 0.9, free=True, off=0.0),
        *(
            Setting(option, value) for option, value in {
                "sparsity": 0.1, "weight_scale": "plain", "dale": "sums", "trainable": "map_bias",
                "out_scale": 2.0, "tau_I2_of": "all", "A1": 0.01, "tau_I1": 50.0, "Ath": 1.0,
                "Ath_acts": "all", "th_step": "euler", "V_init": "uniform", "epoch_batches": 1,
                "lr_gamma": 0.9, "goal_of": "smoothed", "weight_L1_at": "step",
            }.items()
        ),
        Setting("loss_reduction", "mean", {"method": ("bptt",)}),
        Setting("loss_reduction", "sum", {"method": ONLINE}),
        Setting("vjp_method", "multi-step", {"method": _TRACED}),
        Setting("chunk_size", 1, {"method": _TRACED}, free=True),
    ),
    {"model": ("ei",), "net": ("coba",), "method": ("bptt", *_TRACED)},
)  # fmt: skip


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the model that ``values`` names; ``--epoch_per_step`` falls as published."""
    own = model_defaults(EIConfig, values)
    own |= {"lr_gamma": 0.9} if values.get("lr_step") else {}
    return with_published(PUBLISHED, CobaEI, values, own)


def build(config: CobaEI) -> Problem:
    """Trials and network of a config."""
    task, data = task_of(config), config.data
    made = parts_of(config, Sizes(task.n_in, 2))
    model, facts, measure = config.model, dict[str, Any](), None
    if model.model == "ei":
        n_exc = n_excitatory(model)
        facts = {"net": model.net, "n_exc": n_exc, "n_inh": model.n_rec - n_exc}
    if model.kind.currents and not model.needs_sequences and model.normalization == "none":
        measure = _measure(config, made["make_network"], task)
    return Problem(
        task="coba-ei", dataset="evidence",
        **loaders(task, data, config.run.seed), n_in=task.n_in, n_out=2, n_steps=n_steps(task),
        batch_size=data.batch_size, **made,
        first_scored=period_steps(task, "recall").start, class_names=("left", "right"),
        input_groups=tuple((name, task.n_group) for name in GROUPS),
        periods=named(task), measure=measure, facts=facts,
    )  # fmt: skip


def _measure(config: CobaEI, make_network: Any, task: Evidence) -> Any:
    """Parameters -> balance of excitation and inhibition over a few trials, for a metrics row."""
    import jax

    from snnlab.analysis.balance_probe import balance_program
    from snnlab.data.trials import TrialLoader

    made: list[Any] = []

    def measure(params: Any) -> dict[str, Any]:
        if not made:
            stream = TrialLoader(task, N_BALANCE, 1, config.run.seed, BALANCE_SPLIT).batch(0).stream
            network = make_network("plain")
            program = balance_program(network, N_BALANCE, n_steps(task), config.data.balance_metric)
            made.extend([program, stream])
        found = jax.device_get(made[0](params, made[1]))
        return {
            "balance": [float(layer.value) if layer.n_scored else None for layer in found],
            "balance_constant": [int(layer.n_constant) for layer in found],
        }

    return measure


TASK = Task(
    CobaEI, build, "Evidence accumulation with excitatory and inhibitory neurons.", defaults,
    examples={
        "--net coba --method expsm_diag --etrace_decay 0.99": "conductances under ES-D-RTRL",
        "--net cuba --n_rec 200 --method diag": "currents, a small network, under D-RTRL",
    },
    files="coba-ei", network=network, layers=layers, published=PUBLISHED,
)  # fmt: skip
