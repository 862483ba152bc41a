"""``docs/notebooks/*.py``, scripts in percent cells, as pages with their results and as ``.ipynb``.

They are run when the site is built, each in a kernel of its own and an empty folder. With
``NOTEBOOKS=0`` in the environment they are not, and the pages have no results.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
#: Pictures as results, whatever the surroundings say.
INLINE = "module://matplotlib_inline.backend_inline"
#: Seconds that one may take.
LONGEST = 900


class Page(NamedTuple):
    """A notebook as it is shown.

    Attributes:
        markdown: with its results.
        files: what the page needs beside it, name -> content: pictures, and the notebook.
    """

    markdown: str
    files: dict[str, bytes]


def sources() -> list[Path]:
    """The scripts."""
    return sorted(FOLDER.glob("*.py"))


def page_of(path: Path, execute: bool | None = None) -> Page:
    """A script as a page.

    Args:
        path: of the script.
        execute: whether to run it; without, as ``NOTEBOOKS`` says.
    """
    import jupytext
    import nbformat

    notebook: Any = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    })  # fmt: skip
    if os.environ.get("NOTEBOOKS") != "0" if execute is None else execute:
        _run(notebook)
    name = path.stem
    files = {f"{name}.ipynb": nbformat.writes(notebook).encode()}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(_fenced(re.sub(r" *# fmt: skip$", "", cell.source, flags=re.M), "python"))
        for kind, outputs in itertools.groupby(cell.get("outputs", ()), _kind):
            together = list(outputs)
            if kind == "stdout":
                parts.append(_fenced("".join(o.text for o in together).rstrip(), "text"))
            else:
                parts += [_shown(output, name, files) for output in together]
    title, _, rest = "\n\n".join(part for part in parts if part).partition("\n")
    link = f"[Download as a notebook]({name}.ipynb){{ download }}"
    return Page(f"{title}\n\n{link}\n\n{rest.strip()}\n", files)


def _run(notebook: Any) -> None:
    import nbclient

    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            notebook, timeout=LONGEST, startup_timeout=LONGEST, kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        ).execute(env={**os.environ, "MPLBACKEND": INLINE})  # fmt: skip


def _kind(output: Any) -> str:
    return str(output.get("name", "")) if output.output_type == "stream" else "data"


def _shown(output: Any, name: str, files: dict[str, bytes]) -> str:
    """A result of a cell in Markdown; pictures go into ``files``."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = f"{name}-{len(files)}.png"
        files[picture] = base64.b64decode(data["image/png"])
        return f"![result]({picture})"
    return _fenced(data["text/plain"], "text") if "text/plain" in data else ""


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
