"""A stream slowed down: every step repeated, every input scaled, inside the program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream


class RepeatedStream(Stream):
    """``at(t) = scale * stream.at(t // repeat)``; R times as many steps, nothing stored.

    Args:
        stream: what is repeated.
        repeat: R, steps of each of its steps.
        scale: factor of its values.
    """

    def __init__(self, stream: Stream, repeat: int, scale: float = 1.0) -> None:
        self.stream = stream
        self.repeat = repeat
        self.scale = scale

    @property
    def n_steps(self) -> int:
        return self.stream.n_steps * self.repeat

    @property
    def batch_size(self) -> int:
        return self.stream.batch_size

    @property
    def n_in(self) -> int:
        return self.stream.n_in

    def at(self, t: jax.Array | int) -> jax.Array:
        """Step ``t``: ``(B, n_in) float32``."""
        return self.scale * self.stream.at(jnp.asarray(t) // self.repeat)

    def window(self, start: jax.Array | int, length: int) -> jax.Array:
        """Steps ``start .. start + length - 1``: ``(length, B, n_in) float32``."""
        if isinstance(start, int) and not start % self.repeat and not length % self.repeat:
            own = self.stream.window(start // self.repeat, length // self.repeat)
            return self.scale * jnp.repeat(own, self.repeat, axis=0)
        return jax.vmap(self.at)(start + jnp.arange(length))

    def parts(self, n: int) -> list[RepeatedStream]:
        return [RepeatedStream(one, self.repeat, self.scale) for one in self.stream.parts(n)]


def _unflatten(static: tuple[int, float], leaves: tuple[Any, ...]) -> RepeatedStream:
    return RepeatedStream(leaves[0], *static)


jax.tree_util.register_pytree_node(
    RepeatedStream, lambda s: ((s.stream,), (s.repeat, s.scale)), _unflatten
)
