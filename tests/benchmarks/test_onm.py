"""The benchmark of Open Neuromorphic: ours and the frameworks compute one layer's spikes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.benchmarks import __main__ as command
from snnlab.benchmarks import onm, processes
from snnlab.benchmarks.frameworks import FRAMEWORKS, Case
from snnlab.errors import UsageError
from snnlab.models.surrogates import surrogate

CELL = onm.OnmCell(n=24, batch_size=3, data_length=40)


def expected(case: Case, late: bool, detached: bool) -> tuple[Any, Any]:
    """Loss and gradient by reverse mode through a scan.

    Args:
        case: data.
        late: whether a spike is subtracted after the decay instead of before it.
        detached: whether the reset has no gradient.
    """
    spike, xs = surrogate("relu"), jnp.asarray(case.xs)

    def loss(w: Any) -> Any:
        def step(u: Any, x: Any) -> Any:
            s = spike(u - 1.0)
            s = jax.lax.stop_gradient(s) if detached else s
            u = (case.decay * u - s if late else case.decay * (u - s)) + x @ w
            return u, spike(u - 1.0).sum()

        rest = jnp.zeros(xs.shape[1:])
        return jax.lax.scan(step, rest, xs)[1].sum() / xs.shape[1]

    return jax.jit(jax.value_and_grad(loss))(jnp.asarray(case.forward[0]))


def close(found: tuple[Any, list[Any]], wanted: tuple[Any, Any]) -> None:
    np.testing.assert_allclose(float(found[0]), float(wanted[0]), rtol=1e-5)
    (gradient,) = (np.asarray(g) for g in found[1])
    assert np.linalg.norm(gradient) > 1.0
    np.testing.assert_allclose(gradient, wanted[1], rtol=1e-3, atol=1e-4)


def test_ours() -> None:
    """Without recurrence D-RTRL has the gradient of BPTT."""
    wanted = expected(onm.make_case(CELL), late=False, detached=False)
    assert float(wanted[0]) > CELL.data_length  # more than a spike a step
    for method in onm.OURS.values():
        close(onm.own_run(dataclasses.replace(CELL, method=method))(), wanted)


@pytest.mark.filterwarnings("ignore")  # what other frameworks warn of is theirs
@pytest.mark.parametrize("name", [name for name, one in FRAMEWORKS.items() if not one.graph])
def test_theirs(name: str) -> None:
    framework = FRAMEWORKS[name]
    if not framework.installed or framework.trouble():
        pytest.skip(f"{name}: {framework.trouble() or 'not installed'}")
    case = given = onm.make_case(CELL)
    if name == "spyx":  # its spikes leave a layer one step late
        silent = np.zeros((1, *case.xs.shape[1:]), np.float32)
        given = dataclasses.replace(case, xs=np.concatenate([case.xs, silent]))
    late, detached = name in ("snnTorch", "spyx"), name == "snnTorch"
    wanted = expected(case, late, detached)
    found = framework.make(given)()
    close((found[0], found[1][:1]), wanted)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fake(cell: Any, devices: str) -> dict[str, Any]:
        assert devices == "3"
        time = 1.0 if not cell.framework else 4.0
        return {**dataclasses.asdict(cell), "ms_per_step": time * cell.n, "loss": 2.0,
                "process_peak_bytes": 1e8}  # fmt: skip

    machine = {"device": "x", "product_flop_per_second": 1e9, "memory_bytes_per_second": 2e9}
    monkeypatch.setattr(processes, "in_fresh_process", fake)
    monkeypatch.setattr(processes, "machine_of", lambda devices: machine)
    argv = ["onm", "--neurons", "10, 20", "--batch-size", "3", "--data_length", "50",
            "--devices", "3"]  # fmt: skip
    assert command.main([*argv, "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(s for s in lines if s.startswith("BPTT, n 20")).split()[3:6] == ["3", "50", "1"]
    assert next(s for s in lines if s.startswith("n 10: BPTT / torch")).split()[-1] == "0.25"
    for wrong in ("0", "a", "5,-3", "10000000"):
        with pytest.raises(UsageError, match="--neurons"):
            command.main(["onm", "--neurons", wrong])
