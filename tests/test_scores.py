"""Wilson's interval, and what is said of a test set."""

from __future__ import annotations

import pytest

from snnlab.scores import ACCURACY, NMSE, interval_of_test, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718), (20, 20, 0.8389, 1.0), (0, 0, 0.0, 1.0),
    ],
)  # fmt: skip
def test_wilsons_interval_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    if right in (0, n):
        assert (wilson(right, n)[0] == 0) == (right == 0)
        assert (wilson(right, n)[1] == 1) == (right == n)


def test_an_interval_is_said_where_there_is_one() -> None:
    found = {"test_accuracy_wilson95": [0.95687, 0.98873], "test_samples": 360}
    assert interval_of_test(ACCURACY, found) == "95% interval 95.69 to 98.87%, 360 samples"
    assert interval_of_test(NMSE, found) == ""
    for damaged in ([], [0.1], ["a", 0.2], "0.1", None):
        assert interval_of_test(ACCURACY, {**found, "test_accuracy_wilson95": damaged}) == ""
