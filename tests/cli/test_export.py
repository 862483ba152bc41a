"""``snnlab export`` and ``snnlab import``: commands, their tables, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnlab
from light import without_jax
from runs import assert_same
from snnlab.cli import main as cli
from snnlab.exchange import from_nir, to_nir
from snnlab.learners.functional import get_params

#: Arguments -> the error, without JAX.
REFUSED = {
    "export": "arguments are required: RUN, --to",
    "export nowhere --to nir": "nowhere holds no run",
    "import": "required: FILE",
    "import nowhere.nir": "nir",
    "import nowhere.nir --nir_step forward": "no 'forward'; valid: euler, exponential",
    "run image-classification --model nir": "--model nir needs --network FILE.nir",
    "run image-classification --network a.nir": "--network does not apply to --model lif-delta",
    "run image-classification --model nir --network a.nir --n_rec 3": "--n_rec does not apply",
    "run image-classification --model nir --network a.nir --method diag --backend braintrace": (
        "trains maps alone"
    ),
    "run balanced-rsnn --model nir": "no such choice",
    "export nowhere --to onnx": "no 'onnx'; valid: nir",
    "export nowhere --to nir --reader norsee": "did you mean 'norse'?",
}


def test_refusals_need_no_jax() -> None:
    found = without_jax("snnlab", list(REFUSED))
    for line, (code, out, error) in zip(REFUSED, found, strict=True):
        assert (code, out) == (2, ""), line
        assert REFUSED[line] in error, line
        assert error.count("\n") == 1, line


@pytest.mark.slow
def test_from_a_run_and_back(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A run is written, shown, trained further, resumed, loaded, written again."""
    pytest.importorskip("nir", reason="of the extra 'nir'")
    data: dict[str, Any] = {"downsample": 4, "data_length": 8, "batch_size": 256, "devices": "cpu"}
    first = snnlab.train(
        "image-classification", progress=False, **data, method="diag", n_rec=10, epochs=1,
        spk_reset="hard", filepath=tmp_path / "first",
    )  # fmt: skip
    file = str(tmp_path / "a.nir")
    assert cli.main(["export", str(first.path), "--to", "nir", "--out", file]) == 0
    assert f"{file}: 7 nodes, 7 exact; steps of 0.001 s" in capsys.readouterr().out
    assert cli.main(["import", file]) == 0
    shown = capsys.readouterr().out
    assert "162 inputs, layers of 10 neurons, 10 outputs, steps of 1 ms" in shown
    assert f"snnlab run TASK --method diag --model nir --network {file}" in shown
    more = {
        **data, "method": "expsm_diag", "model": "nir", "network": file,
        "lr_schedule": "constant",
    }  # fmt: skip
    whole = snnlab.train("image-classification", progress=False, **more, epochs=2,
                         filepath=tmp_path / "whole")  # fmt: skip
    half = snnlab.train("image-classification", progress=False, **more, epochs=1,
                        filepath=tmp_path / "half")  # fmt: skip
    Path(file).rename(tmp_path / "moved.nir")  # a run has a copy of it
    snnlab.train("image-classification", progress=False, resume=half.path, epochs=2)
    assert_same(half.path, whole.path)
    assert (half.path / "network.nir").read_bytes() == (tmp_path / "moved.nir").read_bytes()
    assert whole.layers == ("layer0.neuron",)
    assert whole.weights.keys() == first.weights.keys()
    moved = {k: float(np.abs(w - first.weights[k]).max()) for k, w in whole.weights.items()}
    assert 0 < min(moved.values()) <= max(moved.values()) < 1
    x = np.random.default_rng(0).random((20, 162)) < 0.2
    assert whole.record(x).spikes[0].any()
    made = to_nir(whole.network())
    again = from_nir(made.graph)
    assert again.original
    np.testing.assert_array_equal(
        get_params(again.network)["readout.map.weight"], whole.weights["readout.map.weight"]
    )
    more["network"] = file = str(whole.path / "network.nir")
    with pytest.raises(snnlab.UsageError, match="has 162 inputs and 10 outputs; the data have"):
        snnlab.train("pattern-generation", progress=False, model="nir", network=file, epochs=1,
                     filepath=tmp_path / "other")  # fmt: skip
    with pytest.raises(snnlab.UsageError, match="written for steps of 1 ms, not 2 ms"):
        snnlab.train("image-classification", progress=False, **more, dt=2.0, epochs=1,
                     filepath=tmp_path / "other")  # fmt: skip
    assert not (tmp_path / "other").exists()
