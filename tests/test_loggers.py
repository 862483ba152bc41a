"""``--log``: what loggers are told, what a log holds, and that none can harm a run."""

from __future__ import annotations

import importlib.util
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from own_logger import KINDS
from runs import assert_same, call
from snnlab.errors import UsageError
from snnlab.experiment.loggers import LOGGERS, LoggerKind, Started, beside, registry
from snnlab.experiment.loggers.base import numbers
from snnlab.experiment.loggers.beside import Logs

TINY_PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 7, 5)


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} (extra `{package}`) is not installed",
    )


@pytest.fixture(autouse=True)
def _own_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As entry points of a package would add them."""
    monkeypatch.setattr(LOGGERS, "_own", {**LOGGERS._own, **KINDS})


def started(folder: Path, epoch: int = 0, resumed: bool = False) -> Started:
    return Started(folder, "image-classification", {"lr": 0.1, "method": "bptt"}, epoch, resumed)


def rows_of(epoch: int, loss: float) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "split": "train", "loss": loss, "firing_rates": [1.0, 2.0]},
        {"epoch": epoch, "split": "val", "loss": 2 * loss, "accuracy": 0.5},
    ]


def told_of(folder: Path) -> list[list[Any]]:
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def events(folder: Path) -> Any:
    """The log of TensorBoard, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def scalars(found: Any, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in found.Scalars(tag)]


# ------------------------------------------------------------------ a whole run


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_a_run_is_logged_and_a_resume_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    loggers = "--log", "tensorboard,mine"
    assert call("image", "--epochs", "2", "--filepath", str(run), *loggers) == 0
    assert call("image", "--resume", str(run), "--epochs", "3") == 0  # goes on with its loggers
    told = told_of(run)
    kinds = [one[0] for one in told]
    once = ["begin", *["row"] * 5, "end", "close"]
    assert kinds == [*once, "begin", *["row"] * 3, "end", "close"]
    assert told[0][1:] == ["image-classification", 0, False, "expsm_diag"]
    assert told[len(once)][1:] == ["image-classification", 2, True, "expsm_diag"]
    written = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [one[1] for one in told if one[0] == "row"]
    assert [r for r in rows if r["split"] != "test"] == [r for r in written if r["split"] != "test"]
    assert rows[-1] == written[-1]
    assert told[-2][1] == json.loads((run / "results.json").read_text())
    assert {"confusion.png", "learning-curves.png", "test-samples.png"} <= set(told[-2][2])

    found = events(run)
    for split in ("train", "val"):
        losses = [(r["epoch"], r["loss"]) for r in rows if r["split"] == split]
        assert scalars(found, f"loss/{split}") == [(e, pytest.approx(v)) for e, v in losses]
    assert scalars(found, "firing_rates/1/val")[-1][1] == pytest.approx(
        [r for r in rows if r["split"] == "val"][-1]["firing_rates"][0]
    )
    results = told[-2][1]
    assert scalars(found, "results/test_accuracy")[-1][1] == pytest.approx(results["test_accuracy"])
    dense = results["costs"]["synaptic_operations_dense"]
    assert scalars(found, "results/costs/synaptic_operations_dense")[-1] == (3, dense)
    image = found.Images("figures/confusion")[-1]
    assert image.encoded_image_string == (run / "figures" / "confusion.png").read_bytes()
    assert image.width > image.height / 2 > 100
    (options, *_) = found.Tensors("options")
    assert b"method: expsm_diag" in options.tensor_proto.string_val[0]


@pytest.mark.slow
def test_loggers_change_no_number(tmp_path: Path) -> None:
    for name, flags in (("without", ()), ("with", ("--log", "mine,broken,breaks"))):
        call("image", "--filepath", str(tmp_path / name), *flags)
    assert_same(tmp_path / "with", tmp_path / "without")


# ------------------------------------------------------------------ what fails


def test_a_logger_that_fails_is_told_once_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    logs = Logs(("broken", "mine", "breaks"), started(tmp_path), said.append)
    for epoch in (1, 2):
        for row in rows_of(epoch, 1.0):
            logs.row(row)
    logs.end({"test_accuracy": 0.5}, [])
    logs.close()
    assert sorted(said) == [
        "--log breaks failed and is left out: [Errno 28] No space left on device; the run goes on",
        "--log broken failed and is left out: no network at all; the run goes on",
    ]
    assert [one[0] for one in told_of(tmp_path)] == ["begin", *["row"] * 4, "end", "close"]


def test_a_logger_that_does_not_answer_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 0.2)
    said: list[str] = []
    logs, began = Logs(("stuck",), started(tmp_path), said.append), time.perf_counter()
    for _ in range(3):
        logs.row(rows_of(1, 1.0)[0])
    assert time.perf_counter() - began < 0.2
    logs.close()
    assert said == ["--log stuck did not answer for 0 s; the rest of the log may be lost"]


