"""What a section of a report is made of; the templates know how each is shown."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

#: Columns of a table at most.
MOST_COLUMNS = 9


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, whose first column names its rows."""

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def parts(self) -> list[Table]:
        """As tables that are not too wide for a page: each has the first column."""
        n = len(self.columns)
        if n <= MOST_COLUMNS:
            return [self]
        pieces = -(-(n - 1) // (MOST_COLUMNS - 1))
        ends = [1 + (n - 1) * k // pieces for k in range(pieces + 1)]
        return [
            dataclasses.replace(
                self, caption=f"{self.caption} ({k} of {pieces})",
                columns=[self.columns[0], *self.columns[a:b]],
                rows=[[row[0], *row[a:b]] for row in self.rows],
            )
            for k, (a, b) in enumerate(itertools.pairwise(ends), 1)
        ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart drawn here: ``svg`` is markup, ``text`` what it shows in words."""

    title: str
    svg: str
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts side by side, and whose each number is: legend[k] is number k + 1.

    Markdown has ``figures`` in their place, those of the run folders.
    """

    kind: ClassVar = "charts"
    title: str
    charts: Sequence[Chart]
    legend: Sequence[tuple[int, str]] = ()
    note: str = ""
    small: bool = False
    figures: Sequence[Path] = ()


@dataclasses.dataclass(frozen=True)
class Image:
    """A figure of a run folder: ``source`` is a data URI, ``path`` the file."""

    kind: ClassVar = "image"
    title: str
    alt: str
    source: str
    path: Path


@dataclasses.dataclass(frozen=True)
class Commands:
    """A command for each name."""

    kind: ClassVar = "commands"
    title: str
    commands: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Notes:
    """Lines that the reader should see."""

    kind: ClassVar = "notes"
    title: str
    lines: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Folded:
    """Blocks that are shown on demand."""

    kind: ClassVar = "folded"
    title: str
    blocks: Sequence[object]


def fitting(blocks: Sequence[object]) -> list[object]:
    """Blocks with tables in parts that are not too wide."""
    found: list[object] = []
    for block in blocks:
        if isinstance(block, Table):
            found += block.parts()
        elif isinstance(block, Folded):
            found.append(dataclasses.replace(block, blocks=fitting(block.blocks)))
        else:
            found.append(block)
    return found


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    name: str
    title: str
    blocks: Sequence[object]
    text: str = ""
