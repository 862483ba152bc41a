"""Reading AEDAT 4 in a process of its own: the package ``aedat`` ends a process on damaged files.

Each line of standard input is the JSON text of a path. The answer on standard output, for each: a
line ``{"size": [width, height]}``, for every packet ``{"n": events}`` and its events as ``ROW``,
then ``{"end": true}``; or, at any place, ``{"refused": why}``. Memory, and processor time of a
packet, are bounded as where HDF5 is read (:mod:`snnlab.data.shd_child`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from snnlab.data.shd_child import bound, rewind
from snnlab.errors import one_line

ROW = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])


def main() -> None:
    import aedat  # before the memory is bounded

    assert aedat
    bound()
    for line in sys.stdin:
        rewind()
        serve(json.loads(line), sys.stdout.buffer)


def serve(path: str, sink: BinaryIO) -> None:
    """Send the file ``path``."""
    try:
        for head, rows in frames(path):
            sink.write(json.dumps(head).encode() + b"\n" + rows)
            rewind()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (a panic of Rust is none of Exception)
        why = one_line(str(error))[:200] or type(error).__name__
        sink.write(json.dumps({"refused": why}).encode() + b"\n")
    sink.flush()


def frames(path: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Heads of the answer, and what follows each."""
    import aedat

    decoder = aedat.Decoder(path)
    streams = {k: s for k, s in decoder.id_to_stream().items() if s["type"] == "events"}
    if not streams:
        raise ValueError("it holds no stream of events")
    first = min(streams)
    yield {"size": [int(streams[first]["width"]), int(streams[first]["height"])]}, b""
    for packet in decoder:
        if packet["stream_id"] == first and "events" in packet:
            events = packet["events"]
            rows = np.zeros(len(events), ROW)
            for name, own in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
                rows[name] = events[own]
            yield {"n": len(rows)}, rows.tobytes()
    yield {"end": True}, b""


if __name__ == "__main__":
    main()
