"""Options of the data: which recordings, how they are binned, split and augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from snnlab.config import CommaText, PathText, option, section
from snnlab.data.registry import DATASETS, FROM_FILES

if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[DATASETS.names()]


#: Where options count that say what a folder of one's own holds.
_OWN = {"dataset": ("folder",)}


@section("Data")
class DataConfig:
    """What :func:`snnlab.data.build_data` builds.

    ``binary_bins`` is on by default: an input line then spikes at most once per step, as the
    neurons behind it do, and the drive does not grow when ``data_length`` shrinks. With it off
    a bin holds the number of its events, exactly as tonic's ``ToFrame`` counts them.
    """

    dataset: Dataset = option(
        basic=True,
        default="event-digits",
        help="recordings: "
        + "; ".join(f"{name}: {about.summary}" for name, about in DATASETS.items()),
    )
    data_path: PathText = option(
        basic=True,
        default="",
        only={"dataset": FROM_FILES},
        help="folder of the recordings, read-only is fine (nmnist: or a zip); empty: the user's "
        "cache folder, into which they are downloaded (folder: needed)",
    )
    sensor_size: str = option(
        default="", only=_OWN,
        help="WIDTHxHEIGHT of the sensor, or a number of channels; empty: what the files state, or "
        "what holds all events",
    )  # fmt: skip
    classes: CommaText = option(
        default="", only=_OWN,
        help="subfolders in the order of their labels (of tables: names of their numbers); empty: "
        "in order of name",
    )  # fmt: skip
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = option(
        default="auto", only=_OWN,
        help="of times in .npz and .h5; auto: whole numbers are us, fractions s",
    )  # fmt: skip
    window_ms: float = option(
        default=0.0, only={"dataset": ("folder", "gesture")}, unit="ms", ge=0, le=1e8,
        help="what is read of a recording; 0: the longest one",
    )  # fmt: skip
    slice_ms: float = option(
        default=0.0, only={"dataset": ("folder", "gesture")}, unit="ms", ge=0, le=1e8,
        help="cut each recording into slices of this length, from its first event on, each a "
        "sample of its own; the rest at the end is left out (published with 1700: DVS Gesture)",
    )  # fmt: skip
    test_fraction: float = option(
        default=0.2, only=_OWN, gt=0, lt=0.9,
        help="share of the recordings kept for the test where there is no test split, stratified, "
        "the same ones whatever the seed is",
    )  # fmt: skip
    bins: Literal["window", "recording", "edges"] = option(
        default="window",
        help="what the time bins divide: the time window of the dataset, or each recording's own "
        "span, as tonic's ToFrame with n_time_bins; edges: data_length points divide the window, "
        "as numpy's digitize, so that a bin less has events and the first is empty (published: "
        "--published)",
    )
    data_length: int = option(
        basic=True,
        default=200,
        help="time bins of a recording, one a step; a step is then (length of the dataset's "
        "recordings) / data_length of recorded time, the time of rates and axes, however long "
        "the network simulates it",
        unit="steps",
        gt=0,
        le=100_000,
    )
    batch_size: int = option(basic=True, default=128, help="recordings of a batch", gt=0, le=65_536)
    n_data_worker: int = option(
        default=0, help="processes that cut batches; 0: in the training process", ge=0, le=256
    )
    drop_last: bool = option(
        default=False, help="leave out the short last batch of a training epoch"
    )
    val_fraction: float = option(
        default=0.1,
        help="share of the training recordings kept for validation, stratified (ssc has its own)",
        gt=0,
        lt=0.5,
    )
    first_saccade: bool = option(
        default=False, help="use the first of the three saccades only (100 ms)"
    )
    merge_polarity: bool = option(default=False, help="one input for both polarities of a pixel")
    downsample: int = option(
        default=1,
        help="join blocks of this many pixels a side (shd: this many channels)",
        ge=1,
        le=700,
    )
    binary_bins: bool = option(
        default=True,
        help="a bin is 1 if it holds an event; 0: the number of its events, as tonic's ToFrame",
    )
    aug_shift: int = option(
        default=0,
        help="training only: largest random shift",
        unit="pixels or shd channels",
        ge=0,
        le=700,
    )
    aug_flip: bool = option(
        default=False,
        help="training only: mirror half of the recordings (refused where labels change)",
    )
    aug_drop: float = option(
        default=0.0, help="training only: share of events left out", ge=0, lt=1
    )
    aug_jitter_ms: float = option(
        default=0.0,
        help="training only: standard deviation of event times (recorded time)",
        unit="ms",
        ge=0,
        le=1000,
    )
    aug_noise: float = option(
        default=0.0,
        help="training only: mean number of noise events added to a recording",
        unit="events",
        ge=0,
        le=100_000,
    )
