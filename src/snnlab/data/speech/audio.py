"""Reading sound files, and bringing sound to what the cochlea expects.

WAV through scipy; FLAC through the package ``soundfile``, where it is installed.
"""

from __future__ import annotations

import struct
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np

from snnlab.data.sources import regular
from snnlab.errors import UsageError, missing, one_line
from snnlab.lazy import lazy

wavfile, signal = lazy("scipy.io.wavfile"), lazy("scipy.signal")  # a second, of every command
#: Of what the cochlea hears, and of features.
SAMPLE_HZ = 16_000
SUFFIXES = (".wav", ".flac")
#: Of a word. (SHD keeps times as float16 seconds: after half a minute their steps are 16 ms.)
LONGEST_S = 30.0
_RATES_HZ = (4_000, 768_000)
_MOST_BYTES = 256 << 20  # of a file: 30 s at any rate that is in use
_UNKNOWN = 0x7FFFF000  # lengths from here on mean that it goes on to the end of the file
#: Full scale is 1; float files of 16 or 32 bits' integers exist, beyond that it is no sound.
_LOUDEST = 2.0**31


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """A sound file as one channel (the mean of its channels).

    Args:
        path: ``.wav`` (PCM of 8 to 32 bits, or float) or ``.flac``.

    Returns:
        Samples ``(n,) float32``, full scale of integers = 1, and samples per second.

    Raises:
        UsageError: not audio, truncated, empty, too long, no sound (not finite, or beyond all
            scales), or FLAC without soundfile.
    """
    samples: np.ndarray
    size = regular(path)
    if size > _MOST_BYTES:
        raise UsageError(f"{path} has {size} bytes, more than {LONGEST_S:g} s: cut it into words")
    raw, hz = _flac(path) if path.suffix.lower() == ".flac" else _wav(path)
    if raw.dtype == np.uint8:
        samples = (raw.astype(np.float32) - 128) / 128
    elif raw.dtype.kind == "i":
        samples = raw.astype(np.float32) / np.float32(2.0 ** (8 * raw.itemsize - 1))
    elif raw.dtype.kind == "f":
        if not np.isfinite(raw).all():
            raise UsageError(f"{path} holds samples that are no numbers")
        loudest = float(np.abs(raw).max(initial=0))
        if loudest > _LOUDEST:
            raise UsageError(f"{path} holds samples of {loudest:g}, which is no sound (1 is full)")
        samples = raw.astype(np.float32)
    else:
        raise UsageError(f"{path} holds samples of type {raw.dtype}")
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32)
    if not len(samples):
        raise UsageError(f"{path} holds no samples")
    if not _RATES_HZ[0] <= hz <= _RATES_HZ[1]:
        raise UsageError(
            f"{path}: {hz} samples per second; expected {_RATES_HZ[0]} to {_RATES_HZ[1]}"
        )
    if len(samples) > LONGEST_S * hz:
        raise UsageError(
            f"{path} lasts {len(samples) / hz:.1f} s, more than {LONGEST_S:g} s: cut it into words"
        )
    return samples, int(hz)


def _check_wav(path: Path) -> None:
    """Refuse a WAV file whose header claims what it has not: scipy takes what there is.

    Raises:
        UsageError: the data are cut off, or a sample is not as large as the header says.
    """
    with open(path, "rb") as file:
        kind = file.read(12)[:4]
        order = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<"}.get(kind)
        size = path.stat().st_size
        while order and len(head := file.read(8)) == 8:
            name, length = struct.unpack(f"{order}4sI", head)
            rest = size - file.tell()
            if name == b"data":
                # A program that writes into a pipe does not know the length yet.
                if rest < length < _UNKNOWN:
                    raise UsageError(
                        f"{path} is truncated: {rest} bytes of sound, and its header says {length}"
                    )
                return
            if length > rest:
                raise UsageError(f"{path} is truncated: its header ends behind it")
            if name == b"fmt " and length >= 16:
                channels, _, _, block, bits = struct.unpack(f"{order}HIIHH", file.read(16)[2:])
                if not channels or not 0 < bits <= 64 or block != channels * -(-bits // 8):
                    raise UsageError(
                        f"{path} is no readable WAV file: {channels} channels of {bits} bits in "
                        f"{block} bytes"
                    )
                length -= 16
            file.seek(length + length % 2, 1)


def _wav(path: Path) -> tuple[np.ndarray, int]:
    try:
        _check_wav(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            hz, raw = wavfile.read(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 (scipy's parser lets many kinds through)
        why = one_line(str(error)) or type(error).__name__
        raise UsageError(f"{path} is no readable WAV file: {why}") from None
    return raw, hz


def _flac(path: Path) -> tuple[np.ndarray, int]:
    if package := missing("soundfile", "audio"):
        raise UsageError(f"{path}: FLAC needs {package}, or convert to WAV")
    import soundfile

    try:
        with open(path, "rb") as start:
            if start.read(4) != b"fLaC":  # the library would guess other formats
                raise UsageError(f"{path} is no readable FLAC file: it begins otherwise")
        with soundfile.SoundFile(path) as file:
            # The header says how much is allocated before anything is read.
            if file.frames > LONGEST_S * max(file.samplerate, 1):
                raise UsageError(
                    f"{path} lasts {file.frames / max(file.samplerate, 1):.1f} s, more than "
                    f"{LONGEST_S:g} s: cut it into words"
                )
            samples = file.read(dtype="float32")
            if len(samples) < file.frames:
                raise UsageError(f"{path} is truncated")
            return samples, file.samplerate
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} is no readable FLAC file: {one_line(str(error))}") from None


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Sound at ``SAMPLE_HZ``, through a polyphase filter.

    Args:
        samples: ``(n,)``.
        rate: samples per second.

    Returns:
        ``(n * SAMPLE_HZ / rate,) float64``.
    """
    ratio = Fraction(SAMPLE_HZ, rate).limit_denominator(1000)
    sound = np.asarray(samples, np.float64)
    if ratio == 1:
        return sound
    return signal.resample_poly(sound, ratio.numerator, ratio.denominator)


def prepare(samples: np.ndarray, rate: int, rms: float = 0.3, edge_ms: float = 30.0) -> np.ndarray:
    """Resample to ``SAMPLE_HZ``, set the loudness, fade in and out (half Hann windows).

    After Cramer et al. 2020. Silence stays silence.

    Args:
        samples: ``(n,)``.
        rate: samples per second.
        rms: root of the mean square after it.
        edge_ms: length of each fade, at most half of the recording.

    Returns:
        ``(n * SAMPLE_HZ / rate,) float32``.
    """
    sound = resample(samples, rate)
    level = np.sqrt(np.mean(sound**2))
    sound = sound * (rms / level) if level > 1e-7 else np.zeros_like(sound)
    n = min(round(edge_ms * 1e-3 * SAMPLE_HZ), len(sound) // 2)
    fade = np.sin(np.pi / 2 * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    sound[:n] *= fade
    sound[len(sound) - n :] *= fade[::-1]
    return sound.astype(np.float32)
