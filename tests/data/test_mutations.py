"""Random damage to what a dataset is read from; see ``mutations``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mutations

#: Inputs of each kind in the long form.
MANY = {
    "events_bin": 1000, "archive": 1000, "hdf5": 1000, "wav": 600, "flac": 300, "manifest": 500,
    "npz": 1000, "aedat2": 500, "aedat3": 1000, "aedat4": 1000,
}  # fmt: skip


def _skip_without_package(kind: str) -> None:
    if kind in (packages := {"flac": "soundfile", "aedat4": "aedat"}):
        pytest.importorskip(packages[kind])


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_damaged_inputs_are_read_or_refused(kind, tmp_path, own_cache):
    _skip_without_package(kind)
    found = mutations.attempt(kind, 100, 0, tmp_path)
    assert found["read"] + found["refused"] >= 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_many_damaged_inputs_in_bounded_memory(kind):
    _skip_without_package(kind)
    done = subprocess.run(
        [sys.executable, Path(mutations.__file__), kind, str(MANY[kind]), "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] >= 0.9 * MANY[kind]
    assert found["longest_s"] < mutations.LONGEST_S
