"""Reading checkpoints; their format is that of :mod:`snnlab.training.checkpoint_files`."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab import interrupts
from snnlab.errors import UsageError, one_line
from snnlab.training.checkpoint_files import Place, damage, places
from snnlab.training.migration import READ, migrated

if TYPE_CHECKING:  # JAX and orbax are imported where arrays are read or written
    import numpy as np
    import orbax.checkpoint as ocp

    from snnlab.learners.functional import Params
    from snnlab.training.programs import TrainState

#: Looks at a folder without checkpoints before it counts as one.
LOOKS = 5


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

        with self._copied(place) as (path, meta, where):
            wanted, saved = {"best": like.params, **like._asdict()}, _saved(path)
            today = _new_names(saved.get("params", {}), like.params)
            asked = _renamed(wanted, {name: before for before, name in today.items()})
            _compare(_shapes(saved), _shapes(asked), where, "does not fit this experiment")
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, asked)
            found = _handler().restore(path, args=ocp.args.StandardRestore(target))
            found = _renamed(found, today)
            best = found.pop("best")
            return type(like)(**found), best, meta

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
