"""Run folders: one folder holds everything that a run leaves behind."""

from __future__ import annotations

import contextlib
import csv
import datetime
import errno
import importlib.metadata
import io
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import filelock

from snnlab import __version__, processes
from snnlab.errors import UsageError
from snnlab.training.checkpoint_files import places
from snnlab.training.metrics import MetricsFile, finite, write_atomically
from snnlab.yaml_files import read_yaml_file

PACKAGES = (
    "jax", "jaxlib", "brainstate", "brainpy", "brainunit", "braintools", "braintrace",
    "brainscale", "optax", "orbax-checkpoint", "tonic", "torch", "numpy",
)  # fmt: skip


#: Errors that are the disk's, not ours.
DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip
#: Figure that a finished run has in any case.
SAMPLES = "test-samples.png"
#: Columns of ``predictions.csv``.
PREDICTION = "split", "index", "label", "prediction"


class RunFolder:
    """Paths of a run: ``config.yaml``, ``metrics.jsonl``, ``results.json``, ``predictions.csv``,
    ``log.txt``, ``checkpoints/`` and ``figures/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = MetricsFile(path / "metrics.jsonl")
        self.results = path / "results.json"
        self.predictions = path / "predictions.csv"
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.log = path / "log.txt"
        self._lock: filelock.BaseFileLock | None = None
        self._locked: tuple[int, int] | None = None

    @classmethod
    def create(cls, wanted: str, task: str, method: str, name: str) -> RunFolder:
        """A new folder, locked; an existing run is never overwritten.

        Args:
            wanted: ``--filepath``, or empty for a name made of task, method and time in
                ``runs/``.
            task, method, name: parts of that name.

        Raises:
            UsageError: the folder holds a run already, or cannot be written.
        """
        try:
            path = Path(wanted).expanduser() if wanted else cls.fresh(task, method, name)
            folder = cls(path)
            if path.exists() and not path.is_dir():
                raise UsageError(f"--filepath {path} is a file, not a folder")
            folder._refuse_another()
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write to the run folder {error.filename}: {error.strerror}"
            ) from None
        folder._check_kinds()
        folder.lock()
        folder._refuse_another()  # one that began and ended since
        return folder

    def _refuse_another(self) -> None:
        saved = self.checkpoints.glob("[!.]*")  # a run that was ended at once has an empty folder
        if self.config.exists() or any(saved):
            raise UsageError(
                f"{self.path} holds a run already; choose another --filepath, or continue it with "
                f"--resume {self.path}"
            )

    @staticmethod
    def fresh(task: str, method: str, name: str) -> Path:
        """A folder that this process has made and no other one has."""
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        stem = "-".join(part for part in (task, name, method, stamp) if part)
        home = Path("runs")
        home.mkdir(exist_ok=True)
        for path in (home / stem, *(home / f"{stem}-{n}" for n in range(2, 10_000))):
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
        raise UsageError(f"{home} has too many runs of this name and second; give a --filepath")

    @classmethod
    def existing(cls, wanted: str) -> RunFolder:
        """The folder of a run to be resumed or shown.

        Raises:
            UsageError: it holds no run.
        """
        folder = cls(Path(wanted).expanduser())
        if not folder.holds_a_run:
            raise UsageError(
                f"{folder.path} holds no run (there is no config.yaml in it, and no checkpoint)"
            )
        folder._check_kinds()
        return folder

    def lock(self) -> None:
        """Keep others from writing into this folder while this process lives.

        The lock is the operating system's, on an open file: it ends with the process, however
        that ends. Readers need none.

        Raises:
            UsageError: another process has it, or the folder cannot be written.
        """
        made = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            made.acquire()
        except filelock.Timeout:
            raise UsageError(
                f"{self.path} is in use: another process is training this run; wait for it, or end "
                "it first"
            ) from None
        except NotImplementedError:  # a file system without locks
            return
        except OSError as error:
            raise UsageError(
                f"cannot write to the run folder {self.path}: {error.strerror}"
            ) from None
        self._lock, self._locked = made, self._lock_file()

    def _check_kinds(self) -> None:
        """Refuse a folder in the place of a file, before a run is half done."""
        files = self.config, self.metrics.path, self.results, self.predictions, self.log
        for path in (*files, self.path / ".lock"):
            if path.is_dir():
                raise UsageError(f"{path} is a folder, needed: a file")
        for path in (self.checkpoints, self.figures):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file, needed: a folder")

    def _lock_file(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path / ".lock")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check_lock(self) -> None:
        """Stop before two processes write into one folder.

        Raises:
            UsageError: somebody removed the lock, so another process may have it now.
        """
        if self._locked is not None and self._lock_file() != self._locked:
            raise UsageError(
                f"{self.path}/.lock was removed: another process may train this run now; what was "
                "saved before stays"
            )

    def unlock(self) -> None:
        """Let others in again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = self._locked = None

    @property
    def in_use(self) -> bool:
        """Whether a process is training this run, where the system can say; changes nothing."""
        try:
            import fcntl

            with open(self.path / ".lock", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (ImportError, OSError):
            return False
        return False

    @property
    def holds_a_run(self) -> bool:
        """Whether there is something to go on with."""
        return self.config.is_file() or bool(places(self.checkpoints))

    @property
    def finished(self) -> bool:
        """Whether results and figures are written."""
        return self.results.is_file() and (self.figures / SAMPLES).is_file()

    def write_config(self, text: str) -> None:
        write_atomically(self.config, text)

    def write_results(self, results: dict[str, Any]) -> None:
        write_json(self.results, results)

    def read_results(self) -> dict[str, Any]:
        """``results.json``, empty if it cannot be read."""
        try:
            found = json.loads(self.results.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_predictions(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Replace ``predictions.csv`` by rows of :data:`PREDICTION`."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([PREDICTION, *rows])
        write_atomically(self.predictions, text.getvalue())

    def read_predictions(self) -> list[dict[str, Any]]:
        """Its rows by column, the index a number; empty where there is no such file.

        Raises:
            UsageError: it is not as a run wrote it.
        """
        if not self.predictions.is_file():
            return []
        try:
            with open(self.predictions, encoding="utf-8", newline="") as file:
                table = csv.reader(file)
                if tuple(next(table, ())) != PREDICTION:
                    raise ValueError
                rows = [dict(zip(PREDICTION, row, strict=True)) for row in table]
            return [{**row, "index": int(row["index"])} for row in rows]
        except (OSError, ValueError, csv.Error):
            columns = ",".join(PREDICTION)
            raise UsageError(f"{self.predictions} must be CSV with columns {columns}") from None

    def read_config(self) -> dict[str, Any]:
        """Option -> value of the saved config.

        Raises:
            UsageError: the file cannot be read as a config.
        """
        try:
            return options_of(read_yaml_file(self.config))
        except AttributeError:
            raise UsageError(f"{self.config} must hold sections of options") from None

    def logger(self) -> logging.Logger:
        """A logger that appends to ``log.txt``."""
        log = logging.getLogger(f"snnlab.run.{self.path}")
        log.setLevel(logging.INFO)
        log.propagate = False
        if not log.handlers:
            handler = _LogFile(self.log, encoding="utf-8", delay=True)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            log.addHandler(handler)
        return log


class Watched(RunFolder):
    """The folder of a run that another process writes: here nothing is locked or written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.metrics = _Unwritten(self.metrics.path)

    def lock(self) -> None:
        pass

    def write_config(self, text: str) -> None:
        pass

    def write_results(self, results: dict[str, Any]) -> None:
        pass

    def logger(self) -> logging.Logger:
        log = logging.getLogger("snnlab.watched")
        log.propagate = False
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        return log


class _Unwritten(MetricsFile):
    def append(self, row: dict[str, Any]) -> None:
        pass

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        pass


def options_of(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Option -> value of a config in sections."""
    return {str(name): value for part in content.values() for name, value in part.items()}


@contextlib.contextmanager
def disk_errors(folder: Path, going_on: bool = True) -> Iterator[None]:
    """Make one line of an error of the disk, such as no space, while a run is written.

    Args:
        folder: of the run.
        going_on: whether it is trained, so that ``--resume`` goes on with it.

    Raises:
        UsageError: what could not be written, and how to go on.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        what = error.filename or f"to {folder}, or what this command prints"
        more = f"; what was saved before stays in {folder}, and --resume goes on from there"
        raise UsageError(f"cannot write {what}: {error.strerror}" + more * going_on) from None


class _LogFile(logging.FileHandler):
    """A line that cannot be written is not worth a run."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; numbers that are not finite become ``null``."""
    write_atomically(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    facts = {
        "snnlab": __version__, "commit": commit(), "python": platform.python_version(),
    }  # fmt: skip
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def provenance() -> dict[str, str]:
    """Versions, commit and machine, for the head of a config."""
    import jax

    of_code = versions()
    head = {name: of_code.pop(name) for name in ("snnlab", "commit", "python")}
    return {
        **head,
        "device": str(jax.devices()[0]),
        "cores": str(os.cpu_count()),
        **({"processes": str(processes.count())} if processes.count() > 1 else {}),
        "written": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **of_code,
    }


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
