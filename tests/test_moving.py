"""Accuracy over a moving window, recovery after a change, and rows that do not grow."""

from __future__ import annotations

import json

import pytest

from snnlab.experiment.moving import Moving, thinned


def fed(accuracies: list[float], **changes) -> Moving:
    """Windows of 2 stretches of 10 steps, a change every 6."""
    moving = Moving(**{"steps": 10, "window": 2, "every": 6, "margin": 0.05, **changes})
    for accuracy in accuracies:
        moving.add(10 * accuracy, 10)
    return moving


def test_the_window_moves() -> None:
    assert Moving(10, 2, 0, 0.1).accuracy is None
    assert fed([1.0]).accuracy == 1.0
    assert fed([0.0, 1.0, 0.5]).accuracy == pytest.approx(0.75)
    unknown = fed([0.5])
    unknown.add(0, 0)
    assert unknown.accuracy == 0.5
    assert fed([0.0, 1.0, 0.5]).facts()["accuracy"] == pytest.approx(0.5)


def test_recovery_is_counted_from_the_change_to_the_end_of_a_window_that_is_back() -> None:
    before = [0.8] * 6
    assert fed(before).changes == 0
    moving = fed([*before, 0.2, 0.4, 0.7, 0.8, 0.8])
    # Windows behind the change: 0.3, 0.55, 0.75 (at most 0.05 below 0.8): after four stretches.
    assert (moving.changes, moving.recovered, moving.recovery) == (1, 1, 40)
    assert fed([*before, 0.8]).recovered == 0  # a window wholly behind the change is asked
    assert fed([*before, 0.8, 0.8]).recovery == 20
    missed = fed([*before, *[0.2] * 6, 0.2, 0.2])
    assert (missed.changes, missed.recovered) == (2, 1)  # of the second: back to what was 0.2
    assert missed.facts()["recovery_steps"] == 20


def test_nothing_is_recovered_where_nothing_was_learned() -> None:
    """Of two classes a guess is right half the time: being back there says nothing."""
    guessing = [0.5, 0.54, 0.52, 0.5, 0.5, 0.54]
    assert fed(3 * guessing).recovered == 2
    moving = fed(3 * guessing, chance=0.5)
    assert (moving.changes, moving.recovered) == (2, 0)
    assert fed([*[0.8] * 6, 0.8, 0.8], chance=0.5).recovered == 1


def test_the_curve_is_the_mean_over_changes() -> None:
    moving = fed([0.9] * 6 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] + [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    found = moving.facts()["accuracy_after_change"]
    assert [step for step, _ in found] == [5, 15, 25, 35, 45, 55]
    assert [a for _, a in found] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_it_goes_on_from_json() -> None:
    values = [0.1 * (k * 7 % 10) for k in range(40)]
    whole = fed(values)
    for at in (1, 5, 6, 7, 20):
        half = fed(values[:at])
        other = Moving(10, 2, 6, 0.05)
        other.load_state_dict(json.loads(json.dumps(half.state_dict())))
        for accuracy in values[at:]:
            other.add(10 * accuracy, 10)
        assert other.facts() == whole.facts()
        assert other.state_dict() == whole.state_dict()


def test_its_size_does_not_grow() -> None:
    moving = Moving(10, 50, 1000, 0.05)
    sizes = []
    for k in range(3000):
        moving.add(k % 10, 10)
        sizes.append(len(moving.last) + len(moving.curve))
    assert max(sizes[100:]) == sizes[99] == 50 + 200


def row(k: int) -> dict:
    return {
        "epoch": k, "split": "train", "loss": float(k), "accuracy": 0.5, "firing_rates": [k, 2 * k],
        "samples": 1, "seconds": 0.5, "lr_scale": 1.0, "step": 10 * k, "steps": 10,
        "moving_accuracy": k / 100, "changes": k % 2, "recovered": 0, "recovery_steps": 0,
    }  # fmt: skip


def test_neighbours_of_too_many_rows_become_one() -> None:
    rows = []
    for k in range(1, 101):
        rows = thinned([*rows, row(k)], 8)
        assert len(rows) <= 8
        assert rows[-1]["step"] == 10 * k == sum(r["steps"] for r in rows)
        assert sum(r["changes"] for r in rows) == (k + 1) // 2
    steps = [r["steps"] for r in rows]
    assert steps == sorted(steps, reverse=True)  # the nearer the finer
    assert rows[-1]["moving_accuracy"] == 1.0
    mean = sum(r["steps"] * r["loss"] for r in rows) / 1000
    assert mean == pytest.approx(sum(range(1, 101)) / 100)
    assert rows[0]["firing_rates"][1] == pytest.approx(2 * rows[0]["loss"])
