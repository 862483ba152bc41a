"""The rows of a gradient analysis as CSV files, which a later command goes on with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.errors import UsageError
from snnlab.problems.gradient_analysis import Cell
from snnlab.problems.gradient_config import SWEPT
from snnlab.training.metrics import write_atomically

_CELL = (*SWEPT.values(), "seed", "update")
#: Columns of ``gradients.csv``.
GRADIENTS = (
    *_CELL, "trained_by", "rule", "scope", "name", "cosine", "norm_ratio", "norm", "norm_bptt",
    "refused",
)  # fmt: skip
#: Columns of ``layers.csv``.
LAYERS = (*_CELL, "layer", "spikes_per_step", "own_norm", "own_rows")
_WORDS = {"spk_fun", "model", "trained_by", "rule", "scope", "name", "refused", "layer"}
_WHOLE = {"data_length", "n_layer", "seed", "update"}
Row = Mapping[str, Any]


class Table:
    """``gradients.csv``: agreements of rules; ``layers.csv``: rates, and shares of the Jacobian.

    An empty field is nothing: an option without effect, a cosine of a gradient that is zero.

    Args:
        folder: of the run.
        rows, layers: of the two files.
    """

    def __init__(self, folder: Path, rows: Iterable[Row] = (), layers: Iterable[Row] = ()) -> None:
        self.folder = folder
        self.rows = [_whole(row, GRADIENTS) for row in rows]
        self.layers = [_whole(row, LAYERS) for row in layers]
        self._there = {_key(row) for row in self.rows}

    @classmethod
    def of(cls, folder: Path) -> Table:
        """What a folder has.

        Raises:
            UsageError: a file that is not as an analysis wrote it.
        """
        return cls(
            folder, _read(folder / "gradients.csv", GRADIENTS), _read(folder / "layers.csv", LAYERS)
        )

    def has(self, cell: Cell, seed: int, rule: str, by: str | None = None, update: int = 0) -> bool:
        """Whether the rows of a rule are there; ``by`` what trained the network, if anything."""
        return _key({**cell.values, "seed": seed, "update": update, "trained_by": by,
                     "rule": rule}) in self._there  # fmt: skip

    def has_layers(self, cell: Cell, seed: int) -> bool:
        """Whether the rows of the layers are there."""
        return any(row["seed"] == seed for row in of_cell(self.layers, cell))

    def add(self, rows: Iterable[Row]) -> None:
        """More rows of ``gradients.csv``."""
        for row in rows:
            self.rows.append(_whole(row, GRADIENTS))
            self._there.add(_key(row))

    def add_layers(self, rows: Iterable[Row]) -> None:
        """More rows of ``layers.csv``."""
        self.layers += [_whole(row, LAYERS) for row in rows]

    def write(self) -> None:
        """Both files, each whole or as it was."""
        for name, columns, rows in (
            ("gradients.csv", GRADIENTS, self.rows), ("layers.csv", LAYERS, self.layers)
        ):  # fmt: skip
            text = io.StringIO()
            out = csv.DictWriter(text, columns, restval="", lineterminator="\n")
            out.writeheader()
            out.writerows(rows)
            write_atomically(self.folder / name, text.getvalue())


def of_cell(rows: Iterable[dict[str, Any]], cell: Cell) -> list[dict[str, Any]]:
    """The rows of a cell."""
    return [row for row in rows if all(row[k] == v for k, v in cell.values.items())]


def _whole(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in columns}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in (*_CELL, "trained_by", "rule"))


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != tuple(columns):
                raise ValueError
            return [{k: _value(k, v) for k, v in row.items()} for row in table]
    except (OSError, ValueError, csv.Error, TypeError):
        raise UsageError(f"{path} must be CSV with columns {','.join(columns)}") from None


def _value(column: str, text: str) -> Any:
    if text == "":
        return None
    if column in _WORDS:
        return text
    return int(text) if column in _WHOLE else float(text)
