"""Live readers: a microphone, an event camera, a file that is being written.

A reader of your own is a class with the methods of :class:`Reader`, made by ``make(options, seed)``
(the class itself will do), and named by ``--reader module:object``, or by an entry point of the
group ``snnlab.readers``, a :class:`ReaderKind`. Importing this module needs no JAX.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from snnlab.errors import UsageError, one_line, shown
from snnlab.registry import Registry, load

if TYPE_CHECKING:
    import numpy as np

    from snnlab.data.endless.config import StreamData


class Read(NamedTuple):
    """Some steps of a stream.

    Attributes:
        xs: ``(steps, B, n_in)``, numbers that float32 holds.
        labels: ``(steps, B)`` class of each step, below 0 where it is not known: such steps go
            through the network without loss.
    """

    xs: np.ndarray
    labels: np.ndarray


@runtime_checkable
class Reader(Protocol):
    """What a stream is read from.

    Attributes:
        n_in, n_out: inputs and classes.
        batch_size: B, streams side by side; 1 for a microphone.
    """

    n_in: int
    n_out: int
    batch_size: int

    def read(self, steps: int) -> Read:
        """The next ``steps`` steps; waits until they are there.

        Raises:
            UsageError: there are no more, in a line; the checkpoint before stays.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, JSON-able; empty of what cannot go back. A resume then goes on with what
        comes, and with all that the network and its traces hold."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...

    def close(self) -> None:
        """Nothing more is read."""
        ...


Make = Callable[["StreamData", int], Reader]


class ReaderKind(NamedTuple):
    """An entry of the group ``snnlab.readers``.

    Attributes:
        summary: one line.
        make: ``"module:object"``, called with the section of data options and the seed.
    """

    summary: str
    make: str


READERS: Registry[ReaderKind] = Registry("reader", "snnlab.readers", ReaderKind, {})


def find_reader(name: str) -> Make:
    """What makes the reader of a name, ``module:object`` or an entry point's.

    Raises:
        UsageError: there is none, or it cannot be imported.
    """
    if not name:
        raise UsageError("--dataset reader needs --reader, module:object or an entry point's name")
    if ":" not in name:
        kind = READERS.get(name) if name in READERS else None
        if kind is None:
            known = ", ".join(READERS.names()) or "none is installed"
            raise UsageError(
                f"--reader {shown(name)}: no such reader; valid: module:object, or an entry point "
                f"of the group snnlab.readers ({known})"
            )
        name = kind.make
    importlib.invalidate_caches()
    try:
        made: Make = load(name)
    except Exception as error:  # whatever the code of another package does
        reason = one_line(str(error)) or type(error).__name__
        raise UsageError(
            f"--reader {shown(name)} cannot be imported ({shown(reason, 150)}); its folder must be "
            "on PYTHONPATH"
        ) from error
    return made


def open_reader(options: StreamData, seed: int) -> Reader:
    """The reader of ``--reader``.

    Raises:
        UsageError: it is none, or what it raises itself.
    """
    make = find_reader(options.reader)
    try:
        made = make(options, seed)
    except UsageError:
        raise
    except Exception as error:  # whatever the code of another package does
        reason = one_line(str(error)) or type(error).__name__
        raise UsageError(
            f"--reader {shown(options.reader)} cannot be opened ({shown(reason, 150)})"
        ) from error
    lacking = [
        name
        for name in (
            "n_in",
            "n_out",
            "batch_size",
            "read",
            "state_dict",
            "load_state_dict",
            "close",
        )
        if not hasattr(made, name)
    ]
    if lacking:
        raise UsageError(f"--reader {shown(options.reader)}: what it makes has no {lacking[0]}")
    return made
