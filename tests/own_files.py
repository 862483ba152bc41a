"""Small recordings in the formats that ``--dataset folder`` reads, written by their definitions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

#: Of class k: columns 8 k to 8 k + 7 of 16.
SIDE, N_EVENTS = 16, 60


def events(label: int, seed: int, last_us: int = 90_000) -> dict[str, np.ndarray]:
    """t (us, rising), x, y and p of a recording; a class is the half of the sensor it lies in."""
    rng = np.random.default_rng([label, seed])
    t = np.sort(rng.integers(0, last_us, N_EVENTS))
    t[0] = 0
    x = rng.integers(0, 8, N_EVENTS) + 8 * label
    return {"t": t, "x": x, "y": rng.integers(0, SIDE, N_EVENTS), "p": rng.integers(0, 2, N_EVENTS)}


def write_npz(path: Path, e: dict[str, np.ndarray]) -> None:
    np.savez(path, **e)


def write_bin(path: Path, e: dict[str, np.ndarray]) -> None:
    rows = [e["x"], e["y"], e["p"] << 7 | e["t"] >> 16, e["t"] >> 8 & 255, e["t"] & 255]
    path.write_bytes(np.stack(rows, 1).astype(np.uint8).tobytes())


def write_aedat2(path: Path, e: dict[str, np.ndarray], chip: str = "Davis346B") -> None:
    """jAER's, from a DAVIS of 346 x 260, with a frame's sample and an outside signal in between."""
    address = (259 - e["y"]) << 22 | (345 - e["x"]) << 12 | e["p"] << 11
    both = np.stack([address, e["t"] + 5_000], 1)
    strange = np.array([[1 << 31 | 7, 5_000], [1 << 10, 5_000]])
    head = f"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.{chip}\r\n"
    data = np.concatenate([strange, both]).astype(">u4").tobytes()
    path.write_bytes(head.encode() + b"#End Of ASCII Header\r\n" + data)


def write_dvs128(path: Path, e: dict[str, np.ndarray]) -> None:
    """AEDAT 2 of a DVS128, which names no chip."""
    address = (127 - e["y"]) << 8 | (127 - e["x"]) << 1 | (1 - e["p"])
    data = np.stack([address, e["t"] + 9], 1).astype(">u4").tobytes()
    path.write_bytes(b"#!AER-DAT2.0\r\n# created by hand\r\n" + data)


def packets3(e: dict[str, np.ndarray], size: int = 25, first: int = 1_000_000) -> bytes:
    """Packets of AEDAT 3.1, one of another type (IMU, 36 bytes an event) between."""
    found = []
    for k in range(0, len(e["t"]), size):
        part = {name: column[k : k + size] for name, column in e.items()}
        n = len(part["t"])
        word = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | 1
        data = np.stack([word, part["t"] + first], 1).astype("<u4").tobytes()
        found.append(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, n, n, n) + data)
    return found[0] + struct.pack("<HHIIIIII", 3, 1, 36, 4, 0, 2, 2, 2) + bytes(72) + b"".join(
        found[1:]
    )  # fmt: skip


def write_aedat3(path: Path, e: dict[str, np.ndarray], first: int = 1_000_000) -> None:
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: now\r\n"
    path.write_bytes(head + b"#!END-HEADER\r\n" + packets3(e, first=first))


def _buffer(fields: Sequence[tuple[bytes, int]], mark: bytes = b"") -> bytes:
    """A flatbuffer, its size before it, of a table whose fields are given.

    Args:
        fields: each ``(content, 0)``, of 4 or 8 bytes, or ``(what it points to, 1)``; (b"", 0) is
            left out.
        mark: the file's identifier.
    """
    head = 4 + len(mark)
    head += -head % 8
    n_table = len(fields)
    vtable = 4 + 2 * n_table
    vtable += vtable % 4
    table = head + vtable
    table += (4 - table % 8) % 8  # its first field, behind 4 bytes, lies at a multiple of 8
    offsets, body, behind = [], b"", b""
    for content, pointer in fields:
        width = 4 if pointer else len(content)
        if not content:
            offsets.append(0)
            continue
        body += bytes(-(4 + len(body)) % width)
        offsets.append(4 + len(body))
        body += bytes(4) if pointer else content
    body += bytes(-(table + 4 + len(body)) % 8)
    end = table + 4 + len(body)
    raw = bytearray(body)
    for (content, pointer), offset in zip(fields, offsets):
        if pointer and content:
            at = end + len(behind)
            behind += bytes(-at % 8 + 4)  # the vector's data, behind its length, at a multiple of 8
            at = end + len(behind)
            raw[offset - 4 : offset] = struct.pack("<I", at - (table + offset))
            behind += content
    made = struct.pack("<I", table) + mark + bytes(head - 4 - len(mark))
    made += struct.pack("<HH", 4 + 2 * n_table, 4 + len(body))
    made += b"".join(struct.pack("<H", o) for o in offsets)
    made += bytes(table - len(made))
    made += struct.pack("<i", table - head) + bytes(raw) + behind
    return struct.pack("<I", len(made)) + made


def write_aedat4(path: Path, e: dict[str, np.ndarray], first: int = 1_600_000_000_000_000) -> None:
    """iniVation's, not compressed: one stream of events."""
    info = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        '<attr key="compression" type="string">NONE</attr>'
        '<attr key="originalModuleName" type="string">capture</attr>'
        '<attr key="originalOutputName" type="string">events</attr>'
        '<attr key="typeDescription" type="string">Array of events</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr>'
        '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{SIDE}</attr><attr key="sizeY" type="int">{SIDE}</attr>'
        '<attr key="source" type="string">DVS</attr></node></node></node></dv>'
    ).encode()
    text = struct.pack("<I", len(info)) + info + b"\0"
    head = _buffer([(struct.pack("<i", 0), 0), (struct.pack("<q", -1), 0), (text, 1)], b"IOHE")
    row = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("_", "V3")])
    rows = np.zeros(len(e["t"]), row)
    rows["t"], rows["x"], rows["y"], rows["on"] = e["t"] + first, e["x"], e["y"], e["p"]
    packet = _buffer([(struct.pack("<I", len(rows)) + rows.tobytes(), 1)], b"EVTS")
    path.write_bytes(b"#!AER-DAT4.0\r\n" + head + struct.pack("<ii", 0, len(packet)) + packet)


