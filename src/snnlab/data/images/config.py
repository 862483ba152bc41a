"""Options of images, beside those of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from snnlab.data.config import DataConfig
from snnlab.data.registry import DATASETS, FROM_FILES, IMAGE_FILES, IMAGES
from snnlab.options import Condition, option, section

EVENTS = DATASETS.names()
if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[(*EVENTS, *IMAGES)]

#: Options of events, which images have as saccades alone.
_OF_EVENTS = (
    "n_data_worker", "bins", "first_saccade", "merge_polarity", "downsample", "binary_bins",
    "aug_shift", "aug_flip", "aug_drop", "aug_jitter_ms", "aug_noise",
)  # fmt: skip
_SACCADE: Condition = {"encoding": ("saccade",), "dataset": IMAGE_FILES}
#: Steps of an image, where ``--data_length`` says nothing.
_STEPS = {"rate": 50, "latency": 50, "saccade": 100}


@section(
    "Data",
    only={
        **{name: ({"dataset": EVENTS}, _SACCADE) for name in _OF_EVENTS},
        "data_path": {"dataset": (*FROM_FILES, *IMAGE_FILES)},
    },
)
class ImageData(DataConfig):
    """Recordings, or images; options of the other kind are refused."""

    dataset: Dataset = option(
        basic=True,
        default="event-digits",
        help="recordings: "
        + "; ".join(f"{name}: {about.summary}" for name, about in DATASETS.items())
        + "; images: "
        + "; ".join(f"{name}: {summary}" for name, summary in IMAGES.items()),
    )
    encoding: Literal["rate", "latency", "saccade", "sequence"] = option(
        basic=True,
        default="rate",
        only={"dataset": IMAGE_FILES},
        help="of images: rate: random spikes, more of brighter pixels; latency: one spike of a "
        "pixel, earlier of brighter ones; saccade: events of a simulated camera, as event-digits; "
        "sequence: values, pixel after pixel (--data_length 28 of mnist: row after row)",
    )
    pixel_rate: float = option(
        default=0.25,
        only={"dataset": IMAGE_FILES, "encoding": ("rate",)},
        help="probability that a pixel of full brightness spikes in a step",
        gt=0,
        le=1,
    )
    permuted: bool = option(
        default=False,
        only=(
            {"dataset": ("sequential-digits",)},
            {"dataset": IMAGE_FILES, "encoding": ("sequence",)},
        ),
        help="pixels in a random order, the same one for all images and runs (psMNIST)",
    )


def defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Steps of an image; ``values`` are those given. Empty for recordings."""
    name = str(values.get("dataset", ""))
    if name == "sequential-digits":
        return {"data_length": 64}
    if name not in IMAGE_FILES:
        return {}
    encoding = str(values.get("encoding", "rate"))
    pixels = 1024 if name == "cifar10" else 784
    return {"data_length": pixels if encoding == "sequence" else _STEPS.get(encoding, 50)}
