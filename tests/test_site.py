"""The documentation site: its pages, links, and names of the reference; that it builds."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import snnlab

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "_site" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(nav: Any) -> Iterator[str]:
    """The pages of a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


def test_the_navigation_names_every_page_once(pages: ModuleType) -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = list(entries(settings["nav"]))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    there |= {f"notebooks/{path.stem}.md" for path in (DOCS / "notebooks").glob("*.py")}
    assert sorted(named) == sorted(there | set(pages.OUTSIDE.values()))
    assert all((ROOT / name).is_file() for name in pages.OUTSIDE)


def test_links_between_files_are_links_between_pages(pages: ModuleType) -> None:
    text = (
        "[a](docs/learners.md#symbols) ![b](docs/figures/balanced.png) [c](CONTRIBUTING.md) "
        "[`d`](src/snnlab/library.py) [e](https://example.org) [f](#g) [h](docs/not-there.md)\n"
        "```\n[a](docs/learners.md)\n```\n"
    )
    assert pages.relinked(text, ROOT / "README.md", "index.md") == (
        "[a](learners.md#symbols) ![b](figures/balanced.png) [c](contributing.md) "
        "`d` [e](https://example.org) [f](#g) [h](docs/not-there.md)\n"
        "```\n[a](docs/learners.md)\n```\n"
    )
    text = "[a](notebooks/first-run.py) [b](results.md)"
    assert pages.relinked(text, DOCS / "library.md", "library.md") == (
        "[a](notebooks/first-run.md) [b](results.md)"
    )
    source = DOCS / "guides" / "runs.md"
    assert pages.relinked("[a](../../README.md)", source, "guides/runs.md") == "[a](../index.md)"


def reference() -> list[str]:
    """The names that the API reference has."""
    found = [path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")]
    return re.findall(r"^::: (\S+)$", "\n".join(found), re.MULTILINE)


def exported(package: str) -> set[str]:
    """What a package names for ``from package import name``."""
    tree = ast.parse((ROOT / "src" / "snnlab" / package / "__init__.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {a.name for i in imports for a in i.names if a.asname == a.name}


def taught() -> dict[str, str]:
    """Names that the programs of pages and of ``examples/`` import -> module."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    for path in DOCS.rglob("*.md"):
        texts += re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.M)
    lines = re.findall(r"^ *from (snnlab[\w.]*) import (.+)$", "\n".join(texts), re.MULTILINE)
    return {name: module for module, names in lines for name in names.split(", ")}


def test_the_reference_has_every_public_name() -> None:
    named = reference()
    assert len(set(named)) == len(named)
    public = {f"snnlab.{name}" for name in snnlab.__all__ if name != "__version__"}
    for package in ("models", "learners", "data", "training/objectives"):
        names = exported(package)
        assert names
        public |= {f"snnlab.{package.replace('/', '.')}.{name}" for name in names}
    # Public where it is made.
    public.discard("snnlab.training.objectives.Targets")
    assert not public - set(named)


def test_the_reference_has_what_pages_and_examples_import() -> None:
    found = taught()
    assert {"Neuron", "DRTRL", "pack"} <= set(found)
    assert not set(found) - {name.rpartition(".")[2] for name in reference()}


def build(
    target: Path, root: Path = ROOT, notebooks: bool = False
) -> subprocess.CompletedProcess[str]:
    """The site as ``make docs`` builds it; ``--quiet`` would hide warnings from ``--strict``."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", target],
        cwd=root, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NOTEBOOKS": str(int(notebooks))},
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


@pytest.fixture
def mkdocs() -> None:
    for package in (
        "mkdocs", "material", "mkdocstrings_handlers.python", "jupytext", "nbclient", "ipykernel",
    ):  # fmt: skip
        pytest.importorskip(package, reason=f"{package} is not installed: extra 'docs'")


@pytest.mark.slow
@pytest.mark.usefixtures("mkdocs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(tmp_path, notebooks=True)
    assert done.returncode == 0, done.stderr
    for name in ("first-run", "d-rtrl-and-bptt", "own-network", "endless-stream"):
        page = (tmp_path / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert f'href="{name}.ipynb"' in page
        assert f'src="{name}-1.png"' in page
        assert (tmp_path / "notebooks" / f"{name}.ipynb").is_file()
    assert not re.findall(r"^(?:WARNING|ERROR).*", done.stdout + done.stderr, re.MULTILINE)
    page = (tmp_path / "reference" / "snnlab.html").read_text(encoding="utf-8")
    assert 'id="snnlab.load"' in page  # found in the sources
    assert ":class:" not in page
    assert 'href="reference/snnlab.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("mkdocs")
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("docs/limits.md", "# Known limits", "# Known limits\n\n[x](none.md)", "none.md"),
        ("docs/limits.md", "# Known limits", "# Known limits\n\n[x](learners.md#no)", "#no"),
        ("README.md", "(docs/results.md)", "(docs/none.md)", "docs/none.md"),
        ("src/snnlab/library.py", '        x: ``Float', '        y: ``Float', "'y'"),
    ],
)  # fmt: skip
def test_the_build_ends_at_what_is_wrong(
    file: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    root = tmp_path / "repository"
    for part in ("docs", "src"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / part, root)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    done = build(tmp_path / "site", root)
    assert done.returncode != 0
    (line,) = re.findall(r"^WARNING.*", done.stderr, re.MULTILINE)[:1]
    assert said in line
