"""The section of the config that chooses the learner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from snnlab.config import option, section
from snnlab.errors import UsageError
from snnlab.learners.methods import METHODS, canonical, having

ChunkSize = Annotated[
    Annotated[int, pydantic.Field(gt=0)] | None,
    pydantic.BeforeValidator(lambda v: None if v == "auto" else v),
]

#: Methods that go forward with the sequence, and those whose chunks are ours.
ONLINE, CHUNKED = having("online"), having("chunks")
#: Those that follow the whole step, without our chunks.
WHOLE = tuple(name for name in ONLINE if name not in CHUNKED)
#: Methods with an option of their own.
WINDOWED, DECAYING = having("windows"), having("decay")
#: Methods that :mod:`Pallas kernels <snnlab.learners.stores.pallas>` are for.
LAUNCHED = tuple(name for name in METHODS if name not in WHOLE)
Kernels = Literal["auto", "xla", "pallas"]
Precision = Literal["float32", "bfloat16", "mixed"]

if TYPE_CHECKING:
    Method = str
else:
    Method = Annotated[Literal[tuple(METHODS)], pydantic.BeforeValidator(canonical)]


@section("Learner")
class LearnerConfig:
    """Which gradient, and how often it is used."""

    method: Method = option(
        basic=True,
        default="bptt",
        help="the learning rule: "
        + "; ".join(
            f"{name} = {', '.join((about.summary, *about.aliases))}"
            for name, about in METHODS.items()
        ),
    )
    backend: Literal["auto", "snnlab", "braintrace", "brainscale", "plain", "layerwise"] = option(
        default="auto",
        help="implementation; snnlab: our own, in chunks of steps; braintrace, brainscale (jax < "
        "0.10): the libraries' online rules; plain: reverse mode through the scan over steps "
        "(bptt alone); layerwise: layer after layer over the whole sequence (bptt "
        "alone); auto: snnlab, or layerwise where the network needs it",
    )
    etrace_decay: float | None = option(
        basic=True,
        default=None,
        help=f"decay in [0, 1) of {', '.join(DECAYING)}, or an integer rank k > 1, which stands "
        "for the decay (k-1)/(k+1); without it 0.9",
    )
    feedback: Literal["symmetric", "random", "adaptive"] | None = option(
        default=None,
        only={"method": having("feedback")},
        help="how the readout's error reaches a layer: by the weights above (symmetric, the "
        "default of eprop), by random ones that stay (random, the default of rflo) or that get the "
        "updates of a readout (adaptive)",
    )
    vjp_time: Literal["t", "t_minus_1"] = option(
        default="t",
        help="accepted: the learning signal is always that of step t, the rule of the paper "
        "(t_minus_1 is not implemented)",
        accepted=("t",),
    )
    vjp_method: Literal["single-step", "multi-step"] = option(
        default="single-step",
        only={"method": WINDOWED},
        help="learning signal of a step alone, or of a window of --chunk_size steps "
        "(backpropagation inside the window, traces before it; of one step: through that step's "
        "recurrent weights)",
    )
    chunk_size: ChunkSize = option(
        default=None,
        only={"method": CHUNKED},
        help="steps of a window with --vjp_method multi-step; otherwise of a chunk (snnlab), on "
        "which the gradient does not depend: auto or none chooses it by --memory_budget",
        unit="steps",
    )
    memory_budget: float = option(
        default=0.0,
        help="memory that traces and chunks of --backend snnlab may use, for less time; 0: on a "
        "CPU little beside the traces (half of what is there at most), on an accelerator a "
        "quarter of its memory",
        unit="GB",
        ge=0,
        only=(
            {"method": CHUNKED, "backend": ("auto", "snnlab"), "chunk_size": (None,)},
            {"method": WINDOWED, "backend": ("auto", "snnlab"), "vjp_method": ("multi-step",)},
        ),
    )
    remat: bool = option(
        default=False,
        help="bptt of snnlab: keep the state every sqrt(T) steps and compute the steps between "
        "again",
    )
    checkpoint_block: int = option(
        default=0,
        help="bptt of plain: store the state once in so many steps and run the steps between again "
        "in the backward pass; 0 = store every step",
        unit="steps",
        ge=0,
    )
    precision: Precision = option(
        default="float32",
        help="snnlab: numbers of the maps' products and of D-RTRL's traces; sums, neurons, "
        "parameters and the optimiser stay float32. mixed: bfloat16; bfloat16: the neurons' "
        "states between steps too. Online rules need a GPU or TPU for it",
    )
    kernels: Kernels = option(
        default="auto",
        only={"method": LAUNCHED, "backend": ("auto", "snnlab")},
        help="how a GPU or TPU runs a layer through a chunk, and passes over traces. xla: in "
        "operations that XLA joins; pallas: in one kernel of our own each, where there is one; "
        "auto: on a GPU the passes after every step or a few, all else by XLA "
        "(docs/performance/gpu-h200.md). A CPU has loops of its own and refuses pallas",
    )
    update_every: int = option(
        basic=True,
        default=0,
        help="update the weights every so many steps, online; 0 = once after the sequence",
        unit="steps",
        ge=0,
        only={"loss_steps": ("each",)},
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> LearnerConfig:
        decay = self.etrace_decay
        if decay is not None:
            if self.method not in DECAYING:
                raise ValueError(
                    f"--etrace_decay {decay:g} has no meaning with --method {self.method}; "
                    f"it belongs to {', '.join(DECAYING)}"
                )
            is_rank = decay > 1 and float(decay).is_integer()
            if not (0 <= decay < 1 or is_rank):
                raise ValueError(
                    f"--etrace_decay {decay:g}: must be a decay in [0, 1) or an integer rank > 1"
                )
        if self.vjp_time == "t_minus_1":
            raise ValueError(
                "--vjp_time t_minus_1 is not implemented; use t, the rule of the paper"
            )
        if self.feedback == "symmetric" and self.method == "rflo":
            raise ValueError(
                "--feedback symmetric with --method rflo would be --method diag; use random or "
                "adaptive"
            )
        if self.method == "tbptt" and self.chunk_size is None:
            raise ValueError("--method tbptt needs --chunk_size (steps of a window)")
        if self.vjp_method == "multi-step":
            if self.method not in WINDOWED:
                raise ValueError(
                    f"--vjp_method multi-step belongs to {', '.join(WINDOWED)}, not {self.method}"
                )
            if self.chunk_size is None:
                raise ValueError("--vjp_method multi-step needs --chunk_size (steps of a window)")
        elif self.chunk_size is not None and self.backend not in ("auto", "snnlab"):
            raise ValueError("--chunk_size needs --vjp_method multi-step or --backend snnlab")
        self._check_backend()
        return self

    def _check_backend(self) -> None:
        bptt, libraries = self.method == "bptt", METHODS[self.method].libraries
        if self.backend in ("braintrace", "brainscale") and self.backend not in libraries:
            raise ValueError(
                f"--backend {self.backend} implements online methods, not {self.method}; of ours "
                f"{', '.join(n for n, m in METHODS.items() if self.backend in m.libraries)}"
            )
        if not bptt and self.backend in ("plain", "layerwise"):
            raise ValueError(f"--backend {self.backend} is reverse mode, --method bptt alone")
        if self.backend == "layerwise" and self.update_every:
            raise ValueError("--update_every with --backend layerwise: it needs whole sequences")
        if self.precision != "float32" and self.method in WHOLE:
            raise ValueError(f"--precision {self.precision}: --method {self.method} is float32")
        if self.precision != "float32" and self.backend not in ("auto", "snnlab"):
            raise ValueError(f"--precision {self.precision} belongs to --backend snnlab")
        if self.precision != "float32" and self.checkpoint_block:
            raise ValueError(
                f"--precision {self.precision} belongs to --backend snnlab, which has --remat in "
                "the place of --checkpoint_block"
            )
        if self.remat and (not bptt or self.backend in ("plain", "layerwise")):
            raise ValueError("--remat belongs to --method bptt with --backend snnlab")
        if self.checkpoint_block and (not bptt or self.backend not in ("auto", "plain")):
            raise ValueError(
                f"--checkpoint_block {self.checkpoint_block} belongs to --method bptt with "
                "--backend plain"
            )
        if self.checkpoint_block and self.remat:
            raise ValueError("--remat and --checkpoint_block do the same in two ways: choose one")

    @property
    def window(self) -> int | None:
        """Steps of a window of backpropagation; ``None`` without windows."""
        windowed = self.vjp_method == "multi-step" or self.method == "tbptt"
        return self.chunk_size if windowed else None

    @property
    def decay(self) -> float:
        """The smoothing factor in [0, 1) that ``etrace_decay`` stands for."""
        value = 0.9 if self.etrace_decay is None else self.etrace_decay
        return (value - 1) / (value + 1) if value > 1 else value


def require_layerwise(config: LearnerConfig) -> None:
    """Refuse a learner that goes step by step through a network of whole sequences.

    Raises:
        UsageError: BPTT in the order of steps.
    """
    stepwise = config.remat or config.checkpoint_block or config.precision != "float32"
    stepwise = stepwise or config.kernels != "auto"
    if config.backend not in ("auto", "layerwise") or stepwise:
        raise UsageError(
            "batch normalisation, bidirectional layers and --quantize_adc with --quantize_as "
            "affine need whole sequences: --backend layerwise, without --remat, "
            "--checkpoint_block, --precision and --kernels"
        )
