"""The balanced networks' task on recorded words as features: options, runs, resuming."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment.command import command
from snnlab.problems.balanced import BalancedRSNN, build, defaults

SMALL = ["--data-length", "16", "--batch-size", "4", "--neurons", "6", "--devices", "cpu",
         "--seed", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def hd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words that differ in pitch, twelve recordings for training and six for the test."""
    root, names = tmp_path_factory.mktemp("hd"), {"train": [], "test": []}
    (root / "audio").mkdir()
    t, rng = np.arange(3200) / 16_000, np.random.default_rng(0)
    for i in range(18):
        stem = f"lang-english_speaker-{i:02d}_trial-0_digit-{i % 2}"
        wave = 0.3 * np.sin(2 * np.pi * (300 + 2000 * (i % 2)) * t) + 0.01 * rng.normal(size=3200)
        scipy.io.wavfile.write(
            root / "audio" / f"{stem}.wav", 16_000, (wave * 32767).astype(np.int16)
        )
        names["train" if i < 12 else "test"].append(stem + ".wav")
    for split, files in names.items():
        (root / f"{split}_filenames.txt").write_text("\n".join(files))
    return root


def parsed(*flags: str) -> BalancedRSNN:
    return configs.parse(BalancedRSNN, [*flags], prog="x", description="", adapt=defaults)[0]


def run(folder: Path, target: Path, *flags: str) -> list[dict]:
    argv = [*SMALL, "--data-path", str(folder), "--filepath", str(target), "--dataset", "hd",
            *flags]  # fmt: skip
    assert command(BalancedRSNN, build, prog="x", description="", argv=argv, adapt=defaults) == 0
    return [json.loads(row) for row in (target / "metrics.jsonl").read_text().splitlines()]


def test_defaults() -> None:
    config = parsed("--dataset", "hd")
    assert (config.data.data_length, config.data.batch_size) == (140, 128)
    assert config.learner.backend == "layerwise"
    assert parsed("--dataset", "sc").data.data_length == 100


@pytest.mark.parametrize("dataset", ["hd", "sc"])
@pytest.mark.parametrize(
    "flags",
    [["--aug_drop", "0.1"], ["--binary_bins", "0"], ["--downsample", "5"], ["--samples", "9"],
     ["--n_data_worker", "2"]],
    ids=lambda f: f[0],
)  # fmt: skip
def test_options_of_other_data_are_refused(dataset: str, flags: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{flags[0]} does not apply to --dataset {dataset}"):
        parsed("--dataset", dataset, *flags)


def test_the_network_is_that_of_the_recordings(hd: Path) -> None:
    flags = [*SMALL, "--dataset", "hd", "--data-path", str(hd), "--repeat", "2"]
    problem = build(parsed(*flags, "--dataset-scale", "0.5"))
    assert (problem.n_in, problem.n_out, problem.n_steps) == (40, 20, 32)
    assert problem.class_names[:2] == ("zero", "one")
    assert problem.facts["samples"] == {
        "train": 10,
        "val": 2,
        "test": 6,
        "cut": 18,
        "absent": 0,
        "unlisted": 0,
    }
    assert problem.bin_ms == problem.make_network("plain").dt_ms == 5.0
    xs = np.asarray(next(iter(problem.test)).stream.window(0, 32))
    np.testing.assert_array_equal(xs[::2], xs[1::2])
    assert 0 < xs.max() < 12


def test_two_words_are_told_apart(hd: Path, tmp_path: Path) -> None:
    rows = run(hd, tmp_path / "run", "--model", "MLP", "--normalization", "batchnorm",
               "--epochs", "12", "--lr", "0.1", "--lr-schedule", "constant")  # fmt: skip
    assert rows[-1]["split"] == "test"
    assert rows[-1]["accuracy"] == 1
    facts = json.loads((tmp_path / "run" / "results.json").read_text())
    assert facts["samples"]["cut"] == 18
    assert (tmp_path / "run" / "figures" / "test-samples.png").is_file()


@pytest.mark.parametrize(
    "flags",
    [
        ("--model", "LiGRU", "--normalization", "batchnorm", "--dropout", "0.2"),
        ("--model", "RLIF", "--track-balance", "--balance", "--balance-metric", "raw",
         "--dataset-scale", "30"),
    ],
    ids=lambda f: f[1],
)  # fmt: skip
def test_an_epoch(hd: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    rows = run(hd, tmp_path / "run", *flags, "--epochs", "1")
    assert [r["samples"] for r in rows if "loss" in r] == [10, 2, 6]
    assert all(np.isfinite(r["loss"]) for r in rows if "loss" in r)
    if "--track-balance" in flags:
        assert -1 <= rows[0]["balance"][0] <= 1
        assert rows[-1]["firing_rates"][0] > 0
    else:  # no spikes, no rate
        assert "firing_rates" not in rows[-1]
        assert np.isfinite(rows[-1]["mean_outputs"]).all()
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        assert "firing_rates" not in results
