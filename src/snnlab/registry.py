"""Tables of what has a name (tasks, ...): a line here, or an entry point of a user's package.

An entry is the object itself or ``"module:attribute"``, imported when it is asked for. A package
joins with an entry point of the table's group (in its pyproject.toml)::

    [project.entry-points."snnlab.tasks"]
    my-task = "my_package.my_task:TASK"
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from snnlab.errors import UsageError, nearest, one_line, shown

T = TypeVar("T")


class Registry(Generic[T]):
    """Name -> object.

    Args:
        what: one of them, for messages (``task``).
        group: of entry points (``snnlab.tasks``).
        kind: type of the objects.
        own: the entries of snnlab itself.

    >>> numbers = Registry("number", "my.numbers", float, {"tau": "math:tau", "half": 0.5})
    >>> numbers.names(), round(numbers.get("tau"), 2)
    (('tau', 'half'), 6.28)
    """

    def __init__(self, what: str, group: str, kind: type[T], own: Mapping[str, T | str]) -> None:
        self.what, self.group, self.kind = what, group, kind
        self._own = dict(own)
        self._others: dict[str, importlib.metadata.EntryPoint] | None = None

    def names(self) -> tuple[str, ...]:
        """All names, those of other packages last.

        Raises:
            UsageError: a package gives a name that is taken.
        """
        return (*self._own, *self._entry_points())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def items(self) -> list[tuple[str, T]]:
        """All names with what has them."""
        return [(name, self.get(name)) for name in self]

    def get(self, name: str) -> T:
        """What has the name.

        Raises:
            UsageError: nothing has it, a package gives a name that is taken, or its entry point
                cannot be imported or is of another type.
        """
        if name in self._own:
            own = self._own[name]
            return self._checked(load(own) if isinstance(own, str) else own, name)
        found = self._entry_points().get(name)
        if found is None:
            raise UsageError(
                f"no {self.what} '{shown(name)}'{nearest(name, self.names())}; valid: "
                f"{', '.join(self.names())}"
            )
        try:
            made = found.load()
        except Exception as error:  # whatever the code of another package does
            reason = one_line(str(error)) or type(error).__name__
            raise UsageError(
                f"{self.what} '{name}': its entry point {found.value} in group {self.group} cannot "
                f"be imported ({shown(reason, 150)})"
            ) from error
        return self._checked(made, name)

    def _checked(self, made: object, name: str) -> T:
        if not isinstance(made, self.kind):
            raise UsageError(
                f"{self.what} '{name}': its entry is a {type(made).__name__}, not a "
                f"{self.kind.__name__}"
            )
        return made

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._others is None:
            found: dict[str, importlib.metadata.EntryPoint] = {}
            for point in importlib.metadata.entry_points(group=self.group):
                before = found.get(point.name)
                if point.name in self._own or (before and before.value != point.value):
                    first = f"{before.value}" if before else "snnlab's own"
                    raise UsageError(
                        f"two entries for the {self.what} '{shown(point.name)}': {first} and "
                        f"{point.value} (entry points, group {self.group})"
                    )
                found[point.name] = point
            self._others = found
        return self._others


def load(text: str) -> Any:
    """What ``"module:attribute"`` names."""
    module, _, attribute = text.partition(":")
    return getattr(importlib.import_module(module), attribute)
