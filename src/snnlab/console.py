"""The terminal of a command."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def make_console(**options: Any) -> Console:
    """A console that prints text as it is: ``[x]`` and ``:x:`` in names and paths are no markup."""
    return Console(
        **{"soft_wrap": True, "markup": False, "emoji": False, "highlight": False} | options
    )
