"""``snnlab.load`` and ``snnlab.train``: every task's run, read back without its data."""

from __future__ import annotations

import doctest
import hashlib
import importlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
import pandas
import pytest

import snnlab
from runs import ROOT, TINY
from snnlab.problems.tasks import task_of
from snnlab.training.checkpoint_files import SUMS

TASKS = {
    "image": "image-classification", "match": "long-term-dependency", "balanced": "balanced-rsnn",
    "patterns": "pattern-generation", "evidence": "coba-ei", "memory": "working-memory",
}  # fmt: skip
#: Of these in every run of the tests, of the others in the slow ones.
SOME = ("image", "balanced")
#: What some weights of each are: shape of the first map, then of the readout's.
SHAPES = {
    "image": {"layers.0.pathways.0.map.weight": (162 + 10, 10), "readout.map.weight": (10, 10)},
    "match": {"layers.0.pathways.0.map.weight": (110, 10), "readout.map.weight": (10, 2)},
    "balanced": {"layers.0.w.weight": (40, 8), "readout.map.weight": (8, 2)},
    "patterns": {"layers.0.pathways.0.map.weight": (20, 10), "readout.map.weight": (10, 2)},
    "evidence": {"layers.0.pathways.0.map.weight": (20, 20), "readout.map.weight": (20, 2)},
    "memory": {"layers.0.pathways.0.map.weight": (22, 10), "readout.map.weight": (10, 3)},
}


def options_of(problem: str, **more: Any) -> dict[str, Any]:
    """The flags of a small run as keywords."""
    words, found = TINY[problem][1].split(), {}
    while words:
        name = words.pop(0)[2:]
        found[name] = words.pop(0) if words and not words[0].startswith("--") else True
    found = {k: v for k, v in found.items() if k not in ("epochs", "n-epochs")}
    return {**found, "devices": "cpu", "epochs": 1, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    """Problem -> its run, trained when it is first asked for."""
    made: dict[str, snnlab.Run] = {}

    def run(problem: str) -> snnlab.Run:
        if problem not in made:
            options = options_of(problem, filepath=folder / problem)
            made[problem] = snnlab.train(TASKS[problem], progress=False, **options)
        return made[problem]

    return run


def rewrite_meta(run: Path, change: Any) -> None:
    """Change ``meta.json`` of every checkpoint, sums included."""
    for place in (p for p in (run / "checkpoints").iterdir() if p.is_dir()):
        meta = json.loads((place / "meta.json").read_text())
        old = hashlib.sha256((place / "meta.json").read_bytes()).hexdigest()
        change(meta)
        (place / "meta.json").write_text(json.dumps(meta))
        new = hashlib.sha256((place / "meta.json").read_bytes()).hexdigest()
        (place / SUMS).write_text((place / SUMS).read_text().replace(old, new))


def dense(stream: Any, steps: int) -> np.ndarray:
    if not hasattr(stream, "window"):
        return np.asarray(stream)
    return np.asarray(jax.jit(lambda stream: stream.window(0, steps))(stream))


@pytest.mark.parametrize(
    "problem", [p if p in SOME else pytest.param(p, marks=pytest.mark.slow) for p in TASKS]
)
def test_a_run_is_read_back(problem: str, trained: Any) -> None:
    """What it says is what the folder holds; ``record`` decides as the run's own test did."""
    run = snnlab.load(str(trained(problem).path))
    assert run.task == TASKS[problem]
    assert run.results == json.loads((run.path / "results.json").read_text())
    assert run.options["seed"] == run.config.run.seed == 0
    assert [r["split"] for r in run.rows][-3:] == ["train", "val", "test"]
    shapes = {name: w.shape for name, w in run.weights.items()}
    assert shapes.items() >= SHAPES[problem].items()
    assert sum(w.size for w in run.weights.values()) >= run.results["n_parameters"]
    made = task_of(run.task).build(run.config)
    name, above, below = "accuracy", 0.0, 0.0
    for batch in made.test:
        targets, rec = batch.targets, run.record(dense(batch.stream, made.n_steps))
        counts = np.arange(made.n_steps) >= made.first_scored
        if targets.steps is not None:
            counts = counts * np.asarray(targets.steps)
        if problem == "memory":
            values, part = targets.values, rec.readout * counts[:, None, None]
            guess = np.stack([part[a:b].sum(0).argmax(-1) for a, b in values.spans], axis=1)
            above, below = above + (guess == values.labels).sum(), below + guess.size
        elif problem == "patterns":
            name, wanted = "nmse", dense(targets.values, made.n_steps)
            above, below = ((rec.readout - wanted) ** 2).sum(), (wanted**2).sum()
        else:
            guess = np.einsum("t,tbo->bo", counts, rec.readout).argmax(-1)
            above += ((guess == targets.values) * targets.mask).sum()
            below += targets.mask.sum()
    assert above / below == pytest.approx(run.results[f"test_{name}"], rel=1e-4)
    assert len(rec.spikes) == len(rec.membranes) == len(run.layers) == 1
    assert rec.spikes[0].shape == rec.membranes[0].shape
    assert rec.readout.shape == (made.n_steps, made.batch_size, shapes[list(SHAPES[problem])[1]][1])


@pytest.mark.parametrize(
    "problem", [p if p in SOME else pytest.param(p, marks=pytest.mark.slow) for p in TASKS]
)
def test_an_older_run_does_not_say_its_sizes(problem: str, trained: Any, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained(problem).path, old)
    rewrite_meta(old, lambda meta: [meta.pop(name) for name in ("sizes", "task")])
    run, new = snnlab.load(old), snnlab.load(trained(problem).path)
    assert run.task == TASKS[problem]
    x = np.random.default_rng(0).random((6, 2, new.network().n_in)) < 0.3
    np.testing.assert_array_equal(run.record(x).readout, new.record(x).readout)


def test_any_length_and_batch(trained: Any) -> None:
    run = trained("image")
    x = np.random.default_rng(1).random((9, 3, 162)) < 0.3
    rec = run.record(x)
    assert 0.01 < rec.spikes[0].mean() < 0.9
    assert set(np.unique(rec.spikes[0])) == {0.0, 1.0}
    one = run.record(x[:, 1])
    assert one.spikes[0].shape == (9, 10)
    np.testing.assert_allclose(one.readout, rec.readout[:, 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.record(x[:4]).readout, rec.readout[:4], rtol=1e-5, atol=1e-5)
    with pytest.raises(snnlab.UsageError, match=r"x has shape \(9, 3, 5\), needed: \(T, B, 162\)"):
        run.record(x[:, :, :5])


def test_weights_are_the_callers_own(trained: Any) -> None:
    run = trained("image")
    run.weights["readout.map.weight"][:] = 0
    assert np.abs(run.weights["readout.map.weight"]).max() > 0


def test_reading_changes_nothing_and_needs_no_lock(trained: Any) -> None:
    path = trained("match").path
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(path.rglob("*"))}
    with filelock.FileLock(path / ".lock", timeout=0):
        run = snnlab.load(path)
        assert run.metrics is not None
        assert run.config.model.n_rec == run.options["n_rec"] == 10
        assert run.record(np.zeros((3, 100))).readout.shape == (3, 2)
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(path.rglob("*"))}


