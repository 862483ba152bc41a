"""docs/learners.md names what there is: every method, every option's methods, the code's names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snnlab.learners.config import CHUNKED, DECAYING, WINDOWED
from snnlab.learners.methods import METHODS, having

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "learners.md").read_text()
CODE = "\n".join(p.read_text() for p in (ROOT / "src" / "snnlab").rglob("*.py"))


def table(head: str) -> list[list[str]]:
    """Cells of the rows of the table that begins with ``head``."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_method_has_a_row() -> None:
    rows = {names(row[0])[0]: row for row in table("| `--method` (also)")}
    assert set(rows) == set(METHODS)
    for name, row in rows.items():
        assert names(row[0])[1:] == list(METHODS[name].aliases), name
        assert all(row[k] for k in (2, 3, 4, 5)), name


@pytest.mark.parametrize("page", ["README.md", "docs/learners.md"])
def test_every_method_is_mentioned(page: str) -> None:
    text = (ROOT / page).read_text()
    assert not [name for name in METHODS if f"`{name}`" not in text]


def test_options_say_whose_they_are() -> None:
    rows = {names(row[0])[0].split()[0]: row for row in table("| option | of |")}
    for option, methods in {
        "--etrace_decay": DECAYING, "--feedback": having("feedback"),
    }.items():  # fmt: skip
        assert set(re.findall(r"`(\w+)`", rows[option][1])) == set(methods), option
    assert set(names(rows["--vjp_method"][1])) == set(WINDOWED)
    assert set(names(rows["--chunk_size"][1])) == set(METHODS) - set(CHUNKED)
    both = {name for name, about in METHODS.items() if about.libraries}
    assert {n for row in table("| option | of |") if "braintrace" in row[0]
            for n in names(row[1])} == both  # fmt: skip


def test_the_names_of_symbols_are_those_of_the_code() -> None:
    found = [name for row in table("| symbol | shape |") for name in names(row[3])]
    assert len(found) > 20
    for name in found:
        for word in re.sub(r"\[.*\]", "", name).replace("/", ".").split("."):
            assert re.search(rf"\b{word}\b", CODE) or word == "py", name
