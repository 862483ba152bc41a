"""Loggers beside a run: each in a thread of its own, so that none can hold it up or end it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.errors import one_line, shown
from snnlab.experiment.loggers.base import Logger, Started
from snnlab.experiment.loggers.registry import LOGGERS
from snnlab.registry import load
from snnlab.training.metrics import finite

#: Seconds that the end of a run waits for a logger, such as one without a network.
PATIENCE = 30.0


class Logs:
    """The loggers of a run.

    Args:
        names: of loggers.
        run: what is logged.
        tell: says a line to the user, once for a logger that failed.
    """

    def __init__(self, names: Sequence[str], run: Started, tell: Callable[[str], None]) -> None:
        self._threads = [_Thread(name, run, tell) for name in names]

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of ``metrics.jsonl``."""
        copied = finite(dict(row))
        self._put(lambda logger: logger.row(copied))

    def end(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """What the run found."""
        copied, paths = finite(dict(results)), [p for p in figures if p.suffix == ".png"]
        self._put(lambda logger: logger.end(copied, paths))

    def close(self) -> None:
        """Wait until all is logged, for a while."""
        for thread in self._threads:
            thread.close()

    def _put(self, call: Callable[[Logger], None]) -> None:
        for thread in self._threads:
            thread.put(call)


class _Thread:
    """One logger, and what it is still to be told."""

    def __init__(self, name: str, run: Started, tell: Callable[[str], None]) -> None:
        self._name, self._run, self._tell = name, run, tell
        self._calls: queue.SimpleQueue[Callable[[Logger], None] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[Logger], None] | None) -> None:
        if not self._failed:
            self._calls.put(call)

    def close(self) -> None:
        self.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive() and not self._failed:
            self._fail(f"did not answer for {PATIENCE:.0f} s; the rest of the log may be lost")

    def _work(self) -> None:
        logger: Logger | None = None
        try:
            logger = load(LOGGERS.get(self._name).make)()
            logger.begin(self._run)
            while (call := self._calls.get()) is not None:
                call(logger)
        except Exception as error:  # noqa: BLE001 (whatever a package does without disk or network)
            reason = one_line(str(error)) or type(error).__name__
            self._fail(f"failed and is left out: {shown(reason, 200)}; the run goes on")
        finally:
            if logger is not None:
                with contextlib.suppress(Exception):
                    logger.close()

    def _fail(self, how: str) -> None:
        if not self._failed:
            self._failed = True
            with contextlib.suppress(Exception):
                self._tell(f"--log {self._name} {how}")
