"""The notebooks of ``docs/notebooks``, run as scripts: what they say of their results is so."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
#: Modules of snnlab whose names a notebook may use.
PUBLIC = {"snnlab", "snnlab.data", "snnlab.learners", "snnlab.models.registry"}


def numbers(text: str, pattern: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(pattern, text)]


def first_run(text: str) -> bool:
    (before,), (after,) = numbers(text, r"test_accuracy +(\S+)"), numbers(text, r"epochs: (\S+)")
    return after > 0.7 > 0.6 > before and "test-samples.png" in text


def d_rtrl_and_bptt(text: str) -> bool:
    cosines = re.findall(r"^d-rtrl +w_rec x (\S+) +(.*)$", text, re.MULTILINE)
    each = {float(scale): [float(c) for c in row.split()] for scale, row in cosines}
    exact = min(each[0.0]) > 0.999 and 0.5 < min(each[2.0]) < 0.95
    memory = {name: numbers(line, r"([\d,]+) KiB") for name, line in
              re.findall(r"^(\S+) +(100 steps: .*)$", text, re.MULTILINE)}  # fmt: skip
    grows, flat = memory["bptt"][-1] / memory["bptt"][0], memory["d-rtrl"][-1] / memory["d-rtrl"][0]
    ends = re.findall(r"loss (\S+) -> (\S+)", text)
    learned = [float(b) < 0.7 * float(a) for a, b in ends]
    return exact and grows > 3 and flat < 1.1 and learned == [True] * 3


def own_network(text: str) -> bool:
    (error,) = numbers(text, r"squared error (\S+),")
    return error < 0.3 and "layers.0.value.recovery.weight" in text


def endless_stream(text: str) -> bool:
    on, stopped = numbers(text, r"accuracy of the last 1,000 steps (\S+)")
    (a, b) = re.findall(r"carried on each time: (\d+) KiB", text)
    return on > 0.65 and stopped < on - 0.25 and a == b


CHECKS = {
    "first-run": first_run,
    "d-rtrl-and-bptt": d_rtrl_and_bptt,
    "own-network": own_network,
    "endless-stream": endless_stream,
}
#: What must begin without snnlab: models of a package are read once.
FRESH = ("own-network",)
CHILD = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


def test_there_are_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_it_has_a_title_cells_and_public_names(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    assert text.count("\n# %%\n") >= 3
    modules = {
        module
        for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom)
                       else [alias.name for alias in node.names])
        if module.startswith("snnlab")
    }  # fmt: skip
    assert modules
    assert modules <= PUBLIC


@pytest.mark.parametrize("name", CHECKS)
def test_it_finds_what_it_says(
    name: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    path = str(FOLDER / f"{name}.py")
    if name in FRESH:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            [sys.executable, "-W", "ignore:FigureCanvasAgg is non-interactive", "-c", CHILD, path],
            capture_output=True, text=True, check=False, env=environment, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shown = done.stdout
    else:
        monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
        runpy.run_path(path, run_name="__main__")
        shown = capsys.readouterr().out
    assert CHECKS[name](shown), shown


@pytest.fixture
def pages() -> ModuleType:
    for package in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra 'docs'")
    path = ROOT / "docs" / "_site" / "notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_page_has_the_results_and_the_notebook(pages: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(
        "# %% [markdown]\n# # Small\n#\n# Text.\n\n# %%\nimport matplotlib.pyplot as plt\n\n"
        "print('printed', 1 + 1)\nplt.plot([1, 2])\nplt.show()\n"
    )
    page = pages.page_of(path, execute=True)
    assert page.markdown.startswith("# Small\n\n[Download as a notebook](small.ipynb)")
    assert "```text\nprinted 2\n```" in page.markdown
    assert "![result](small-1.png)" in page.markdown
    assert page.files["small-1.png"].startswith(b"\x89PNG")
    cells = json.loads(page.files["small.ipynb"])["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    assert cells[1]["outputs"]
    path.write_text("# %%\nraise ValueError('wrong')\n")
    with pytest.raises(Exception, match="wrong"):
        pages.page_of(path, execute=True)
