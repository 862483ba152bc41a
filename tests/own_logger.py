"""Loggers of a package of one's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.experiment.loggers import Logger, LoggerKind, Started


class Recorder(Logger):
    """Writes down what it is told."""

    def begin(self, run: Started) -> None:
        self._path = run.folder / "told.jsonl"
        self._write("begin", run.task, run.epoch, run.resumed, run.options["method"])

    def row(self, row: Mapping[str, Any]) -> None:
        self._write("row", dict(row))

    def end(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        self._write("end", dict(results), [path.name for path in figures])

    def close(self) -> None:
        self._write("close")

    def _write(self, *what: Any) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")


class BrokenAtOnce(Logger):
    def begin(self, run: Started) -> None:
        raise ConnectionError("no network\nat all")


class BrokenLater(Logger):
    def row(self, row: Mapping[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise RuntimeError("nor here")


class Stuck(Logger):
    """Never answers."""

    def row(self, row: Mapping[str, Any]) -> None:
        threading.Event().wait()


KINDS = {
    "mine": LoggerKind("writes down", "own_logger:Recorder"),
    "broken": LoggerKind("", "own_logger:BrokenAtOnce"),
    "breaks": LoggerKind("", "own_logger:BrokenLater"),
    "stuck": LoggerKind("", "own_logger:Stuck"),
    "absent": LoggerKind("", "own_logger:Recorder", "no_such_package", "some"),
}
