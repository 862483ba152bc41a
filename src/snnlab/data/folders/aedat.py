r"""AEDAT: event cameras' files of iniLabs, iniVation and jAER, versions 2, 3.1 and 4.

The first line is ``#!AER-DAT<version>``; lines that begin with ``#`` follow, then the data.

2.0   an event is address and time in us, both ``>u4``. DVS128: ``.yyyyyyy xxxxxxxp``, p = 0 is ON.
      DAVIS: bit 31 set for frames and motion, 9 bits y from bit 22, 10 bits x from bit 12, p bit 11
      (1 is ON), bit 10 set for signals from outside. Both count from the corner below.
3.1   packets: a head of 28 bytes, ``<`` type u2, source u2, event size u4, offset of the time u4,
      overflow of the time u4, capacity u4, number u4, valid u4; then ``capacity`` events. Of type 1
      (polarity) an event is a word ``<u4`` (bit 0 valid, bit 1 ON, 15 bits y, 15 bits x) and a time
      ``<i4`` in us, to which ``overflow << 31`` belongs. Other types are passed over.
4.0   flatbuffers, often compressed: read by the package ``aedat`` (extra ``aedat``).

Sources: inivation.github.io/inivation-docs (AEDAT 2.0, 3.1), jAER's extractors of DVS128 and DAVIS.
Places count from the upper left corner; a recording begins with its first event.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from snnlab.data.folders.aedat4 import read_aedat4
from snnlab.data.folders.recorded import Recorded, checked
from snnlab.data.sources import read_bytes, reason, regular
from snnlab.errors import UsageError, shown

SUFFIXES = (".aedat", ".aedat4")
MOST_BYTES = 2 << 30
_VERSION = re.compile(rb"#!AER-DAT(\d)\.(\d)[^\n]{0,80}\n")
_ENDS = (b"#!END-HEADER", b"#End Of ASCII Header")
_HEAD = np.dtype([
    ("type", "<u2"), ("source", "<u2"), ("size", "<u4"), ("offset", "<u4"), ("overflow", "<u4"),
    ("capacity", "<u4"), ("number", "<u4"), ("valid", "<u4"),
])  # fmt: skip
_POLARITY, _TYPES = 1, 32  # types are numbered, 16 of them so far
_EVENT3 = np.dtype([("data", "<u4"), ("time", "<i4")])
_EVENT2 = np.dtype([("address", ">u4"), ("time", ">u4")])
#: Chips of AEDAT 2, by what their class is called in jAER: width and height.
_CHIPS = {
    "tmpdiff128": (128, 128), "dvs128": (128, 128), "davis208": (208, 192),
    "davis240": (240, 180), "davis346": (346, 260), "davis640": (640, 480),
}  # fmt: skip
_DVS128 = (128, 128)


def read_aedat(path: Path, zero: bool = True) -> Recorded:
    """The events of a file.

    Args:
        path: ``.aedat`` or ``.aedat4``.
        zero: count times from the first event; otherwise they are the camera's.

    Raises:
        UsageError: no AEDAT file, of another version, damaged or truncated, too large, or of
            version 4 without the package that reads it.
    """
    start = _start(path)
    found = _VERSION.match(start)
    if not found:
        what = "is empty" if not start else "is no AEDAT file: it does not begin with #!AER-DAT"
        raise UsageError(f"{path} {what}")
    version = int(found[1]), int(found[2])
    if version[0] == 4:
        recorded = read_aedat4(path)
    elif version == (2, 0):
        recorded = _version2(path, read_bytes(path, MOST_BYTES))
    elif version == (3, 1):
        recorded = _version3(path, read_bytes(path, MOST_BYTES))
    else:
        raise UsageError(f"{path} is AEDAT {version[0]}.{version[1]}; expected 2.0, 3.1 or 4.0")
    if zero and len(recorded.time_us):
        recorded = recorded._replace(time_us=recorded.time_us - recorded.time_us.min())
    return checked(str(path), recorded) if zero else recorded


def _start(path: Path) -> bytes:
    """What the first line is in."""
    regular(path)
    try:
        with open(path, "rb") as file:
            return file.read(120)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None


def _header(raw: bytes) -> tuple[list[str], int]:
    """Lines of the header, and where the data begin."""
    lines, at = [], 0
    while raw.startswith(b"#", at):
        end = raw.find(b"\n", at)
        line = raw[at:end].rstrip(b"\r") if end >= 0 else b""
        text = line.decode("latin-1").replace("\t", " ")
        if not line.isascii() or not text.isprintable() or not text:
            break  # an event may begin with the same byte
        lines.append(text)
        at = end + 1
        if line.startswith(_ENDS):
            break
    return lines, at


# ------------------------------------------------------------------------------ 2.0


def _version2(path: Path, raw: bytes) -> Recorded:
    lines, start = _header(raw)
    if (len(raw) - start) % _EVENT2.itemsize:
        raise UsageError(
            f"{path} is truncated: {len(raw) - start} bytes of data are no multiple of 8 bytes an "
            "event"
        )
    events = np.frombuffer(raw, _EVENT2, offset=start)
    address = events["address"].astype(np.int64)
    time_us = _unwrapped(events["time"])
    chip = next((line.partition(":")[2].strip() for line in lines if "AEChip" in line), "")
    size = next((size for name, size in _CHIPS.items() if name in chip.lower()), None)
    if chip and size is None:
        raise UsageError(
            f"{path} is of the chip '{shown(chip, 60)}'; known are {', '.join(_CHIPS)}"
        )
    if size is None and len(address) and address.max() < 1 << 15:
        size = _DVS128
    if size == _DVS128:
        kept = address < 1 << 15  # bit 15 marks signals from outside
        address, time_us = address[kept], time_us[kept]
        x, y, p = address >> 1 & 127, address >> 8 & 127, 1 - (address & 1)
    else:
        kept = (address & (1 << 31 | 1 << 10)) == 0
        address, time_us = address[kept], time_us[kept]
        x, y, p = address >> 12 & 1023, address >> 22 & 511, address >> 11 & 1
        size = size or _smallest(path, x, y)
    width, height = size
    outside = np.flatnonzero((x >= width) | (y >= height))
    if len(outside):
        k = outside[0]
        raise UsageError(
            f"{path}: event at x={x[k]}, y={y[k]} lies outside the {width} x {height} sensor"
        )
    return Recorded(time_us, width - 1 - x, height - 1 - y, p, size)


def _smallest(path: Path, x: np.ndarray, y: np.ndarray) -> tuple[int, int]:
    """The smallest DAVIS that has all these pixels."""
    for name, (width, height) in _CHIPS.items():
        if name.startswith("davis") and (x < width).all() and (y < height).all():
            return width, height
    raise UsageError(f"{path}: events lie outside of every chip that is known: {', '.join(_CHIPS)}")


def _unwrapped(time: np.ndarray) -> np.ndarray:
    """Times of 32 bits as int64: a step back by more than half of the range is an overflow."""
    wide = time.astype(np.int64)
    back = np.diff(wide, prepend=wide[:1]) < -(1 << 31)
    return wide + (np.cumsum(back) << 32)


# ------------------------------------------------------------------------------ 3.1


def _version3(path: Path, raw: bytes) -> Recorded:
    lines, at = _header(raw)
    kind = next((line.partition(":")[2].strip() for line in lines if "Format:" in line), "RAW")
    if kind != "RAW":
        raise UsageError(f"{path} is AEDAT 3.1 of the format '{shown(kind, 40)}'; expected RAW")
    words, times = [], []
    while at < len(raw):
        if len(raw) - at < _HEAD.itemsize:
            raise UsageError(f"{path} is truncated: the head of a packet is cut off")
        head = np.frombuffer(raw, _HEAD, 1, at)[0]
        size, capacity, number = (int(head[k]) for k in ("size", "capacity", "number"))
        at += _HEAD.itemsize
        if not (int(head["valid"]) <= number <= capacity and head["type"] < _TYPES and size > 0):
            raise UsageError(f"{path} is damaged: a packet at byte {at - _HEAD.itemsize} is none")
        if size * capacity > len(raw) - at:
            raise UsageError(
                f"{path} is truncated: a packet of {size * capacity} bytes has {len(raw) - at}"
            )
        if head["type"] == _POLARITY:
            if size != _EVENT3.itemsize:
                raise UsageError(f"{path} is damaged: polarity events of {size} bytes; expected 8")
            events = np.frombuffer(raw, _EVENT3, number, at)
            events = events[events["data"] & 1 == 1]
            words.append(events["data"].astype(np.int64))
            times.append(events["time"].astype(np.int64) + (int(head["overflow"]) << 31))
        at += size * capacity
    word = np.concatenate([np.zeros(0, np.int64), *words])
    time_us = np.concatenate([np.zeros(0, np.int64), *times])
    if len(time_us) and time_us.min() < 0:
        raise UsageError(f"{path} is damaged: an event at {time_us.min()} us")
    return Recorded(time_us, word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, word >> 1 & 1)
