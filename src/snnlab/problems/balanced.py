"""Balanced networks on the cue accumulation task: config and problem.

With ``--method bptt`` the loss is that of the source, of the whole sequence: the cross-entropy of
``sum_t softmax(u_t)`` over the steps after the last cue, taken once at the end. An online learner
needs a loss in every step: there it is the cross-entropy of ``softmax(u_t)`` in each of these
steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from snnlab.analysis.balance import Metric
from snnlab.analysis.balance_probe import balance_program
from snnlab.config import option, section
from snnlab.data.cue import CUE_INPUTS, SPLITS, CueLoader, CueTask, CueTrials, cue_stream
from snnlab.data.repeated import RepeatedStream
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.learners import LearnerConfig
from snnlab.models.balanced_config import BalancedConfig
from snnlab.models.balanced_networks import build_balanced_network, refit_program
from snnlab.training.config import TrainingConfig

N_TRACKED = 5  # samples of which the balance is measured, as in the source


@section("Task")
class CueConfig:
    """Cue accumulation."""

    dataset: Literal["cue"] = option(default="cue", help="cue accumulation")
    batch_size: int = option(default=30, help="trials of a batch", gt=0, le=65_536)
    samples: int = option(default=200, help="trials of each split", gt=0, le=10_000_000)
    repeat: int = option(default=1, help="steps of a ms", gt=0, le=1000)
    dataset_scale: float = option(default=1.0, help="input of a spike")
    track_balance: bool = option(
        default=False, help="measure the balance of excitation and inhibition"
    )
    balance_metric: Metric = option(default="median", help="filter of the two currents")
    plot: bool = option(default=True, help="accepted: every run draws its figures")


@dataclasses.dataclass(frozen=True)
class BalancedRSNN:
    """Config of ``tasks/task-balanced-rsnn.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: CueConfig = dataclasses.field(default_factory=CueConfig)
    model: BalancedConfig = dataclasses.field(default_factory=BalancedConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        model, method = self.model, self.learner.method
        if model.auto_encoder and self.run.mode == "train":
            raise UsageError(
                "--auto_encoder has nothing to train: --mode sim runs it, and tasks/boerlin.py is "
                "its sandbox"
            )
        if self.data.track_balance and not model.is_spiking:
            raise UsageError(f"--track_balance: {model.model} has no excitation and inhibition")
        if method == "bptt":
            if self.learner.update_every:
                raise UsageError(
                    "--update_every with --method bptt: the loss is taken once, at the end of the "
                    "sequence"
                )
            return
        if model.balance_refit:
            raise UsageError(f"--balance_refit needs --method bptt, not {method}")
        if model.normalization != "none":
            raise UsageError(
                f"--normalization {model.normalization} needs --method bptt: an online learner "
                "has no trace for its gains"
            )
        if model.is_spiking and not (model.fix_tau_rec and model.fix_tau_out):
            raise UsageError(
                f"--method {method} trains weights, not time constants: add --fix_tau_rec "
                "--fix_tau_out"
            )
        if not model.is_spiking and model.model != "MLP":
            raise UsageError(
                f"--method {method} is not defined for --model {model.model} here; use bptt"
            )


def defaults(_: dict[str, Any]) -> dict[str, Any]:
    """The source's training, where it differs from the suite's."""
    return {
        "lr": 0.01, "lr_schedule": "plateau", "lr_gamma": 0.7, "lr_patience": 1, "epochs": 5,
        "clip_norm": 0.0, "checkpoint_block": 100,
    }  # fmt: skip


def build(config: BalancedRSNN) -> Problem:
    """Trials and network of a config."""
    data, model, seed = config.data, config.model, config.run.seed
    task, bptt = CueTask(), config.learner.method == "bptt"
    length, t_crop = data.repeat * task.n_steps, data.repeat * task.first_scored

    def loader(split: int) -> CueLoader:
        return CueLoader(
            task, data.samples, data.batch_size, data.repeat, data.dataset_scale, seed, split,
            shuffle=split == 0,
        )  # fmt: skip

    def make_network(operator: Any):
        return build_balanced_network(
            model, CUE_INPUTS, 2, operator, seed, repeat=data.repeat, t_crop=t_crop,
            accumulate=bptt, dt_ms=1.0 / data.repeat,
        )  # fmt: skip

    train, val, test = (loader(k) for k in range(len(SPLITS)))
    return Problem(
        task="balanced-rsnn", dataset="cue", train=train, val=val, test=test, n_in=CUE_INPUTS,
        n_classes=2, n_steps=length, batch_size=data.batch_size, sensor=None,
        make_network=make_network,
        layer_names=tuple(f"layer {k + 1} ({model.model})" for k in range(model.n_layer)),
        first_scored=length - 1 if bptt else t_crop, class_names=("left", "right"),
        shown_from=t_crop,
        measure=_measure(config, make_network, val, length) if data.track_balance else None,
        renew=refit_program(model, data.repeat) if model.balance_refit else None,
    )  # fmt: skip


def _measure(config: BalancedRSNN, make_network: Any, val: CueLoader, length: int) -> Any:
    """Parameters -> balance of each layer on the first validation trials, for a metrics row."""
    few = CueTrials(*(a[:N_TRACKED] for a in val.trials))
    stream = RepeatedStream(
        cue_stream(CueTask(), few), config.data.repeat, config.data.dataset_scale
    )
    made: list[Any] = []

    def measure(params: Any) -> dict[str, Any]:
        if not made:
            made.append(
                balance_program(
                    make_network("plain"), len(few.sides), length, config.data.balance_metric
                )
            )
        found = jax.device_get(made[0](params, jax.tree.map(jnp.asarray, stream)))
        total = [int(b.n_scored + b.n_constant) for b in found]
        scored = [int(b.n_scored) for b in found]
        values = [float(b.value) if n else None for b, n in zip(found, scored)]
        return {
            "balance": values,
            # As the source scores it: a constant current counts as 0.
            "balance_all": [(v or 0.0) * n / t for v, n, t in zip(values, scored, total)],
            "balance_constant": [t - n for t, n in zip(total, scored)],
        }

    return measure
