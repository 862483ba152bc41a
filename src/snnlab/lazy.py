"""Names that are loaded when they are first used.

What a config is made of must be importable without JAX, which takes seconds; so a package
loads nothing itself (PEP 562), and where options stand beside equations, a module does not either.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def exports(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        homes: module of the package -> names that it has. A name may not be that of a module.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return load


class _Module:
    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(importlib.import_module(self.__name), attribute)
        setattr(self, attribute, found)
        return found


def lazy(name: str) -> Any:
    """The module ``name``, imported when one of its names is first used."""
    return _Module(name)
