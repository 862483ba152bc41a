"""Orbax checkpoints of a run: the last ones and the best one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from snnlab.errors import UsageError
from snnlab.learners.functional import Params
from snnlab.training.programs import TrainState


def rank(meta: dict[str, Any]) -> tuple[float, float, int]:
    """Order of epochs: validation accuracy, then lower loss, then the earlier one."""
    return meta["val_accuracy"], -meta["val_loss"], -meta["epoch"]


class Checkpoints:
    """Saved states of a run, one per epoch.

    Args:
        folder: where they lie.
        max_to_keep: how many of the latest are kept; the best one is kept beside them.
    """

    def __init__(self, folder: Path, max_to_keep: int = 2) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        keep = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(max_to_keep),
                preservation_policy.BestN(get_metric_fn=rank, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep, enable_async_checkpointing=False, create=True,
            cleanup_tmp_directories=True,
        )  # fmt: skip
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def save(self, epoch: int, state: TrainState, meta: dict[str, Any]) -> None:
        """Save an epoch; ``meta`` has ``val_accuracy``, ``val_loss`` and what resume needs."""
        meta = {**meta, "epoch": epoch}
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
            metrics={k: meta[k] for k in ("val_accuracy", "val_loss", "epoch")},
            force=True,
        )
        self._manager.wait_until_finished()

    @property
    def epochs(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def restore(self, like: TrainState, epoch: int | None = None) -> tuple[TrainState, dict]:
        """The state of an epoch (the latest by default), in the structure of ``like``.

        Raises:
            UsageError: there is no such checkpoint, or it holds another network.
        """
        chosen = self._manager.latest_step() if epoch is None else epoch
        if chosen is None:
            raise UsageError(f"no checkpoint in {self._manager.directory}")
        where = f"checkpoint {chosen} in {self._manager.directory}"
        try:
            saved = _shapes(self._manager.item_metadata(chosen)["state"])
        except (ValueError, KeyError, FileNotFoundError, TypeError) as error:
            raise UsageError(f"{where} cannot be read: {str(error).splitlines()[0]}") from None
        wanted = _shapes(like)
        other = [n for n in {**wanted, **saved} if wanted.get(n) != saved.get(n)]
        if other:
            raise UsageError(
                f"{where} does not fit this experiment: {other[0]} has shape "
                f"{saved.get(other[0])}, needed: {wanted.get(other[0])}"
            )
        found = self._manager.restore(
            chosen,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like)),
                meta=ocp.args.JsonRestore(),
            ),
        )
        return found["state"], dict(found["meta"])

    def best_params(self, like: Params) -> Params:
        """The parameters of the best epoch, whatever optimiser they were trained with.

        Raises:
            UsageError: there is no checkpoint, or it holds another network.
        """
        epochs = [e for e in self.epochs if e > 0] or self.epochs
        if not epochs:
            raise UsageError(f"no checkpoint in {self._manager.directory}")
        best = max(epochs, key=lambda e: rank(self._meta(e)))
        where = f"checkpoint {best} in {self._manager.directory}"
        found = self._manager.restore(
            best, args=ocp.args.Composite(state=ocp.args.StandardRestore())
        )["state"]
        params = found["params"] if isinstance(found, dict) else found.params
        saved, wanted = _shapes(params), _shapes(like)
        other = [n for n in {**wanted, **saved} if wanted.get(n) != saved.get(n)]
        if other:
            raise UsageError(
                f"{where} holds another network: {other[0]} has shape {saved.get(other[0])}, "
                f"needed: {wanted.get(other[0])}"
            )
        return {name: jax.numpy.asarray(params[name]) for name in like}

    def _meta(self, epoch: int) -> dict[str, Any]:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return dict(self._manager.restore(epoch, args=args)["meta"])

    def close(self) -> None:
        self._manager.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every array of a tree, or of orbax's metadata of one."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }
