"""eSpeak NG through ctypes, in a process of its own.

The library keeps hidden state (the same word sounds a little different the second time) and is
made for one user per process. So each list of utterances is spoken by a fresh child process:
equal lists give equal samples, and whatever the library does to its process stays there.

The library comes with the package ``espeakng-loader`` (the extra ``speech``). eSpeak NG is under
the GPL, version 3 or later; nothing of it is part of snnlab.

The child (``python -m snnlab.data.speech.espeak``) reads a JSON list of utterances from standard
input and writes, little endian, ``int32`` samples per second and then for each utterance
``int32 n`` and ``n`` times ``int16``. It imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from snnlab.errors import UsageError, missing, one_line

# Values of espeak-ng/speak_lib.h, as its documentation gives them.
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH = 1, 3
_SEED = 1


class Utterance(NamedTuple):
    """One thing to say.

    Attributes:
        text: words in the voice's language.
        voice: eSpeak's language and variant, ``en-us+f2``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 100, 50 is the voice's own.
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50


def speak(utterances: Sequence[Utterance]) -> tuple[list[bytes], int]:
    """Synthesise in a fresh process; equal arguments give equal bytes.

    Returns:
        int16 little endian samples of each utterance, and samples per second.

    Raises:
        UsageError: ``espeakng-loader`` is missing, or the library refuses.
    """
    if package := missing("espeakng_loader", "speech"):
        raise UsageError(f"speech synthesis needs {package}")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "snnlab.data.speech.espeak"],
        input=json.dumps(list(utterances)).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    if done.returncode:
        said = one_line(done.stderr.decode(errors="replace")) or f"code {done.returncode}"
        raise UsageError(f"eSpeak NG failed: {said}")
    return _unpack(done.stdout, len(utterances))


def _unpack(raw: bytes, n: int) -> tuple[list[bytes], int]:
    (hz,), at, found = struct.unpack_from("<i", raw), 4, []
    for _ in range(n):
        (length,) = struct.unpack_from("<i", raw, at)
        found.append(raw[at + 4 : at + 4 + 2 * length])
        at += 4 + 2 * length
    return found, hz


# ------------------------------------------------------------------- the child


class _Library:
    """The library, initialised once in this process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        self._variants = set(os.listdir(os.path.join(data, "voices", "!v")))
        self.hz: int = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        if self.hz <= 0:
            raise RuntimeError(f"it finds no voices in {data}")
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._parts: list[bytes] = []
        self._callback = kind(self._receive)  # kept: the library has only its address
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._lib.espeak_ng_SetRandSeed(_SEED)
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
            ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip

    def _receive(self, wave: Any, n: int, _events: Any) -> int:
        if wave and n > 0:
            self._parts.append(ctypes.string_at(wave, 2 * n))
        return 0

    def say(self, one: Utterance) -> bytes:
        # The library passes over a variant that it does not know.
        variant = one.voice.partition("+")[2]
        if variant and variant not in self._variants:
            raise RuntimeError(f"it has no voice '{variant}'")
        text = one.text.encode() + b"\0"
        code = self._lib.espeak_SetVoiceByName(one.voice.encode())
        for parameter, value in ((_RATE, one.rate), (_PITCH, one.pitch)):
            code = code or self._lib.espeak_SetParameter(parameter, value, 0)
        self._parts.clear()
        code = code or self._lib.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None)
        if code:
            raise RuntimeError(f"no speech for {tuple(one)} (code {code})")
        return b"".join(self._parts)


def _child(source: BinaryIO, sink: BinaryIO) -> int:
    try:
        library = _Library()
        sink.write(struct.pack("<i", library.hz))
        for item in json.load(source):
            sound = library.say(Utterance(*item))
            sink.write(struct.pack("<i", len(sound) // 2) + sound)
    except (RuntimeError, OSError, AttributeError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_child(sys.stdin.buffer, sys.stdout.buffer))