#: Suffix -> writer.
WRITERS = {
    ".npz": write_npz, ".bin": write_bin, "-davis.aedat": write_aedat2,
    "-dvs128.aedat": write_dvs128, "-3.aedat": write_aedat3, ".aedat4": write_aedat4,
}  # fmt: skip


def by_class(root: Path, suffix: str, n: int = 6, splits: Sequence[str] = ("",)) -> Path:
    """``n`` recordings of each of the classes left and right, in each split."""
    for number, split in enumerate(splits):
        for label, name in enumerate(("left", "right")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(n):
                WRITERS[suffix](folder / f"r{k}{suffix}", events(label, 100 * number + k))
    return root


def gestures(root: Path, users: Sequence[int] = (1, 2, 24), lists: bool = True) -> Path:
    """DVS Gesture's layout: each user makes the gestures 1, 2 and 1 again, 100 ms each."""
    root.mkdir(parents=True)
    for user in users:
        rows = ["class,startTime_usec,endTime_usec"]
        whole = [
            {**e, "t": e["t"] + 200_000 * k}
            for k, e in enumerate(events(k % 2, 10 * user + k) for k in range(3))
        ]
        for k in range(3):
            start = 1_000_000 + 200_000 * k
            rows.append(f"{k % 2 + 1},{start},{start + 100_000}")
        between = {name: column[:1] for name, column in events(1, 7).items()}
        whole.insert(1, {**between, "t": np.array([150_000])})  # of no gesture
        name = f"user{user:02}_fluorescent"
        write_aedat3(
            root / f"{name}.aedat", {k: np.concatenate([e[k] for e in whole]) for k in whole[0]}
        )
        (root / f"{name}_labels.csv").write_text("\n".join(rows) + "\n")
    if lists:
        for word, chosen in (("train", users[:-1]), ("test", users[-1:])):
            names = [f"user{user:02}_fluorescent.aedat\n" for user in chosen]
            (root / f"trials_to_{word}.txt").write_text("".join(names))
    return root
