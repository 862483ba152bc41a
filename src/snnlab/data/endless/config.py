"""Options of an endless stream: where it comes from, and what changes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from snnlab.config import option, section
from snnlab.data.config import DataConfig
from snnlab.data.registry import DATASETS
from snnlab.options import SET, Condition

RECORDED = DATASETS.names()
if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[("drift", *RECORDED, "reader")]

_OF_RECORDINGS: Condition = {"dataset": RECORDED}
_DRIFT: Condition = {"dataset": ("drift",)}
_NAMES = (
    "bins", "data_length", "val_fraction", "first_saccade", "merge_polarity", "downsample",
    "binary_bins", "aug_shift", "aug_flip", "aug_drop", "aug_jitter_ms", "aug_noise",
)  # fmt: skip


@section(
    "Data",
    only={
        **dict.fromkeys(_NAMES, _OF_RECORDINGS),
        "batch_size": {"dataset": ("drift", *RECORDED)},
    },
    # A pass ends before its last, short batch; the next one has another order.
    fixed={"drop_last": True, "n_data_worker": 0},
)
class StreamData(DataConfig):
    """What :func:`snnlab.data.endless.sources.build_source` builds."""

    dataset: Dataset = option(
        basic=True,
        default="drift",
        help="drift: classes of rates over the inputs, generated; reader: what --reader reads; "
        "recordings, one after another in a loop: "
        + "; ".join(f"{name}: {about.summary}" for name, about in DATASETS.items()),
    )
    reader: str = option(
        basic=True, default="", only={"dataset": ("reader",)},
        help="a reader of your own, module:object or the name of an entry point",
    )  # fmt: skip
    stretch: int = option(
        default=500, only={"dataset": ("drift", "reader")}, unit="steps", gt=0, le=1_000_000,
        help="steps that are read and trained at once, in one call of the compiled program (of "
        "recordings: --data_length, one recording)",
    )  # fmt: skip
    change_every: int = option(
        basic=True, default=0, unit="steps", ge=0,
        help="the task changes every so many steps, a multiple of the stretch; 0: never",
    )  # fmt: skip
    change: Literal["inputs", "labels"] = option(
        basic=True, default="inputs", only={"change_every": SET},
        help="what a change does: the inputs trade places, or the classes their names; each time "
        "others, drawn from --seed",
    )  # fmt: skip
    n_in: int = option(default=20, only=_DRIFT, help="inputs", gt=0, le=1_000_000)
    n_classes: int = option(default=4, only=_DRIFT, help="classes", gt=1, le=10_000)
    hold: int = option(
        default=20, only=_DRIFT, unit="steps", gt=0,
        help="steps for which a class is on; it divides --stretch",
    )  # fmt: skip
    drift_steps: int = option(
        default=0, only=_DRIFT, unit="steps", ge=0,
        help="the rates move along the inputs, by one input in so many steps; 0: they stay",
    )  # fmt: skip
    batch_size: int = option(
        basic=True, default=1, help="streams side by side, which share the weights", gt=0, le=65_536
    )

    @property
    def span(self) -> int:
        """Steps of a stretch."""
        return self.data_length if self.dataset in RECORDED else self.stretch
