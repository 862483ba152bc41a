"""Imports point one way, and a task is a docstring, flags and a call.

The layers are those of docs/architecture.md. A part may import itself and the layers below.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "snnlab"
LAYERS = (
    {"interrupts", "lazy", "rendezvous"},
    {"errors"},
    {"yaml_files", "console", "options", "registry", "scores", "config_files"},
    {"flags"},
    {"config", "devices", "processes", "sharding"},
    {"models", "data"},
    {"learners"},
    {"training", "analysis", "exchange"},
    {"runs"},
    {"experiment"},
    {"problems"},
    {"benchmarks", "library", "search"},
    {"report"},
    {"cli"},
    {"__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Read by every command before it knows what to do: `--help` must not wait for JAX.
LIGHT = {
    "interrupts", "lazy", "rendezvous", "errors", "yaml_files", "options", "registry", "scores",
    "flags", "config", "config_files", "cli", "__main__",
}  # fmt: skip
HEAVY = {"jax", "brainstate", "brainpy", "brainunit", "torch", "tonic", "numpy", "matplotlib"}
# Only the training loop repeats, and only the learners compile.
COMPILE = {"jit", "pjit", "grad", "value_and_grad", "vmap", "scan", "for_loop", "fori_loop"}


def imported(tree: ast.AST, package: str) -> list[str]:
    """Absolute dotted names that a module of ``package`` imports, wherever in the module."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def part_of(path: Path, source: Path = SOURCE) -> str:
    """``models`` for ``models/neurons.py``, ``config`` for ``config.py``."""
    return path.relative_to(source).parts[0].removesuffix(".py")


