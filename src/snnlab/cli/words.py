"""The parser of the commands: errors in one line, with the nearest of what is valid."""

from __future__ import annotations

import argparse
import re
import typing
from typing import Any

from snnlab import flags
from snnlab.errors import UsageError, nearest, shown


class Parser(flags.Parser):
    """argparse, as the commands use it.

    Args:
        prog: name in messages.
        description: head of ``--help``.
    """

    def __init__(self, prog: str = "", description: str = "", **more: Any) -> None:
        kind = more.pop("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(
            prog=prog or None, description=description, allow_abbrev=False, formatter_class=kind,
            **more,
        )  # fmt: skip

    def error(self, message: str) -> typing.NoReturn:
        """Refuse the command line: what is wrong, and what is nearest to it.

        Raises:
            UsageError: always.
        """
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if choice:
            valid = [word.strip(" '") for word in choice[2].split(",")]
            close = nearest(choice[1], valid)
            raise UsageError(
                f"no '{shown(choice[1])}' in {self.prog}{close}; valid: {', '.join(valid)}"
            )
        unknown = re.fullmatch(r"unrecognized arguments: (--\S+).*", message, re.DOTALL)
        if unknown:
            known = [s for a in self._actions for s in a.option_strings]
            flag = unknown[1].split("=")[0]
            raise UsageError(
                f"unknown flag {shown(flag)}{nearest(flag, known)}; {self.prog} --help"
            )
        raise UsageError(f"{shown(message, 200)}; {self.prog} --help")
