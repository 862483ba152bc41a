"""Run folders: one folder holds everything that a run leaves behind."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from snnlab import __version__
from snnlab.errors import UsageError
from snnlab.training.metrics import MetricsFile, write_atomically
from snnlab.yaml_files import read_yaml_file

PACKAGES = (
    "jax", "jaxlib", "brainstate", "brainpy", "brainunit", "braintools", "braintrace",
    "brainscale", "optax", "orbax-checkpoint", "tonic", "torch", "numpy",
)  # fmt: skip


class RunFolder:
    """Paths of a run: ``config.yaml``, ``metrics.jsonl``, ``results.json``, ``log.txt``,
    ``checkpoints/`` and ``figures/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = MetricsFile(path / "metrics.jsonl")
        self.results = path / "results.json"
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.log = path / "log.txt"

    @classmethod
    def create(cls, wanted: str, task: str, method: str, name: str) -> RunFolder:
        """A new folder; an existing run is never overwritten.

        Args:
            wanted: ``--filepath``, or empty for a name made of task, method and time in
                ``runs/``.
            task, method, name: parts of that name.

        Raises:
            UsageError: the folder holds a run already, or cannot be written.
        """
        path = Path(wanted).expanduser() if wanted else cls._fresh(task, method, name)
        folder = cls(path)
        if folder.config.exists() or folder.checkpoints.exists():
            raise UsageError(
                f"{path} holds a run already; choose another --filepath, or continue it with "
                f"--resume {path}"
            )
        if path.exists() and not path.is_dir():
            raise UsageError(f"--filepath {path} is a file, not a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(f"cannot write to the run folder {path}: {error.strerror}") from None
        return folder

    @staticmethod
    def _fresh(task: str, method: str, name: str) -> Path:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        stem = "-".join(part for part in (task, name, method, stamp) if part)
        path, n = Path("runs") / stem, 1
        while path.exists():
            n += 1
            path = Path("runs") / f"{stem}-{n}"
        return path

    @classmethod
    def existing(cls, wanted: str) -> RunFolder:
        """The folder of a run to be resumed or shown.

        Raises:
            UsageError: it holds no run.
        """
        folder = cls(Path(wanted).expanduser())
        if not folder.config.is_file():
            raise UsageError(f"{folder.path} holds no run (there is no config.yaml in it)")
        if not folder.checkpoints.is_dir():
            raise UsageError(f"{folder.path} holds no checkpoint (its run saved none)")
        return folder

    def write_config(self, text: str) -> None:
        write_atomically(self.config, text)

    def write_results(self, results: dict[str, Any]) -> None:
        write_atomically(self.results, json.dumps(results, indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """Option -> value of the saved config.

        Raises:
            UsageError: the file cannot be read as a config.
        """
        try:
            content = read_yaml_file(self.config)
            return {k: v for part in content.values() for k, v in part.items()}
        except AttributeError:
            raise UsageError(f"{self.config} must hold sections of options") from None

    def logger(self) -> logging.Logger:
        """A logger that appends to ``log.txt``."""
        log = logging.getLogger(f"snnlab.run.{self.path}")
        log.setLevel(logging.INFO)
        log.propagate = False
        if not log.handlers:
            handler = logging.FileHandler(self.log, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            log.addHandler(handler)
        return log


def provenance() -> dict[str, str]:
    """Versions, commit and machine, for the head of a config."""
    import jax

    facts = {
        "snnlab": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "device": str(jax.devices()[0]),
        "cores": str(os.cpu_count()),
        "written": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def commit() -> str:
    """The git commit of the source tree, with ``+`` if it has changes; or ``unknown``."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True,
            check=True, timeout=10,
        )  # fmt: skip
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=root,
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
