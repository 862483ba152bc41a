"""Composition of the data: config -> splits, transform, loaders."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from snnlab.data.augment import Augment
from snnlab.data.batch import Splits
from snnlab.data.config import DataConfig
from snnlab.data.cutting import BatchCutter, capacity
from snnlab.data.loader import Loader
from snnlab.data.registry import DATASETS, IMAGES
from snnlab.data.splits import stratified
from snnlab.data.store import TEST, TRAIN, VALID, EventStore
from snnlab.data.stream import BLOCK, SPARSE
from snnlab.data.transform import Transform
from snnlab.errors import UsageError
from snnlab.registry import load

if TYPE_CHECKING:
    from snnlab.data.images.config import ImageData


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Splits):
    """Recordings ready to train on.

    ``train`` is shuffled and augmented; ``val`` is the dataset's own, or carved from the training
    recordings, stratified by the run's seed; ``test`` is the dataset's own test split.

    Attributes:
        counts: recordings of ``train``, ``val`` and ``test``, ``capacity`` (event slots of a
            batch) and ``late_events`` (dropped behind the time window, all splits); of features
            ``cut`` (longer than T), ``absent`` (named by the dataset's lists, but not there) and
            ``unlisted`` (there, but not named).
        lost: of events, per split: ``late_events``, and ``silent_recordings`` that have no event
            which a network would see.
    """

    counts: dict[str, int]
    lost: dict[str, dict[str, int]]


#: Of ``Data.counts``: how many recordings there are, and how many were not taken as they are.
COUNTED = ("train", "val", "test", "cut", "absent", "unlisted")


def facts_of(
    counts: dict[str, int], lost: dict[str, dict[str, int]], class_names: tuple[str, ...]
) -> dict[str, Any]:
    """What ``results.json`` says of the data; arguments as of :class:`Data`."""
    names = {"classes": list(class_names)} if class_names else {}
    return {"samples": {k: n for k, n in counts.items() if k in COUNTED}, **lost, **names}


def build_data(config: DataConfig, seed: int) -> Data:
    """The data of a run.

    Args:
        config: options.
        seed: of validation split, order and augmentation; the test split does not depend on it.

    Raises:
        UsageError: recordings or cache that cannot be used, or options that do not fit them.
    """
    name = config.dataset
    if name in IMAGES:
        from snnlab.data.images.build import build_images

        return build_images(cast("ImageData", config), seed)
    about = DATASETS[name]
    store = load(about.load)(*about.arguments(name, config))
    return data_of(store, config, seed)


def data_of(store: EventStore, config: DataConfig, seed: int) -> Data:
    """:func:`build_data` for a store of one's own (``config.dataset`` is not read)."""
    transform = Transform(
        store.sensor, config.data_length, config.first_saccade, config.merge_polarity,
        config.downsample, config.bins == "recording", config.bins == "edges",
    )  # fmt: skip
    augment = Augment(
        config.aug_shift, config.aug_flip, config.aug_drop, config.aug_jitter_ms, config.aug_noise
    )
    augment.check(store.sensor)
    train, test = np.flatnonzero(store.split == TRAIN), np.flatnonzero(store.split == TEST)
    fit, val = validation(
        store.sensor.name, store.labels, store.split, config, seed, store.groups
    )  # fmt: skip
    lengths = store.ends_before(transform.cut_us) - store.starts
    size = config.batch_size
    # One capacity for all splits, so that validation and test share a program.
    slots = BLOCK + max(
        capacity(lengths[train], size, augment.most_noise),
        *(capacity(lengths[part], size, 0) for part in (val, test)),
    )
    most = max(
        capacity(lengths[train], 1, augment.most_noise),
        *(capacity(lengths[part], 1, 0) for part in (val, test)),
    )
    if max(slots, size * transform.n_in) >= 1 << 31:
        raise UsageError(
            f"--batch_size {size}: {size} x {transform.n_in} inputs, {slots} events: a batch "
            "must stay below 2^31"
        )

    density = lengths[train].mean() / (transform.n_steps * transform.n_in)

    def loader(indices: np.ndarray, training: bool) -> Loader:
        cutter = BatchCutter(
            store.subset(indices), transform, size, slots,
            augment=augment if training else None, shuffle=training, seed=seed,
        )  # fmt: skip
        # Evaluation cuts in this process: a second set of workers would idle most of the time.
        n_worker = config.n_data_worker if training else 0
        return Loader(
            cutter,
            n_worker,
            training and config.drop_last,
            config.binary_bins,
            density <= SPARSE,
            most,
        )

    late = store.ends - store.ends_before(max(transform.sensor.window_us, transform.cut_us))
    splits = {"train": fit, "val": val, "test": test}
    lost = {
        "late_events": {name: int(late[part].sum()) for name, part in splits.items()},
        "silent_recordings": {
            name: int((lengths[part] == 0).sum()) for name, part in splits.items()
        },
    }
    made = loader(fit, True)
    if not len(made):
        raise UsageError(f"--drop_last: {len(fit)} training recordings fill no batch of {size}")
    counts = {
        "train": len(fit), "val": len(val), "test": len(test),
        "capacity": slots, "late_events": int(late.sum()),
    }  # fmt: skip
    own = bool((store.split == VALID).any())
    spans = transform.spans_ms(store, train)
    bin_ms = transform.bin_ms if spans is None else float(np.median(spans)) / transform.n_steps
    notes = [
        *store.notes,
        span_note(transform, spans),
        late_note(transform, lost["late_events"], len(store.events)),
        silent_note(
            store.sensor.name, lost["silent_recordings"],
            f"have no event in their {transform.cut_us / 1000:g} ms",
        ),
        share_note(config, len(val), len(fit) + len(val), own),
    ]  # fmt: skip
    return Data(
        dataset=store.sensor.name, n_in=transform.n_in, n_out=store.sensor.n_classes,
        n_steps=transform.n_steps, bin_ms=bin_ms, sensor=transform.shape, train=made,
        val=loader(val, False), test=loader(test, False), counts=counts,
        class_names=store.class_names, facts=facts_of(counts, lost, store.class_names),
        identity={
            "recordings": f"{store.sensor.name} sha256 {store.content}",
            "transform": f"{transform}, {'binary' if config.binary_bins else 'counted'} bins",
        },
        lost=lost, note="\n".join(filter(None, notes)),
    )  # fmt: skip


def span_note(transform: Transform, spans_ms: np.ndarray | None) -> str:
    """A line if each recording has bins of its own length, else an empty one."""
    if spans_ms is None:
        return ""
    low, middle, high = spans_ms.min(), np.median(spans_ms), spans_ms.max()
    return (
        f"{transform.sensor.name}: {transform.n_steps} bins divide each recording's own span, "
        f"{low:,.0f} to {high:,.0f} ms (median {middle:,.0f}, whose rates and axes are shown)"
    )


def late_note(transform: Transform, late: dict[str, int], n_events: int) -> str:
    """A line if events come after the time window, else an empty one; ``late`` is per split."""
    if not any(late.values()):
        return ""
    return (
        f"{transform.sensor.name}: {sum(late.values()):,} of {n_events:,} events come after "
        f"{transform.sensor.window_us / 1000:g} ms and are left out ({_told(late)})"
    )


def silent_note(name: str, silent: dict[str, int], what: str) -> str:
    """A line if a network would see nothing of some recordings; ``silent`` is per split."""
    if not any(silent.values()):
        return ""
    return (
        f"warning: {name}: {sum(silent.values()):,} recordings {what} ({_told(silent)}): nothing "
        "can be learnt from them; check these files, or take them out"
    )


def _told(numbers: dict[str, int]) -> str:
    return ", ".join(f"{split} {n:,}" for split, n in numbers.items() if n)


def share_note(config: DataConfig, n_val: int, n_all: int, own: bool) -> str:
    """A line if validation takes another share than was asked for, else an empty one.

    Args:
        config: ``val_fraction``.
        n_val, n_all: recordings taken, of those there are.
        own: the dataset has a validation split of its own.
    """
    asked = config.val_fraction
    if own or abs(n_val / n_all - asked) <= max(0.25 * asked, 1 / n_all):
        return ""
    return (
        f"--val_fraction {asked:g}: {n_val} of {n_all} training recordings "
        f"({n_val / n_all:.0%}) are kept for validation, at least one of every class that has two"
    )


def validation(
    name: str, labels: np.ndarray, split: np.ndarray, config: DataConfig, seed: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Recordings to train on, and those of the validation split.

    Args:
        name: of the dataset, for messages.
        labels, split: ``(n,)``; see :mod:`snnlab.data.store`.
        config: ``val_fraction``.
        seed: of a validation split that has to be carved out of the training recordings.
        groups: ``(n,)``, of slices: those of one origin stay together.

    Raises:
        UsageError: no recordings for validation, or ``--val_fraction`` where there is a split.
    """
    train, own = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VALID)
    if len(own):
        if config.val_fraction != DataConfig().val_fraction:
            raise UsageError(f"--val_fraction: {name} has a validation split")
        return train, own
    if groups is None:
        rest, part = stratified(labels[train], config.val_fraction, seed)
    else:
        _, first, origin = np.unique(groups[train], return_index=True, return_inverse=True)
        _, held = stratified(labels[train][first], config.val_fraction, seed)
        kept = np.isin(origin, held)
        rest, part = np.flatnonzero(~kept), np.flatnonzero(kept)
    if not len(part):
        raise UsageError(
            f"--val_fraction {config.val_fraction}: {len(train)} training recordings, one of "
            "each class at most, leave none for validation"
        )
    return train[rest], train[part]
