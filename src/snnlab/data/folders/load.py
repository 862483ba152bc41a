"""``--dataset folder`` and ``--dataset gesture``: from a folder to a store of events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from snnlab.data.download import say
from snnlab.data.folders.layout import EXPECTED, Layout, find
from snnlab.data.folders.read import ClassNames, items
from snnlab.data.folders.recorded import slices
from snnlab.data.folders.survey import Survey, survey
from snnlab.data.sources import chosen, content_sum
from snnlab.data.splits import stratified
from snnlab.data.store import GROUPED, TEST, TRAIN, EventStore, Sensor, StoreWriter, cached
from snnlab.errors import UsageError

if TYPE_CHECKING:
    from snnlab.data.config import DataConfig

VERSION = 1
#: Of the split that a folder has not: the same recordings whatever the run's seed is.
SPLIT_SEED = 0
#: A recording so many times as long as the median is told.
_LONG = 2.0
_MOST_PLACES, _MOST_CLASSES = 1 << 24, 10_000


def load_folder(name: str, config: DataConfig) -> EventStore:
    """The cached store of a folder of recordings.

    Args:
        name: of the dataset.
        config: ``data_path`` and what is said of the folder's recordings.

    Raises:
        UsageError: no folder, files that cannot be used, or options that do not fit them.
    """
    if not config.data_path:
        raise UsageError(f"--dataset {name} needs --data_path, a folder with {EXPECTED}")
    classes = [part.strip() for part in config.classes.split(",") if part.strip()]
    layout = find(chosen(config.data_path), classes)
    return folder_store(layout, config, name)


def folder_store(
    layout: Layout, config: DataConfig, name: str, size: tuple[int, int] = (0, 0)
) -> EventStore:
    """The cached store of a layout.

    Args:
        layout: of the folder.
        config: ``sensor_size``, ``time_unit``, ``window_ms`` and ``test_fraction``.
        name: of the dataset.
        size: width and height, where they are known.

    Raises:
        UsageError: see :func:`load_folder`.
    """

    def source() -> str:
        return content_sum(layout.root, layout.files)

    before = source()
    found = survey(layout, config.time_unit, before)
    width, height = size if any(size) else given_size(config.sensor_size)
    if not width or layout.kind == "sound":
        width, height = found.size
    slice_us = round(1000 * config.slice_ms)
    if slice_us and config.window_ms:
        raise UsageError("--window_ms with --slice_ms: a slice is read whole")
    window_us = slice_us or round(1000 * config.window_ms) or found.longest_us
    sensor = Sensor(
        name, height, width, found.polarities, found.n_classes, window_us,
        flippable=name == "folder" and height > 1,  # whether labels survive is for the user to say
    )  # fmt: skip
    splits, carved = split_of(layout, found, config.test_fraction)
    _check(layout, sensor, config, carved)
    key: dict[str, Any] = {
        "version": VERSION, "source": before, "unit": config.time_unit, "layout": layout.sum,
        "test_fraction": config.test_fraction if carved else 0,
    }  # fmt: skip
    if slice_us:
        key[GROUPED] = slice_us
    if layout.kind == "sound":
        from snnlab.data.folders.sound import parameters

        key["cochlea"] = parameters()

    def write(writer: StoreWriter) -> None:
        writer.classes(found.n_classes, found.names)
        for line in _notes(layout, found, sensor, config, carved, splits):
            writer.note(line)
        if layout.kind == "sound":
            from snnlab.data.folders.sound import write_sound

            write_sound(writer, layout, found.ends_us, splits, slice_us)
        else:
            say(f"decoding {layout.root} once into the cache")
            _write(writer, layout, config.time_unit, splits, slice_us)
        if source() != before:
            raise UsageError("the recordings have changed while they were read; start again")

    return cached(sensor, key, write)


def _check(layout: Layout, sensor: Sensor, config: DataConfig, carved: bool) -> None:
    """Refuse options that nothing would read, and sizes that are none."""
    if layout.kind == "sound" and config.sensor_size:
        raise UsageError(f"--sensor_size: sound has the {sensor.width} channels of a cochlea")
    if layout.kind == "sound" and config.time_unit != "auto":
        raise UsageError("--time_unit: sound says itself how long a sample is")
    if not carved and config.test_fraction != type(config)().test_fraction:
        raise UsageError(f"--test_fraction: {layout.root} has a test split")
    if sensor.n_addresses > _MOST_PLACES or sensor.n_classes > _MOST_CLASSES:
        raise UsageError(
            f"{layout.root}: a sensor of {sensor.width} x {sensor.height} and {sensor.n_classes} "
            f"classes; at most {_MOST_PLACES} places and {_MOST_CLASSES} classes are plausible"
        )


def _write(
    writer: StoreWriter, layout: Layout, unit: str, splits: np.ndarray, slice_us: int
) -> None:
    sensor = writer.sensor
    for number, item in enumerate(items(layout, unit, ClassNames())):
        events = item.events
        outside = np.flatnonzero((events.x >= sensor.width) | (events.y >= sensor.height))
        if len(outside):
            k = outside[0]
            raise UsageError(
                f"{item.name}: event at x={events.x[k]}, y={events.y[k]} lies outside the "
                f"{sensor.width} x {sensor.height} sensor"
            )
        p = events.p if sensor.polarities > 1 else 0
        address = (p * sensor.height + events.y) * sensor.width + events.x
        for times_us, mine in slices(events.time_us, address, slice_us):
            writer.add(
                times_us, mine, np.array([len(mine)]), [item.label], int(splits[number]), number
            )


def given_size(text: str) -> tuple[int, int]:
    """Width and height of ``--sensor_size``; (0, 0) if it is empty.

    Raises:
        UsageError: neither ``WIDTHxHEIGHT`` nor a number of channels.

    >>> given_size("128x96"), given_size("700"), given_size("")
    ((128, 96), (700, 1), (0, 0))
    """
    if not text:
        return 0, 0
    found = re.fullmatch(r"\s*(\d{1,5})\s*(?:[xX]\s*(\d{1,5})\s*)?", text)
    width, height = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    if not 0 < width <= 1 << 20 or not 0 < height <= 1 << 15:
        raise UsageError(f"--sensor_size {text}: expected WIDTHxHEIGHT, or a number of channels")
    return width, height


def split_of(layout: Layout, found: Survey, fraction: float) -> tuple[np.ndarray, bool]:
    """The split of each recording, and whether the test split was carved.

    Raises:
        UsageError: too few recordings of each class to carve one.
    """
    splits = found.splits.copy()
    if (splits == TEST).any():
        return splits, False
    train = np.flatnonzero(splits == TRAIN)
    _, part = stratified(found.labels[train], fraction, SPLIT_SEED)
    if not len(part):
        raise UsageError(
            f"{layout.root} has no test recordings, and {len(train)} training recordings, one of "
            "each class at most, leave none"
        )
    splits[train[part]] = TEST
    return splits, True


def _notes(
    layout: Layout, found: Survey, sensor: Sensor, config: DataConfig, carved: bool,
    splits: np.ndarray,
) -> list[str]:  # fmt: skip
    """What was found, decided or carved, in lines for the user."""
    by = "found"
    if sensor.name != "folder" or layout.kind == "sound":
        by = "the cochlea's" if layout.kind == "sound" else "the dataset's"
    elif config.sensor_size or found.stated:
        by = "--sensor_size" if config.sensor_size else "the files'"
    how = "--window_ms" if config.window_ms else "the longest recording"
    how = "--slice_ms, a sample each" if config.slice_ms else how
    told = [
        f"{sensor.name}: sensor {sensor.width} x {sensor.height}, {sensor.polarities} "
        f"{'polarities' if sensor.polarities > 1 else 'polarity'} ({by}); times in "
        f"{', '.join(found.units)}; {sensor.window_us / 1000:g} ms a recording ({how})"
    ]
    if carved:
        n = int((splits == TEST).sum())
        told.append(
            f"{sensor.name}: there is no test split: {n} of {len(splits)} recordings "
            f"(--test_fraction {config.test_fraction:g}, stratified, the same ones whatever --seed "
            "is) are kept for the test"
        )
    ends = found.ends_us[found.ends_us > 0]
    median = float(np.median(ends)) if len(ends) else 0.0
    if not (config.window_ms or config.slice_ms) and len(ends) and ends.max() > _LONG * median:
        told.append(
            f"{sensor.name}: recordings end at {median / 1000:,.0f} ms (median), the longest at "
            f"{ends.max() / 1000:,.0f} ms: --window_ms makes all end earlier"
        )
    if layout.others:
        told.append(f"{sensor.name}: {layout.others} other files are passed over")
    return told
