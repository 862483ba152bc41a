"""A recording whose arrays do not fit together is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from snnlab.analysis.recording import Recording, SensorShape, event_counts


def zeros(**more) -> Recording:
    given = {
        "inputs": np.zeros((4, 2, 8)),
        "spikes": (np.zeros((4, 2, 5)), np.zeros((4, 2, 3))),
        "membrane": (np.zeros((4, 2, 5)), np.zeros((4, 2, 3))),
        "readout": np.zeros((4, 2, 3)),
        "targets": np.array([0, 2]),
        "predictions": np.array([1, 2]),
        "dt_ms": 0.5,
    }
    return Recording(**{**given, **more})


def test_sizes_names_and_thresholds() -> None:
    rec = zeros(thresholds=(1.0, np.array([1.0, 2.0, 3.0])), sensor=SensorShape(2, 2, 2))
    assert (rec.n_steps, rec.batch_size, rec.name(2)) == (4, 2, "2")
    assert rec.threshold(0, 1).shape == (4, 5)
    np.testing.assert_array_equal(rec.threshold(1, 0)[2], [1.0, 2.0, 3.0])
    assert zeros().threshold(0, 0) is None
    assert zeros(class_names=("a", "b", "c")).name(1) == "b"
    odd = zeros(class_names=("a", r"$\frac$", "long" * 20))
    assert [odd.name(k) for k in (1, 2)] == [r"\$\frac\$", f"{'long' * 20:.23}…"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        rec.dt_ms = 1.0


def test_groups_of_inputs() -> None:
    assert zeros().groups == ()
    assert zeros(sensor=SensorShape(2, 2, 2)).groups == (("OFF", 4), ("ON", 4))
    given = (("left", 3), ("right", 5))
    assert zeros(sensor=SensorShape(2, 2, 2), input_groups=given).groups == given
    assert zeros(populations=((), (("E", 2), ("I", 1)))).populations[0] == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros((5, 2, 8))}, "spikes has shape"),
        ({"inputs": np.zeros((4, 8))}, "inputs has shape"),
        ({"membrane": (np.zeros((4, 2, 5)),)}, "not as spikes"),
        ({"readout": np.zeros((4, 1, 3))}, "readout has shape"),
        ({"thresholds": (1.0,)}, "1 thresholds for 2 layers"),
        ({"targets": np.zeros(3)}, "targets, predictions has shape"),
        ({"predictions": np.zeros((2, 1))}, "targets, predictions has shape"),
        ({"predictions": None}, "targets has shape"),
        ({"scored": np.ones(3, bool)}, "scored has shape"),
        ({"class_names": ("a",)}, "1 names for 3 classes"),
        ({"sensor": SensorShape(3, 3, 2)}, "has not 8 inputs"),
        ({"input_groups": (("a", 3), ("b", 4))}, "input_groups .* 8 are needed together"),
        ({"populations": ((),)}, "populations of 1 of 2 layers"),
        ({"populations": ((), (("E", 2),))}, "populations of layer 2 .* 3 are needed"),
        ({"periods": (("delay", 5),)}, "periods .* 4 are needed together"),
        ({"dt_ms": 0.0}, "dt_ms must be positive"),
        ({"bin_ms": -1.0}, "bin_ms must be positive"),
    ],
)
def test_what_does_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zeros(**change)


def test_event_counts_have_the_address_order_of_the_store() -> None:
    sensor = SensorShape(3, 4, 2)
    inputs = np.zeros((5, sensor.size))
    inputs[1, (1 * 3 + 2) * 4 + 3] = 1.0  # ON, y 2, x 3
    inputs[[0, 4], (0 * 3 + 1) * 4 + 0] = 1.0  # OFF, y 1, x 0, twice
    cells = event_counts(inputs, sensor)
    assert cells.shape == (3, 4, 2)
    assert (cells[2, 3, 1], cells[1, 0, 0], cells.sum()) == (1.0, 2.0, 3.0)
