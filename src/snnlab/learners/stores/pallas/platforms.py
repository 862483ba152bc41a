"""One program with a kernel in it, whatever device it is compiled for.

Pallas has a compiler for each: Mosaic for a TPU, whose programs follow each other and see blocks
in a fast memory; Triton for a GPU, whose programs run at the same time and load what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

#: ``form(*arrays)``, a list of arrays; with ``interpret`` its kernel runs as plain operations.
Form = Callable[..., Any]


def by_platform(gpu: Form, tpu: Form, *arrays: Any) -> Any:
    """The form of the platform that the program is compiled for, on a CPU ``tpu`` interpreted."""

    def made(form: Form, interpret: bool = False) -> Form:
        return lambda *arrays: tuple(form(*arrays, interpret=interpret))

    return jax.lax.platform_dependent(
        *arrays, cuda=made(gpu), rocm=made(gpu), tpu=made(tpu), cpu=made(tpu, interpret=True)
    )


def power_of_two(at_least: int) -> int:
    """The smallest power of two from ``at_least`` on.

    >>> power_of_two(1), power_of_two(37), power_of_two(64)
    (1, 64, 64)
    """
    return 1 << max(at_least - 1, 0).bit_length()


def parts(length: int, size: int) -> int:
    """How many parts of at most ``size``."""
    return -(-length // size)