class _AtRuntime(ast.NodeTransformer):
    """A module without what only type checkers import."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if typing else self.generic_visit(node)


def import_faults(code: str, part: str, package: str = "snnlab") -> list[str]:
    """Imports of a module of ``part`` that do not point down.

    The package itself names what is public, and loads none of it.
    """
    faults = []
    tree: ast.AST = ast.parse(code)
    for name in imported(_AtRuntime().visit(tree) if part == "__init__" else tree, package):
        if part in LIGHT and name.split(".")[0] in HEAVY:
            faults.append(f"{part} imports {name}: it must load without it")
        if not name.startswith("snnlab."):
            continue
        target = name.split(".")[1]
        if target == part or (target not in LEVEL and target.startswith("__")):
            continue
        if target not in LEVEL:
            faults.append(f"{part} imports {name}: no layer of docs/architecture.md")
        elif part == "__init__" or LEVEL[target] >= LEVEL[part]:
            faults.append(f"{part} imports {name}: not a layer below")
    return faults


def task_faults(code: str) -> list[str]:
    """What makes a task more than docstring, flags and a call."""
    tree = ast.parse(code)
    faults = [] if ast.get_docstring(tree) else ["no docstring"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            faults.append(f"class {node.name}")
        elif isinstance(node, ast.For | ast.AsyncFor | ast.While):
            faults.append(f"loop in line {node.lineno}")
        elif isinstance(node, ast.Attribute) and node.attr in COMPILE:
            faults.append(f"{node.attr} in line {node.lineno}")
        elif isinstance(node, ast.Name) and node.id in COMPILE:
            faults.append(f"{node.id} in line {node.lineno}")
    return faults


MODULES = sorted(SOURCE.rglob("*.py"))
TASKS = sorted((ROOT / "tasks").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    assert part == "__init__" or part in LEVEL, f"{part}: no layer of docs/architecture.md"
    package = ".".join(["snnlab", *path.relative_to(SOURCE).parts[:-1]])
    assert import_faults(path.read_text(encoding="utf-8"), part, package) == []


@pytest.mark.parametrize("path", TASKS, ids=lambda p: p.name)
def test_a_task_is_docstring_flags_and_a_call(path: Path) -> None:
    assert task_faults(path.read_text(encoding="utf-8")) == []


def test_there_is_something_to_check() -> None:
    assert {"config", "errors"} <= {part_of(p) for p in MODULES}


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("models", "from snnlab.learners import base"),
        ("models", "from snnlab.data.stream import Stream"),
        ("models", "import snnlab.training.loop"),
        ("models", "from snnlab import experiment"),
        ("models", "def f():\n    from snnlab.training import loop"),
        ("models", "if TYPE_CHECKING:\n    from snnlab.learners.base import Learner"),
        ("models", "from ..learners.base import Learner"),
        ("models", "from .. import training"),
        ("config", "from snnlab import models"),
        ("config", "import jax.numpy as jnp"),
        ("errors", "from snnlab.config import option"),
        ("training", "from snnlab.analysis.figures import raster"),
        ("learners", "from snnlab.elsewhere import x"),
        ("__init__", "from snnlab.config import parse"),
        ("__init__", "def f():\n    from snnlab.config import parse"),
    ],
)
def test_a_wrong_import_is_found(part: str, code: str) -> None:
    package = "snnlab" if part in ("config", "errors", "__init__") else f"snnlab.{part}"
    assert len(import_faults(code, part, package)) == 1


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("models", "from snnlab.models.neurons import LIF\nfrom snnlab.config import option"),
        ("models", "from . import neurons\nfrom .neurons import LIF\nfrom ..config import option"),
        ("models", "import jax\nfrom snnlab import __version__"),
        ("learners", "from snnlab.data.stream import Stream\nfrom snnlab.models import base"),
        ("experiment", "from snnlab import analysis, config, data, learners, training"),
        ("__init__", "if TYPE_CHECKING:\n    from snnlab.library import load as load"),
    ],
)
def test_a_right_import_is_not(part: str, code: str) -> None:
    package = "snnlab" if part == "experiment" else f"snnlab.{part}"
    assert import_faults(code, part, package) == []


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "'''Doc.'''\nclass Trainer: ...",
        "'''Doc.'''\nfor epoch in range(3):\n    pass",
        "'''Doc.'''\ndef main():\n    while True: ...",
        "'''Doc.'''\nimport jax\nstep = jax.jit(f)",
        "'''Doc.'''\n@jit\ndef step(): ...",
        "'''Doc.'''\nbrainstate.transform.for_loop(f, xs)",
    ],
)
def test_a_task_that_does_more_is_found(code: str) -> None:
    assert len(task_faults(code)) == 1


def test_a_thin_task_is_not() -> None:
    code = (
        "'''Doc.'''\nfrom snnlab.experiment import run\n\nif __name__ == '__main__':\n    run()\n"
    )
    assert task_faults(code) == []


# --------------------------------------------------------------------- packages

#: Package of an extra -> modules that may import it, inside of a function.
EXTRAS = {
    "tonic": {"data/download.py", "benchmarks/pipeline.py"},
    "torch": {
        "benchmarks/pipeline.py",
        "benchmarks/peers.py",
        "benchmarks/frameworks/with_torch.py",
    },
    "torchvision": {"data/download.py"},
    "brainscale": {"learners/backends/brainscale.py", "models/maps.py"},
    "pandas": {"library.py"},
    "jinja2": {"report/write.py"},
    "nir": {"exchange/packages.py"},
    "optuna": {"search/command.py", "search/study.py", "search/summary.py"},
    "espeakng_loader": {"data/speech/espeak.py"},
    "soundfile": {"data/speech/audio.py"},
    "aedat": {"data/folders/aedat4_child.py"},
}


def test_what_an_extra_installs_is_imported_where_it_is_used() -> None:
    """Without them everything else runs, the main job included."""
    found = {}
    for path in MODULES:
        tree = _AtRuntime().visit(ast.parse(path.read_text(encoding="utf-8")))
        inside = {
            node for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)
        }
        for node in ast.walk(tree):
            names = imported(ast.Module([node], []), "") if not hasattr(node, "body") else []
            for name in {n.split(".")[0] for n in names} & set(EXTRAS):
                assert node in inside, f"{path}: {name} is imported with the module"
                found.setdefault(name, set()).add(str(path.relative_to(SOURCE)))
    assert found == {name: where for name, where in EXTRAS.items() if where}
