"""``--log tensorboard``: event files in the folder ``tensorboard`` of a run.

``tensorboard --logdir runs`` shows all of them. Tags are ``loss/train``, ``loss/val``, over
epochs; options and results are texts, figures images. A resume adds a file; what was logged of
epochs after its checkpoint is hidden by it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from snnlab.experiment.loggers.base import Logger, Started, numbers
from snnlab.yaml_files import write_yaml


class TensorBoard(Logger):
    """Writes records itself, so that an error of the disk is raised here."""

    def __init__(self) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2, summary_pb2
        self._file: BinaryIO | None = None
        self._epoch = 0

    def begin(self, run: Started) -> None:
        folder = run.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        stamp, host = f"{time.time():.6f}", socket.gethostname()
        path = folder / f"events.out.tfevents.{stamp}.{host}.{os.getpid()}"
        self._file = open(path, "ab")  # noqa: SIM115 (closed by close)
        self._write(self._event.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if run.resumed:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(self._event.Event(step=run.epoch + 1, session_log=start))
        options = write_yaml(dict(run.options))
        self._add(run.epoch, [self._text("options", f"```\n{options}```")])

    def row(self, row: Mapping[str, Any]) -> None:
        split, epoch = row["split"], int(row["epoch"])
        told = {k: v for k, v in row.items() if k not in ("epoch", "split")}
        found = [self._number(f"{name}/{split}", value) for name, value in numbers(told)]
        self._epoch = max(self._epoch, epoch)
        self._add(epoch, found)

    def end(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        found = [self._number(f"results/{name}", value) for name, value in numbers(results)]
        found.append(self._text("results", f"```\n{write_yaml(dict(results))}```"))
        for path in figures:
            data = path.read_bytes()
            height, width = _size(data)
            image = self._summary.Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=data
            )
            found.append(self._summary.Summary.Value(tag=f"figures/{path.stem}", image=image))
        self._add(self._epoch, found)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _number(self, tag: str, value: float) -> Any:
        return self._summary.Summary.Value(tag=tag, simple_value=value)

    def _text(self, tag: str, text: str) -> Any:
        from tensorboard.plugins.text.summary_v2 import text_pb

        return text_pb(tag, text).value[0]

    def _add(self, epoch: int, values: list[Any]) -> None:
        summary = self._summary.Summary(value=values)
        self._write(self._event.Event(wall_time=time.time(), step=epoch, summary=summary))

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None
        RecordWriter(self._file).write(event.SerializeToString())
        self._file.flush()


def _size(png: bytes) -> tuple[int, int]:
    """Height and width of a PNG, from its header."""
    width, height = struct.unpack(">II", png[16:24])
    return height, width
