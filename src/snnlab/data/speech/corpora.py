"""Folders of recorded words with published splits: Heidelberg Digits and Speech Commands.

``hd`` (Cramer et al. 2020, the recordings that SHD was made from), twenty classes:

    audio/lang-<english|german>_speaker-<number>_trial-<number>_digit-<digit>.flac
    train_filenames.txt, test_filenames.txt      names of the files in audio/, one a line

``sc`` (Warden 2018, Speech Commands v0.02), a class for every folder, 35 in all:

    <word>/<speaker>_nohash_<number>.wav         folders that begin with _ are passed over
    validation_list.txt, testing_list.txt        <word>/<file>.wav, one a line; the rest is training

WAV may stand for FLAC and FLAC for WAV, whatever the lists say. A part of a dataset will do: what
the lists name and the folder has not is counted, not refused.
"""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

from snnlab.data.sources import listing, mode_of, read_bytes, reason
from snnlab.data.speech.folder import ENGLISH, GERMAN, heidelberg, sounds
from snnlab.data.store import TEST, TRAIN, VALID
from snnlab.errors import UsageError, one_line

EXPECTED = {
    "hd": "the published layout, audio/lang-..._speaker-..._trial-..._digit-....flac (or .wav), "
    "train_filenames.txt and test_filenames.txt",
    "sc": "the published layout, <word>/*.wav, validation_list.txt and testing_list.txt",
}
LISTS = {
    "hd": {TRAIN: "train_filenames.txt", TEST: "test_filenames.txt"},
    "sc": {VALID: "validation_list.txt", TEST: "testing_list.txt"},
}
_FOLDERS = {
    "hd": ("", "HD", "hd", "hd_audio", "HeidelbergDigits"),
    "sc": ("", "SC", "sc", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"),
}
_MOST_BYTES = 64 << 20  # of a list
_NAMES = {TRAIN: "training", VALID: "validation", TEST: "test"}


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The recordings of a dataset.

    Attributes:
        root: folder that the dataset lies in.
        files: in order of their names.
        labels: of each, indices into ``keys``.
        split: of each, TRAIN, TEST or VALID.
        keys: class names.
        absent: lines of the lists whose file is not there.
        unlisted: files that no list names, and that are left out.
    """

    root: Path
    files: list[Path]
    labels: list[int]
    split: list[int]
    keys: tuple[str, ...]
    absent: int
    unlisted: int = 0


def find_corpus(name: str, root: Path) -> Corpus:
    """The recordings of ``hd`` or ``sc`` below ``root``.

    Raises:
        UsageError: no such layout, a name that says no label, or a split without recordings.
    """
    for folder in (root / sub for sub in _FOLDERS[name]):
        lists = [folder / file for file in LISTS[name].values()]
        try:
            there = any(path.is_file() for path in lists)
        except OSError as error:
            raise UsageError(f"cannot read {folder}: {reason(error)}") from None
        if there:
            for path in lists:
                if not path.is_file():
                    raise UsageError(f"{name}: there is no {path}; expected {EXPECTED[name]}")
            found = _heidelberg(folder) if name == "hd" else _commands(folder)
            for split in {TRAIN, TEST, *LISTS[name]}:
                if split not in found.split:
                    raise UsageError(
                        f"{name}: no {_NAMES[split]} recordings in {folder}; "
                        f"expected {EXPECTED[name]}"
                    )
            return found
    raise UsageError(
        f"no {name} recordings in {root}; put them there as {EXPECTED[name]}, or give their folder "
        "by --data_path"
    )


def _heidelberg(folder: Path) -> Corpus:
    audio = folder / "audio"
    if not audio.is_dir():
        raise UsageError(f"hd: there is no folder {audio}; expected {EXPECTED['hd']}")
    there: dict[str, Path] = {}
    for path in sounds(audio):
        other = there.setdefault(path.stem, path)
        if other is not path:
            raise UsageError(f"hd: {other} and {path.name} are the same recording; keep one")
    where = _splits(folder, "hd")
    files = [there[stem] for stem in sorted(there) if stem in where]
    labels = []
    for path in files:
        said = heidelberg(path.stem)
        if said is None:
            raise UsageError(f"{path}: the name gives no label; expected {EXPECTED['hd']}")
        labels.append(said[0])
    split = [where[path.stem] for path in files]
    n = len(files)
    return Corpus(
        folder, files, labels, split, ENGLISH + GERMAN, len(where) - n, len(there) - n
    )  # fmt: skip


def _commands(folder: Path) -> Corpus:
    words = {
        child.name: found
        for child in listing(folder)
        if child.name[0] != "_"
        and stat.S_ISDIR(mode_of(child).st_mode)
        and (found := sounds(child))
    }
    where = _splits(folder, "sc")
    files, labels, split = [], [], []
    for label, (word, found) in enumerate(words.items()):
        files += found
        labels += [label] * len(found)
        split += [where.get(f"{word}/{path.stem}", TRAIN) for path in found]
    named = sum(s != TRAIN for s in split)
    return Corpus(folder, files, labels, split, tuple(words), len(where) - named)


def _splits(folder: Path, name: str) -> dict[str, int]:
    """File names without suffixes, as the lists give them -> split."""
    where: dict[str, int] = {}
    for split, file in LISTS[name].items():
        path = folder / file
        try:
            text = read_bytes(path, _MOST_BYTES).decode("utf-8")
        except UnicodeError as error:
            raise UsageError(f"cannot read {path}: {one_line(str(error))}") from None
        # A byte order mark (of Windows) is no part of the first name, nor is ./ of any.
        lines = text.replace("\ufeff", "").replace("\\", "/").splitlines()
        for line in filter(None, (line.strip().removeprefix("./") for line in lines)):
            stem = line.rpartition(".")[0] or line
            if where.setdefault(stem, split) != split:
                raise UsageError(f"{path}: {line} is in another list too")
    return where
