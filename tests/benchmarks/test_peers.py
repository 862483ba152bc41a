"""Other frameworks compute what ours computes; the table says how long each takes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from snnlab.benchmarks import __main__ as command
from snnlab.benchmarks import cells, peers, processes
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case, Framework, with_torch
from snnlab.errors import UsageError

CELL = peers.PeerCell(n_in=24, n_rec=16, n_layer=2, batch_size=3, data_length=30, density=0.15)
#: Frameworks whose reset carries the same gradient.
EXACT = {"torch", "norse", "SpikingJelly", "spyx"}


@functools.cache
def ours() -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of our BPTT, in the order of the frameworks."""
    loss, found = peers.own_run(CELL)()
    *stacked, out = (np.asarray(g) for g in found)
    n = CELL.n_rec
    gradients = [*(g[:-n] for g in stacked), *(g[-n:] for g in stacked), out]
    assert abs(loss / CELL.data_length - math.log(peers.N_OUT)) > 0.1, "the readout gets no spikes"
    assert all(np.linalg.norm(g) > 1e-2 for g in gradients)
    return float(loss), gradients


def case_for(name: str) -> tuple[Case, float]:
    """The data, and what the loss has in addition.

    A layer of spyx gives its spikes one step late: with as many silent steps at the end as there
    are layers, every step of ours is scored, after steps with a readout of zero.
    """
    case = peers.make_case(CELL)[2]
    if name != "spyx":
        return case, 0.0
    silent = np.zeros((CELL.n_layer, *case.xs.shape[1:]), np.float32)
    extra = CELL.n_layer * math.log(peers.N_OUT)
    return dataclasses.replace(case, xs=np.concatenate([case.xs, silent])), extra


def needed(name: str) -> Framework:
    """A framework, or the test is skipped with the reason why there is none."""
    framework = FRAMEWORKS[name]
    if not framework.installed:
        pytest.skip(f"{name} is not installed: {peers.INSTALL}")
    if reason := framework.trouble():
        pytest.skip(f"{name} {reason}")
    return framework


#: A CUDA graph is the same program as the one that it is made of.
ON_CPU = [name for name, framework in FRAMEWORKS.items() if not framework.graph]


@pytest.mark.filterwarnings("ignore")  # what other frameworks warn of is theirs
@pytest.mark.parametrize("name", ON_CPU)
def test_the_same_network(name: str) -> None:
    framework = needed(name)
    case, extra = case_for(name)
    loss, found = framework.make(case)()
    expected, gradients = ours()
    np.testing.assert_allclose(float(loss) - extra, expected, rtol=1e-5)
    errors = [
        float(np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b))
        for a, b in zip(found, gradients, strict=True)
    ]
    if name in EXACT:
        assert max(errors) < 1e-4
    else:  # the reset has no gradient
        assert max(errors[:-1]) > 1e-2
        assert errors[-1] < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("name", ["torch", "norse", "SpikingJelly"])
def test_all_arrays_are_on_torchs_default_device(name: str, recurrent: bool) -> None:
    """Of a GPU there is none here; what lies on torch's device "meta" has a shape and no numbers.

    (snnTorch looks at numbers on the way, so it cannot.)
    """
    import torch

    framework = needed(name)
    case = peers.make_case(CELL)[2]
    if not recurrent:
        case = dataclasses.replace(case, forward=case.forward[:1], recurrent=[], out=None)
    with torch.device("meta"):
        run = framework.make(case)
    loss, gradients = run()
    assert {found.device.type for found in (loss, *gradients)} == {"meta"}
    wanted = [*case.forward, *case.recurrent, *([] if case.out is None else [case.out])]
    assert [g.shape for g in gradients] == [w.shape for w in wanted]


