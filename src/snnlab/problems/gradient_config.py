"""The sections of a gradient analysis: what is compared, the input, the training, the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from snnlab.config import SET, CommaText, NameText, PathText, option, section
from snnlab.data.images.config import EVENTS, ImageData
from snnlab.data.registry import IMAGES

POISSON = "poisson"
REAL = (*EVENTS, *IMAGES)
if TYPE_CHECKING:
    Input = str
else:
    Input = Literal[(*REAL, POISSON)]

#: What may be swept: option with the list -> option that has the values.
SWEPT = {
    "lengths": "data_length", "depths": "n_layer", "rec_scales": "rec_scale",
    "tau_mems": "tau_mem", "surrogates": "spk_fun", "models": "model",
}  # fmt: skip
#: Options of a learner that a rule of the list may have: those that change the gradient.
OF_RULES = ("etrace_decay", "feedback", "vjp_method", "chunk_size", "backend")


@section("Comparison")
class CompareConfig:
    """What is compared, and against what. Every quantity that is not swept keeps its value."""

    rules: CommaText = option(
        basic=True,
        default="diag,expsm_diag",
        help="comma list of rules, with options behind colons: expsm_diag:etrace_decay=0.99, "
        f"eprop:feedback=random; options: {', '.join(OF_RULES)}",
    )
    lengths: CommaText = option(basic=True, default="", help="list of --data_length")
    depths: CommaText = option(basic=True, default="", help="list of --n_layer")
    rec_scales: CommaText = option(basic=True, default="", help="list of --rec_scale")
    tau_mems: CommaText = option(
        basic=True, default="", help="list of --tau_mem, the decay of the membrane"
    )
    surrogates: CommaText = option(basic=True, default="", help="list of --spk_fun")
    models: CommaText = option(basic=True, default="", help="list of --model")
    jacobian_steps: int = option(
        default=10,
        help="steps, evenly spaced, in which the hidden Jacobian is measured; 0: it is not",
        ge=0,
        le=100_000,
    )

    @property
    def lists(self) -> dict[str, list[str]]:
        """List option -> its values, as they were given."""
        texts = {
            "lengths": self.lengths, "depths": self.depths, "rec_scales": self.rec_scales,
            "tau_mems": self.tau_mems, "surrogates": self.surrogates, "models": self.models,
        }  # fmt: skip
        return {flag: parts(text) for flag, text in texts.items()}


@section(
    "Input",
    only={
        **ImageData.__section_only__,  # type: ignore[attr-defined]
        **{name: {"dataset": REAL} for name in ("val_fraction", "drop_last")},
    },
)
class GradientData(ImageData):
    """Poisson spikes with random labels, or the first batches of a training set."""

    dataset: Input = option(
        basic=True,
        default=POISSON,
        help="poisson: generated spikes of one rate, with labels drawn at random; or recordings "
        f"and images: {', '.join(REAL)}",
    )
    batch_size: int = option(basic=True, default=16, help="samples of a batch", gt=0, le=65_536)
    n_in: int = option(
        basic=True, default=100, help="inputs", gt=0, le=1_000_000, only={"dataset": (POISSON,)}
    )
    n_out: int = option(
        basic=True, default=10, help="classes", gt=1, le=10_000, only={"dataset": (POISSON,)}
    )
    rate: float = option(
        basic=True, default=10.0, help="rate of each input", unit="Hz", gt=0,
        only={"dataset": (POISSON,)},
    )  # fmt: skip
    batches: int = option(
        default=1,
        help="different batches, trained in turn; gradients are compared on the first",
        gt=0,
        le=1_000_000,
        only={"dataset": (POISSON,), "updates": SET},
    )


@section("Training")
class DriftConfig:
    """The loss, and how the agreement is followed while a network trains."""

    loss: Literal["cel", "mse"] = option(
        default="cel", help="softmax cross-entropy of a scored step, or squared error to one-hot"
    )
    loss_steps: Literal["each", "end"] = option(
        default="each", help="the loss is taken at each step, or once, at the end"
    )
    updates: int = option(
        basic=True, default=0, help="updates of the training; 0: none", ge=0, le=10_000_000
    )
    every: int = option(
        basic=True, default=10, help="updates between two comparisons", gt=0,
        only={"updates": SET},
    )  # fmt: skip
    trained_by: Literal["rule", "bptt"] = option(
        default="rule",
        help="each rule is compared in a network that it trains itself, or all in one that BPTT "
        "trains",
        only={"updates": SET},
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = option(
        default="adam", help="optax optimiser", only={"updates": SET}
    )
    lr: float = option(default=1e-3, help="learning rate", gt=0, only={"updates": SET})


@section("Run")
class AnalysisRun:
    """Where it goes."""

    seed: int = option(
        basic=True, default=0, help="of network and input; -1: drawn", ge=-1, lt=2**31
    )
    trials: int = option(
        basic=True, default=1, help="seeds, from --seed on, of which the spread is shown", gt=0,
        le=1000,
    )  # fmt: skip
    devices: CommaText = option(
        basic=True, default="0", help="an accelerator's id, all, or cpu", aliases=("gpu",)
    )
    filepath: PathText = option(
        basic=True, default="", help="folder of the run; empty: runs/gradient-analysis-<time>"
    )
    exp_name: NameText = option(default="", help="name that the run's folder carries")
    resume: PathText = option(
        basic=True,
        default="",
        help="folder of an analysis to go on with: what it has is not computed again; lists, "
        "--trials and --updates may be longer",
        continues=True,
    )


def parts(text: str) -> list[str]:
    """The values of a comma list."""
    return [part.strip() for part in str(text).split(",") if part.strip()]
