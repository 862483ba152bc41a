"""Checkpoints of a run: whole, summed, and each enough to go on from or to finish with.

A checkpoint is a folder ``<epoch>`` (taken after an epoch and its evaluation) or
``<epoch>-batch-<n>`` (that many epochs, then n batches of the next)::

    state/       orbax: all that training changes, and ``best``, the best epoch's parameters
    meta.json    the rest: config, progress, rows of metrics, position in the data
    SHA256SUMS   of every file, as ``sha256sum -c SHA256SUMS`` reads them

It is written under another name and renamed, so it is there whole or not at all. It is read only
if every sum is right: a file that was damaged, deleted or added makes it no checkpoint, and the
newest sound one before it takes its place.

:class:`Writer` belongs to the process that holds the run's lock. :class:`Reader` changes nothing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab import interrupts
from snnlab.errors import UsageError, one_line
from snnlab.training.metrics import finite, write_atomically
from snnlab.training.migration import READ, migrated

if TYPE_CHECKING:  # JAX and orbax are imported where arrays are read or written
    import numpy as np
    import orbax.checkpoint as ocp

    from snnlab.learners.functional import Params
    from snnlab.training.programs import TrainState

SUMS = "SHA256SUMS"
_NAME = re.compile(r"(\d+)(?:-batch-(\d+))?")
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where in a run a state was taken: epochs done, then batches of the next one."""

    epoch: int
    batch: int = 0

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.epoch}-batch-{self.batch}" if self.batch else str(self.epoch)

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.batch} batches" if self.batch else "")

    @classmethod
    def of(cls, name: str) -> Place | None:
        """The place that a folder is named after; ``None`` for any other folder."""
        found = _NAME.fullmatch(name)
        place = cls(int(found[1]), int(found[2] or 0)) if found and len(name) < 40 else None
        return place if place and place.name == name else None


START = Place(0)


@dataclasses.dataclass
class Due:
    """When a checkpoint inside an epoch is due.

    Args:
        every: batches; 0 for never.
        minutes: since the last checkpoint of any kind; 0 for never.
        clock: seconds.
    """

    every: int
    minutes: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._last = self.clock()

    def now(self, batch: int) -> bool:
        """Whether one is due after ``batch`` batches of an epoch."""
        waited = self.clock() - self._last
        return bool(self.every and batch % self.every == 0) or 0 < self.minutes * 60 <= waited

    def saved(self) -> None:
        """A checkpoint was made."""
        self._last = self.clock()


# --------------------------------------------------------------------- on disk


#: Looks at a folder without checkpoints before it counts as one.
LOOKS = 5


