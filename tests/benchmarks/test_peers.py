"""Other frameworks compute what ours computes; the table says how long each takes."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pytest

from snnlab.benchmarks import __main__ as command
from snnlab.benchmarks import cells, peers
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case
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


@pytest.mark.filterwarnings("ignore")  # what other frameworks warn of is theirs
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_same_network(name: str) -> None:
    framework = FRAMEWORKS[name]
    if not framework.installed:
        pytest.skip(f"{name} is not installed: {peers.INSTALL}")
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


def fake(cell: Any, devices: str = "0") -> dict[str, Any]:
    row = {**dataclasses.asdict(cell), "threads": 2, "loss": 1.0, "process_peak_bytes": 10**8}
    times = {"torch": 4.0, "norse": 8.0, "": {"bptt": 2.0, "diag": 6.0, "expsm_diag": 1.0}}
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
    monkeypatch.setattr(cells, "in_fresh_process", fake)
    machine = {"device": "x", "product_flop_per_second": 1e9, "memory_bytes_per_second": 2e9}
    monkeypatch.setattr(peers, "rates", lambda: machine)
    found = peers.run(cells.Cell(), rounds=2)
    ratios = {r["name"]: r["value"] for r in found["ratios"]}
    assert ratios["BPTT / torch (the fastest with torch)"] == 0.5
    assert ratios["D-RTRL / norse"] == 0.75
    assert ratios["ES-D-RTRL / BPTT, plain JAX scan"] == 0.5
    assert not [name for name in ratios if "snnTorch" in name or "spyx" in name]
    text = peers.table(found)
    assert f"not installed: {peers.INSTALL}" in text
    assert "cannot be imported: broken" in text
    assert "0.75" in next(line for line in text.splitlines() if line.startswith("norse"))


def test_a_broken_framework_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator does\nnot exist")

    monkeypatch.setattr("importlib.import_module", broken)
    row = peers.measure(dataclasses.replace(CELL, framework="norse"))
    assert row["error"] == "cannot be imported: operator does not exist"


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(UsageError, match="--repeats 0: must be at least 1"):
        command.main(["peers", "--repeats", "0"])