def fake(cell: Any, devices: str = "0") -> dict[str, Any]:
    row = {**dataclasses.asdict(cell), "threads": 2, "loss": 1.0, "process_peak_bytes": 10**8}
    times = {"torch": 4.0, "norse": 8.0, "": {"bptt": 2.0, "diag": 6.0, "expsm_diag": 1.0}}
    if cell.framework == "torch, CUDA graph":
        raise RuntimeError("it failed (1):\nTraceback\nCUDA error: out of luck\n")
    if cell.framework == "spyx":
        return {**dataclasses.asdict(cell), "error": "cannot be imported: broken"}
    found = times[cell.framework]
    return row | {"ms_per_step": found[cell.method] if isinstance(found, dict) else found}


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch", "norse", "spyx"}
    modules = {FRAMEWORKS[name].module.partition(".")[0] for name in there}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: name if name in modules else None
    )  # fmt: skip
    monkeypatch.setattr(processes, "in_fresh_process", fake)
    machine = {"device": "x", "product_flop_per_second": 1e9, "memory_bytes_per_second": 2e9}
    monkeypatch.setattr(processes, "machine_of", lambda devices: machine)
    found = peers.run(cells.Cell(), rounds=2)
    ratios = {r["name"]: r["value"] for r in found["ratios"]}
    assert ratios["BPTT / torch (the fastest with torch)"] == 0.5
    assert ratios["D-RTRL / norse"] == 0.75
    assert ratios["ES-D-RTRL / BPTT, plain JAX scan"] == 0.5
    assert not [name for name in ratios if "snnTorch" in name or "spyx" in name]
    text = peers.table(found)
    assert f"not installed: {peers.INSTALL}" in text
    assert "cannot be imported: broken" in text
    assert "failed: CUDA error: out of luck" in text
    assert "0.75" in next(line for line in text.splitlines() if line.startswith("norse"))


def test_a_broken_framework_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator does\nnot exist")

    monkeypatch.setattr("importlib.import_module", broken)
    row = peers.measure(dataclasses.replace(CELL, framework="norse"))
    assert row["error"] == "cannot be imported: operator does not exist"
    with pytest.raises(pytest.skip.Exception, match="torch cannot be imported: operator does not"):
        needed("torch")


class FakeCuda:
    """``torch.cuda`` as far as a recording needs it: what runs outside of one is counted."""

    def __init__(self) -> None:
        self.inside, self.replays = "", 0

    def Stream(self) -> Any:
        return types.SimpleNamespace(wait_stream=lambda other: None)

    def current_stream(self) -> Any:
        return self.Stream()

    def CUDAGraph(self) -> Any:
        def replay() -> None:
            self.replays += 1

        return types.SimpleNamespace(replay=replay)

    @contextlib.contextmanager
    def _within(self, name: str) -> Iterator[None]:
        self.inside = name
        yield
        self.inside = ""

    def stream(self, side: Any) -> Any:
        return self._within("side")

    def graph(self, graph: Any) -> Any:
        return self._within("recording")


def test_a_graph_is_recorded_once_and_replayed() -> None:
    """It is warmed up beside the recording, and what a replay returns is what was recorded."""
    cuda, calls = FakeCuda(), []

    def run() -> Any:
        calls.append(cuda.inside)
        return (len(calls), [])

    replay = with_torch.captured(run, cuda)
    assert calls == ["side", "side", "side", "recording"]
    assert [replay(), replay()] == [(4, []), (4, [])]
    assert (len(calls), cuda.replays) == (4, 2)


def test_what_the_device_of_a_run_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of torch are of the device that ours are of, or say why not."""
    case = peers.make_case(CELL)[2]
    graph = FRAMEWORKS["torch, CUDA graph"]
    assert peers.their_run(graph, lambda: case) == "a CUDA graph needs a GPU"
    tpu = types.SimpleNamespace(platform="tpu", device_kind="TPU v5e")
    monkeypatch.setattr("snnlab.benchmarks.machine.here", lambda: tpu)
    found = peers.their_run(FRAMEWORKS["torch"], lambda: case)
    assert isinstance(found, str)
    assert found.endswith("cannot use the TPU v5e")


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(UsageError, match="--repeats 0: must be at least 1"):
        command.main(["peers", "--repeats", "0"])
