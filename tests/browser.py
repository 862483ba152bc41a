"""A headless Chromium, driven by its DevTools protocol over a pipe: no package is needed.

Which one: ``$SNNLAB_BROWSER``, one of the path, or that of npm's @sparticuz/chromium where
``make browser`` has put it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell", "chrome")
#: Of `make browser`.
PACKAGE = Path(sys.prefix) / "browser" / "node_modules" / "@sparticuz" / "chromium" / "bin"
FLAGS = (
    "--headless=shell", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
#: The browser reads from file 3 and writes to file 4.
BEGIN = """
import fcntl, os, sys
down, up = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(down, 3)
os.dup2(up, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
UNPACK = """
const fs = require('fs'), zlib = require('zlib');
fs.writeFileSync(process.argv[2], zlib.brotliDecompressSync(fs.readFileSync(process.argv[1])));
"""


@functools.cache
def find() -> tuple[str, dict[str, str]]:
    """Program and environment of a browser; empty where there is none."""
    named = os.environ.get("SNNLAB_BROWSER", "")
    if named or not (PACKAGE / "chromium.br").is_file():
        found = [path for name in ((named,) if named else NAMES) if (path := shutil.which(name))]
        return (found[0] if found else ""), dict(os.environ)
    if not shutil.which("node"):
        return "", {}
    home = PACKAGE / "unpacked"
    if not home.is_dir():
        part = PACKAGE / f"part-{os.getpid()}"
        part.mkdir()
        tars = "al2023.tar", "swiftshader.tar", "fonts.tar"  # libraries, graphics, fonts
        for name in ("chromium", *tars):
            source, target = str(PACKAGE / f"{name}.br"), str(part / name)
            subprocess.run(["node", "-e", UNPACK, source, target], check=True, timeout=120)
        for name in tars:
            with tarfile.open(part / name) as file:
                file.extractall(part, filter="data")
        (part / "chromium").chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster
            part.rename(home)
    own = {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_PATH": str(home)}
    return str(home / "chromium"), {**os.environ, **own}


class Page:
    """A page that is open.

    Attributes:
        events: what the browser told meanwhile.
    """

    def __init__(self, process: subprocess.Popen, read: int, write: int) -> None:
        self._process, self._read, self._write = process, read, write
        self._buffer, self._n, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        ends = time.monotonic() + 60
        while True:
            answer = self._message(ends)
            if answer.get("id") == self._n:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))[0]
            got = os.read(self._read, 1 << 20) if ready else b""
            if not got:
                raise TimeoutError("the browser says nothing")
            self._buffer += got
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, width: int, theme: str) -> None:
        """Show a file in a window of this width, of a reader who prefers this theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": theme}])  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        ends = time.monotonic() + 30
        while self.value("[document.readyState, location.href]") != ["complete", path.as_uri()]:
            assert time.monotonic() < ends, "the page is not loaded"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        found = self.call("Runtime.evaluate", expression=f"JSON.stringify({expression})")
        assert "exceptionDetails" not in found, found
        return json.loads(found["result"].get("value", "null"))

    def save(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.value("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 16000), "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def requests(self) -> list[str]:
        """What was asked for, but for the pages themselves and what they hold."""
        urls = [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in urls if not url.startswith(("data:", "file:///"))]

    def complaints(self) -> list[str]:
        """Errors and warnings of the browser."""
        names = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [str(event["params"]) for event in self.events if event["method"] in names]


@contextlib.contextmanager
def page(profile: Path) -> Iterator[Page]:
    """An open browser; ``profile`` is an empty folder for what it keeps."""
    program, environment = find()
    down, to_it = os.pipe()
    from_it, up = os.pipe()
    begin = [sys.executable, "-ISc", BEGIN, str(down), str(up)]
    process = subprocess.Popen(
        [*begin, program, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(down, up), env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(down)
    os.close(up)
    try:
        yield Page(process, from_it, to_it)
    finally:
        process.kill()
        process.wait()
        os.close(to_it)
        os.close(from_it)
