"""The README and the pages of docs/: every link and every file that they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from snnlab.cli import main as cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
#: ``[text](target)``, images too.
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: Files of the repository in code: `configs/x.yaml`.
FILE = re.compile(r"`((?:docs|configs|tasks|tests|examples|src)/[\w./-]+\.\w+)`")


def anchors(page: Path) -> set[str]:
    """What may follow ``#`` in a link to a page."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name)
def test_files_in_code(page: Path) -> None:
    missing = [f for f in FILE.findall(page.read_text(encoding="utf-8")) if not (ROOT / f).exists()]
    assert not missing


def test_every_page_can_be_found() -> None:
    """From the README, over links."""
    seen: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            found = (page.parent / target.partition("#")[0]).resolve()
            if found.suffix == ".md" and found.is_file() and found not in seen:
                left.append(found)
    assert not {name(page) for page in PAGES} - {name(page) for page in seen} - {"CHANGELOG.md"}


def blocks(kind: str) -> list[str]:
    """The code of a kind in all pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


RUNS = sorted({
    line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()
    if line.startswith("snnlab run ") and not re.search(r"--resume|[$&\\]", line)
})  # fmt: skip


@pytest.mark.parametrize("line", RUNS)
def test_a_run_of_a_page_is_one(line: str, capsys: pytest.CaptureFixture) -> None:
    """Its options and configs are there, and belong together."""
    assert cli.main([*shlex.split(line)[1:], "--dry_run"]) == 0
    assert "\nmodel:\n" in capsys.readouterr().out


def test_a_search_of_a_page_is_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = [block for block in blocks("yaml") if "\nsearch:" in block]
    assert files
    for text in files:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        assert cli.main(["sweep", str(path), "--list", f"--filepath={tmp_path / 'out'}"]) == 0
        assert "trials of" in capsys.readouterr().out


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
