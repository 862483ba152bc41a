"""What a folder of recordings says about its classes and speakers: by sub-folder or file name."""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from snnlab.data.sources import listing, mode_of, regular
from snnlab.data.speech.audio import SUFFIXES
from snnlab.errors import UsageError, nearest

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun")

LAYOUTS = """\
Recordings are .wav or .flac files, laid out in one of three ways:
  <label>/<speaker>_<anything>.wav             classes are the sub-folders, in order of their
                                               names; without a _ in its name, a file's speaker
                                               is unknown
  <digit>_<speaker>_<number>.wav               ten classes, as in the Free Spoken Digit Dataset
  lang-<english|german>_speaker-<number>_trial-<number>_digit-<digit>.flac
                                               twenty classes, as the Heidelberg Digits"""

_FREE = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<trial>\d+)")
_HEIDELBERG = re.compile(
    r"lang-(?P<language>english|german)_speaker-(?P<speaker>\d+)_trial-\d+_digit-(?P<digit>\d)"
)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The recordings of a folder.

    Attributes:
        files: in order of their names.
        labels, speakers: of each, indices into ``keys`` and ``names``.
        keys: class names.
        names: of the speakers, sorted.
    """

    files: list[Path]
    labels: list[int]
    speakers: list[int]
    keys: tuple[str, ...]
    names: tuple[str, ...]


def list_recordings(folder: Path, classes: Sequence[str] = ()) -> Listing:
    """Find the recordings of a folder and what its layout (``LAYOUTS``) says of them.

    Args:
        folder: hidden files and other suffixes are passed over.
        classes: names of the sub-folders in the order of the labels; empty: in order of name.

    Raises:
        UsageError: no folder, no recordings, names of no layout, or two layouts at once.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of recordings")
    flat, nested = sounds(folder), []
    for child in listing(folder):
        if stat.S_ISDIR(mode_of(child).st_mode):
            nested += sounds(child)
    if flat and nested:
        raise UsageError(
            f"{folder} holds recordings ({flat[0].name}) and sub-folders with recordings "
            f"({nested[0].parent.name}); expected one or the other"
        )
    if not (flat or nested):
        raise UsageError(f"{folder} holds no recordings ({', '.join(SUFFIXES)})")
    if nested:
        return _by_folder(nested, classes)
    if classes:
        raise UsageError("--classes names sub-folders, and the recordings are in none")
    return _by_name(flat)


def sounds(folder: Path) -> list[Path]:
    """The sound files of a folder, by suffix, in order of their names.

    Raises:
        UsageError: the folder cannot be read, or one of them is no regular file.
    """
    found = [path for path in listing(folder) if path.suffix.lower() in SUFFIXES]
    for path in found:
        regular(path)
    return found


def _by_folder(files: list[Path], classes: Sequence[str]) -> Listing:
    found = {path.parent.name for path in files}
    keys = tuple(classes) or tuple(sorted(found, key=lambda n: (n.isdigit(), int_of(n), n)))
    unknown = sorted(found - set(keys))
    if unknown:
        raise UsageError(
            f"sub-folder '{unknown[0]}' is none of --classes {','.join(keys)}"
            f"{nearest(unknown[0], keys)}"
        )
    labels = [keys.index(path.parent.name) for path in files]
    return _listing(files, labels, [_speaker_of(path) for path in files], keys)


def int_of(name: str) -> int:
    """The number that a name is, 0 where it is none: 10 then sorts behind 9."""
    return int(name) if name.isascii() and name.isdigit() else 0


def _speaker_of(path: Path) -> str:
    return path.stem.partition("_")[0] if "_" in path.stem else "unknown"


def heidelberg(stem: str) -> tuple[int, str] | None:
    """What a name of the Heidelberg Digits says: label (of ``ENGLISH + GERMAN``) and speaker."""
    found = _HEIDELBERG.fullmatch(stem)
    return found and (int(found["digit"]) + 10 * (found["language"] == "german"), found["speaker"])


def _free(stem: str) -> tuple[int, str] | None:
    found = _FREE.fullmatch(stem)
    return found and (int(found["digit"]), found["speaker"])


def _by_name(files: list[Path]) -> Listing:
    read, keys = (heidelberg, ENGLISH + GERMAN) if heidelberg(files[0].stem) else (_free, ENGLISH)
    labels, speakers = [], []
    for path in files:
        said = read(path.stem)
        if not said:
            raise UsageError(
                f"{path}: the name gives no label; expected <label>/*.wav, "
                "<digit>_<speaker>_<number>.wav or lang-..._speaker-..._trial-..._digit-....flac "
                "(one of them for all files)"
            )
        labels.append(said[0])
        speakers.append(said[1])
    return _listing(files, labels, speakers, keys)


def _listing(files: list[Path], labels: list[int], who: list[str], keys: Sequence[str]) -> Listing:
    names = tuple(sorted(set(who)))
    places = {name: i for i, name in enumerate(names)}
    return Listing(files, labels, [places[w] for w in who], tuple(keys), names)
