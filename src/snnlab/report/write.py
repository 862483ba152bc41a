"""A report of run folders: one page of HTML that needs nothing else, and Markdown on demand."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snnlab import __version__
from snnlab.errors import UsageError, missing, one_line, shown
from snnlab.report.blocks import Notes, Section, fitting
from snnlab.report.found import Experiment, read
from snnlab.training.metrics import write_atomically

GENERATOR = f"snnlab {__version__} report"
#: Where a file says that it is a report: it may be replaced then.
LOOKED_AT = 4000


def write(
    runs: Sequence[str], out: Path, *, markdown: bool = False, command: str = ""
) -> list[Path]:
    """Write the report of some runs.

    Args:
        runs: folders of runs, of several seeds, of sweeps, or of run folders.
        out: the page, ``.html``; a report that is there is replaced.
        markdown: write the same as Markdown beside it, ``.md``, which refers to the figures where
            they are.
        command: what the page says it was made with.

    Returns:
        The files written.

    Raises:
        UsageError: no such run; ``out`` is something else, or cannot be written; jinja2 is missing.
    """
    if package := missing("jinja2", "report"):
        raise UsageError(f"a report needs {package}")
    if out.suffix != ".html":
        raise UsageError(f"--out {shown(out)}: it must end in .html")
    files = [out, *([out.with_suffix(".md")] if markdown else [])]
    for path in files:
        _check(path)
    content = {"command": command, **content_of(read(runs))}
    texts = [page(content), *([text(content, out.parent)] if markdown else [])]
    for path, written in zip(files, texts, strict=True):
        try:
            write_atomically(path, written)
        except OSError as error:
            raise UsageError(f"cannot write {shown(path)}: {error.strerror}") from None
    return files


def _check(path: Path) -> None:
    """Refuse to write over what is no report.

    Raises:
        UsageError: there is no folder for it, or another file.
    """
    if not path.parent.is_dir():
        raise UsageError(f"--out {shown(path)}: there is no folder {shown(path.parent)}")
    if path.is_dir():
        raise UsageError(f"--out {shown(path)} is a folder")
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as file:
            start = file.read(LOOKED_AT)
        if not re.search(r'content="snnlab \S+ report"|<!-- snnlab \S+ report -->', start):
            raise UsageError(
                f"--out {shown(path)}: there is a file that is no report; choose another"
            )


def content_of(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Title and sections, for a template; sections without content are left out."""
    from snnlab.report import pictures, sections
    from snnlab.report.svg import THEMES

    problems: list[str] = []
    results = sections.found(experiments)
    drawn = pictures.overviews(experiments, problems)
    made = [
        sections.asked(experiments),
        dataclasses.replace(results, blocks=[*results.blocks, *drawn]),
        pictures.learning(experiments),
        pictures.classes(experiments), pictures.activity(experiments, problems),
        pictures.distributions(experiments), sections.costs(experiments),
        sections.versions(experiments),
    ]  # fmt: skip
    if problems:
        lines = [("figure", shown(one_line(text), 200)) for text in problems]
        made.append(
            Section("unreadable", "Left out", [Notes("Figures that cannot be read", lines)])
        )
    return {
        "title": sections.title_of(experiments),
        "sections": [
            dataclasses.replace(section, blocks=fitting(section.blocks))
            for section in made if section.blocks
        ],
        "made": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        "generator": GENERATOR,
        "themes": THEMES,
    }  # fmt: skip


def page(content: dict[str, Any]) -> str:
    """The HTML; what is text is escaped."""
    import jinja2

    loader = jinja2.PackageLoader("snnlab", "report")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return made.get_template("report.html.jinja").render(content)


def text(content: dict[str, Any], folder: Path) -> str:
    """The Markdown, for a file in ``folder``; signs that Markdown reads are escaped."""
    import jinja2

    loader = jinja2.PackageLoader("snnlab", "report")
    made = jinja2.Environment(
        loader=loader, autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.filters |= {
        "md": marked,
        "code": _code,
        "relative": lambda path: quote(os.path.relpath(path, folder)),
    }
    lines = made.get_template("report.md.jinja").render(content)
    lines = re.sub(r"(?<=\S)\n(#+ )", r"\n\n\1", lines)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", lines)).strip() + "\n"


def marked(value: object) -> str:
    """A value as Markdown shows it, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", one_line(str(value)))


def _code(value: str) -> str:
    """``value`` between as many backticks as it needs."""
    ticks = "`" * (max((len(run) for run in re.findall("`+", value)), default=0) + 1)
    pad = " " * (value[:1] == "`" or value[-1:] == "`")
    return f"{ticks}{pad}{one_line(value)}{pad}{ticks}"