def test_a_damaged_checkpoint_is_passed_over(trained: Any, tmp_path: Path) -> None:
    """The one before takes its place, with a warning."""
    path = tmp_path / "damaged"
    shutil.copytree(trained("match").path, path)
    first = tmp_path / "first"
    shutil.copytree(path, first)
    shutil.rmtree(first / "checkpoints" / "1")
    largest = max((p for p in (path / "checkpoints" / "1" / "state").rglob("*") if p.is_file()),
                  key=lambda p: p.stat().st_size)  # fmt: skip
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    with pytest.warns(UserWarning, match="checkpoint 1 is passed over: .* is damaged"):
        found = snnlab.load(path).weights
    wanted, newest = snnlab.load(first).weights, trained("match").weights
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    assert any(not np.array_equal(newest[name], value) for name, value in wanted.items())


def test_several_seeds(folder: Path) -> None:
    path = folder / "two"
    run = snnlab.train(
        "long-term-dependency", progress=False, **options_of("match", filepath=path, trials=2)
    )
    assert [r.path.name for r in run.seeds] == ["seed-0", "seed-1"]
    assert run.config.run.trials == 2
    assert {row["seed"] for row in run.rows} == {0, 1}
    assert run.results["test_accuracy"] == pytest.approx(
        np.mean([r.results["test_accuracy"] for r in run.seeds])
    )
    for seed, mine in enumerate(run.seeds):
        rows = [{k: v for k, v in row.items() if k != "seed"} for row in run.predictions
                if row["seed"] == seed]  # fmt: skip
        assert rows == mine.predictions
        assert [row["index"] for row in rows] == list(range(8))
        assert {row["label"] for row in rows} == {"match", "non-match"}
        right = np.mean([row["label"] == row["prediction"] for row in rows])
        assert right == mine.results["test_accuracy"]
    assert "test_accuracy_wilson95" not in run.results  # the spread is that over seeds
    a, b = (r.weights["readout.map.weight"] for r in run.seeds)
    assert a.shape == b.shape
    assert not np.array_equal(a, b)
    assert run.seeds[1].record(np.ones((3, 100))).spikes[0].shape == (3, 10)
    with pytest.raises(snnlab.UsageError, match=r"seed-0 \(from Python: run\.seeds\)"):
        _ = run.weights


