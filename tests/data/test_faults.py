"""Damaged and odd sources: read right, or one line; bounded memory, nothing kept."""

from __future__ import annotations

import os
import resource
import stat
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from on_disk import event, nmnist, shd, shd_pair
from snnlab.data import load_recordings, shd_child
from snnlab.data.archives import opened
from snnlab.errors import UsageError


def refused(name: str, root: Path, cache: Path, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recordings(name, str(root))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    for part in parts:
        assert part in str(caught.value), caught.value
    left = [p.relative_to(cache) for p in cache.rglob("*") if p.is_file()]
    # Sums of what archives hold are known before anything is decoded; each is whole, or hidden.
    half = [p for p in left if p.parts[0] != "archives" or p.parts[1].startswith(".")]
    assert not half, "something half-written is left"


def replaced(path: str, value):
    def edit(file) -> None:
        del file[path]
        file[path] = value

    return edit


def made(path: str, *args, **kwargs):
    def edit(file) -> None:
        del file[path]
        file.create_dataset(path, *args, **kwargs)

    return edit


def group(path: str):
    def edit(file) -> None:
        del file[path]
        file.create_group(path)

    return edit


def vlen(path: str, dtype: str, value):
    def edit(file) -> None:
        del file[path]
        data = file.create_dataset(path, (12,), h5py.vlen_dtype(dtype))
        for i in range(12):
            data[i] = np.asarray(value, dtype)

    return edit


def virtual(file) -> None:
    layout = h5py.VirtualLayout((12,), "u2")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (12,))
    del file["labels"]
    file.create_virtual_dataset("labels", layout)


UNITS, TIMES, LABELS, KEYS = "spikes/units", "spikes/times", "labels", "extra/keys"
HUGE = 10**11

