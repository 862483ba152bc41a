"""Image (and spoken digit) classification: config and problem of the main job."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from snnlab.config import SET
from snnlab.data.images.config import ImageData, defaults
from snnlab.errors import UsageError
from snnlab.experiment import Problem, RunConfig
from snnlab.experiment.published import Published, Setting, with_published
from snnlab.experiment.task import Sizes, Task
from snnlab.learners import LearnerConfig
from snnlab.learners.config import ONLINE
from snnlab.models import ModelConfig
from snnlab.models.section import model_defaults
from snnlab.problems.networks import check_model, layers, network, parts_of
from snnlab.training.config import TrainingConfig

if TYPE_CHECKING:
    from snnlab.data import EventStore


@dataclasses.dataclass(frozen=True)
class ImageClassification:
    """Config of ``tasks/task-image-classification.py``."""

    run: RunConfig
    data: ImageData
    model: ModelConfig
    learner: LearnerConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        if self.learner.update_every > self.data.data_length:
            raise UsageError(
                f"--update_every {self.learner.update_every} is longer than the sequence "
                f"(--data_length {self.data.data_length})"
            )
        check_model(self.learner, self.model)
        window = self.learner.window
        if window is not None and window >= self.data.data_length:
            raise UsageError(
                f"--chunk_size {window} covers the whole sequence (--data_length "
                f"{self.data.data_length}): such a window is plain BPTT, ask for --method bptt"
            )


#: What differs from the general defaults for a dataset; flags and YAML files go before it.
#: event-digits: 98 % test accuracy in about a minute on two cores. nmnist, gesture: as published.
DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    "event-digits": {
        "data_length": 60, "batch_size": 64, "n_layer": 1, "n_rec": 256, "epochs": 14,
        "lr": 2e-3, "lr_schedule": "cosine", "aug_shift": 1,
    },
    "nmnist": {"first_saccade": True},
    "gesture": {"bins": "recording"},
}  # fmt: skip
#: Wang et al. 2026, Nature Communications 17:1745, the script of their repository.
PUBLISHED = Published(
    (
        Setting("first_saccade", True, {"dataset": ("nmnist",)}),
        Setting("bins", "recording"),
        Setting("binary_bins", False, {"dataset": ("nmnist", "shd")}),
        Setting("binary_bins", True, {"dataset": ("gesture",)}),
        Setting("trainable", "map_bias"),
        Setting("loss_reduction", "mean", {"method": ("bptt",)}),
        Setting("loss_reduction", "sum", {"method": ONLINE}),
        Setting("lr_gamma", 0.2, {"lr_milestones": SET}),
        Setting("weight_L1_at", "step"),
        Setting("weight_L2_as", "decay"),
        Setting("spk_reg_of", "population"),
        Setting("v_reg_square", True),
    ),
    {
        "dataset": ("nmnist", "shd", "gesture"),
        "model": ("lif-delta", "alif-delta", "lif-exp-cu"),
        "method": ("bptt", "diag", "expsm_diag", "hybrid"),
    },
)


def adapt(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the dataset and of the model that ``values`` names."""
    of_dataset = DATASET_DEFAULTS.get(str(values.get("dataset", "event-digits")), {})
    own = model_defaults(ModelConfig, values) | defaults(values) | of_dataset
    return with_published(PUBLISHED, ImageClassification, values, own)


def build(config: ImageClassification, recordings: EventStore | None = None) -> Problem:
    """Data and network of a config.

    Args:
        config: all options.
        recordings: in the place of those that ``dataset`` names.

    Raises:
        UsageError: data that is missing or does not fit.
    """
    from snnlab.data import build_data, data_of

    seed = config.run.seed
    if recordings is None:
        data = build_data(config.data, seed)
    else:
        data = data_of(recordings, config.data, seed)
    return Problem(
        **data.shared(), task="image-classification", batch_size=config.data.batch_size,
        **parts_of(config, Sizes(data.n_in, data.n_out)),
    )  # fmt: skip


TASK = Task(
    ImageClassification, build, "Classify events with a recurrent spiking network.", adapt,
    {
        "--method expsm_diag": "event-digits under ES-D-RTRL, 98 % in a minute on two cores",
        "--method bptt --epochs 1 --filepath runs/first": "one epoch of BPTT, in a chosen folder",
        "--dataset shd --data_path FOLDER --method diag": "spoken digits under D-RTRL",
    },
    "image-classification", network, layers, published=PUBLISHED,
)  # fmt: skip
