"""Images as input over time. Each gives ``(T, B, n_in)`` of the pixels of a batch.

rate      a pixel of brightness v in [0, 1] spikes in each step with probability ``pixel_rate v``,
          independently (Bernoulli; in the limit of short steps a Poisson process). Drawn anew in
          every epoch of training; of validation and test always the same.
latency   a pixel spikes once, in step ``round((1 - v) (T - 1))``; one of brightness 0 never does.
          (Thorpe, Gautrais 1998: time to first spike, here linear in brightness.)
sequence  values, not spikes: ``n_pixels / T`` pixels a step, in order of rows; all channels of a
          pixel at once. T = 784 of MNIST: sMNIST, permuted: psMNIST (Le, Jaitly, Hinton 2015).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from snnlab.errors import UsageError

#: Of the order of the pixels, where it is permuted.
PERMUTATION_SEED = 0


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images become input.

    Attributes:
        kind: ``"rate"``, ``"latency"`` or ``"sequence"``.
        n_steps: T.
        shape: channels, height and width of an image.
        full: the value of full brightness.
        pixel_rate: of ``rate``.
        permuted: of ``sequence``.
    """

    kind: str
    n_steps: int
    shape: tuple[int, int, int]
    full: int
    pixel_rate: float = 0.25
    permuted: bool = False

    def __post_init__(self) -> None:
        n_pixels = self.shape[1] * self.shape[2]
        if self.kind == "sequence" and n_pixels % self.n_steps:
            some = [n for n in range(1, n_pixels + 1) if not n_pixels % n]
            raise UsageError(
                f"--data_length {self.n_steps}: a sequence of {n_pixels} pixels has as many steps, "
                f"or as many pixels in each: {', '.join(map(str, some[-6:]))}"
            )

    def __str__(self) -> str:
        more = {
            "rate": f", {self.pixel_rate:g} a step", "latency": "",
            "sequence": ", permuted" * self.permuted,
        }  # fmt: skip
        return f"{self.kind} in {self.n_steps} steps{more[self.kind]}"

    @property
    def n_in(self) -> int:
        channels, height, width = self.shape
        return channels * height * width // (self.n_steps if self.kind == "sequence" else 1)

    @property
    def sensor(self) -> tuple[int, int, int] | None:
        """Height, width and polarities of inputs that are pixels of one channel."""
        channels, height, width = self.shape
        return None if channels > 1 or self.kind == "sequence" else (height, width, 1)

    def order(self) -> np.ndarray:
        """Pixels of a sequence in the order in which they are shown."""
        n_pixels = self.shape[1] * self.shape[2]
        if not self.permuted:
            return np.arange(n_pixels)
        return np.random.default_rng(PERMUTATION_SEED).permutation(n_pixels)

    def __call__(self, pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """The input of a batch.

        Args:
            pixels: ``(B, channels, height, width) uint8``.
            draw: of random spikes.

        Returns:
            ``(T, B, n_in)``: bool of spikes, float32 of values in [0, 1].
        """
        size, n_steps = len(pixels), self.n_steps
        if self.kind == "sequence":
            flat = pixels.reshape(size, self.shape[0], -1)[:, :, self.order()]
            parts = flat.reshape(size, self.shape[0], n_steps, -1).transpose(2, 0, 3, 1)
            return parts.reshape(n_steps, size, -1).astype(np.float32) / np.float32(self.full)
        flat = pixels.reshape(size, -1)
        if self.kind == "latency":
            step = np.rint((1 - flat / self.full) * (n_steps - 1)).astype(np.int64)
            step[flat == 0] = n_steps  # never
            return np.arange(n_steps)[:, None, None] == step
        most = np.rint(flat * (65_536 * self.pixel_rate / self.full)).astype(np.uint32)
        return draw.integers(0, 65_536, (n_steps, *flat.shape), np.uint16) < most
