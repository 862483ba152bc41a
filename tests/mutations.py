"""Inputs with random damage: each is read, or refused in one line.

``python tests/mutations.py KIND N SEED`` tries N of a kind in a process of bounded memory.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import scipy.io.wavfile
from hypothesis import strategies as st

import own_files
from on_disk import event, nmnist, shd
from snnlab.data import shd as shd_module
from snnlab.data.features import features
from snnlab.data.folders.aedat import read_aedat
from snnlab.data.folders.npz import read_npz
from snnlab.data.manifest import NAME
from snnlab.data.recordings import load_recordings
from snnlab.data.store import Sensor, cached
from snnlab.errors import UsageError

LONGEST_S, MEMORY = 10.0, 2 << 30
_EXTREME = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_PIECES = (
    b"\x00",
    b"\xff",
    b"[",
    b"{",
    b'"',
    b"NaN",
    b"1e999",
    b"-1",
    b"null",
    b"PK\x01\x02",
    b"TREE",
)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """``sound`` with bits flipped, numbers made extreme, parts zeroed, doubled, cut out or put in.

    Half of them keep their length: a container whose parts have moved is soon refused.
    """
    raw = bytearray(sound)
    moves = draw(st.booleans())
    for _ in range(draw(st.integers(1, 6))):
        # Hypothesis likes small numbers: spread them, or only the first bytes are damaged.
        at = draw(st.integers(0, 2**32 - 1)) * 0x9E3779B1 % 2**32 % max(len(raw), 1)
        kind = draw(st.integers(0, 7 if moves else 4))
        if kind == 0 and raw:
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1 and raw:
            raw[at] = draw(st.integers(0, 255))
        elif kind <= 2:
            size = draw(st.sampled_from((1, 2, 4, 8)))
            value = draw(st.sampled_from(_EXTREME)) % (1 << 8 * size)
            raw[at : at + size] = value.to_bytes(size, "little")[: len(raw) - at]
        elif kind == 3:
            size = min(draw(st.sampled_from((4, 60))), len(raw) - at)
            raw[at : at + size] = bytes(size)
        elif kind == 4:
            size = min(draw(st.sampled_from((8, 40, 512))), len(raw) - at)
            other = draw(st.integers(0, max(len(raw) - size, 0)))
            raw[at : at + size] = raw[other : other + size]
        elif kind == 5:
            del raw[at : at + draw(st.sampled_from((1, 2, 5, 64, 1 << 20)))]
        elif kind == 6:
            raw[at:at] = draw(st.sampled_from(_PIECES)) * draw(st.sampled_from((1, 3, 1000)))
        else:
            raw[at:at] = raw[at : at + draw(st.sampled_from((5, 46, 512)))]
    return bytes(raw)


# ------------------------------------------------------------------ the kinds


def events_bin(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    root = nmnist(folder / "nmnist")
    path = root / "Train" / "1" / "00001.bin"

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return load_recordings("nmnist", str(root))

    return b"".join(event(k % 34, k * 7 % 34, k % 2, 3000 * k) for k in range(100)), read


def archive(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for split in ("Train", "Test"):
            for digit in range(3):
                made.writestr(f"{split}/{digit}/0.bin", event(digit, t=99) * 9 + event(t=100) * 9)
    path = folder / "all.zip"

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return load_recordings("nmnist", str(path))

    return sink.getvalue(), read


def hdf5(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    path = shd(folder / "shd_train.h5", n=6)
    sound = path.read_bytes()
    shd(folder / "shd_test.h5", n=6)

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return load_recordings("shd", str(folder))

    return sound, read


def wav(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    path = folder / "a.wav"
    wave = (np.sin(np.arange(900)) * 20_000).astype(np.int16)
    scipy.io.wavfile.write(path, 16_000, wave)
    sound = path.read_bytes()

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return features(path)

    return sound, read


def flac(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    import soundfile

    path = folder / "a.flac"
    soundfile.write(path, np.sin(np.arange(900)) / 2, 16_000)
    sound = path.read_bytes()

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return features(path)

    return sound, read


def manifest(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
    sensor = Sensor("toy", 6, 5, 2, 4, window_us=1000)

    def write(writer: Any) -> None:
        writer.add(np.array([5, 900]), np.array([7, 59]), np.array([1, 1]), [1, 2], [0, 1])

    path = cached(sensor, {"k": 1}, write).path

    def read(raw: bytes) -> object:
        (path / NAME).write_bytes(raw)
        store = cached(sensor, {"k": 1}, write)
        assert store.labels.tolist() == [1, 2]
        assert json.loads((path / NAME).read_text())["key"] == {"k": 1}
        return store

    return (path / NAME).read_bytes(), read


def own_format(suffix: str) -> Callable[[Path], tuple[bytes, Callable[[bytes], object]]]:
    """One file of those that ``--dataset folder`` reads."""

    def made(folder: Path) -> tuple[bytes, Callable[[bytes], object]]:
        path = folder / f"a{suffix}"
        own_files.WRITERS[suffix](path, own_files.events(1, 0))
        reader = read_npz if suffix == ".npz" else read_aedat

        def read(raw: bytes) -> object:
            path.write_bytes(raw)
            return reader(path)

        return path.read_bytes(), read

    return made


KINDS = {made.__name__: made for made in (events_bin, archive, hdf5, wav, flac, manifest)}
KINDS |= {
    "npz": own_format(".npz"), "aedat2": own_format("-davis.aedat"),
    "aedat3": own_format("-3.aedat"), "aedat4": own_format(".aedat4"),
}  # fmt: skip

# ------------------------------------------------------ a fast start of readers


class Forked:
    """Stands for ``subprocess.Popen`` of the reading process: a fork of one that is warm.

    It is bounded as that is; a start costs milliseconds in place of a quarter of a second.
    """

    _server: subprocess.Popen[str] | None = None
    _code = """
        import os, sys
        from snnlab.data import shd_child
        shd_child.PART_S = 0.25
        for line in sys.stdin:
            path, shown, out = line.rstrip("\\n").split("\\t")
            if not (child := os.fork()):
                shd_child.bound()
                with open(out, "wb") as sink:
                    shd_child.serve(path, shown, sink, shd_child.rewind)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """

    def __init__(self, argv: list[str], **_: object) -> None:
        if Forked._server is None:
            path = os.pathsep.join(sys.path)
            Forked._server = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(self._code)], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        server = Forked._server
        assert server.stdin is not None
        assert server.stdout is not None
        out = argv[-2] + ".frames"
        server.stdin.write("\t".join((argv[-2], argv[-1], out)) + "\n")
        server.stdin.flush()
        self.code = int(server.stdout.readline())
        self.stdout = open(out, "rb")  # noqa: SIM115

    @classmethod
    def close(cls) -> None:
        if cls._server is not None:
            assert cls._server.stdin is not None
            assert cls._server.stdout is not None
            cls._server.stdin.close()
            cls._server.stdout.close()
            cls._server.wait()
            cls._server = None

    def kill(self) -> None: ...

    def wait(self) -> int:
        return self.code


class _Subprocess:
    Popen, DEVNULL, PIPE = Forked, subprocess.DEVNULL, subprocess.PIPE


# --------------------------------------------------------------------- trying


def attempt(kind: str, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Try ``n`` damaged inputs of a kind; counts, and the longest time.

    Raises:
        Exception: what is neither a result nor a ``UsageError`` of one line.
    """
    sound, read = KINDS[kind](folder)
    found: dict[str, Any] = {"read": 0, "refused": 0, "longest_s": 0.0}

    def check(raw: bytes) -> None:
        began, said = time.perf_counter(), ""
        try:
            read(raw)
            found["read"] += 1
        except UsageError as error:
            found["refused"] += 1
            said = str(error)
        assert "\n" not in said, said
        assert len(said) < 1000, said
        taken = time.perf_counter() - began
        found["longest_s"] = max(found["longest_s"], taken)
        assert taken < LONGEST_S, f"{taken:.1f} s"

    read(sound)
    run = hypothesis.given(damaged(sound))(check)
    run = hypothesis.seed(seed)(run)
    before, shd_module.subprocess = shd_module.subprocess, _Subprocess  # type: ignore[assignment]
    try:
        hypothesis.settings(
            max_examples=n, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )(run)()  # fmt: skip
    finally:
        shd_module.subprocess = before
        Forked.close()
    return found


def _vm_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(kind: str, n: str, seed: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ["SNNLAB_CACHE"] = str(Path(name) / "cache")
        resource.setrlimit(resource.RLIMIT_AS, (_vm_bytes() + MEMORY,) * 2)
        print(json.dumps({"kind": kind, **attempt(kind, int(n), int(seed), Path(name))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
