"""snnlab: recurrent spiking networks on JAX, trained by learners that one flag swaps.

From Python:

- :func:`load`, a run from its folder, as a :class:`Run`: config, results, metrics, weights, and the
  network at work on an input of one's own;
- :func:`train`, what the command of a task does;
- :func:`learner`, a learning rule for any step that is a pure function;
- :class:`Hook`, what is called beside training, and :class:`UsageError`, which all of them raise.

Everything is loaded when it is first used: ``import snnlab`` does not load JAX.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnlab.errors import UsageError as UsageError
    from snnlab.learners.pure import PureLearner as PureLearner
    from snnlab.learners.pure import learner as learner
    from snnlab.library import Record as Record
    from snnlab.library import Run as Run
    from snnlab.library import load as load
    from snnlab.library import train as train
    from snnlab.training.hooks import Hook as Hook

#: Public name -> module.
_HOME = {
    "Hook": "training.hooks",
    "PureLearner": "learners.pure",
    "Record": "library",
    "Run": "library",
    "UsageError": "errors",
    "learner": "learners.pure",
    "load": "library",
    "train": "library",
}

__all__ = [
    "Hook", "PureLearner", "Record", "Run", "UsageError", "__version__", "learner", "load", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(importlib.import_module(f"snnlab.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """As pyproject.toml has it, which is in a source tree; else of the installed package."""
    source = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if source.is_file():
        import tomllib

        with open(source, "rb") as file:
            project = tomllib.load(file).get("project", {})
        if project.get("name") == "snnlab":
            return str(project["version"])
    import importlib.metadata

    return importlib.metadata.version("snnlab")


def _caches_of_libraries() -> None:
    """Give brainevent and matplotlib a temporary cache folder where the home has no place.

    brainevent makes its folder when it is imported, and fails where it cannot. Processes that a
    command starts share the folder, which ends with the command.
    """
    if "BRAINEVENT_CACHE_DIR" in os.environ:
        return
    try:
        own = Path.home() / ".cache" / "brainevent"
        own.mkdir(parents=True, exist_ok=True)
        if os.access(own, os.W_OK | os.X_OK):
            return
    except (OSError, RuntimeError):  # read-only, no folder; nobody's home
        pass
    folder = tempfile.mkdtemp(prefix="snnlab-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["BRAINEVENT_CACHE_DIR"] = folder
    os.environ.setdefault("MPLCONFIGDIR", folder)


_caches_of_libraries()
