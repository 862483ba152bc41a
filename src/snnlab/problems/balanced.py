"""Balanced networks on cue accumulation and on recorded speech: config and problem.

The loss of the source is of the whole sequence: the cross-entropy of ``sum_t softmax(u_t)`` over
the steps after the last cue (of recordings: over all steps), taken once at the end (``--loss_of
softmax --loss_steps end``, the default of ``--method bptt``). An online learner needs a loss in
every step, of outputs that each depend on their own past alone: there it is the cross-entropy of
``sum_t u_t`` so far, in each of these steps (``--loss_of linear --loss_steps each``, the default of
all others).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import option, section
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.published import Published, Setting, is_set, with_published
from snnlab.experiment.task import Sizes, Task
from snnlab.learners.config import ONLINE, WHOLE, LearnerConfig
from snnlab.models.config import BalancedConfig
from snnlab.models.kinds.rlif import refit_program
from snnlab.models.section import model_defaults
from snnlab.problems.balanced_data import BalancedData, BalancedSplits, first_counted, make_splits
from snnlab.problems.networks import check_model, layers
from snnlab.training.config import TrainingConfig

if TYPE_CHECKING:
    from snnlab.models import Network
    from snnlab.models.maps import Operator


@section("Training")
class BalancedTraining(TrainingConfig):
    """The readout's units are summed over time, and the loss is of these sums."""

    loss_of: Literal["softmax", "linear"] = option(  # type: ignore[assignment]
        default="softmax",
        help="what is summed over time: the softmax of the readout's units, as in the source, or "
        "the units themselves, which online rules can follow (default: softmax for bptt, else "
        "linear)",
    )
    loss_steps: Literal["each", "end"] = option(
        default="end",
        help="the loss is taken of the sum so far at each step that counts, or once, at the end "
        "(default: end for bptt, else each)",
    )


