"""What a network did on a batch of test samples."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


class SensorShape(NamedTuple):
    """The grid of an event sensor. Input ``(p * height + y) * width + x`` is its pixel
    ``(y, x)`` of polarity ``p`` (1 for ON, 0 for OFF, where there are two)."""

    height: int
    width: int
    polarities: int

    @property
    def size(self) -> int:
        return self.height * self.width * self.polarities


#: Parts of an axis in order, each with its name and its length.
Parts = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """Inputs, activity and decisions of T steps on B samples; numpy arrays, time-major.

    Args:
        inputs: ``(T, B, n_in)``, events or values per step.
        spikes: per hidden layer ``(T, B, n)``, non-zero at a spike.
        membrane: per hidden layer ``(T, B, n)``, after the step's reset.
        readout: ``(T, B, C)``.
        targets: ``(B,)`` true classes; ``(B, n)`` those of the ``spans``, negative where nothing is
            asked; or ``(T, B, C)`` sequences that the readout is to follow.
        predictions: the network's decisions, of the shape of the classes; ``None`` beside
            sequences.
        dt_ms: length of a step that the network simulates.
        sensor: grid of the inputs, if they are an event sensor's.
        class_names: C names; the class numbers where empty.
        scored: ``(T,)`` bool, the steps that the loss counts; all where ``None``.
        thresholds: per hidden layer what broadcasts to ``(T, B, n)``; empty if there is none.
        bin_ms: recorded time of a step, in which figures then are; ``None`` where nothing was
            recorded.
        input_groups: named groups of the inputs, ``n_in`` together; empty: they are one, or two
            of a sensor with two polarities.
        populations: per hidden layer its named populations, ``n`` together, or nothing; empty: no
            layer has any.
        periods: named periods of the trial, T steps together; empty: it has none.
        graded: inputs are values, no spikes or counts of them.
        spans: first step, and the step behind the last one, of each answer of a sample with
            several; empty: it has one.

    Raises:
        ValueError: the shapes do not fit together.
    """

    inputs: np.ndarray
    spikes: tuple[np.ndarray, ...]
    membrane: tuple[np.ndarray, ...]
    readout: np.ndarray
    targets: np.ndarray
    predictions: np.ndarray | None
    dt_ms: float
    sensor: SensorShape | None = None
    class_names: tuple[str, ...] = ()
    scored: np.ndarray | None = None
    thresholds: tuple[np.ndarray | float, ...] = ()
    bin_ms: float | None = None
    input_groups: Parts = ()
    populations: tuple[Parts, ...] = ()
    periods: Parts = ()
    graded: bool = False
    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        lead = self.inputs.shape[:2]
        parts = {"inputs": (self.inputs,), "spikes": self.spikes, "membrane": self.membrane}
        for name, arrays in {**parts, "readout": (self.readout,)}.items():
            for array in arrays:
                _need(array.ndim == 3 and array.shape[:2] == lead, name, array, f"{lead} + (n,)")
        layers = [s.shape for s in self.spikes]
        if [v.shape for v in self.membrane] != layers:
            raise ValueError(f"membrane {[v.shape for v in self.membrane]}: not as spikes {layers}")
        if len(self.thresholds) not in (0, len(layers)):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(layers)} layers")
        if self.predictions is None:
            shape = self.readout.shape
            _need(self.targets.shape == shape, "targets", self.targets, f"{shape}")
        else:
            shape = (*lead[1:], len(self.spans)) if self.spans else lead[1:]
            for array in (self.targets, self.predictions):
                _need(array.shape == shape, "targets, predictions", array, f"{shape}")
        if self.scored is not None:
            _need(self.scored.shape == lead[:1], "scored", self.scored, f"{lead[:1]}")
        if len(self.class_names) not in (0, self.readout.shape[2]):
            raise ValueError(f"{len(self.class_names)} names for {self.readout.shape[2]} classes")
        if self.sensor is not None and self.sensor.size != self.inputs.shape[2]:
            raise ValueError(f"sensor {tuple(self.sensor)} has not {self.inputs.shape[2]} inputs")
        if not self.dt_ms > 0:
            raise ValueError(f"dt_ms must be positive, not {self.dt_ms}")
        if self.bin_ms is not None and not self.bin_ms > 0:
            raise ValueError(f"bin_ms must be positive, not {self.bin_ms}")

        if len(self.populations) not in (0, len(layers)):
            raise ValueError(f"populations of {len(self.populations)} of {len(layers)} layers")
        parts_of = [("input_groups", self.input_groups, self.inputs.shape[2]),
                    ("periods", self.periods, self.n_steps)]  # fmt: skip
        parts_of += [(f"populations of layer {k + 1}", own, shape[2])
                     for k, (own, shape) in enumerate(zip(self.populations, layers))]  # fmt: skip
        for name, own, length in parts_of:
            if own and sum(n for _, n in own) != length:
                raise ValueError(f"{name} {own}: {length} are needed together")

    @property
    def groups(self) -> Parts:
        """Named groups of the inputs; of a sensor with two polarities OFF and ON."""
        if self.input_groups or self.sensor is None or self.sensor.polarities != 2:
            return self.input_groups
        return (("OFF", self.sensor.size // 2), ("ON", self.sensor.size // 2))

    @property
    def step_ms(self) -> float:
        """Length of a step on the axes."""
        return self.dt_ms if self.bin_ms is None else self.bin_ms

    @property
    def n_steps(self) -> int:
        return self.inputs.shape[0]

    @property
    def batch_size(self) -> int:
        return self.inputs.shape[1]

    def threshold(self, layer: int, index: int) -> np.ndarray | None:
        """``(T, n)`` threshold of a layer on sample ``index``, or ``None``."""
        if not self.thresholds:
            return None
        return np.broadcast_to(self.thresholds[layer], self.spikes[layer].shape)[:, index]

    def name(self, label: int) -> str:
        """The name of class ``label``, as figures show it."""
        return shown_name(self.class_names[label]) if self.class_names else str(int(label))


def shown_name(name: str) -> str:
    """A name from somebody's data for a figure: not too long, and ``$`` is no formula."""
    return (name if len(name) <= 24 else f"{name[:23]}…").replace("$", r"\$")


def _need(holds: bool, name: str, array: np.ndarray, shape: str) -> None:
    if not holds:
        raise ValueError(f"{name} has shape {array.shape}, needed: {shape}")


def event_counts(inputs: np.ndarray, sensor: SensorShape) -> np.ndarray:
    """Events per pixel: ``(T, n_in)`` inputs -> ``(height, width, polarities)``."""
    grid = (sensor.polarities, sensor.height, sensor.width)
    return np.moveaxis(inputs.sum(axis=0).reshape(grid), 0, -1)
