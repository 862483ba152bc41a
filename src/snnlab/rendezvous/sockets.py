"""Connections between processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

#: Seconds until the system gives up on a machine that does not answer.
DEAD_S = 30
#: Hosts that no other machine reaches.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Bytes of a message, at most.
LONGEST = 1 << 24


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def line_of(message: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message).encode() + b"\n"


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, close: bool) -> None:
    """Hand on bytes as they come; with the last, ``close`` the other end."""
    with contextlib.suppress(OSError, RuntimeError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    if close:
        sink.close()


def probe(writer: asyncio.StreamWriter) -> None:
    """Have the system find out that the machine at the other end is gone."""
    sock = writer.get_extra_info("socket")
    options = {
        "TCP_KEEPIDLE": DEAD_S // 3, "TCP_KEEPINTVL": DEAD_S // 6, "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": 1000 * DEAD_S,
    }  # fmt: skip
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
