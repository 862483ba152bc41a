"""The event pipeline against tonic's; the timed comparison is slow."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from snnlab.benchmarks import pipeline
from snnlab.data import DataConfig, data_of
from snnlab.errors import UsageError


def test_both_sides_run(digits):
    store = digits.subset(np.arange(40))
    data = data_of(store, DataConfig(data_length=10, batch_size=4, binary_bins=False), 0)
    assert pipeline.event_pass(data)() > 0
    assert pipeline.tonic_pass(data, 4)() > 0


def test_other_datasets_are_refused():
    with pytest.raises(UsageError, match="shd"):
        pipeline.run("shd")


@pytest.mark.parametrize("name", ["tonic", "torch"])
def test_what_it_compares_with_is_to_be_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"needs the package {name}, of the extra 'data'"):
        pipeline.run()


@pytest.mark.slow
def test_ten_times_tonic(digits):
    result = pipeline.run(repeats=3)
    assert result["met"], result
