"""Tables of measurements: as text, as Markdown, and in a page of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.benchmarks import machine
from snnlab.errors import UsageError
from snnlab.training.metrics import write_atomically

Row = Mapping[str, Any]
#: Heading -> what a row has there.
Columns = Mapping[str, Callable[[Row], str]]

TIME, MEMORY = "ms_per_step", "peak_temp_bytes"
#: What a ratio is of.
WORDS = {TIME: "time", MEMORY: "memory"}


def ratio(a: float | None, b: float | None) -> float | None:
    """``a / b`` where both are known."""
    return round(a / b, 3) if a and b else None


def rows_of(rows: Sequence[Row], columns: Columns) -> list[list[str]]:
    """The cells of a table; a row with an ``error`` has its name and that."""
    name = next(iter(columns.values()))
    return [
        [name(row), str(row["error"])] if "error" in row else [of(row) for of in columns.values()]
        for row in rows
    ]


def text(rows: Sequence[Row], columns: Columns) -> str:
    """A table as lines of text, in columns; the first to the left, errors across all others."""
    heads, body = list(columns), rows_of(rows, columns)
    whole = [heads, *(cells for row, cells in zip(rows, body) if "error" not in row)]
    widths = [max(len(cells[i]) for cells in whole) for i in range(len(heads))]
    widths[0] = max(len(cells[0]) for cells in [heads, *body])
    lines = []
    for row, cells in zip([{}, *rows], [heads, *body]):
        first, *others = cells
        if "error" not in row:
            others = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:])]
        lines.append("  ".join([f"{first:{widths[0]}}", *others]).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Row], columns: Columns) -> str:
    """A table in Markdown."""
    heads = list(columns)
    lines = [heads, ["---"] * len(heads)]
    lines += [cells + [""] * (len(heads) - len(cells)) for cells in rows_of(rows, columns)]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
                     for cells in lines)  # fmt: skip


def shown(value: float | None) -> str:
    """A ratio with two digits behind the point, or two that count."""
    return "unknown" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


#: Of the ratios of a result.
RATIOS: Columns = {
    "ratio": lambda r: str(r["name"]),
    "of": lambda r: WORDS[r["of"]],
    "value": lambda r: shown(r["value"]),
    "bound": lambda r: str(r["bound"]),
}


def page(result: Mapping[str, Any], command: str, columns: Columns) -> str:
    """A result in Markdown: command, machine, rows, ratios."""
    parts = [f"`{command}`", "", machine.line(result["machine"]), "",
             machine.about(result["machine"]), "", markdown(result["rows"], columns)]  # fmt: skip
    if result["ratios"]:
        parts += ["", markdown(result["ratios"], RATIOS)]
    return "\n".join(parts)


def check_page(path: str) -> None:
    """Refuse a page that cannot be written, before anything is measured.

    Raises:
        UsageError: no such folder.
    """
    if path and not Path(path).parent.is_dir():
        raise UsageError(f"--markdown {path}: there is no folder {Path(path).parent}")


def write_page(path: str, name: str, body: str) -> None:
    """Put ``body`` into a page: in the place of what the same benchmark wrote, or at its end.

    Args:
        path: of the page, which need not exist.
        name: of the benchmark; what it wrote lies between two comments with it.
        body: Markdown.

    Raises:
        UsageError: the first comment is there, the second is not.
    """
    file, begin, end = Path(path), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    block = f"{begin}\n{body}\n{end}"
    if begin in before:
        head, rest = before.split(begin, 1)
        if end not in rest:
            raise UsageError(f"--markdown {path}: '{begin}' is not followed by '{end}'")
        after = head + block + rest.split(end, 1)[1]
    else:
        after = (before.rstrip("\n") + "\n\n" if before.strip() else "") + block + "\n"
    write_atomically(file, after)