def places(folder: Path) -> list[Place]:
    """The checkpoints of a folder by name, in order; none of them is looked into."""
    try:
        found = [Place.of(entry.name) for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(place for place in found if place)


def _files(folder: Path) -> list[Path]:
    """All but the file of sums, in order."""
    return sorted(p for p in folder.rglob("*") if not p.is_dir() and p != folder / SUMS)


def _sum(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as source:
        while block := source.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; empty if every file is as it was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines(keepends=True)
        wanted = {}
        for line in lines:
            found = re.fullmatch(r"([0-9a-f]{64})  ([^\n]+)\n", line)
            if not found:
                return f"{SUMS} is damaged"
            wanted[found[2]] = found[1]
        if "meta.json" not in wanted or len(wanted) < 2:
            return f"{SUMS} is damaged"
        there = {p.relative_to(folder).as_posix(): p for p in _files(folder)}
        for name in sorted({*wanted, *there}):
            if name not in there:
                return f"{name} is missing"
            if name not in wanted:
                return f"{name} does not belong to it"
            if not there[name].is_file() or _sum(there[name]) != wanted[name]:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return one_line(str(error))
    return ""


def _meta(folder: Path, place: Place) -> dict[str, Any]:
    """``meta.json`` of a sound checkpoint.

    Raises:
        UsageError: of a format that this version does not know, or of another folder.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta.get("format") not in READ:
        raise UsageError(
            f"it has format {meta.get('format')}, this version of snnlab reads {READ[-1]}"
        )
    if meta["place"] != [place.epoch, place.batch]:
        raise UsageError(f"it was renamed: it holds {Place(*meta['place'])}")
    return migrated(meta)


def _sync(path: Path) -> None:
    """Make what was written last a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --------------------------------------------------------------------- reading


class Reader:
    """The checkpoints of a run, read only; the run may go on meanwhile.

    Args:
        folder: ``checkpoints`` of a run.
        tell: is given a line for every checkpoint that is passed over.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = lambda _line: None) -> None:
        self.folder = folder
        self._tell = tell
        self._told: set[str] = set()

    def sound(self) -> list[Place]:
        """All that are whole, in order."""
        return [place for place in places(self.folder) if not damage(self.folder / place.name)]

    def _listed(self) -> list[Place]:
        """All there are: one look may miss both the one that comes and the one that goes."""
        found = places(self.folder)
        for _ in range(LOOKS):
            if found or not self.folder.is_dir():
                break
            time.sleep(0.01)
            found = places(self.folder)
        return found

    def newest(self) -> tuple[Place, dict[str, Any]]:
        """The newest sound checkpoint and its ``meta.json``.

        Raises:
            UsageError: there is none.
        """
        for _ in range(50):  # a run that goes on may take away what we are looking at
            problem = ""
            for place in reversed(self._listed()):
                path = self.folder / place.name
                problem = damage(path)
                if not problem:
                    try:
                        return place, _meta(path, place)
                    except UsageError as error:
                        problem = str(error)
                    except FileNotFoundError:
                        problem = "meta.json is missing"
                if not path.is_dir():
                    break
                self._pass_over(place, problem)
            else:
                what = f"is sound ({problem})" if problem else "was made"
                raise UsageError(f"no checkpoint in {self.folder} {what}")
        raise UsageError(f"the checkpoints in {self.folder} change faster than they can be read")

    def _pass_over(self, place: Place, problem: str) -> None:
        line = f"checkpoint {place.name} is passed over: {problem}"
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

    def restore(
        self, like: TrainState, place: Place | None = None
    ) -> tuple[TrainState, Params, dict[str, Any]]:
        """State, best parameters and ``meta.json`` of a checkpoint, the newest by default.

        Args:
            like: a state of the same structure.
            place: of the checkpoint.

        Raises:
            UsageError: there is none, it is damaged, or it holds another network.
        """
        import jax
        import orbax.checkpoint as ocp

        from snnlab.training.programs import TrainState

        with self._copied(place) as (path, meta, where):
            wanted, saved = {"best": like.params, **like._asdict()}, _saved(path)
            today = _new_names(saved.get("params", {}), like.params)
            asked = _renamed(wanted, {name: before for before, name in today.items()})
            _compare(_shapes(saved), _shapes(asked), where, "does not fit this experiment")
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, asked)
            found = _handler().restore(path, args=ocp.args.StandardRestore(target))
            found = _renamed(found, today)
            best = found.pop("best")
            return TrainState(**found), best, meta

    def best_params(self, like: Params) -> Params:
        """The best parameters so far, whatever optimiser they were trained with.

        Raises:
            UsageError: there is no sound checkpoint, or it holds another network.
        """
        import jax.numpy as jnp
        import orbax.checkpoint as ocp

        with self._copied(None) as (path, _, where):
            saved = _handler().restore(path, args=ocp.args.StandardRestore())["best"]
            saved = _renamed(saved, _new_names(saved, like))
            _compare(_shapes(saved), _shapes(like), where, "holds another network")
            return {name: jnp.asarray(saved[name]) for name in like}

    def weights(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The best parameters so far (the latest if none were measured) and ``meta.json``.

        Raises:
            UsageError: there is no sound checkpoint.
        """
        import numpy as np
        import orbax.checkpoint as ocp

        with self._copied(None) as (path, meta, _):
            saved = _handler().restore(path, args=ocp.args.StandardRestore())
            found = saved["best" if meta["progress"]["best_epoch"] else "params"]
            found = _renamed(found, _new_names(found))
            return {name: np.array(value, copy=True) for name, value in found.items()}, meta

    @contextlib.contextmanager
    def _copied(self, place: Place | None) -> Iterator[tuple[Path, dict[str, Any], str]]:
        """A private copy of a sound checkpoint: ``(path of its state, meta, name for messages)``.

        What is read is then what was summed, and nobody takes it away meanwhile.
        """
        logging.getLogger("absl").setLevel(logging.ERROR)
        for _ in range(50):
            chosen = place or self.newest()[0]
            source = self.folder / chosen.name
            with (
                tempfile.TemporaryDirectory(prefix="snnlab-") as scratch,
                interrupts.leaving(undo=functools.partial(shutil.rmtree, scratch)),
            ):
                copy = Path(scratch) / chosen.name
                try:
                    shutil.copytree(source, copy)
                except shutil.Error as error:
                    problem = one_line(str(error.args[0][0][-1]))
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise UsageError(
                            f"no space left in {scratch} to read {source}; set TMPDIR to a folder "
                            "with space"
                        ) from None
                    problem = one_line(str(error))
                else:
                    problem = damage(copy)
                if not problem:
                    yield copy / "state", _meta(copy, chosen), f"checkpoint {source}"
                    return
            if place is not None and places(self.folder).count(place):
                raise UsageError(f"checkpoint {source} cannot be used: {problem}")
        raise UsageError(f"the checkpoints in {self.folder} change faster than they can be read")


def _new_names(saved: Iterable[str], wanted: Container[str] | None = None) -> dict[str, str]:
    """Saved parameter -> its name today, where that differs (and is ``wanted``)."""
    from snnlab.models.base import todays_name

    pairs = {name: todays_name(name) for name in saved if wanted is None or name not in wanted}
    return {old: new for old, new in pairs.items() if wanted is None or new in wanted}


def _renamed(tree: Any, names: dict[str, str]) -> Any:
    """``tree`` with keys of its dictionaries renamed."""
    if isinstance(tree, dict):
        return {names.get(key, key): _renamed(value, names) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [_renamed(value, names) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _handler() -> ocp.Checkpointer:
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _saved(path: Path) -> Any:
    return _handler().metadata(path).item_metadata.tree


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Path -> shape and type of every array of a tree, or of orbax's metadata of one."""
    import jax

    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (tuple(leaf.shape), str(leaf.dtype))
        for path, leaf in jax.tree.leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def _compare(saved: dict, wanted: dict, where: str, what: str) -> None:
    for name in {**wanted, **saved}:
        if saved.get(name) != wanted.get(name):
            has, needs = ("nothing" if t.get(name) is None else f"{t[name][1]} {list(t[name][0])}"
                          for t in (saved, wanted))  # fmt: skip
            raise UsageError(f"{where} {what}: {name} is {has}, needed: {needs}")


# --------------------------------------------------------------------- writing


class Writer:
    """Writes checkpoints beside the training; only the holder of the run's lock has one.

    Args:
        folder: ``checkpoints`` of a run.
        max_to_keep: how many of the latest are kept.
    """

    def __init__(self, folder: Path, max_to_keep: int = 2) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what fails is raised
        self.folder = folder
        self._keep = max_to_keep
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._job: concurrent.futures.Future[None] | None = None
        # One file an array: orbax's joint format cannot be read back from a folder whose path has
        # brackets. Compression gains 8 % of the size for a sixth of the time, and orbax's own
        # renaming is not needed beside ours.
        self._handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.glob(".*"):  # what a killed process left half done
            shutil.rmtree(entry, ignore_errors=True)

    def begin_at(self, place: Place | None) -> None:
        """Go on from a place: what lies behind it is damaged, and is set aside."""
        for other in places(self.folder):
            if place is None or other > place:
                aside = self.folder / f"damaged-{other.name}"
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(self.folder / other.name, aside)

    def save(self, place: Place, state: TrainState, best: Params, meta: dict[str, Any]) -> None:
        """Save a state while training goes on; waits for the save before.

        Args:
            place: where in the run.
            state: is copied before this returns, so it may be consumed.
            best: parameters of the best epoch so far.
            meta: JSON-able.

        Raises:
            OSError: this save, or the one before, could not be written.
        """
        import jax
        import numpy as np

        self.wait()
        tree = jax.tree.map(lambda a: np.array(a, copy=True), {"best": best, **state._asdict()})
        text = json.dumps(
            finite({"format": READ[-1], "place": [place.epoch, place.batch], **meta}),
            allow_nan=False,
        )
        self._job = self._pool.submit(self._write, place, tree, text)

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
            OSError: it could not be written.
        """
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _write(self, place: Place, tree: dict[str, Any], text: str) -> None:
        scratch = self.folder / f".{place.name}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        _need_space(self.folder, tree, text)
        scratch.mkdir()
        try:
            state = (scratch / "state").absolute()
            state.mkdir()
            import orbax.checkpoint as ocp

            self._handler.save(state, args=ocp.args.PyTreeSave(tree))
            self._handler.finalize(state)
            write_atomically(scratch / "meta.json", text)
            files = _files(scratch)
            sums = "".join(f"{_sum(p)}  {p.relative_to(scratch).as_posix()}\n" for p in files)
            write_atomically(scratch / SUMS, sums)
            for path in (*files, *(p for p in scratch.rglob("*") if p.is_dir()), scratch):
                _sync(path)
            final = self.folder / place.name
            if final.exists():
                self._drop(final)
            os.rename(scratch, final)
            _sync(self.folder)
        except BaseException as error:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, OSError):
                raise
            raise _as_os_error(error, self.folder) from error
        for old in places(self.folder)[: -self._keep]:
            self._drop(self.folder / old.name)

    def _drop(self, path: Path) -> None:
        gone = path.with_name(f".{path.name}.gone")
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _need_space(folder: Path, tree: dict[str, Any], text: str) -> None:
    """Refuse to begin on a full disk: orbax would leave with pages of tracebacks.

    Raises:
        OSError: no space.
    """
    import jax

    leaves = jax.tree.leaves(tree)
    room = os.statvfs(folder)
    files = 2 * len(leaves) + 30
    needed = sum(a.nbytes for a in leaves) + len(text) + files * room.f_frsize
    if room.f_bavail * room.f_frsize < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _as_os_error(error: BaseException, folder: Path) -> BaseException:
    """tensorstore reports a full disk as text; the same as an ``OSError``, anything else as is."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EIO):
        if os.strerror(number).lower() in str(error).lower():
            return OSError(number, os.strerror(number), str(folder))
    return error