@dataclasses.dataclass(frozen=True)
class BalancedRSNN:
    """Config of ``tasks/task-balanced-rsnn.py``."""

    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: BalancedData = dataclasses.field(default_factory=BalancedData)
    model: BalancedConfig = dataclasses.field(default_factory=BalancedConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    training: BalancedTraining = dataclasses.field(default_factory=BalancedTraining)

    def __post_init__(self) -> None:
        model, method = self.model, self.learner.method
        if model.auto_encoder and self.run.mode == "train":
            raise UsageError(
                "--auto_encoder has nothing to train: --mode sim runs it, and tasks/boerlin.py is "
                "its sandbox"
            )
        if self.data.track_balance and not model.kind.currents:
            raise UsageError(f"--track_balance: {model.model} has no excitation and inhibition")
        if self.data.track_balance and (model.needs_sequences or model.normalization != "none"):
            raise UsageError(
                "--track_balance takes the parts of W x, V s and V_slow r in a step: not with "
                "--normalization, which rescales them, nor with --bidirectional or --quantize_adc "
                "with --quantize_as affine, which need whole sequences"
            )
        if self.training.loss_of == "softmax" and method in ONLINE and method not in WHOLE:
            raise UsageError(
                f"--loss_of softmax with --method {method}: the softmax mixes the readout's units "
                "before they are summed, and a rule that goes forward with the sequence can follow "
                "a sum of each unit alone; use --loss_of linear, or --method bptt"
            )
        check_model(self.learner, model)

    @staticmethod
    def of_earlier(saved: dict[str, Any]) -> dict[str, Any]:
        """Options of a run that was made before ``--loss_of``, when the method decided it."""
        names = ("loss_of", "loss_steps")
        if any(name in saved for name in names):
            return saved
        chosen = defaults({"method": saved["method"]})
        return {**saved, **{name: chosen[name] for name in names if name in chosen}}


#: Stadtmann, Paessens & Gemmeke 2024, the commands of their repository.
PUBLISHED = Published(
    (
        Setting("lr_min", 1e-6, {"lr_schedule": ("plateau",)}),
        Setting("balance_samples", 0),
        Setting("tau_rec", "1900,2100"),
        Setting("tau_out", "5,25"),
        Setting("quantize_as", "affine"),
        Setting("gauss_on", "drive"),
        Setting("surrogate_of", "spikes"),
        Setting("binary_bins", False, {"dataset": ("shd", "ssc")}),
        Setting("bins", "edges", {"dataset": ("shd", "ssc")}),
    ),
    {
        "dataset": ("cue", "shd", "ssc"),
        "method": ("bptt",),
        "model": ("LIF", "adLIF", "RLIF", "RadLIF", "MLP", "RNN", "LiGRU", "GRU"),
    },
)


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The source's training, where it differs from the suite's; ``values`` are those given."""
    return with_published(PUBLISHED, BalancedRSNN, values, _own_defaults(values))


def _own_defaults(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "lr": 0.01, "lr_schedule": "plateau", "lr_gamma": 0.7, "lr_patience": 1, "epochs": 5,
        "clip_norm": 0.0, **model_defaults(BalancedConfig, values),
    }  # fmt: skip
    recorded = str(values.get("dataset", "cue")) != "cue"
    if recorded:
        found["batch_size"] = 128
    if str(values.get("dataset")) == "hd":
        found["data_length"] = 140  # 1.4 s, as SHD
    if is_set(values.get("use_regularizers")):
        found["backend"] = "layerwise"
    if str(values.get("method", "bptt")).lower() != "bptt":
        return found | {"loss_of": "linear", "loss_steps": "each"}
    stepwise = is_set(values.get("remat")) or str(values.get("checkpoint_block", 0)) != "0"
    if recorded and not stepwise:
        found["backend"] = "layerwise"  # a short sequence fits into memory
    backend = values.get("backend", found.get("backend", "auto"))
    published = is_set(values.get("published"))
    levels = values.get("quantize_as", "affine" if published else "fixed-point")
    whole = (
        is_set(values.get("bidirectional"))
        or values.get("normalization") == "batchnorm"
        or (values.get("quantize_adc") and levels == "affine")
    )
    if (
        not recorded
        and not whole
        and not is_set(values.get("remat"))
        and backend in ("auto", "plain")
    ):
        found["checkpoint_block"] = 100
    return found


def network(config: BalancedRSNN, sizes: Sizes, operator: Operator = "plain") -> Network:
    """The network of a config."""
    from snnlab.models import build_network

    data = config.data
    return build_network(
        config.model, sizes.n_in, sizes.n_out, operator, config.run.seed, repeat=data.repeat,
        t_crop=first_counted(data), linear=config.training.loss_of == "linear",
        dt_ms=sizes.dt_ms or 1.0 / data.repeat,
    )  # fmt: skip


def build(config: BalancedRSNN) -> Problem:
    """Trials and network of a config."""
    data, seed = config.data, config.run.seed
    splits = make_splits(data, seed)
    sizes = Sizes(splits.n_in, splits.n_out, splits.dt_ms)
    make_network = functools.partial(network, config, sizes)
    return Problem(
        **splits.shared(), task="balanced-rsnn", batch_size=data.batch_size,
        make_network=make_network,
        layer_names=layers(config),
        first_scored=splits.t_crop, shown_from=splits.t_crop,
        measure=_measure(config, make_network, splits) if data.track_balance else None,
        renew=refit_program(config.model, data.repeat),
    )  # fmt: skip


def _measure(config: BalancedRSNN, make_network: Any, splits: BalancedSplits) -> Any:
    """Parameters -> balance of each layer on the first validation samples, for a metrics row."""
    import jax
    import jax.numpy as jnp

    from snnlab.analysis.balance_probe import balance_program

    stream, metric = splits.few, config.data.balance_metric
    made: list[Any] = []

    def measure(params: Any) -> dict[str, Any]:
        if not made:
            made.append(
                balance_program(make_network("plain"), stream.batch_size, splits.n_steps, metric)
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


TASK = Task(
    BalancedRSNN, build, "Balanced networks and their baselines on cues and on speech.", defaults,
    {
        "--balance --track_balance": "cue accumulation with the thresholds of a balanced network",
        "--model LIF --method expsm_diag --fix_tau_rec --fix_tau_out": "an online learner",
        "--dataset shd --data_path FOLDER --model RadLIF": "spoken digits under BPTT",
    },
    "balanced", network, layers, published=PUBLISHED,
)  # fmt: skip
