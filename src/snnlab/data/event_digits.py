"""``event-digits``: handwritten digits seen by a simulated event camera, made offline.

The 1,797 8 x 8 digits of ``sklearn.datasets.load_digits`` (Alpaydin and Kaynak 1998, UCI) are
interpolated onto a 34 x 34 sensor and moved as in N-MNIST (Orchard et al. 2015, Frontiers in
Neuroscience 9:437): three saccades of 100 ms along a triangle of 7 pixels, down right, up
right and back left. The camera follows the usual model (Lichtsteiner et al. 2008; ESIM,
Rebecq et al. 2018): a pixel keeps a reference log intensity ``r`` and fires

    ON  at every crossing of ``r + theta_on``,  then ``r += theta_on``
    OFF at every crossing of ``r - theta_off``, then ``r -= theta_off``

with thresholds that differ from pixel to pixel, a refractory time (a crossing within it is
lost) and Poisson background events. Log intensity is linear between frames ``STEP_US`` apart,
so crossings have microsecond times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from snnlab.data.splits import stratified
from snnlab.data.store import TEST, TRAIN, EventStore, Sensor, StoreWriter, cached

VERSION = 1
STEP_US = 2_500
SENSOR = Sensor(
    "event-digits", 34, 34, 2, n_classes=10, window_us=300_000, saccade_us=100_000
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Camera:
    """The simulated sensor. Contrasts are in log intensity.

    Attributes:
        pixels_per_cell: size of a pixel of the 8 x 8 digit; the digit covers 8 times that.
        amplitude: side of the saccades' triangle, pixels.
        darkness: intensity of the background; a stroke adds up to ``contrast`` to it.
        contrast: range of a recording's contrast (uniform), the lighting of the scene.
        threshold: mean contrast of an event.
        mismatch: standard deviation of a pixel's threshold, as a share of the mean.
        refractory_us: least time between two events of a pixel.
        noise_hz: background events of a pixel per second.
        test_fraction: share of the fixed test split.
        seed: of mismatch, background events and the test split.
    """

    pixels_per_cell: float = 3.0
    amplitude: float = 7.0
    darkness: float = 0.2
    contrast: tuple[float, float] = (0.5, 1.0)
    threshold: float = 0.27
    mismatch: float = 0.10
    refractory_us: int = 1_000
    noise_hz: float = 0.5
    test_fraction: float = 0.2
    seed: int = 1998


def load_event_digits(camera: Camera | None = None) -> EventStore:
    """The cached dataset: 1,437 training and 360 test recordings, in the order of the digits.

    Raises:
        UsageError: the cache folder cannot be written.
    """
    camera = camera or Camera()
    key = {"version": VERSION, "step_us": STEP_US, "camera": dataclasses.asdict(camera)}
    return cached(SENSOR, key, lambda writer: _write(writer, camera))


def _write(writer: StoreWriter, camera: Camera) -> None:
    from sklearn.datasets import load_digits  # slow to import, needed once

    digits, labels = load_digits(return_X_y=True)
    images = (digits.reshape(-1, 8, 8) / 16.0).astype(np.float32)
    _, test = stratified(labels, camera.test_fraction, camera.seed)
    split = np.full(len(labels), TRAIN, np.uint8)
    split[test] = TEST
    t, address, lengths = simulate(images, camera)
    writer.add(t, address, lengths, labels, split)


def path_at(times_us: np.ndarray, amplitude: float) -> np.ndarray:
    """Displacement of the digit ``(n, 2)`` as (x, y) in pixels at ``times_us``.

    The corners are those of N-MNIST (the inverse of tonic's ``stabilize``); within a saccade
    the speed is a half sine.
    """
    corners = np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.0], [0.0, 0.0]]) * amplitude
    phase = np.clip(times_us / SENSOR.saccade_us, 0, 3)
    leg = np.minimum(phase.astype(int), 2)
    done = ((1 - np.cos(np.pi * (phase - leg))) / 2)[:, None]
    return corners[leg] * (1 - done) + corners[leg + 1] * done


def _weights(shift: np.ndarray, pixels: int, camera: Camera, cells: int = 8) -> np.ndarray:
    """Cubic B-spline weights ``(frames, pixels, cells)`` of the image's cells along one axis."""
    margin = (pixels - cells * camera.pixels_per_cell - camera.amplitude) / 2
    at = (np.arange(pixels) + 0.5 - margin - shift[:, None]) / camera.pixels_per_cell - 0.5
    d = np.abs(at[:, :, None] - np.arange(cells))
    near, far = 2 / 3 - d**2 * (2 - d) / 2, (2 - np.minimum(d, 2)) ** 3 / 6
    return np.where(d < 1, near, far).astype(np.float32)


def simulate(
    images: np.ndarray, camera: Camera, sensor: Sensor = SENSOR, part: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of images under the three saccades.

    Args:
        images: ``(n, cells, cells)`` float32 in [0, 1]; the digits have 8 x 8 cells.
        camera: the sensor's properties.
        sensor: its pixels.
        part: of a dataset that is watched in parts, by the same camera; contrast and background
            events differ.

    Returns:
        Times in us, addresses (both ``(n_events,)``, recording by recording in time order)
        and the number of events of each recording ``(n,)``.
    """
    rng = np.random.default_rng(camera.seed)
    n_pixels = sensor.height * sensor.width
    spread = rng.normal(1.0, camera.mismatch, (2, n_pixels)).clip(0.5, 1.5)
    thresholds = (camera.threshold * spread).astype(np.float32)  # OFF, ON
    if part:
        rng = np.random.default_rng([camera.seed, part])
    images = images * rng.uniform(*camera.contrast, (len(images), 1, 1)).astype(np.float32)
    frames_us = np.arange(0, SENSOR.window_us + STEP_US, STEP_US)
    shift = path_at(frames_us, camera.amplitude)
    across = _weights(shift[:, 0], sensor.width, camera, images.shape[2])
    down = _weights(shift[:, 1], sensor.height, camera, images.shape[1])
    found: list[tuple[np.ndarray, ...]] = []
    chunk = 256  # its frames stay in the processor's cache
    for first in range(0, len(images), chunk):
        some = images[first : first + chunk]
        for sample, t, address in _watch(some, across, down, thresholds, camera):
            found.append((sample + first, t, address))
    found.append(_background(rng, len(images), camera, sensor))
    sample, t, address = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((address, t, sample))
    return t[order], address[order], np.bincount(sample, minlength=len(images))


def _watch(
    part: np.ndarray, across: np.ndarray, down: np.ndarray, thresholds: np.ndarray, camera: Camera
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield ``(sample, time_us, address)`` arrays of one chunk, frame after frame."""
    n_pixels = thresholds.shape[1]
    off, on = thresholds

    def log_frame(k: int) -> np.ndarray:
        light = down[k] @ part @ across[k].T
        return np.log(light.reshape(len(part), n_pixels) + np.float32(camera.darkness))

    before = log_frame(0)
    reference = before.copy()
    last = np.full(before.size, -camera.refractory_us, np.int64)
    for k in range(1, len(down)):
        now = log_frame(k)
        change = now - reference
        cell = np.flatnonzero((change >= on) | (change <= -off))
        delta, pixel = change.ravel()[cell], cell % n_pixels
        p = delta > 0
        step = np.where(p, on[pixel], -off[pixel])
        start, slope = before.ravel()[cell], (now - before).ravel()[cell]
        base = reference.ravel()[cell]
        crossings = (delta / step).astype(np.int64)
        reference.ravel()[cell] += crossings * step
        for j in range(1, int(crossings.max(initial=0)) + 1):
            has = crossings >= j
            c, s = cell[has], step[has]
            part_of_step = ((base[has] + j * s - start[has]) / slope[has]).clip(0, 1)
            t = ((k - 1 + part_of_step.astype(np.float64)) * STEP_US).astype(np.int64)
            free = (t - last[c] >= camera.refractory_us) & (t < SENSOR.window_us)
            c, t = c[free], t[free]
            last[c] = t
            yield c // n_pixels, t, c % n_pixels + n_pixels * p[has][free]
        before = now


def _background(
    rng: np.random.Generator, n: int, camera: Camera, sensor: Sensor
) -> tuple[np.ndarray, ...]:
    seconds = SENSOR.window_us / 1e6
    mean = camera.noise_hz * seconds * sensor.height * sensor.width
    counts = rng.poisson(mean, n)
    total = int(counts.sum())
    t = rng.integers(0, SENSOR.window_us, total)
    return np.repeat(np.arange(n), counts), t, rng.integers(0, sensor.n_addresses, total)