def test_metrics_are_a_table(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("match")
    table = run.metrics
    assert isinstance(table, pandas.DataFrame)
    assert list(table["split"]) == [row["split"] for row in run.rows]
    assert table.loc[table["split"] == "test", "accuracy"].item() == run.results["test_accuracy"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(snnlab.UsageError, match="pandas, of the extra 'pandas'"):
        _ = run.metrics


def test_the_version_is_pyprojects(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert snnlab.__version__ == tomllib.load(file)["project"]["version"]
    monkeypatch.setattr(snnlab, "__file__", "/nowhere/snnlab/__init__.py")  # as in a wheel
    monkeypatch.setattr(importlib.metadata, "version", {"snnlab": "7.1"}.__getitem__)
    assert snnlab.__version__ == "7.1"


# ---------------------------------------------------------------------- training


def test_training_goes_on_in_the_same_process(trained: Any, tmp_path: Path, capsys: Any) -> None:
    """1 + 1 epochs are 2, bit for bit; nothing is left behind."""
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers, argv = [signal.getsignal(s) for s in signals], list(sys.argv)
    path = tmp_path / "on"
    shutil.copytree(trained("match").path, path)
    capsys.readouterr()
    run = snnlab.train("long-term-dependency", resume=path, epochs=2, progress=False)
    options = options_of("match", filepath=tmp_path / "whole", epochs=2)
    whole = snnlab.train("long-term-dependency", progress=False, **options)
    assert capsys.readouterr() == ("", "")
    assert (run.results["epochs"], run.path) == (2, path)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(run.weights[name], value, err_msg=name)
    assert ([signal.getsignal(s) for s in signals], sys.argv) == (handlers, argv)


def test_it_tells_how_it_goes_and_calls_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without a folder it makes one of its own, as the command does."""
    epochs = []

    class Counting(snnlab.Hook):
        def on_epoch(self, now: Any) -> None:
            epochs.append(now.place.epoch)

    monkeypatch.chdir(tmp_path)
    run = snnlab.train("long-term-dependency", hooks=[Counting()], **options_of("match"))
    assert run.path.parent == Path("runs")
    assert run.path.name.startswith("long-term-dependency-expsm_diag-")
    assert epochs == [1]
    shown = capsys.readouterr().out
    assert "epoch   1/1" in shown
    assert str(run.path) in shown


BAD = [
    ({"task": "images"}, "no task 'images'"),
    ({"n_rek": 3}, r"^unknown option 'n_rek' \(did you mean 'n_rec'\?\)$"),
    ({"method": "d-rtlr"}, "^method d-rtlr: no such choice"),
    ({"lr": "fast"}, "^lr fast: must be"),
    ({"beta": 2.0}, "^beta does not apply to model lif-delta, only with model alif"),
    ({"update_every": 500}, r"^update_every 500 is longer than the sequence \(data_length 60\)$"),
    ({"config": "none.yaml"}, "^cannot read config none.yaml"),
    ({"resume": "nowhere"}, "^nowhere holds no run"),
    ({"load_exp_folder": "nowhere"}, "nowhere holds no run"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[next(iter(o)) for o, _ in BAD])
def test_errors_are_exceptions_without_flags(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"task": "image-classification", "progress": False, **options}
    with pytest.raises(snnlab.UsageError, match=message) as caught:
        snnlab.train(**given)
    assert "--" not in str(caught.value)
    assert not any((tmp_path / "runs").glob("*"))


def test_a_folder_is_never_overwritten(trained: Any) -> None:
    path = trained("match").path
    with pytest.raises(snnlab.UsageError, match=r"choose another filepath, or .* with resume "):
        snnlab.train("long-term-dependency", progress=False, **options_of("match", filepath=path))


def test_load_of_nothing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(snnlab.UsageError, match=r"holds no run \(there is no config\.yaml"):
            snnlab.load(path)
    (tmp_path / "config.yaml").write_text("run:\n  seed: 0\n")
    run = snnlab.load(tmp_path)
    assert (run.results, run.rows, run.seeds, run.options) == ({}, [], [], {"seed": 0})
    with pytest.raises(snnlab.UsageError, match="is no run of image-class"):
        _ = run.config
    with pytest.raises(snnlab.UsageError, match=r"no checkpoint in .* was made"):
        _ = run.weights


# ---------------------------------------------------------------------- names


def test_public_names_are_there_and_light() -> None:
    assert set(snnlab.__all__) <= set(dir(snnlab))
    assert all(getattr(snnlab, name) is not None for name in snnlab.__all__)
    assert (Path(snnlab.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'loda'"):
        _ = snnlab.loda
    code = (
        "import sys, snnlab; snnlab.UsageError, dir(snnlab); "
        "print(sorted({'jax', 'numpy', 'brainstate', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["snnlab.learners.pure", "snnlab.library"])
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.failed == 0
    assert found.attempted > 0 or module == "snnlab.library"
