"""The data of a run on images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from snnlab.data.batch import Batch, padded
from snnlab.data.build import Data, data_of, facts_of, share_note, validation
from snnlab.data.cutting import order_of
from snnlab.data.images.encode import Encoding
from snnlab.data.images.files import Images, read_images
from snnlab.data.resumable import ResumableLoader
from snnlab.data.store import TEST, EventStore, Sensor, StoreWriter, cached
from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError

if TYPE_CHECKING:
    from snnlab.data.images.config import ImageData

#: Images that are watched at once: their events fit into memory.
_CHUNK = 1024
_SACCADE = 6  # pixels, as of N-MNIST: 28 and 6 are its 34


class ImageLoader(ResumableLoader[Batch]):
    """Batches of encoded images; the protocol of :class:`snnlab.data.loader.Loader`.

    Args:
        images: the dataset.
        content: its sum.
        indices: images of the split.
        encoding: of them.
        batch_size: B; the last batch is padded.
        seed: of the order, and of random spikes.
        training: another order, and other spikes, in every epoch.
        drop_last: leave out a short last batch.
    """

    def __init__(
        self, images: Images, content: str, indices: np.ndarray, encoding: Encoding,
        batch_size: int, seed: int, training: bool = False, drop_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.images, self.content, self.indices, self.encoding = images, content, indices, encoding
        self.batch_size, self.seed, self.training = batch_size, seed, training
        self.drop_last = drop_last
        self.labels = images.labels[indices]

    @property
    def n_samples(self) -> int:
        return len(self.indices)

    def __len__(self) -> int:
        n, size = self.n_samples, self.batch_size
        return n // size if self.drop_last else -(-n // size)

    def _identity(self) -> dict[str, Any]:
        return {
            "n_samples": self.n_samples, "batch_size": self.batch_size, "seed": self.seed,
            "recordings": self.content,
        }  # fmt: skip

    def batch(self, number: int) -> Batch:
        """Batch ``number`` of the current epoch; padding is dark."""
        n, size = self.n_samples, self.batch_size
        order = order_of(n, self.seed, self.epoch) if self.training else np.arange(n)
        mine = order[number * size : (number + 1) * size]
        pixels = np.zeros((size, *self.encoding.shape), np.uint8)
        pixels[: len(mine)] = self.images.pixels[self.indices[mine]]
        when = (self.seed & 0xFFFFFFFF, self.epoch + 1) if self.training else (0, 0)
        draw = np.random.default_rng([*when, number, 0x1A])
        return Batch(DenseStream(self.encoding(pixels, draw)), *padded(mine, self.labels, size))


def build_images(config: ImageData, seed: int) -> Data:
    """The data of a run on images.

    Args:
        config: options.
        seed: of validation split, order and random spikes of training; the test split does not
            depend on it.

    Raises:
        UsageError: files or cache that cannot be used, or options that do not fit them.
    """
    name, size = config.dataset, config.batch_size
    images = read_images(name, config.data_path)
    kind = "sequence" if name == "sequential-digits" else config.encoding
    if kind == "saccade":
        return data_of(watched(images), config, seed)
    channels, height, width = images.pixels.shape[1:]
    encoding = Encoding(
        kind, config.data_length, (channels, height, width), images.full, config.pixel_rate,
        config.permuted,
    )  # fmt: skip
    if encoding.n_steps * size * encoding.n_in >= 1 << 31:
        raise UsageError(
            f"--batch_size {size}: {size} x {encoding.n_steps} steps x {encoding.n_in} inputs: a "
            "batch must stay below 2^31"
        )
    content = images.content
    fit, val = validation(name, images.labels, images.split, config, seed)
    test = np.flatnonzero(images.split == TEST)

    def loader(indices: np.ndarray, training: bool) -> ImageLoader:
        last = training and config.drop_last
        return ImageLoader(images, content, indices, encoding, size, seed, training, last)

    train = loader(fit, True)
    if not len(train):
        raise UsageError(f"--drop_last: {len(fit)} training images fill no batch of {size}")
    counts = {"train": len(fit), "val": len(val), "test": len(test)}
    return Data(
        dataset=name, n_in=encoding.n_in, n_out=10, n_steps=encoding.n_steps,
        sensor=encoding.sensor, graded=kind == "sequence",
        train=train, val=loader(val, False), test=loader(test, False),
        counts=counts, class_names=images.class_names,
        facts=facts_of(counts, {}, images.class_names),
        identity={"recordings": f"{name} sha256 {content}", "transform": str(encoding)},
        lost={}, note=share_note(config, len(val), len(fit) + len(val), False),
    )  # fmt: skip


def watched(images: Images) -> EventStore:
    """Images seen by the simulated camera of :mod:`~snnlab.data.event_digits`, moved as N-MNIST's.

    A pixel of the image is one of the sensor, colours are made grey (ITU-R BT.601), and the sensor
    is 6 pixels larger than the image, the side of the saccades' triangle. The events are made once,
    into the cache.
    """
    from snnlab.data.download import say
    from snnlab.data.event_digits import SENSOR, STEP_US, VERSION, Camera, simulate

    camera = dataclasses.replace(Camera(), pixels_per_cell=1.0, amplitude=float(_SACCADE))
    side = images.pixels.shape[-1] + _SACCADE
    sensor = Sensor(
        images.name, side, side, 2, 10, window_us=SENSOR.window_us, saccade_us=SENSOR.saccade_us
    )
    key = {
        "version": VERSION, "step_us": STEP_US, "camera": dataclasses.asdict(camera),
        "images": images.content, "chunk": _CHUNK,
    }  # fmt: skip

    def write(writer: StoreWriter) -> None:
        say(f"{len(images.labels):,} images of {images.name} pass a simulated camera, once")
        writer.classes(10, images.class_names)
        for number, first in enumerate(range(0, len(images.labels), _CHUNK)):
            part = slice(first, first + _CHUNK)
            light = _grey(images.pixels[part]) / np.float32(images.full)
            t, address, lengths = simulate(light, camera, sensor, number)
            writer.add(t, address, lengths, images.labels[part], images.split[part])

    return cached(sensor, key, write)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """``(n, height, width) float32`` of one or three channels."""
    if pixels.shape[1] == 1:
        return pixels[:, 0].astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.einsum("nchw,c->nhw", pixels.astype(np.float32), weights)
