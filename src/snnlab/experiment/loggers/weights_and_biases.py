"""``--log wandb``: a run of Weights & Biases, whose files are in the folder ``wandb`` of the run.

Project (``snnlab``), entity and mode are those of its own environment: ``WANDB_PROJECT``,
``WANDB_ENTITY``, ``WANDB_MODE=offline``. Metrics are ``train/loss``, ``val/loss``, over ``epoch``.
A resume goes on with the run of the same id; epochs that it repeats are there twice.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.experiment.loggers.base import Logger, Started, numbers


class WeightsAndBiases(Logger):
    """Asks for no key: without one, and online, it fails."""

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: Started) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off")
        mode = os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not wandb.api.api_key:
            raise RuntimeError("no key: wandb login, or WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "snnlab"), dir=run.folder, id=_id(run.folder),
            resume="allow", name=run.folder.name, job_type=run.task, config=dict(run.options),
            settings=settings,
        )  # fmt: skip
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")

    def row(self, row: Mapping[str, Any]) -> None:
        split = row["split"]
        told = {k: v for k, v in row.items() if k not in ("epoch", "split")}
        found = {f"{split}/{name}": value for name, value in numbers(told)}
        self._run.log({"epoch": int(row["epoch"]), **found})

    def end(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        import wandb

        self._run.summary.update(dict(results))
        if figures:
            self._run.log({f"figures/{p.stem}": wandb.Image(str(p)) for p in figures})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


def _id(folder: Path) -> str:
    """The id of the run in this folder: drawn once, kept in a file."""
    path = folder / "wandb" / "id"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex(6), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