#: What is wrong in a file of SHD's layout -> parts of the line.
FAULTS = {
    "labels-text": (replaced(LABELS, np.array([b"a"] * 12)), "holds an array (12,) of |S1"),
    "labels-group": (group(LABELS), "'labels' is no dataset, but a group"),
    "labels-type": (replaced(LABELS, np.dtype("u2")), "'labels' is no dataset, but a datatype"),
    "labels-empty": (replaced(LABELS, np.zeros(0, "u2")), "0 labels"),
    "labels-null": (replaced(LABELS, h5py.Empty("u2")), "'labels' is empty"),
    "labels-scalar": (replaced(LABELS, np.uint16(1)), "'labels' holds an array ()"),
    "labels-2d": (replaced(LABELS, np.zeros((12, 3), "u2")), "'labels' holds an array (12, 3)"),
    "labels-half": (replaced(LABELS, np.full(12, 0.5)), "label 0.5 of recording 0 is no whole"),
    "labels-nan": (replaced(LABELS, np.full(12, np.nan)), "label nan of recording 0"),
    "labels-large": (replaced(LABELS, np.full(12, 2**63, "u8")), "label 9223372036854775808"),
    "labels-complex": (replaced(LABELS, np.zeros(12, complex)), "'labels' holds"),
    "labels-long": (made(LABELS, (HUGE,), "u2", chunks=(1024,)), "claims 200000000000 bytes"),
    "labels-dangling": (replaced(LABELS, h5py.SoftLink("/nowhere")), "'labels' is a link"),
    "labels-loop": (replaced(LABELS, h5py.SoftLink("/labels")), "'labels' is a link"),
    "labels-external": (replaced(LABELS, h5py.ExternalLink("x.h5", "/x")), "'labels' is a link"),
    "labels-outside": (
        made(LABELS, (12,), "u1", external=[("/dev/zero", 0, 12)]), "lie in other files",
    ),
    "labels-virtual": (virtual, "lie in other files"),
    "spikes-dataset": (replaced("spikes", np.zeros(3)), "'spikes/times' is not in a group"),
    "times-scalar": (replaced(TIMES, np.float32(1)), "'spikes/times' holds an array ()"),
    "times-group": (group(TIMES), "'spikes/times' is no dataset, but a group"),
    "times-1d": (replaced(TIMES, np.zeros(12, "f4")), "expected a list of numbers a recording"),
    "times-text": (replaced(TIMES, np.array([b"x"] * 12)), "'spikes/times' holds"),
    "times-texts": (made(TIMES, (12,), h5py.string_dtype()), "'spikes/times' holds"),
    "times-long": (made(TIMES, (HUGE,), h5py.vlen_dtype("f4"), chunks=(64,)), "claims"),
    "times-wide": (made(TIMES, (12, HUGE), "f4", chunks=(1, 1024)), "claims"),
    "times-nan": (vlen(TIMES, "f4", [np.nan] * 40), "time nan s of recording 0"),
    "times-inf": (vlen(TIMES, "f8", [np.inf] * 40), "time inf s of recording 0"),
    "times-far": (vlen(TIMES, "f8", [1e300] * 40), "480 of 480 train events"),
    "units-few": (vlen(UNITS, "u2", [3] * 39), "not as many units as times"),
    "units-fraction": (vlen(UNITS, "f4", [3.7] * 40), "unit 3.7", "is no whole number"),
    "units-signed": (vlen(UNITS, "i4", [-1] * 40), "unit -1 of recording 0", "0..699"),
    "units-large": (vlen(UNITS, "u8", [2**64 - 1] * 40), "unit 18446744073709551615"),
    "units-swapped": (vlen(UNITS, ">u2", [3] * 40), "of the other byte order", "as uint16"),
    "times-swapped": (vlen(TIMES, ">f4", [0.5] * 40), "of the other byte order", "as float32"),
    "keys-scalar": (replaced(KEYS, np.bytes_(b"abc")), "'extra/keys' holds an array ()"),
    "keys-numbers": (replaced(KEYS, np.arange(3)), "'extra/keys' holds"),
    "keys-none": (made(KEYS, (0,), "S3"), "'extra/keys' holds"),
    "keys-group": (group(KEYS), "'extra/keys' is no dataset"),
    "keys-long": (made(KEYS, (HUGE,), "S3", chunks=(64,)), "'extra/keys' holds"),
    "keys-wide": (made(KEYS, (3,), "S100000"), "'extra/keys' holds"),
    "keys-bytes": (replaced(KEYS, np.array([b"a", b"b", b"\xff\xfe"])), "no UTF-8"),
    "keys-twice": (replaced(KEYS, np.array([b"a", b"b", b"a"])), "'a' twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_in_a_file(tmp_path, own_cache, name, monkeypatch):
    edit, *parts = FAULTS[name]
    if "far" not in name:
        monkeypatch.setattr("snnlab.data.shd.subprocess.Popen", InProcess)
    refused("shd", shd_pair(tmp_path, edit), own_cache, "shd_train.h5", *parts)


class InProcess:
    """Stands for the process that reads a file, in this one: a start costs a quarter of one."""

    def __init__(self, argv: list[str], **_: object) -> None:
        import io

        self.stdout = io.BytesIO()
        shd_child.serve(argv[-2], argv[-1], self.stdout, lambda: None)
        self.stdout.seek(0)

    def kill(self) -> None: ...

    def wait(self) -> int:
        return 0


def whole(path: str, dtype: str):
    """The same numbers in another type."""

    def edit(file) -> None:
        old = [np.asarray(row, dtype) for row in file[path][()]]
        del file[path]
        data = file.create_dataset(path, (12,), h5py.vlen_dtype(dtype))
        for i, row in enumerate(old):
            data[i] = row

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        whole(UNITS, "f4"),
        whole(TIMES, "f8"),
        replaced(LABELS, (np.arange(12) % 3).astype("f4")),
        replaced(LABELS, (np.arange(12) % 3).astype(">i8")),
    ],
    ids=["units-float", "times-double", "labels-float", "labels-big-endian"],
)
def test_whole_numbers_of_any_type(tmp_path, own_cache, edit):
    plain = load_recordings("shd", str(shd_pair(tmp_path / "plain")))
    other = load_recordings("shd", str(shd_pair(tmp_path / "other", edit)))
    assert other.path != plain.path
    assert other.content == plain.content


def test_fixed_length_recordings(tmp_path, own_cache):
    def edit(file) -> None:
        for name in (TIMES, UNITS):
            rows = np.stack(list(file[name][()]))
            del file[name]
            file.create_dataset(name, data=rows, compression="gzip")

    plain = load_recordings("shd", str(shd_pair(tmp_path / "plain")))
    other = load_recordings("shd", str(shd_pair(tmp_path / "other", edit)))
    assert other.content == plain.content


# ------------------------------------------------- a library that does not return


