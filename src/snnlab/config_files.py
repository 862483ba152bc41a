"""The config files that come with snnlab, by name: ``image-classification/shd-bptt``.

They are ``configs/`` of the repository; a wheel has them beside this file. A name is a path in
there without its suffix; the last part alone will do where no other file has it. Whatever else is
given for ``--config`` is a path.
"""

from __future__ import annotations

import functools
from pathlib import Path

from snnlab.errors import UsageError, nearest, shown

#: Folders of sweep files and of published claims (``snnlab reproduce``): no configs of a run.
SWEEPS, CLAIMS = "sweeps", "reproduce"
_OTHERS = (SWEEPS, CLAIMS)
#: Folder of the published commands of all tasks: a file's name begins with a task's folder.
PUBLISHED = "published"


@functools.cache
def home() -> Path | None:
    """The folder of the files; none where only the sources of the package were copied."""
    here = Path(__file__).resolve()
    places = (here.with_name("configs"), here.parents[2] / "configs")
    return next((path for path in places if path.is_dir()), None)


def names(folder: str = "") -> dict[str, Path]:
    """Name -> file, in order.

    Args:
        folder: such as ``coba-ei``; empty: all of them.
    """
    place = home()
    found = sorted(place.glob(f"{folder or '*'}/*.yaml"), key=_order) if place else []
    return {f"{path.parent.name}/{path.stem}": path for path in found}


def offered(folder: str) -> dict[str, Path]:
    """:func:`names`, and paths of files in ``configs/<folder>`` of the present folder.

    Those are of a user's package, beside which its command is run.
    """
    own, known = Path("configs") / folder, names(folder)
    if own.resolve() in {path.parent for path in known.values()}:
        return known
    return {**{str(path): path for path in sorted(own.glob("*.yaml"))}, **known}


def _order(path: Path) -> tuple[str, str]:
    return path.parent.name, path.stem


def is_of(path: Path, folder: str) -> bool:
    """Whether a file is of the task whose files are in ``folder``."""
    if path.parent.name == PUBLISHED:
        return path.stem.startswith(f"{folder}-")
    return path.parent.name == folder


def title(path: Path) -> str:
    """The first line of a file, if it is a comment."""
    with open(path, encoding="utf-8") as file:
        line = file.readline().strip()
    return line.lstrip("# ") if line.startswith("#") else ""


def find(given: str, folder: str = "") -> str:
    """The file that is meant: one that is there, or the one that has this name.

    Args:
        given: path or name; ``configs/<name>.yaml`` is a name as well, from any folder.
        folder: whose files are meant where several have a name; of ``sweeps`` and ``reproduce``
            no others.

    Returns:
        Its path; a path that is not there as it was given.

    Raises:
        UsageError: neither a path nor a name.
    """
    if _is_there(given):
        return given
    word = given.removeprefix("configs/")
    is_path = word.endswith((".yaml", ".yml"))
    if word != given:
        word = word.removesuffix(".yaml")
    known = {
        name: path for name, path in names(folder if folder in _OTHERS else "").items()
        if folder in _OTHERS or path.parent.name not in _OTHERS
    }  # fmt: skip
    for name in (word, f"{folder}/{word}"):
        if name in known:
            return str(known[name])
    same = [name for name in known if name.rpartition("/")[2] == word]
    if len(same) == 1:
        return str(known[same[0]])
    if same:
        raise UsageError(f"several configs are called '{shown(given)}': {', '.join(same)}")
    if is_path or Path(given).suffix or Path(given).is_dir():
        return given
    close = nearest(word, [n if "/" in word else n.rpartition("/")[2] for n in known])
    raise UsageError(f"no config '{shown(given)}'{close}; give a file, or a name of snnlab configs")


def _is_there(given: str) -> bool:
    """Whether it is the path of something to read; a folder may have the name of a config."""
    try:
        return Path(given).exists() and not Path(given).is_dir()
    except (OSError, ValueError):  # too long; a zero byte
        return False
