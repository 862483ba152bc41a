"""Pages that are files outside ``docs/``, or notebooks; links and anchors as GitHub reads them."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: File of the repository -> page of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
#: A block of code, or a link (an image has ``!`` before it).
FENCE_OR_LINK = re.compile(r"^```.*?^```$|\[([^\]]*)\]\(([^)\s]+)\)", re.DOTALL | re.MULTILINE)


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def page_of(file: Path) -> str | None:
    """The page that a file of the repository becomes, if it becomes one (figures too)."""
    docs = ROOT / "docs"
    if file.is_relative_to(docs):
        page = file.relative_to(docs)
        return page.with_suffix(".md" if file.suffix == ".py" else file.suffix).as_posix()
    return OUTSIDE.get(file.relative_to(ROOT).as_posix()) if file.is_relative_to(ROOT) else None


def relinked(text: str, source: Path, page: str) -> str:
    """Links between files as links between pages.

    What is no page, such as a source, stays as text. A link to nothing stays a link: the build
    says so.

    Args:
        text: Markdown.
        source: the file that holds it.
        page: what it becomes.
    """

    def link(found: re.Match[str]) -> str:
        target = found[2]
        if target is None or ":" in target or target.startswith("#"):
            return found[0]
        path, mark, anchor = target.partition("#")
        file = (source.parent / path).resolve()
        if not file.exists():
            return found[0]
        other = page_of(file)
        if other is None:
            return found[1]
        return f"[{found[1]}]({posixpath.relpath(other, posixpath.dirname(page))}{mark}{anchor})"

    return FENCE_OR_LINK.sub(link, text)


def on_config(config: Any) -> Any:
    config.mdx_configs["toc"]["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    made = _notebooks()
    for path in made.sources():
        page, beside = made.page_of(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, content in beside.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    source = page.file.abs_src_path or ROOT / "docs" / page.file.src_uri
    return relinked(markdown, Path(source), page.file.src_uri)


def _notebooks() -> ModuleType:
    """The module beside this one; mkdocs loads a hook by its path."""
    path = Path(__file__).with_name("notebooks.py")
    spec = importlib.util.spec_from_file_location("notebooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