def _child_ends(tmp_path, monkeypatch, body: str) -> str:
    """What is said when the process that reads a file does ``body`` instead."""
    from snnlab.data import shd as parent

    start = subprocess.Popen
    code = "from snnlab.data import shd_child\nshd_child.PART_S = 0.5\nshd_child.bound()\n"
    monkeypatch.setattr(
        parent.subprocess, "Popen",
        lambda argv, **kw: start([argv[0], "-c", code + textwrap.dedent(body)], **kw),
    )  # fmt: skip
    path = shd(tmp_path / "x.h5")
    with pytest.raises((UsageError, RuntimeError)) as caught, parent.opened_shd(path):
        pass
    assert isinstance(caught.value, RuntimeError) == ("bug" in body)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("while True: pass", "cannot be read to its end"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed (signal 11)"),
        ("import os; os.abort()", "failed (signal 6)"),
        ("raise ValueError('a bug')", "ValueError: a bug"),
    ],
)
def test_a_crash_a_hang_and_a_bug(tmp_path, monkeypatch, body, part):
    said = _child_ends(tmp_path, monkeypatch, body)
    assert str(tmp_path / "x.h5") in said
    assert part in said


def test_memory_is_bounded(tmp_path):
    """Of the process that reads, whatever a file makes the library ask for."""
    code = """
        import io, sys
        import numpy as np
        from snnlab.data import shd_child
        shd_child.bound()
        shd_child._layout = lambda *_: np.ones(1 << 28)
        sink = io.BytesIO()
        shd_child.serve(sys.argv[1], "the file", sink, lambda: None)
        assert b"more memory than 1024 MiB" in sink.getvalue(), sink.getvalue()
    """
    path = shd(tmp_path / "x.h5")
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=True)


# ----------------------------------------------------- names, links and devices


def test_files_of_a_mac_are_passed_over(tmp_path, own_cache):
    plain = load_recordings("nmnist", str(nmnist(tmp_path / "plain")))
    root = nmnist(tmp_path / "mac")
    for folder in (root / "Train", root / "Train" / "0", root / "Test" / "1"):
        (folder / "._00000.bin").write_bytes(b"\x00\x05\x16\x07" + b"\0" * 79)
        (folder / ".DS_Store").write_bytes(b"x")
    (root / "Train" / "__MACOSX").mkdir()
    (root / "Train" / "__MACOSX" / "00000.bin").write_bytes(b"x")
    (root / "Train" / "readme.txt").write_text("x")
    assert load_recordings("nmnist", str(root)).content == plain.content
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for path in sorted(root.rglob("*.bin")):
            archive.write(path, path.relative_to(root))
        archive.writestr("__MACOSX/Train/0/._00000.bin", b"x" * 83)
        archive.writestr("__MACOSX/Train/0/00000.bin", b"x" * 83)
    assert load_recordings("nmnist", str(tmp_path / "mac.zip")).content == plain.content


def test_shd_archives_of_a_mac(tmp_path, own_cache):
    plain = load_recordings("shd", str(shd_pair(tmp_path / "plain")))
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / f"shd_{split}.h5.zip", "w") as archive:
            archive.write(tmp_path / "plain" / f"shd_{split}.h5", f"shd_{split}.h5")
            archive.writestr(f"__MACOSX/._shd_{split}.h5", b"\0" * 100)
    assert load_recordings("shd", str(tmp_path)).content == plain.content


@pytest.mark.parametrize("split", ["Train", "Test"])
@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe", "device", "folder", "digit"])
def test_only_regular_files_are_read(tmp_path, own_cache, split, kind):
    root = nmnist(tmp_path / "d")
    odd = root / split / "0" / "odd.bin"
    if kind == "dangling":
        odd.symlink_to("nowhere.bin")
    elif kind == "loop":
        odd.symlink_to("odd.bin")
    elif kind == "pipe":
        os.mkfifo(odd)
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    elif kind == "folder":
        odd.mkdir()
    else:
        odd = root / split / "2"
        odd.symlink_to("nowhere")
    why = "leads nowhere" if kind in ("dangling", "loop", "digit") else "no regular file"
    refused("nmnist", root, own_cache, str(odd), why)


