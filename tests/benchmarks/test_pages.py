"""The pages on performance: their commands are commands, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from snnlab.benchmarks.__main__ import parsed

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "performance.md", *sorted((ROOT / "docs" / "performance").glob("*.md"))]
COMMAND = re.compile(r"python -m snnlab\.benchmarks ((?!\.\.\.)[^`\n]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in COMMAND.findall(text):
        assert parsed(shlex.split(command))["command"] == shlex.split(command)[0]
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target
    assert len(COMMAND.findall(text)) > 0


def test_anchors_of_other_pages() -> None:
    """What other pages link to is a heading of the page of guidance."""
    heads = re.findall(r"^## (.*)$", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    for page in (ROOT / "docs").rglob("*.md"):
        for anchor in re.findall(r"performance\.md#([\w-]+)", page.read_text(encoding="utf-8")):
            assert anchor in anchors, f"{page.name}: {anchor}"
