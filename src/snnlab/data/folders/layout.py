"""What a folder of recordings says by its shape: files, splits, classes.

One of three layouts, each with all recordings of one kind:

``<class>/*``                     a subfolder for each class; or ``train/<class>/*`` and
                                  ``test/<class>/*`` (and ``valid/``)
``*_train.h5``, ``*_test.h5``     files in SHD's layout, one for each split, or one file
``<name>.aedat`` with             DVS Gesture's: each line of the table is a recording; splits by
``<name>_labels.csv``             ``trials_to_train.txt`` and ``trials_to_test.txt``, or by the
                                  folders ``train`` and ``test``
"""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from snnlab.data.folders import aedat, labels
from snnlab.data.manifest import digest
from snnlab.data.sources import listing, mode_of, regular
from snnlab.data.speech.audio import SUFFIXES as SOUND
from snnlab.data.speech.folder import int_of
from snnlab.data.store import TEST, TRAIN, VALID
from snnlab.errors import UsageError, nearest, shown

SPLITS = {
    "train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST,
    "valid": VALID, "val": VALID, "validation": VALID,
}  # fmt: skip
#: Suffix -> kind.
KINDS = {
    ".npz": "npz", ".bin": "bin",
    **dict.fromkeys(aedat.SUFFIXES, "AEDAT"), **dict.fromkeys(SOUND, "sound"),
}  # fmt: skip
HDF5 = (".h5", ".hdf5", ".h5.zip")
EXPECTED = (
    "a subfolder of .npz, .bin, .aedat, .aedat4, WAV or FLAC files for each class (or train/<class>"
    " and test/<class>), .h5 files in SHD's layout, or .aedat files beside their _labels.csv"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, and what is known of it before it is read.

    Attributes:
        path: of it.
        split: TRAIN, TEST or VALID.
        label: index into the classes; -1 where the file itself says it (HDF5, tables).
        table: its ``_labels.csv``, where there is one.
    """

    path: Path
    split: int
    label: int = -1
    table: Path | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """The recordings of a folder.

    Attributes:
        root: the folder.
        kind: of all files: a value of ``KINDS``, ``"h5"`` or ``"gestures"``.
        sources: in order of split, class and name.
        names: of the classes; empty where only the files say them (HDF5).
        numbers: of the classes in tables; empty elsewhere.
        others: files that are passed over.
    """

    root: Path
    kind: str
    sources: tuple[Source, ...]
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    others: int = 0

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        tables = [s.table for s in self.sources if s.table is not None]
        return [s.path for s in self.sources] + tables

    @property
    def sum(self) -> str:
        """Of what the folder's shape says of its files, their content apart."""
        said = [[s.split, s.label] for s in self.sources]
        return digest([self.kind, said, self.names, self.numbers])


def find(root: Path, classes: Sequence[str] = ()) -> Layout:
    """The recordings of a folder.

    Args:
        root: the folder.
        classes: names in the order of the labels; empty: in order of name, numbers by size.

    Raises:
        UsageError: no folder, or none of the layouts.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; expected one with {EXPECTED}")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise UsageError(f"--classes names '{shown(twice, 40)}' twice")
    parts = _parts(root)
    for read in (_hdf5, _tables, _by_class):
        if found := read(root, parts, tuple(classes)):
            return found
    raise UsageError(f"no recordings in {root}; expected {EXPECTED}")


def _folders(place: Path) -> list[Path]:
    return [p for p in listing(place) if stat.S_ISDIR(mode_of(p).st_mode)]


def _files(place: Path, suffixes: Sequence[str]) -> list[Path]:
    found = [p for p in listing(place) if p.name.lower().endswith(tuple(suffixes))]
    for path in found:
        regular(path)
    return found


def _parts(root: Path) -> dict[Path, int]:
    """Folder -> split: those named after one, where train or test is among them; else the root."""
    named = {p: SPLITS[p.name.lower()] for p in _folders(root) if p.name.lower() in SPLITS}
    return named if {TRAIN, TEST} & set(named.values()) else {root: TRAIN}


# ----------------------------------------------------------------------------- HDF5


def _hdf5(root: Path, parts: dict[Path, int], classes: tuple[str, ...]) -> Layout | None:
    found = []
    for place in dict.fromkeys((root, *parts)):
        for path in _files(place, HDF5):
            words = re.split(r"[^a-z]+", path.name.lower())
            own = next((SPLITS[word] for word in words if word in SPLITS), None)
            found.append(Source(path, parts.get(place, TRAIN) if own is None else own))
    if not found:
        return None
    if classes:
        raise UsageError("--classes names subfolders, or numbers of tables; .h5 files have names")
    return _made(root, "h5", found)


# -------------------------------------------------------------------- DVS Gesture's tables


def _tables(root: Path, parts: dict[Path, int], classes: tuple[str, ...]) -> Layout | None:
    places = {root: TRAIN} | parts
    files = {p: split for place, split in places.items() for p in _files(place, aedat.SUFFIXES)}
    if not files:
        return None
    tables = {}
    for path in files:
        table = path.with_name(path.stem + labels.SUFFIX)
        if not table.is_file():
            raise UsageError(
                f"{path} lies in no subfolder of a class, and {table.name} is not there"
            )
        tables[path] = labels.read_stretches(table)
    listed = {
        SPLITS[split.lower()]: set(labels.read_trials(root / name))
        for split, name in labels.TRIALS.items() if (root / name).is_file()
    }  # fmt: skip
    found, others = [], 0
    for path, split in files.items():
        own = [k for k, names in listed.items() if path.name in names]
        if len(own) > 1:
            raise UsageError(f"{path.name} is in both of {', '.join(labels.TRIALS.values())}")
        if listed and not own:
            others += 1
            continue
        source = Source(path, own[0] if own else split)
        found.append(dataclasses.replace(source, table=path.with_name(path.stem + labels.SUFFIX)))
    there = {path.name for path in files}
    for wanted in listed.values():
        if absent := sorted(wanted - there):
            raise UsageError(f"{root}: {len(absent)} files of the lists are not there: {absent[0]}")
    numbers = sorted({stretch.label for table in tables.values() for stretch in table})
    mapping: dict[int, str] = {}
    if (root / labels.MAPPING).is_file():
        mapping = labels.read_mapping(root / labels.MAPPING)
        if unknown := [n for n in numbers if n not in mapping]:
            raise UsageError(f"{root / labels.MAPPING} has no name for class {unknown[0]}")
        numbers = sorted(mapping)
    names = tuple(mapping.get(n, str(n)) for n in numbers)
    if classes:
        if len(classes) != len(numbers):
            raise UsageError(
                f"--classes gives {len(classes)} names; the tables have {len(numbers)} classes: "
                f"{', '.join(map(str, numbers[:20]))}"
            )
        names = classes
    made = _made(root, "gestures", found, names, others)
    return dataclasses.replace(made, numbers=tuple(numbers))


# -------------------------------------------------------------------- a subfolder a class


def _by_class(root: Path, parts: dict[Path, int], classes: tuple[str, ...]) -> Layout | None:
    where: list[tuple[int, Path, list[Path]]] = []
    others = 0
    for place, split in parts.items():
        for folder in _folders(place):
            files = _files(folder, tuple(KINDS))
            others += sum(p not in files and p.is_file() for p in listing(folder))
            if files:
                where.append((split, folder, files))
        if loose := _files(place, tuple(KINDS)):
            raise UsageError(f"{loose[0]} lies in no subfolder of a class")
    if not where:
        return None
    kinds = {KINDS[path.suffix.lower()]: path for _, _, files in where for path in files}
    if len(kinds) > 1:
        some = ", ".join(f"{kind} ({path.name})" for kind, path in sorted(kinds.items()))
        raise UsageError(f"{root} holds recordings of several kinds, {some}; expected one")
    found = {folder.name for _, folder, _ in where}
    names = classes or tuple(sorted(found, key=lambda n: (n.isdigit(), int_of(n), n)))
    for name in sorted(found - set(names)):
        raise UsageError(
            f"subfolder '{shown(name, 40)}' is none of --classes "
            f"{shown(','.join(names), 100)}{nearest(name, names)}"
        )
    trained = {f.name for split, f, _ in where if split == TRAIN}
    for name in sorted(found - trained):
        raise UsageError(f"{root}: class '{shown(name, 40)}' has no training recordings")
    sources = [
        Source(path, split, names.index(folder.name))
        for split, folder, files in where for path in files
    ]  # fmt: skip
    return _made(root, next(iter(kinds)), sources, names, others)


def _made(
    root: Path, kind: str, found: list[Source], names: tuple[str, ...] = (), others: int = 0
) -> Layout:
    if all(source.split != TRAIN for source in found):
        raise UsageError(f"{root} holds no training recordings, only those of other splits")
    order = sorted(found, key=lambda s: (s.split, s.label, s.path.name))
    return Layout(root, kind, tuple(order), names, (), others)
