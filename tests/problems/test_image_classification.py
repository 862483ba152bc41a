"""Defaults that depend on the dataset and the method."""

from __future__ import annotations

import pytest

from snnlab.problems.image_classification import adapt


@pytest.mark.parametrize(
    ("values", "backend"),
    [
        ({"method": "expsm_diag"}, "braintrace"),
        ({"method": "ES-D-RTRL"}, "braintrace"),
        ({"method": "expsm_diag", "chunk_size": "5"}, None),  # braintrace has no chunks
        ({"method": "expsm_diag", "dataset": "nmnist"}, None),
        ({"method": "diag"}, None),
        ({}, None),
    ],
)
def test_backend_of_the_main_job(values: dict, backend: str | None) -> None:
    assert adapt(values).get("backend") == backend
