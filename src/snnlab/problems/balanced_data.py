"""Data of the balanced networks: cue accumulation, or recordings (as spikes, or as features)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from snnlab.analysis.config import Metric
from snnlab.config import SET, option, section
from snnlab.data import DataConfig
from snnlab.data.batch import Splits
from snnlab.data.registry import AUDIO, DATASETS

#: What :func:`snnlab.data.build_data` knows.
RECORDINGS = DATASETS.names()
if TYPE_CHECKING:
    import numpy as np

    from snnlab.data import Data
    from snnlab.data.batch import Batch
    from snnlab.data.cue import CueLoader
    from snnlab.data.repeated import RepeatedStream

    Dataset = str
else:
    Dataset = Literal[("cue", *RECORDINGS, *AUDIO)]

#: Options of event recordings that mean the same for generated trials, and for features.
SHARED = ("dataset", "batch_size")
SHARED_BY_AUDIO = (*SHARED, "data_path", "data_length", "drop_last", "val_fraction")


def _read_by(name: str) -> tuple[str, ...]:
    """Datasets for which an option of :class:`DataConfig` means something."""
    declared = DataConfig.__pydantic_fields__[name].json_schema_extra["only"]  # type: ignore[attr-defined]
    events = next((condition["dataset"] for condition in declared), RECORDINGS)
    return (*events, *AUDIO) if name in SHARED_BY_AUDIO else events


@section(
    "Task",
    only={
        f.name: {"dataset": _read_by(f.name)}
        for f in dataclasses.fields(DataConfig)
        if f.name not in SHARED
    },
)
class BalancedData(DataConfig):
    """Cue accumulation or recordings; options of the other kind are refused."""

    dataset: Dataset = option(
        basic=True,
        default="cue",
        help="cue: cue accumulation; recordings (--data_path): shd and ssc as published; hd and "
        "sc: the words behind them, as 40 log-mel features every 10 ms; the others as in "
        "task-image-classification.py",
    )
    data_length: int = option(
        basic=True,
        default=100,
        help="time bins of a recording (hd, sc: frames of 10 ms; hd: 140 by default); rates and "
        "axes are in the recorded time of these",
        unit="steps",
        gt=0,
        le=100_000,
    )
    batch_size: int = option(basic=True, default=30, help="trials of a batch", gt=0, le=65_536)
    samples: int = option(
        basic=True, default=200, help="cue: trials of each split", gt=0, le=10_000_000,
        only={"dataset": ("cue",)},
    )  # fmt: skip
    repeat: int = option(
        basic=True, default=1, help="steps of a ms (cue) or of a time bin", gt=0, le=1000
    )
    dataset_scale: float = option(default=1.0, help="input of a spike")
    track_balance: bool = option(
        basic=True, default=False, help="measure the balance of excitation and inhibition"
    )
    balance_metric: Metric = option(
        default="median", help="filter of the two currents", only={"track_balance": SET}
    )
    balance_samples: int = option(
        default=5, help="validation samples of which it is the mean, the first ones; 0: all",
        only={"track_balance": SET}, ge=0, le=1_000_000,
    )  # fmt: skip
    plot: bool = option(
        default=True, help="accepted: every run draws its figures", accepted=(True,)
    )

    def recordings(self) -> DataConfig:
        """The section of :func:`snnlab.data.build_data`; of features, without their name."""
        names = {f.name for f in dataclasses.fields(DataConfig)}
        if self.dataset in AUDIO:
            names.remove("dataset")
        return DataConfig(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalancedSplits(Splits):
    """Sizes include repetitions.

    Attributes:
        t_crop: first step that counts.
        dt_ms: length of a step of the network, whose constants are in steps.
        few: the first ``balance_samples`` validation samples, as a stream; without
            ``track_balance`` a single one.
    """

    t_crop: int
    dt_ms: float
    few: RepeatedStream


def make_splits(config: BalancedData, seed: int) -> BalancedSplits:
    """Loaders and sizes of a config."""
    make = _cue if config.dataset == "cue" else _recorded
    return make(config, seed)


def first_counted(config: BalancedData) -> int:
    """The first step that counts: after the last cue; of recordings 0."""
    from snnlab.data.cue import CueTask

    return config.repeat * CueTask().first_scored if config.dataset == "cue" else 0


def _cue(config: BalancedData, seed: int) -> BalancedSplits:
    from snnlab.data.cue import (
        CUE_INPUTS,
        GROUP,
        SPLITS,
        CueLoader,
        CueTask,
        CueTrials,
        cue_stream,
    )
    from snnlab.data.periods import GROUPS, named
    from snnlab.data.repeated import RepeatedStream

    task, repeat, scale = CueTask(), config.repeat, config.dataset_scale

    def loader(split: int) -> CueLoader:
        return CueLoader(
            task, config.samples, config.batch_size, repeat, scale, seed, split,
            shuffle=split == 0,
        )  # fmt: skip

    train, val, test = (loader(k) for k in range(len(SPLITS)))
    trials = CueTrials(*(a[: _n_tracked(config) or None] for a in val.trials))
    return BalancedSplits(
        dataset=config.dataset, train=train, val=val, test=test, n_in=CUE_INPUTS, n_out=2,
        n_steps=repeat * task.n_steps, t_crop=first_counted(config), dt_ms=1.0 / repeat,
        class_names=("left", "right"), input_groups=tuple((name, GROUP) for name in GROUPS),
        periods=named(task, repeat), few=RepeatedStream(cue_stream(task, trials), repeat, scale),
    )  # fmt: skip


def _recorded(config: BalancedData, seed: int) -> BalancedSplits:
    from snnlab.data import DenseStream, build_data, build_features
    from snnlab.data.repeated import RepeatedStream

    if config.dataset in AUDIO:
        data = build_features(config.dataset, config.recordings(), seed)
    else:
        data = build_data(config.recordings(), seed)
    repeat, scale = config.repeat, config.dataset_scale
    train, val, test = (RepeatedLoader(a, repeat, scale) for a in (data.train, data.val, data.test))
    shown = _first(data, _n_tracked(config) or data.counts["val"])
    assert data.bin_ms is not None  # recorded
    bin_ms = data.bin_ms / repeat
    own = data.shared(
        dataset=config.dataset, train=train, val=val, test=test, n_steps=repeat * data.n_steps,
        bin_ms=bin_ms,
    )  # fmt: skip
    few = RepeatedStream(DenseStream(shown), repeat, scale)
    return BalancedSplits(**own, t_crop=0, dt_ms=bin_ms, few=few)


def _n_tracked(config: BalancedData) -> int:
    """Samples whose balance is measured; 0: all, and 1 where it is not."""
    return config.balance_samples if config.track_balance else 1


def _first(data: Data, n: int) -> np.ndarray:
    """``(T, n, n_in)``, the first ``n`` validation samples, or all that there are."""
    import jax
    import numpy as np

    from snnlab.devices import require_memory

    n = min(n, data.counts["val"])
    require_memory(8.0 * n * data.n_steps * data.n_in, f"--balance_samples, {n:,} of them")
    dense = jax.jit(lambda stream: stream.window(0, data.n_steps))
    parts: list[Any] = []
    for batch in data.val:
        parts.append(np.asarray(dense(batch.stream))[:, np.asarray(batch.targets.mask) > 0])
        if sum(part.shape[1] for part in parts) >= n:
            break
    return np.concatenate(parts, axis=1)[:, :n]


class RepeatedLoader:
    """A loader of recordings whose steps are repeated and whose spikes are scaled.

    Args:
        loader: of the recordings.
        repeat, scale: see :class:`~snnlab.data.repeated.RepeatedStream`.
    """

    #: Of a loader of parts: that of whole batches.
    whole: RepeatedLoader

    def __init__(self, loader: Any, repeat: int, scale: float) -> None:
        self._loader, self._repeat, self._scale = loader, repeat, scale

    def part(self, k: int, n: int) -> RepeatedLoader:
        """The loader of the k-th of ``n`` equal parts of each batch."""
        from snnlab.data.share import share

        made = RepeatedLoader(share(self._loader, k, n), self._repeat, self._scale)
        made.whole = self
        return made

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Batch]:
        from snnlab.data.repeated import RepeatedStream

        for batch in self._loader:
            if self._repeat == 1 and self._scale == 1:
                yield batch
                continue
            stream: Any = RepeatedStream(batch.stream, self._repeat, self._scale)
            yield batch._replace(stream=stream)
