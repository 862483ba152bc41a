"""What a layer is to a network."""

from __future__ import annotations

from typing import Any

import brainstate
import jax


class Layer(brainstate.nn.Module):
    """``n`` units; ``update(x (B, n_in)) -> (B, n)`` spikes, or outputs of units without spikes.

    A subclass defines ``advance`` and ``membrane``, and ``drive`` if a part of a step needs the
    input alone. That part can then be computed for a whole sequence at once.

    Attributes:
        n: units.
        populations: their names and sizes in order, for figures; empty: one without a name.
    """

    n: int
    populations: tuple[tuple[str, int], ...] = ()

    def drive(self, x: jax.Array, weight: jax.Array | None = None) -> Any:
        """The feed-forward part of a step: of ``x (B, n_in)``, or of a sequence.

        Args:
            x: of one step; ``(T, B, n_in)`` where ``weight`` is given.
            weight: ``(B,)``, 0 for samples that do not count, else 1.

        Returns:
            Arrays with the same leading axes as ``x``: ``advance`` takes those of one step.
        """
        return x

    def advance(self, drive: Any) -> jax.Array:
        """One step with its :meth:`drive`."""
        raise NotImplementedError

    def update(self, x: jax.Array) -> jax.Array:
        return self.advance(self.drive(x))

    def currents(self, x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Excitation (>= 0) and inhibition (<= 0), ``(B, n)`` each, of the step just made.

        Args:
            x: ``(B, n_in)``, its input.
            before: ``(B, n)``, the membrane that it began with.
        """
        raise TypeError(f"{type(self).__name__} has no excitation and inhibition")

    @property
    def membrane(self) -> jax.Array:
        """``(B, n)``, in mV where the layer has units."""
        raise NotImplementedError

    @property
    def above(self) -> jax.Array:
        """``(B, n)``, the membrane less the threshold, if there is one."""
        return self.membrane if self.threshold is None else self.membrane - self.threshold

    @property
    def threshold(self) -> Any:
        """Of the membrane, a number or ``(n,)``; ``None`` for units without spikes."""
        return None
