"""Defaults that depend on the dataset."""

from __future__ import annotations

from snnlab.problems.image_classification import adapt


def test_defaults_of_a_dataset() -> None:
    assert adapt({}) == adapt({"dataset": "event-digits", "method": "diag"})
    assert adapt({})["n_rec"] == 256
    assert adapt({"dataset": "nmnist"}) == {"first_saccade": True}
    assert adapt({"dataset": "shd"}) == {}
