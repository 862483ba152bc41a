"""Writing checkpoints; their format is that of :mod:`snnlab.training.checkpoint_files`."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab.training.checkpoint_files import SUMS, Place, files_of, places, sum_of, sync
from snnlab.training.metrics import finite, write_atomically
from snnlab.training.migration import READ

if TYPE_CHECKING:
    from snnlab.learners.functional import Params
    from snnlab.training.programs import TrainState


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
            files = files_of(scratch)
            sums = "".join(f"{sum_of(p)}  {p.relative_to(scratch).as_posix()}\n" for p in files)
            write_atomically(scratch / SUMS, sums)
            for path in (*files, *(p for p in scratch.rglob("*") if p.is_dir()), scratch):
                sync(path)
            final = self.folder / place.name
            if final.exists():
                self._drop(final)
            os.rename(scratch, final)
            sync(self.folder)
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


class NoWriter(Writer):
    """Of a process that leaves the checkpoints to another one."""

    def __init__(self) -> None:
        pass

    def begin_at(self, place: Place | None) -> None:
        pass

    def save(self, place: Place, state: TrainState, best: Params, meta: dict[str, Any]) -> None:
        pass

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


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
