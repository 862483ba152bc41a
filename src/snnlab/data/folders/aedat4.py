"""AEDAT 4 files: read by a process of its own (:mod:`.aedat4_child`), which serves many."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from snnlab.data.folders.aedat4_child import ROW
from snnlab.data.folders.recorded import Recorded
from snnlab.errors import UsageError, missing, shown

#: Of a file; they take 13 bytes each, and 32 where they are sorted.
MOST_EVENTS = 1 << 27
_process: subprocess.Popen[bytes] | None = None


def read_aedat4(path: Path) -> Recorded:
    """The events of a file, in the camera's times.

    Raises:
        UsageError: damaged, without events, or without the package ``aedat``.
    """
    if package := missing("aedat", "aedat"):
        raise UsageError(f"{path} is AEDAT 4.0; to read it needs {package}")
    process = _started()
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(os.path.abspath(path)).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise _ended(path, process) from None
    size = _head(path, process)["size"]
    parts, n_events = [np.zeros(0, ROW)], 0
    while "end" not in (head := _head(path, process)):
        n_events += head["n"]
        if n_events > MOST_EVENTS:
            close()
            raise UsageError(f"{path} holds more than {MOST_EVENTS} events; cut it into recordings")
        parts.append(_rows(path, process, head["n"]))
    rows = np.concatenate(parts)
    t, x, y, p = (rows[name].astype(np.int64) for name in "txyp")
    return Recorded(t, x, y, p, (size[0], size[1]))


def _started() -> subprocess.Popen[bytes]:
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-P", "-m", "snnlab.data.folders.aedat4_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the program; this one ends with its input
            env={
                **os.environ, "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
            },
        )  # fmt: skip
    return _process


@atexit.register
def close() -> None:
    """End the process, if there is one."""
    global _process
    if _process is not None:
        _process.kill()
        for stream in (_process.stdin, _process.stdout):
            if stream is not None:
                stream.close()
        _process.wait()
        _process = None


def _head(path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise _ended(path, process)
    head: dict[str, Any] = json.loads(line)
    if "refused" in head:
        raise UsageError(f"{path} is no readable AEDAT 4.0 file: {shown(head['refused'], 200)}")
    return head


def _rows(path: Path, process: subprocess.Popen[bytes], n: int) -> np.ndarray:
    assert process.stdout is not None
    content = process.stdout.read(n * ROW.itemsize)
    if len(content) < n * ROW.itemsize:
        raise _ended(path, process)
    return np.frombuffer(content, ROW)


def _ended(path: Path, process: subprocess.Popen[bytes]) -> UsageError:
    """What it means that the process has said no more; the next file gets another one."""
    code = process.wait()
    close()
    if code == -getattr(signal, "SIGPROF", 0):
        return UsageError(f"{path} is damaged: a part of it cannot be read to its end")
    return UsageError(f"{path} is damaged: the package aedat failed (exit code {code})")