def test_links_that_lead_somewhere_are_followed(tmp_path, own_cache):
    plain = nmnist(tmp_path / "plain")
    root = tmp_path / "links"
    (root / "Train" / "0").mkdir(parents=True)
    (root / "Test").symlink_to(plain / "Test")
    (root / "Train" / "1").symlink_to(plain / "Train" / "1")
    for path in (plain / "Train" / "0").iterdir():
        (root / "Train" / "0" / path.name).symlink_to(path)
    assert load_recordings("nmnist", str(root)).path == load_recordings("nmnist", str(plain)).path


def test_names_that_are_no_utf8(tmp_path, own_cache):
    root = nmnist(tmp_path / "d")
    name = os.fsdecode(b"\xff\xfe.bin")
    (root / "Train" / "0" / name).write_bytes(event(7) * 4)
    assert len(load_recordings("nmnist", str(root))) == 13
    (root / "Train" / "0" / name).write_bytes(b"odd")
    with pytest.raises(UsageError, match="truncated"):
        load_recordings("nmnist", str(root))


def test_a_recording_that_is_too_large(tmp_path, own_cache):
    root = nmnist(tmp_path / "d")
    with open(root / "Train" / "0" / "big.bin", "wb") as file:
        file.truncate(20 << 30)  # sparse: takes no room
    refused_at_once = "too large for a recording"
    monkey = pytest.MonkeyPatch()
    monkey.setattr("snnlab.data.recordings.content_sum", lambda *_: "0")  # 20 GiB of zeros
    refused("nmnist", root, own_cache, "big.bin", refused_at_once)
    monkey.undo()


# ------------------------------------------------------------------ archives


def _zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


SOUND = {f"{s}/{d}/0000{k}.bin": event(d, k) * 20 for s in ("Train", "Test") for d in (0, 1)
         for k in (0, 1)}  # fmt: skip


def _patched(path: Path, mark: bytes, offset: int, value: bytes) -> None:
    """Write ``value`` at ``offset`` behind the first ``mark``."""
    raw = bytearray(path.read_bytes())
    at = raw.index(mark) + offset
    raw[at : at + len(value)] = value
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    ("mark", "offset", "value"),
    [
        (b"PK\x03\x04", 60, b"\0" * 8),  # the stream of the first member
        (b"PK\x03\x04", 14, b"\1\2\3\4"),  # its sum, as the member says it (not read)
        (b"PK\x01\x02", 16, b"\1\2\3\4"),  # as the directory says it
        (b"PK\x01\x02", 8, b"\1\0"),  # encrypted
        (b"PK\x01\x02", 10, b"\x63\0"),  # packed by a method that there is not
        (b"PK\x01\x02", 10, b"\x0e\0"),  # by LZMA
        (b"PK\x01\x02", 24, struct.pack("<I", 1 << 31)),  # its size
        (b"PK\x01\x02", 20, struct.pack("<I", 1 << 31)),  # its packed size
        (b"PK\x01\x02", 42, struct.pack("<I", 1 << 30)),  # its place
        (b"PK\x01\x02", 28, b"\xff\xff"),  # length of its name
        (b"PK\x05\x06", 12, struct.pack("<I", 1 << 31)),  # size of the directory
        (b"PK\x05\x06", 16, struct.pack("<I", 1 << 31)),  # its place
    ],
)
def test_damaged_archives(tmp_path, own_cache, mark, offset, value):
    path = _zip(tmp_path / "nmnist.zip", SOUND)
    _patched(path, mark, offset, value)
    if offset == 14:
        assert len(load_recordings("nmnist", str(tmp_path))) == 8
        return
    refused("nmnist", tmp_path, own_cache, "nmnist.zip")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Train/0", b"Trqin/0"),
        (b"Train/0", b"\0rain/0"),
        (b"0.bin", b"0.bhn"),
        (b"in/0/", b"in/1/"),
    ],
)
def test_a_damaged_name_loses_no_recording(tmp_path, own_cache, old, new):
    """In the directory of the archive, of which there is no sum."""
    path = _zip(tmp_path / "nmnist.zip", SOUND)
    raw = path.read_bytes()
    at = raw.index(b"PK\x01\x02")
    path.write_bytes(raw[:at] + raw[at:].replace(old, new, 1))
    refused("nmnist", tmp_path, own_cache, "nmnist.zip")


def test_recordings_that_lie_elsewhere(tmp_path, own_cache):
    _zip(tmp_path / "nmnist.zip", {**SOUND, "Trian/0/9.bin": event()})
    refused("nmnist", tmp_path / "nmnist.zip", own_cache, "'Trian/0/9.bin' is no Train/<digit>")
    root = nmnist(tmp_path / "d")
    (root / "Test" / "9.bin").write_bytes(event())
    refused("nmnist", root, own_cache, "9.bin lies in no folder of a digit")


