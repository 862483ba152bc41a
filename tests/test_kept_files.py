"""A run keeps what its network is made of: it goes on, and is loaded, without the original."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment.opening import keep
from snnlab.problems.image_classification import TASK
from snnlab.problems.networks import placed
from snnlab.runs import RunFolder


def config_of(*argv: str):
    return configs.parse(TASK.config, argv, prog="p", description="", adapt=TASK.adapt)[0]


def test_the_copy_counts_once_there_is_one(tmp_path: Path) -> None:
    original, folder = tmp_path / "a.nir", tmp_path / "run"
    folder.mkdir()
    original.write_bytes(b"one")
    config = config_of("--model", "nir", "--network", str(original), "--method", "diag")
    assert placed(config).network == str(original)
    resumed = dataclasses.replace(config, run=dataclasses.replace(config.run, resume=str(folder)))
    assert placed(resumed).network == str(original)  # begun before there were copies
    name = placed(config).kept["network"]
    keep(RunFolder(folder), {name: original})
    assert (folder / name).read_bytes() == b"one"
    assert placed(resumed).network == str(folder / name)
    assert resumed.model.network == str(original)  # what was asked stays
    keep(RunFolder(folder), {name: folder / name})
    assert [path.name for path in folder.iterdir()] == [name]
    others = config_of("--method", "diag")
    assert placed(others) == others.model


def test_another_file_is_not_taken_for_the_copy(tmp_path: Path) -> None:
    original = tmp_path / "a.nir"
    original.write_bytes(b"one")
    (tmp_path / "network.nir").write_bytes(b"two")
    with pytest.raises(UsageError, match=r"is another file than .*choose another --filepath"):
        keep(RunFolder(tmp_path), {"network.nir": original})
    assert (tmp_path / "network.nir").read_bytes() == b"two"
    with pytest.raises(UsageError, match=r"cannot copy .*No such file"):
        keep(RunFolder(tmp_path), {"other.nir": tmp_path / "missing.nir"})