def test_numbers_that_are_not_finite_are_no_numbers(tmp_path: Path) -> None:
    logs = Logs(("mine",), started(tmp_path), print)
    logs.row({"epoch": 1, "split": "val", "loss": float("nan")})
    logs.close()
    assert told_of(tmp_path)[1] == ["row", {"epoch": 1, "split": "val", "loss": None}]


def test_numbers_of_a_row() -> None:
    row = {"loss": 1, "on": True, "text": "x", "none": None, "rates": [1.5, 2], "a": {"b": 3}}
    found = dict(numbers(row))
    assert found == {"loss": 1.0, "rates/1": 1.5, "rates/2": 2.0, "a/b": 3.0}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tensorbord", r"no logger 'tensorbord' \(did you mean 'tensorboard'\?\).*wandb"),
        ("mine,absent", "--log absent needs the package no-such-package, of the extra 'some'"),
    ],
)
def test_loggers_that_are_not_there(value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        call("image", "--filepath", str(tmp_path / "run"), "--log", value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_names() -> None:
    assert registry.named(" mine, tensorboard,mine") == ("mine", "tensorboard")
    assert registry.named("") == ()
    assert LOGGERS.group == "snnlab.loggers"
    assert all(isinstance(LOGGERS.get(name), LoggerKind) for name in LOGGERS.names())


# ------------------------------------------------------------------ TensorBoard


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_epochs_that_a_resume_repeats_are_there_once(tmp_path: Path) -> None:
    """Killed in epoch 4; its last checkpoint is that of epoch 2."""
    first = Logs(("tensorboard",), started(tmp_path), print)
    for epoch in (1, 2, 3):
        for row in rows_of(epoch, epoch):
            first.row(row)
    first.close()
    time.sleep(0.01)
    again = Logs(("tensorboard",), started(tmp_path, 2, resumed=True), print)
    for epoch in (3, 4):
        for row in rows_of(epoch, 10.0 * epoch):
            again.row(row)
    figure = tmp_path / "curve.png"
    figure.write_bytes(TINY_PNG)
    again.end({"test_accuracy": 0.5}, [figure, tmp_path / "film.gif"])
    again.close()
    found = events(tmp_path)
    assert scalars(found, "loss/train") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]
    assert scalars(found, "results/test_accuracy") == [(4, 0.5)]
    image = found.Images("figures/curve")[0]
    assert (image.width, image.height) == (7, 5)


@needs("tensorboard")
def test_a_full_disk_ends_the_log_alone(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    said: list[str] = []
    logs = Logs(("tensorboard", "mine"), started(tmp_path), said.append)
    logs.row(rows_of(1, 1.0)[0])
    logs.close()
    assert len(said) == 1
    assert "File exists" in said[0]
    assert [one[0] for one in told_of(tmp_path)] == ["begin", "row", "close"]


# ------------------------------------------------------------------ Weights & Biases


def records(path: Path) -> list[Any]:
    """Records of an offline run: a log of LevelDB behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, found, part = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:  # the rest of a block is too small for a head
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found


@pytest.mark.slow
@needs("wandb")
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    for epoch in (1, 2):
        logs = Logs(("wandb",), started(tmp_path, epoch - 1, epoch > 1), said.append)
        for row in rows_of(epoch, epoch):
            logs.row(row)
        logs.end({"test_accuracy": epoch / 4, "costs": {"samples": 3}}, [])
        logs.close()
    assert said == []
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({f.stem for f in files}) == 1  # one run, which went on
    for epoch, file in enumerate(files, start=1):
        found = records(file)
        history = [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json)
             for item in record.history.item}
            for record in found if record.WhichOneof("record_type") == "history"
        ]  # fmt: skip
        assert [h["epoch"] for h in history] == [epoch, epoch]
        assert history[0]["train/loss"] == epoch
        assert history[0]["train/firing_rates/2"] == 2.0
        assert history[1]["val/accuracy"] == 0.5
        config = [i for r in found for i in r.run.config.update]
        assert "bptt" in {json.loads(i.value_json) for i in config if i.key == "method"}
        summary = [i for r in found for i in r.summary.update]
        assert any("test_accuracy" in (i.key, *i.nested_key) for i in summary)


@pytest.mark.slow
@needs("wandb")
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    said: list[str] = []
    logs = Logs(("wandb",), started(tmp_path), said.append)
    logs.close()
    assert said == [
        "--log wandb failed and is left out: no key: wandb login, or WANDB_MODE=offline; the run "
        "goes on"
    ]
