"""A small training, end to end, on each kind of data of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

import snnlab
from image_files import write_cifar, write_idx
from own_files import by_class, gestures

pytestmark = pytest.mark.slow
SMALL = {
    "method": "expsm_diag", "n_rec": 24, "n_layer": 1, "data_length": 12, "batch_size": 8,
    "epochs": 8, "lr": 5e-3, "plot_epoch_freq": 0, "checkpoint_minutes": 0.0, "n_show": 1,
}  # fmt: skip


def sounds(root: Path) -> Path:
    """Five tones of each of two heights."""
    for name, hz in (("low", 300), ("high", 2500)):
        (root / name).mkdir(parents=True)
        for k in range(5):
            wave = 9000 * np.sin(2 * np.pi * hz * (1 + 0.02 * k) * np.arange(3200) / 16_000)
            scipy.io.wavfile.write(root / name / f"s{k}.wav", 16_000, wave.astype(np.int16))
    return root


def test_a_folder(tmp_path: Path, own_cache) -> None:
    root = by_class(tmp_path / "own", ".npz", n=16)
    run = snnlab.train(
        "image-classification", dataset="folder", data_path=root, filepath=tmp_path / "run", **SMALL
    )
    results = run.results
    assert results["classes"] == ["left", "right"]
    assert results["samples"] == {"train": 22, "val": 3, "test": 7}
    assert results["test_accuracy"] > 0.8
    assert set(snnlab.load(tmp_path / "run").predictions[0]) >= {"label", "prediction"}
    assert "there is no test split: 7 of 32" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize("kind", ["gesture", "sound", "h5"])
def test_the_others(kind: str, tmp_path: Path, own_cache) -> None:
    more: dict = {}
    if kind == "gesture":
        root, dataset = gestures(tmp_path / "own", users=(1, 2, 3, 4, 24)), "gesture"
        more = {"downsample": 8}
    elif kind == "sound":
        root, dataset = sounds(tmp_path / "own"), "folder"
    else:
        from on_disk import shd_pair

        root, dataset = shd_pair(tmp_path / "own", n=30), "folder"
        for split in ("train", "test"):
            (root / f"shd_{split}.h5").rename(root / f"words-{split}.h5")
    run = snnlab.train(
        "image-classification", dataset=dataset, data_path=root, filepath=tmp_path / "run",
        **SMALL, **more,
    )  # fmt: skip
    assert run.results["test_accuracy"] >= 0.5
    assert run.config.data.dataset == dataset


@pytest.mark.parametrize("encoding", ["rate", "latency", "saccade", "sequence"])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "cifar10"])
def test_images(dataset: str, encoding: str, tmp_path: Path, own_cache) -> None:
    if dataset == "cifar10":
        root = write_cifar(tmp_path / "own", 20)
    else:
        root = write_idx(tmp_path / "own", 160, 60)
    steps = {"sequence": 32 if dataset == "cifar10" else 28}.get(encoding, 12)
    run = snnlab.train(
        "image-classification", dataset=dataset, data_path=root, filepath=tmp_path / "run",
        encoding=encoding, **{**SMALL, "data_length": steps, "epochs": 10},
    )  # fmt: skip
    assert run.results["test_accuracy"] > 0.2  # of ten classes
    assert run.config.data.encoding == encoding


@pytest.mark.parametrize("permuted", [False, True])
def test_sequential_digits(permuted: bool, tmp_path: Path) -> None:
    run = snnlab.train(
        "image-classification", dataset="sequential-digits", filepath=tmp_path / "run",
        permuted=permuted, **{**SMALL, "data_length": 8, "batch_size": 64},
    )  # fmt: skip
    assert run.results["test_accuracy"] > 0.3