def test_name_in_an_archive_that_is_no_utf8(tmp_path, own_cache):
    path = _zip(tmp_path / "nmnist.zip", {"Train/0/ä.bin": event(), **SOUND})
    raw = path.read_bytes()
    assert "ä".encode() in raw
    path.write_bytes(raw.replace("ä".encode(), b"\xff\xfe"))
    refused("nmnist", tmp_path, own_cache, "nmnist.zip", "no readable zip file")


@pytest.mark.parametrize("n", [1, 400])
def test_a_bomb_is_refused_before_it_unpacks(tmp_path, own_cache, n):
    """One member of a large ratio; many small ones that are large together."""
    size = (250 << 20) // n
    content = bytes(size) if n == 1 else os.urandom(64) + bytes(size)
    _zip(tmp_path / "bomb.zip", {f"Train/0/{k:05}.bin": content for k in range(n)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused("nmnist", tmp_path / "bomb.zip", own_cache, "bomb.zip", "more than is plausible")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 << 10, "KiB"


def test_a_bomb_among_much_else(tmp_path, own_cache):
    """The archive as a whole is not well packed; the member is."""
    noise = {f"Test/0/{k}.bin": os.urandom(500_000) for k in range(3)}
    _zip(tmp_path / "bomb.zip", {"Train/0/0.bin": bytes(40 << 20), **noise})
    refused("nmnist", tmp_path / "bomb.zip", own_cache, "'Train/0/0.bin' unpacks from")


@pytest.mark.parametrize("large", [False, True])
def test_a_directory_that_would_fill_the_memory(tmp_path, own_cache, monkeypatch, large):
    path = _zip(tmp_path / "nmnist.zip", SOUND)
    if large:  # the records of archives with more than 65,535 members
        monkeypatch.setattr("zipfile.ZIP_FILECOUNT_LIMIT", 3)
        _zip(path, SOUND)
        assert b"PK\6\6" in path.read_bytes()
    assert len(load_recordings("nmnist", str(path))) == 8
    monkeypatch.setattr("snnlab.data.archives.DIRECTORY_LIMIT", 300)
    with pytest.raises(UsageError, match=r"has a directory of [0-9]{3} bytes, more than is"):
        load_recordings("nmnist", str(_zip(path, {**SOUND, "Train/1/9.bin": event()})))


def test_small_archives_may_be_well_packed(tmp_path, own_cache):
    content = event() * 200_000  # 1 MB in about 1 kB
    path = _zip(tmp_path / "nmnist.zip", {"Train/0/0.bin": content, "Test/0/0.bin": content})
    assert path.stat().st_size * 200 < 2 * len(content)
    assert len(load_recordings("nmnist", str(path)).events) == 400_000


def test_shd_bomb_and_memory(tmp_path, own_cache):
    for split in ("train", "test"):
        _zip(tmp_path / f"shd_{split}.h5.zip", {f"shd_{split}.h5": bytes(50 << 20)})
    refused("shd", tmp_path, own_cache, "shd_train.h5.zip", "more than is plausible")
    assert not list(own_cache.glob(".*"))
    _zip(tmp_path / "shd_train.h5.zip", {"a.h5": b"x", "b.h5": b"y"})
    refused("shd", tmp_path, own_cache, "holds 2 .h5 files")
    for split in ("train", "test"):
        _zip(tmp_path / f"shd_{split}.h5.zip", {"a.h5": b"no hdf5"})
    refused("shd", tmp_path, own_cache, "shd_train.h5.zip is no readable HDF5 file")
    assert not list(own_cache.glob(".*"))


def test_members_twice_and_pipes(tmp_path, own_cache):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("Train/0/0.bin", event(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("Train/0/0.bin", event(2))
    refused("nmnist", tmp_path / "twice.zip", own_cache, "two members 'Train/0/0.bin'")
    os.mkfifo(tmp_path / "pipe.zip")
    assert stat.S_ISFIFO((tmp_path / "pipe.zip").stat().st_mode)
    with pytest.raises(UsageError, match="no regular file"), opened(tmp_path / "pipe.zip"):
        pass
    refused("nmnist", tmp_path / "pipe.zip", own_cache, "--data_path")
