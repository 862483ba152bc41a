"""The table and the figure of a sweep in a page of Markdown."""

from __future__ import annotations

import shutil
from pathlib import Path

from snnlab.errors import UsageError, shown
from snnlab.training.metrics import write_atomically

#: Lines of a page between which the table stands.
BEGIN, END = "<!-- sweep -->", "<!-- end of the sweep -->"


def parts_of(page: Path) -> tuple[str, str]:
    """What stands before and behind the table, the two lines included.

    Raises:
        UsageError: the page cannot be read, or does not have each line once.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"--page {shown(page)}: no page that can be read") from None
    lines = text.splitlines()
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise UsageError(
            f"--page {shown(page)}: the page needs one line {BEGIN} and behind it one line {END}"
        )
    first, last = lines.index(BEGIN), lines.index(END)
    return "\n".join(lines[: first + 1]), "\n".join(lines[last:]) + "\n"


def into_page(page: Path, folder: Path) -> list[Path]:
    """Put ``table.md`` of a sweep's folder into a page, and ``comparison.png`` beside it.

    Returns:
        The files written.

    Raises:
        UsageError: the page is none (:func:`parts_of`), or cannot be written.
    """
    before, behind = parts_of(page)
    table = (folder / "table.md").read_text(encoding="utf-8")
    figure, mine = folder / "comparison.png", page.with_suffix(".png")
    picture = f"![{page.stem}]({mine.name})\n\n" if figure.is_file() else ""
    try:
        if picture:
            shutil.copyfile(figure, mine)
        write_atomically(page, f"{before}\n\n{picture}{table}\n{behind}")
    except OSError as error:
        raise UsageError(f"--page {shown(page)}: cannot be written: {error.strerror}") from None
    return [page, *([mine] if picture else [])]
