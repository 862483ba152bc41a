"""A folder of several seeds, without a checkpoint of its own, from before an option was there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from run_folders import run_folder
from snnlab.console import make_console
from snnlab.errors import UsageError
from snnlab.experiment.command import _saved_options
from snnlab.problems.tasks import task_of
from snnlab.runs import RunFolder

OPTION = "batch_size"


def without(text: str) -> str:
    assert f"  {OPTION}:" in text
    return "".join(row for row in text.splitlines(True) if not row.startswith(f"  {OPTION}:"))


@pytest.mark.parametrize("earlier", [True, False])
def test_an_option_that_its_seeds_lack_too_is_not_lost(tmp_path: Path, earlier: bool) -> None:
    folder = run_folder(tmp_path / "two", trials=2)
    seed = run_folder(folder / "seed-0", (1, 0))
    config = folder / "config.yaml"
    config.write_text(without(config.read_text()))
    if earlier:
        meta = seed / "checkpoints" / "1" / "meta.json"
        content = json.loads(meta.read_text())
        before = hashlib.sha256(meta.read_bytes()).hexdigest()
        meta.write_text(json.dumps({**content, "config": without(content["config"])}))
        sums = meta.with_name("SHA256SUMS")
        after = hashlib.sha256(meta.read_bytes()).hexdigest()
        sums.write_text(sums.read_text().replace(before, after))
    kind = task_of("image-classification").config
    if earlier:
        found = _saved_options(RunFolder(folder), kind, make_console(quiet=True))
        assert found["trials"] == 2
        assert OPTION not in found
        return
    with pytest.raises(UsageError, match=f"is damaged: it lacks the option {OPTION}"):
        _saved_options(RunFolder(folder), kind, make_console(quiet=True))
