"""The section of the config that describes training."""

from __future__ import annotations

from typing import Literal

import pydantic

from snnlab.config import SET, CommaText, option, section


@section("Training")
class TrainingConfig:
    """Loss, optimiser, schedule, regularisers, stopping."""

    epochs: int = option(
        basic=True,
        default=16,
        help="passes over the training set",
        aliases=("epoch", "n_epochs"),
        gt=0,
    )
    acc_th: float = option(
        default=0.0,
        help="the goal: stop when an epoch reaches this accuracy (--goal_of); 0: never",
        aliases=("threshold",),
        ge=0,
        le=1,
    )
    goal_of: Literal["validation", "training", "smoothed"] = option(
        default="validation",
        help="what --acc_th is compared with: the best validation (of the network as it is at the "
        "end of an epoch, on samples it was not trained on), the mean over the training batches of "
        "an epoch, or that smoothed over epochs, 0.8 of what was and 0.2 of the new one",
        only={"acc_th": SET},
    )
    pruning_epochs: int = option(
        default=0, help="epoch after which a hopeless run is given up; 0: never", ge=0
    )
    pruning_threshold: float = option(
        default=0.0,
        help="a run is hopeless whose validation accuracy stayed below this in every epoch until "
        "then",
        ge=0,
        le=1,
    )
    save_best: bool = option(
        default=True, help="accepted: the best epoch is always kept", accepted=(True,)
    )
    loss: Literal["cel", "mse"] = option(
        default="cel",
        help="softmax cross-entropy of a scored step (cel), or squared error to one-hot",
    )
    loss_steps: Literal["each", "end"] = option(
        default="each",
        help="the loss is taken at each step behind --warmup_ratio, or once, at the end",
    )
    loss_of: Literal["step", "sum"] = option(
        default="step",
        help="of a step's readout, or of its sum over the steps behind --warmup_ratio so far",
    )
    loss_reduction: Literal["sum", "mean"] = option(
        default="sum",
        help="gradients are those of the sum of the loss over the steps that count, or of its "
        "mean; --clip_norm acts on either",
    )
    warmup_ratio: float = option(
        default=0.0,
        help="first part of the sequence that is run without loss: a fraction below 1 (rounded "
        "down to whole steps), or a number of steps",
        ge=0,
        only=({"loss_steps": ("each",)}, {"loss_of": ("sum",)}),
    )
    optimizer: Literal["adam", "adamw", "sgd", "momentum", "rmsprop"] = option(
        basic=True, default="adam", help="optax optimiser; momentum: sgd with --momentum 0.9"
    )
    lr: float = option(basic=True, default=1e-3, help="learning rate", gt=0)
    lr_rec_factor: float = option(
        default=1.0,
        help="factor of the learning rate of all parameters but the readout's (0: the readout "
        "alone is trained); small where steps that suit the readout swamp small weights",
        ge=0,
    )
    lr_schedule: Literal["constant", "cosine", "plateau", "milestones", "step"] = option(
        basic=True,
        default="constant",
        help="milestones: times --lr_gamma after each of --lr_milestones; step: after every "
        "--lr_step batches; cosine: to zero at the last epoch; plateau: times --lr_gamma when the "
        "validation score stalls",
    )
    lr_milestones: CommaText = option(
        default="", help="comma list of epochs, for example 40,80 (sets milestones)",
        only={"lr_schedule": ("constant", "milestones")},
    )  # fmt: skip
    lr_step: int = option(
        default=0, help="batches after each of which the learning rate falls (sets step)", ge=0,
        aliases=("epoch_per_step",), only={"lr_schedule": ("constant", "step")},
    )  # fmt: skip
    lr_gamma: float = option(
        default=0.1,
        help="factor of milestones, steps and plateau",
        aliases=("scheduler_factor",),
        gt=0,
        le=1,
        only=(
            {"lr_schedule": ("milestones", "step", "plateau")}, {"lr_milestones": SET},
            {"lr_step": SET},
        ),
    )  # fmt: skip
    lr_patience: int = option(
        default=1,
        help="plateau: epochs in a row without improvement that are let pass; the next one acts, "
        "as in PyTorch",
        aliases=("scheduler_patience",),
        ge=0,
        only={"lr_schedule": ("plateau",)},
    )
    lr_min: float = option(
        default=0.0, help="plateau: the learning rate falls no further", ge=0,
        only={"lr_schedule": ("plateau",)},
    )  # fmt: skip
    momentum: float = option(
        default=0.0, help="momentum of sgd and rmsprop", ge=0, lt=1,
        only={"optimizer": ("sgd", "rmsprop")},
    )  # fmt: skip
    weight_decay: float = option(default=0.0, help="decoupled weight decay (adamw)", ge=0)
    weight_L1: float = option(default=0.0, help="L1 penalty of all weights (of maps)", ge=0)
    weight_L1_at: Literal["update", "step"] = option(
        default="update", only={"weight_L1": SET},
        help="that penalty is added once in an update, or as a part of the loss of each step that "
        "counts",
    )  # fmt: skip
    weight_L2: float = option(default=0.0, help="L2 penalty of all weights (of maps)", ge=0)
    weight_L2_as: Literal["penalty", "decay"] = option(
        default="penalty", only={"weight_L2": SET},
        help="penalty: weight_L2 * sum w^2 is a part of the loss; decay: weight_L2 * w is added to "
        "the gradient after clipping, as optimisers with a weight decay of their own do "
        "(published)",
    )  # fmt: skip
    clip_norm: float = option(
        default=1.0, help="global norm to which gradients are clipped; 0 = never", ge=0
    )
    spk_reg_factor: float = option(
        default=0.0, help="strength of the firing-rate regulariser", ge=0
    )
    spk_reg_rate: float = option(
        default=10.0,
        help="target firing rate of each neuron, as rates are shown: of recordings in recorded "
        "time, of generated trials in simulated time (--dt)",
        unit="Hz",
        ge=0,
        only={"spk_reg_factor": SET},
    )
    spk_reg_of: Literal["neuron", "population"] = option(
        default="neuron", only={"spk_reg_factor": SET},
        help="whose mean rate is to be that: each neuron's, or a layer's",
    )  # fmt: skip
    use_regularizers: bool = option(
        default=False,
        help="penalise neurons whose mean rate over batch and sequence is outside of --reg_fmin "
        "and --reg_fmax (bptt with --backend layerwise)",
    )
    reg_factor: float = option(
        default=0.5, help="strength of that penalty", ge=0, only={"use_regularizers": SET}
    )
    reg_fmin: float = option(
        default=0.01, help="lowest rate", unit="spikes per step", ge=0, le=1,
        only={"use_regularizers": SET},
    )  # fmt: skip
    reg_fmax: float = option(
        default=0.5, help="highest rate", unit="spikes per step", ge=0, le=1,
        only={"use_regularizers": SET},
    )  # fmt: skip
    v_reg_factor: float = option(default=0.0, help="strength of the membrane regulariser", ge=0)
    v_reg_low: float = option(
        default=-20.0, help="membrane below which it acts", unit="mV", only={"v_reg_factor": SET}
    )
    v_reg_high: float = option(
        default=1.4, help="membrane above which it acts", unit="mV", only={"v_reg_factor": SET}
    )

    v_reg_square: bool = option(
        default=False, help="a layer's mean excess is squared once more", only={"v_reg_factor": SET}
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.v_reg_low >= self.v_reg_high:
            raise ValueError(
                f"--v_reg_low {self.v_reg_low:g} must lie below --v_reg_high {self.v_reg_high:g}"
            )
        if self.warmup_ratio >= 1 and not float(self.warmup_ratio).is_integer():
            raise ValueError(
                f"--warmup_ratio {self.warmup_ratio:g}: a fraction below 1, or a whole number "
                "of steps"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(
                f"--weight_decay belongs to --optimizer adamw, not {self.optimizer}; "
                "--weight_L2 is the penalty for the others"
            )
        if (self.pruning_epochs > 0) != (self.pruning_threshold > 0):
            raise ValueError(
                "--pruning_epochs and --pruning_threshold belong together: the epoch, and what "
                "the validation score must have reached by then"
            )
        if self.reg_fmin >= self.reg_fmax:
            raise ValueError(
                f"--reg_fmin {self.reg_fmin:g} must lie below --reg_fmax {self.reg_fmax:g}"
            )
        if self.lr_schedule == "milestones" and not self.lr_milestones:
            raise ValueError("--lr_schedule milestones needs --lr_milestones, for example 40,80")
        if self.lr_schedule == "step" and not self.lr_step:
            raise ValueError("--lr_schedule step needs --lr_step, a number of batches")
        if self.lr_step and self.lr_milestones:
            raise ValueError("--lr_step and --lr_milestones are two schedules: give one of them")
        if self.milestones and self.milestones[0] >= self.epochs:
            raise ValueError(
                f"--lr_milestones {self.lr_milestones}: none comes before the last of the "
                f"--epochs {self.epochs}"
            )
        if self.pruning_epochs > self.epochs:
            raise ValueError(
                f"--pruning_epochs {self.pruning_epochs} never comes, with --epochs {self.epochs}"
            )
        return self

    @property
    def milestones(self) -> tuple[int, ...]:
        """Epochs of ``lr_milestones``, increasing."""
        if not self.lr_milestones.strip():
            return ()
        parts = self.lr_milestones.strip("[]() ").replace(" ", ",").split(",")
        try:
            epochs = tuple(int(p) for p in parts if p)
        except ValueError:
            epochs = ()
        if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] <= 0:
            raise ValueError(
                f"--lr_milestones {self.lr_milestones}: must be increasing epochs, such as 40,80"
            )
        return epochs

    @property
    def schedule(self) -> str:
        """The schedule in force: ``--lr_milestones`` and ``--lr_step`` imply theirs."""
        if self.lr_schedule == "constant" and (self.lr_milestones or self.lr_step):
            return "milestones" if self.lr_milestones else "step"
        return self.lr_schedule

    def warmup_steps(self, n_steps: int) -> int:
        """Steps without loss, of ``n_steps``."""
        r = self.warmup_ratio
        return int(r) if r >= 1 else int(r * n_steps)

    def first_counted(self, first: int, n_steps: int) -> int:
        """The first of ``n_steps`` that counts, of a task in which step ``first`` may."""
        return max(first, self.warmup_steps(n_steps))


@section("Training")
class RegressionTraining(TrainingConfig):
    """The same for readouts that follow targets; the score is the normalised squared error."""

    loss: Literal["mse"] = option(
        default="mse", help="squared error at every scored step, mean over readout units"
    )
    loss_of: Literal["step"] = option(default="step", help="of a step's readout")
    acc_th: float = option(
        default=0.0,
        help="the goal: stop when an epoch has an error (normalised MSE, --goal_of) as small as "
        "this; 0: never",
        aliases=("threshold",),
        ge=0,
    )
    pruning_threshold: float = option(
        default=0.0,
        help="a run is hopeless whose validation error (normalised MSE) stayed above this in every "
        "epoch until then",
        ge=0,
    )
