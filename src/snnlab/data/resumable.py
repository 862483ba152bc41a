"""What loaders share whose batches are a pure function of epoch and number: their position."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from snnlab.errors import UsageError

B = TypeVar("B")


def check_same(identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Refuse a saved position that is of other data than ``identity`` says.

    Raises:
        UsageError: what differs.
    """
    for name, own in identity.items():
        if state.get(name) != own:
            raise UsageError(
                f"the saved data position is of {name} {state.get(name)}, this run has {own}"
            )


class ResumableLoader(abc.ABC, Generic[B]):
    """Iterates over ``batch(0) .. batch(len - 1)`` of an epoch, resumable at any of them.

    ``set_epoch`` selects the order; ``state_dict`` after k batches and ``load_state_dict`` in a
    fresh loader continue with batch k, bit for bit.
    """

    def __init__(self) -> None:
        self.epoch, self._position, self._pending = 0, 0, False

    @abc.abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch."""

    @abc.abstractmethod
    def batch(self, number: int) -> B:
        """Batch ``number`` (from 0) of the current epoch."""

    def batches(self, first: int) -> Iterator[B]:
        """Batches ``first`` to the last of the current epoch."""
        return map(self.batch, range(first, len(self)))

    @abc.abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What a saved position must agree with."""

    def set_epoch(self, epoch: int) -> None:
        """Select an epoch. The epoch of a restored position keeps that position."""
        if epoch != self.epoch:
            self.epoch, self._position, self._pending = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, JSON-able."""
        return {"epoch": self.epoch, "position": self._position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken; the next iteration gives the remaining batches.

        Raises:
            UsageError: the state is of other data.
        """
        check_same(self._identity(), state)
        self.epoch, self._position = int(state["epoch"]), int(state["position"])
        self._pending = True

    def __iter__(self) -> Iterator[B]:
        first = self._position if self._pending else 0
        self._pending = False
        for number, batch in enumerate(self.batches(first), first + 1):
            self._position = number
            yield batch
        self._position = 0
