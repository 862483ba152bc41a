"""What each test sample was taken for: gathered, counted, written, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnlab
from run_folders import run_folder
from snnlab import processes
from snnlab.data.answers import Answers
from snnlab.data.batch import Batch, Targets, padded
from snnlab.experiment.decided import Decided
from snnlab.runs import RunFolder
from snnlab.scores import wilson
from snnlab.training.predictions import Predictions


def of(rows: list[tuple[int, int, int]]) -> Predictions:
    made = Predictions()
    made.rows = rows
    return made


def batch_of(targets: Targets, indices: Any = None) -> Batch:
    stream: Any = None
    return Batch(stream, targets, indices)


def test_padding_is_left_out() -> None:
    labels = np.array([5, 6, 7, 8, 9])
    found = Predictions()
    found.add(0, batch_of(*padded(np.array([3, 1]), labels, 4)), {"predictions": np.arange(4)})
    found.add(1, batch_of(*padded(np.array([0]), labels, 4)), {"predictions": np.arange(4) + 4})
    assert found.rows == [(3, 8, 0), (1, 6, 1), (0, 5, 4)]
    assert found.gather().rows == [(0, 5, 4), (1, 6, 1), (3, 8, 0)]


def test_what_decides_for_no_class_has_no_predictions() -> None:
    found = Predictions()
    found.add(0, batch_of(Targets(np.zeros((3, 2, 1)), np.ones(2))), {"loss": 0.1})
    assert found.gather().rows == []


def test_several_labels_of_a_sample() -> None:
    """A row for each that it has, in their order, also where that is not that of the numbers."""
    labels = np.array([[2, 0, 1], [-1, 1, -1], [0, 0, 0]])
    found, taken = Predictions(), np.array([[2, 1, 0], [2, 1, 0], [1, 1, 1]])
    targets = Targets(Answers(labels, ((0, 1), (1, 2), (2, 3))), np.array([1, 1, 0]))
    found.add(0, batch_of(targets), {"predictions": taken})
    assert found.gather().rows == [(0, 2, 2), (0, 0, 1), (0, 1, 0), (1, 1, 1)]
    facts = Decided(found, 3).facts()
    assert facts["test_samples"] == 2
    assert "test_accuracy_wilson95" not in facts
    assert facts["test_accuracy_by_class"] == {"0": 0.0, "1": 0.5, "2": 1.0}


def test_trials_have_numbers_whatever_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes has half of the labels of a batch, and all predictions."""
    labels, taken = np.arange(8), np.arange(8)[::-1]
    alone, parts = Predictions(), []
    for number in (0, 1):
        targets = Targets(labels[4 * number :][:4], np.ones(4))
        alone.add(number, batch_of(targets), {"predictions": taken[4 * number :][:4]})
    monkeypatch.setattr(processes, "count", lambda: 2)
    for i in (0, 1):
        monkeypatch.setattr(processes, "index", lambda i=i: i)
        parts.append(Predictions())
        for number in (0, 1):
            targets = Targets(labels[4 * number + 2 * i :][:2], np.ones(2))
            parts[i].add(number, batch_of(targets), {"predictions": taken[4 * number :][:4]})
    monkeypatch.setattr(  # by JSON, as between processes
        processes, "gathered", lambda mine: json.loads(json.dumps([p.rows for p in parts]))
    )
    assert parts[1].gather().rows == alone.rows == [(i, i, 7 - i) for i in range(8)]


def test_a_class_without_samples_has_no_accuracy(tmp_path: Path) -> None:
    rows = [(0, 0, 0), (1, 2, 1), (2, 0, 2), (3, 2, 2), (4, 2, 2)]
    names = ("a", "b, or \"b\"", "c")  # fmt: skip
    found = Decided(of(rows), 3, names)
    assert of(rows).counts(3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 2]]
    assert found.facts() == {
        "test_samples": 5,
        "test_accuracy_wilson95": list(wilson(3, 5)),
        "test_accuracy_by_class": {"a": 1 / 2, names[1]: None, "c": 2 / 3},
    }
    path = run_folder(tmp_path / "run")
    assert found.write(RunFolder(path)) == [path / "figures" / "confusion.png"]
    read = snnlab.load(path).predictions
    assert read[1] == {"split": "test", "index": 1, "label": "c", "prediction": names[1]}
    assert [row["index"] for row in read] == [0, 1, 2, 3, 4]
    (path / "predictions.csv").write_text("index;label\n1;a\n")
    with pytest.raises(snnlab.UsageError, match="columns split,index,label,prediction"):
        _ = snnlab.load(path).predictions


def test_names_that_are_not_distinct_are_numbers() -> None:
    found = Decided(of([(0, 0, 1)]), 2, ("yes", "yes")).facts()
    assert found["test_accuracy_by_class"] == {"0": 0.0, "1": None}


def test_where_nothing_is_classified_nothing_is_written(tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run")
    nothing = Decided(Predictions(), 3)
    assert (nothing.facts(), nothing.write(RunFolder(path))) == ({}, [])
    assert not (path / "predictions.csv").exists()
    assert snnlab.load(path).predictions == []


def test_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_folder(tmp_path / "run")
    monkeypatch.setattr(processes, "leads", lambda: False)
    assert Decided(of([(0, 0, 0)]), 2).write(RunFolder(path)) == []
    assert not (path / "predictions.csv").exists()
