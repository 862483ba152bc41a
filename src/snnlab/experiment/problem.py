"""What a run is asked (its own section of the config) and what a task hands to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from snnlab.config import CommaText, NameText, Over, PathText, option, section
from snnlab.data.batch import Splits
from snnlab.errors import UsageError
from snnlab.experiment.loggers.registry import LOGGERS, named
from snnlab.processes import AUTO, place_of

if TYPE_CHECKING:
    from rich.console import Console

    from snnlab.models import Network
    from snnlab.models.maps import Operator
    from snnlab.scores import Score
    from snnlab.training.objectives import Objective

#: Said where nothing is trained.
NOT_TRAINED = "nothing is trained: options of learner, training and checkpoints have no effect"


@section("Run")
class RunConfig:
    """Where a run goes, and what is done."""

    mode: Literal["train", "sim", "probe"] = option(
        basic=True,
        default="train",
        help="train; sim: run the untrained (or --resume'd) network on a batch and draw it; probe: "
        "the task's own measurements of the --resume'd network",
        says=dict.fromkeys(("sim", "probe"), NOT_TRAINED),
    )
    seed: int = option(
        basic=True,
        default=0,
        help="of parameters, splits, order and augmentation; -1: drawn",
        ge=-1,
        lt=2**31,
    )
    published: bool = option(
        basic=True,
        default=False,
        help="all settings as in the experiment that the task's commands come from; flags and "
        "files beside it go before them (docs/fidelity.md lists them)",
    )
    devices: CommaText = option(
        basic=True,
        default="0",
        help="comma list of accelerator ids, or all: batches (or --trials) are split over them; "
        "cpu (also -1); cpu:N: N devices of the CPU",
        aliases=("gpu",),
    )
    shard: Literal["batch", "neurons"] = option(
        default="batch",
        only={"mode": ("train",), "trials": (1,)},
        help="what several --devices share: each batch; or (neurons) weights, optimiser and "
        "traces, for networks whose traces do not fit on one",
    )
    distributed: str = option(
        default="",
        bare=AUTO,
        only={"mode": ("train",), "trials": (1,), "shard": ("batch",)},
        help="one run of several processes, each with its share of every batch: in a cluster "
        "(SLURM, Open MPI, Cloud TPU, Kubernetes) the flag alone, elsewhere HOST:PORT,N,I: where "
        "process 0 listens, the number of processes, and which this one is",
    )
    filepath: PathText = option(
        basic=True,
        default="",
        help="folder of the run; empty: runs/<task>-<method>-<time>",
        aliases=("new_exp_folder",),
    )
    exp_name: NameText = option(
        default="", help="name that the run's folder carries, without --filepath"
    )
    resume: PathText = option(
        basic=True,
        default="",
        help="folder of a run to continue (with sim: to draw)",
        continues=True,
    )
    load_exp_folder: PathText = option(
        default="",
        only={"mode": ("train",)},
        help="folder of a run with whose best parameters a new run starts (of several seeds: each "
        "with its own)",
    )
    use_pretrained_model: bool = option(
        default=False, help="accepted: --load_exp_folder alone says it", accepted=(True,)
    )
    only_do_testing: bool = option(
        default=False, help="no training: the test set with the parameters of --load_exp_folder",
        says={True: NOT_TRAINED},
    )  # fmt: skip
    trials: int = option(
        basic=True, default=1, gt=0, le=1000,
        help="train this many seeds, from --seed on; results.json then holds all of them",
    )  # fmt: skip
    vmap_trials: Literal["auto", "yes", "no"] = option(
        default="auto",
        only={"trials": Over(1)},
        help="several seeds as one vmapped program (auto: if memory allows), or one by one",
    )
    max_to_keep: int = option(
        default=2, gt=0,
        help="latest checkpoints kept; each of them holds the best parameters so far too",
    )  # fmt: skip
    checkpoint_every: int = option(
        default=0, ge=0,
        help="a checkpoint after every so many batches, beside those of the epochs; 0: never",
    )  # fmt: skip
    checkpoint_minutes: float = option(
        default=10.0, ge=0,
        help="a checkpoint when the last one is older, beside those of the epochs; 0: never",
        unit="minutes",
    )  # fmt: skip
    n_show: int = option(default=3, help="test samples in the figure", ge=1, le=16)
    animate: bool = option(
        default=False, only={"mode": ("train", "sim")},
        help="the first test sample of the figure as a film too: test-samples.gif beside it",
    )  # fmt: skip
    plot_epoch_freq: int = option(
        default=0,
        help="every so many epochs, figures of validation samples in figures/epoch-<n>; 0: never",
        ge=0,
    )

    compare_gradient: int = option(
        default=0, ge=0, unit="epochs",
        only={"mode": ("train",), "shard": ("batch",), "distributed": ("",)},
        help="every so many epochs, and before the first and after the last, the rule's gradient "
        "on the first training batch beside BPTT's: cosine and ratio of norms; 0: never",
    )  # fmt: skip
    log: CommaText = option(
        default="",
        only={"mode": ("train",)},
        help="comma list of loggers that are told of every epoch, of results and figures, beside "
        f"the run folder: {', '.join(LOGGERS.names())}",
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        place_of(self.distributed)
        try:
            named(self.log)
        except UsageError as error:
            raise ValueError(f"--log: {error}") from None
        if not self.load_exp_folder:
            for flag in ("use_pretrained_model", "only_do_testing"):
                if getattr(self, flag):
                    raise ValueError(f"--{flag} needs --load_exp_folder, the folder of a run")
        return self


def _classification() -> type[Objective]:
    from snnlab.training.objectives import Classification

    return Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem(Splits):
    """What a task hands to :func:`run`: its data, and

    Attributes:
        task: short name, part of the run folder's name.
        batch_size: of every batch.
        make_network: network for an operator, the same parameters every time.
        layer_names: of the recurrent layers, for messages.
        objective: loss and score; made of the training options once the network is there.
        first_scored: step at which the loss begins, if not with ``--warmup_ratio`` later.
        shown_from: first step that figures show as scored, if it is not that of the loss.
        probe: what ``--mode probe`` does: (parameters, folder, console) -> figures for
            ``probe.json``.
        measure: further numbers of a network for the validation row of an epoch, and of the
            untrained one for a row ``initial`` of epoch 0: parameters -> numbers.
        files: what the network is made of, by the names of the copies that a run folder keeps.
        renew: what replaces the parameters after every epoch, or ``None``.
        endless: ``train`` is a stream, on which states and traces go on from batch to batch; there
            are no other splits. :mod:`snnlab.experiment.endless` runs it.
    """

    task: str
    batch_size: int
    make_network: Callable[[Operator], Network]
    layer_names: tuple[str, ...]
    objective: type[Objective] = dataclasses.field(default_factory=_classification)
    first_scored: int = 0
    shown_from: int | None = None
    probe: Callable[[Any, Path, Console], dict[str, Any]] | None = None
    measure: Callable[[Any], dict[str, Any]] | None = None
    renew: Callable[[Any], Any] | None = None
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    endless: bool = False

    @property
    def score(self) -> Score:
        """By which epochs and runs are judged."""
        return self.objective.score

    def step_ms(self, network: Network) -> float:
        """Length of a step in rates and on axes: recorded time where there are recordings."""
        return network.dt_ms if self.bin_ms is None else self.bin_ms

    def steps_in_words(self, network: Network) -> str:
        """``200 steps of 1.55 ms recorded, 1 ms simulated``, or the one time there is."""
        times = {"simulated": network.dt_ms}
        if self.bin_ms is not None:
            same = math.isclose(self.bin_ms, network.dt_ms)
            times = {"recorded": self.bin_ms, **({} if same else times)}
        return f"{self.n_steps} steps of " + ", ".join(
            f"{ms:.4g} ms {t}" for t, ms in times.items()
        )

    @property
    def rate_label(self) -> str:
        """Of an axis of firing rates."""
        return "firing rate (Hz)" if self.bin_ms is None else "rate (Hz, recorded time)"


#: Options that may differ between a run and its continuation.
FREE_ON_RESUME = (
    "mode", "devices", "shard", "distributed", "filepath", "exp_name", "resume",
    "max_to_keep", "n_show", "animate", "epochs", "data_path", "n_data_worker",
    "plot_epoch_freq", "compare_gradient", "load_exp_folder", "use_pretrained_model",
    "only_do_testing", "acc_th",
    "pruning_epochs", "pruning_threshold", "steps", "checkpoint_every", "checkpoint_minutes", "log",
)  # fmt: skip
