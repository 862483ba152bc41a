"""The balanced networks' task on recordings: options, runs, what is kept between epochs."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.data.repeated import RepeatedStream
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.experiment.command import command
from snnlab.problems.balanced import BalancedRSNN, build, defaults
from snnlab.training.checkpoints import Reader
from snnlab.training.evaluation import evaluate

SMALL = [
    "--dataset", "shd", "--data-length", "20", "--downsample", "100", "--batch-size", "4",
    "--neurons", "6", "--devices", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 + 5 recordings of three classes in SHD's layout."""
    root, rng = tmp_path_factory.mktemp("shd"), np.random.default_rng(0)
    for split, n in {"train": 12, "test": 5}.items():
        with h5py.File(root / f"shd_{split}.h5", "w") as file:
            for name, dtype, high in (("times", np.float16, 1.3), ("units", np.uint16, 700)):
                data = file.create_dataset(f"spikes/{name}", (n,), h5py.vlen_dtype(dtype))
                for i in range(n):
                    data[i] = np.sort(rng.uniform(0, high, 60)).astype(dtype)
            file["labels"] = np.arange(n) % 3
            file["extra/keys"] = np.array([b"a", b"b", b"c"])
    return root


def parsed(*flags: str) -> BalancedRSNN:
    return configs.parse(BalancedRSNN, [*flags], prog="x", description="", adapt=defaults)[0]


def run(folder: Path, target: Path, *flags: str) -> list[dict]:
    argv = [*SMALL, "--data-path", str(folder), "--filepath", str(target), *flags]
    assert command(BalancedRSNN, build, prog="x", description="", argv=argv, adapt=defaults) == 0
    return [json.loads(row) for row in (target / "metrics.jsonl").read_text().splitlines()]


def test_defaults_of_recordings() -> None:
    config = parsed("--dataset", "shd")
    assert (config.data.data_length, config.data.batch_size) == (100, 128)
    assert (config.learner.backend, config.learner.checkpoint_block) == ("layerwise", 0)
    cue = parsed()
    assert (cue.data.dataset, cue.data.batch_size) == ("cue", 30)
    assert (cue.learner.backend, cue.learner.checkpoint_block) == ("auto", 100)
    assert parsed("--dataset", "shd", "--method", "diag", "--fix-tau-rec",
                  "--fix-tau-out").learner.backend == "auto"  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "backend", "block"),
    [
        (["--method", "d-rtrl", "--fix-tau-rec", "--fix-tau-out"], "auto", 0),
        (["--backend", "plain"], "plain", 100),
        (["--backend", "snnlab"], "snnlab", 0),
        (["--backend", "layerwise"], "layerwise", 0),
        (["--remat"], "auto", 0),
        (["--remat", "0"], "auto", 100),
        (["--bidirectional"], "auto", 0),
        (["--normalization", "batchnorm"], "auto", 0),
        (["--use-regularizers"], "layerwise", 0),
        (["--checkpoint-block", "7"], "auto", 7),
        (["--dataset", "shd", "--checkpoint-block", "7"], "auto", 7),
        (["--dataset", "shd", "--remat"], "auto", 0),
    ],
)
def test_blocks_are_a_default_only_where_they_have_a_use(
    flags: list[str], backend: str, block: int
) -> None:
    learner = parsed(*flags).learner
    assert (learner.backend, learner.checkpoint_block) == (backend, block)


def test_blocks_that_were_asked_for_are_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--method", "diag", "--fix-tau-rec", "--fix-tau-out"]
    with pytest.raises(UsageError, match="--checkpoint_block 100 belongs to --method bptt"):
        parsed(*flags, "--checkpoint_block", "100")
    argv = [*flags, "--dry-run"]
    assert command(BalancedRSNN, build, prog="x", description="", argv=argv, adapt=defaults) == 0
    assert "checkpoint_block: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_length", "50"], "--data_length does not apply to --dataset cue"),
        (["--aug_drop", "0.1"], "--aug_drop does not apply to --dataset cue"),
        (["--dataset", "shd", "--samples", "9"], "--samples does not apply to --dataset shd"),
        (["--dataset", "shdd"], "did you mean 'shd'"),
        (["--dataset", "words"], "valid: cue, event-digits"),
    ],
)
def test_options_of_the_other_kind_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*flags)


def test_the_network_is_that_of_the_recordings(folder: Path) -> None:
    flags = (*SMALL, "--data-path", str(folder), "--repeat", "3", "--dataset-scale", "7")
    config = parsed(*flags)
    problem = build(config)
    assert (problem.n_in, problem.n_out, problem.n_steps) == (7, 3, 60)
    assert assemble(config, problem).programs.objective.warmup == 59
    assert problem.facts["samples"] == {"train": 9, "val": 3, "test": 5}
    batch = next(iter(problem.test))
    plain = next(iter(build(parsed(*flags[:-4])).test))
    assert isinstance(batch.stream, RepeatedStream)
    once = np.asarray(jax.jit(lambda s: s.window(0, 20))(plain.stream))
    assert once.max() == 1
    found = np.asarray(jax.jit(lambda s: s.window(0, 60))(batch.stream))
    np.testing.assert_array_equal(found, 7 * np.repeat(once, 3, axis=0))
    np.testing.assert_array_equal(
        found[6:9], jax.jit(lambda s: s.window(np.int32(6), 3))(batch.stream)
    )


def test_running_statistics_are_part_of_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    flags = ("--model", "MLP", "--normalization", "batchnorm", "--dropout", "0.3",
             "--bidirectional", "--epochs", "2")  # fmt: skip
    rows = run(folder, tmp_path / "run", *flags)
    assert [r["split"] for r in rows] == ["train", "val", "train", "val", "test"]
    best = json.loads((tmp_path / "run" / "results.json").read_text())["best_epoch"]
    config = parsed(*SMALL, "--data-path", str(folder), *flags)
    problem = build(config)
    parts = assemble(config, problem)
    _, params, _ = Reader(tmp_path / "run" / "checkpoints").restore(parts.state)
    running = np.asarray(params["layers.0.norms.0.mean"])
    assert np.abs(running).max() > 0
    found = evaluate(parts.programs, params, problem.test, best, "test")
    assert found["loss"] == rows[-1]["loss"]
    start = {**params, "layers.0.norms.0.mean": np.zeros_like(running)}
    assert evaluate(parts.programs, start, problem.test, best, "test")["loss"] != found["loss"]


def test_balance_of_recordings(folder: Path, tmp_path: Path) -> None:
    rows = run(folder, tmp_path / "run", "--epochs", "1", "--track-balance", "--balance-metric",
               "raw", "--dataset-scale", "300", "--balance", "--method", "diag", "--fix-tau-rec",
               "--fix-tau-out")  # fmt: skip
    val = next(r for r in rows if r["split"] == "val")
    assert val["samples"] == 3
    assert -1 <= val["balance"][0] <= 1
    assert val["firing_rates"][0] > 0
