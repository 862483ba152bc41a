"""Delays: of the input, of own spikes and between layers; what an online rule does with each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exchanged import XS
from snnlab.errors import UsageError
from snnlab.exchange import from_nir, to_nir
from snnlab.learners import LearnerConfig, make_learner
from snnlab.learners.forward import response
from snnlab.learners.functional import get_params
from snnlab.models.delays import Delayed
from snnlab.models.maps import DenseMap
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification
from zoo import ArrayStream, Targets

nir = pytest.importorskip("nir", reason="of the extra 'nir'")
N_IN, N, DT = XS.shape[-1], 5, 1e-3


def graph(**delays: float | np.ndarray) -> Any:
    """A recurrent layer and a readout; delays in s in front of the maps that are named."""
    rng = np.random.default_rng(0)
    lif = nir.LIF(np.full(N, 0.01), np.full(N, 10.0), np.zeros(N), np.ones(N))
    nodes = {
        "input": nir.Input(np.array([N_IN])), "w": nir.Linear(rng.normal(0, 1, (N, N_IN))),
        "n": lif, "v": nir.Linear(rng.normal(0, 0.5, (N, N))),
        "o": nir.Linear(rng.normal(0, 1, (3, N))), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "n"), ("n", "v"), ("v", "n"), ("n", "o"), ("o", "output")]
    for to, delay in delays.items():
        start = next(a for a, b in edges if b == to)
        edges.remove((start, to))
        edges += [(start, f"d{to}"), (f"d{to}", to)]
        nodes[f"d{to}"] = nir.Delay(np.broadcast_to(delay, (N_IN if to == "w" else N,)).copy())
    return nir.NIRGraph(nodes, edges)


def by_hand(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and readout where all three maps have a delay of so many steps, in plain NumPy."""
    weights = {k: np.float32(v.weight) for k, v in graph().nodes.items() if hasattr(v, "weight")}
    v, f = np.zeros((2, N), np.float32), np.float32
    spikes, shown = [np.zeros((2, N), f)], []  # spikes[t + 1] are those of step t

    def of_step(t: int) -> np.ndarray:
        return spikes[t + 1] if t >= 0 else np.zeros((2, N), f)

    for t in range(60):
        x = XS[t - steps] if t >= steps else np.zeros((2, N_IN), f)
        drive = x @ weights["w"].T + of_step(t - 1 - steps) @ weights["v"].T
        v = v * (1 - of_step(t - 1)) * f(0.9) + drive
        spikes.append((v > 1).astype(f))
        shown.append(of_step(t - steps) @ weights["o"].T)
    return np.stack(spikes[1:]), np.stack(shown)


@pytest.mark.parametrize("steps", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_network_with_delays(steps: int) -> None:
    made = from_nir(graph(w=steps * DT, v=steps * DT, o=steps * DT))
    assert {label.kind for label in made.labels} == {"exact"}
    spikes, readout = by_hand(steps)
    out = response(made.network, XS[:60])
    assert spikes.any()
    np.testing.assert_array_equal(out.spikes[0], spikes)
    np.testing.assert_allclose(out.readout, readout, atol=1e-5)
    again = to_nir(made.network)
    assert [a.node for a in again.labels if a.type == "Delay"] == [
        "layer0.delay", "layer0.recurrence_delay", "readout.delay",
    ]  # fmt: skip
    found = response(from_nir(again.graph).network, XS[:60])
    np.testing.assert_array_equal(found.spikes[0], spikes)
    with pytest.raises(UsageError, match="this reader has no Delay"):
        to_nir(made.network, "norse", readout=False)


@pytest.mark.slow
def test_each_input_has_its_own() -> None:
    steps = np.arange(N_IN) % 4
    made = from_nir(graph(w=steps * DT))
    assert isinstance(made.network.layers[0].w, Delayed)
    late = np.zeros_like(XS[:30])
    for i, d in enumerate(steps):
        late[d:, :, i] = XS[: 30 - d, :, i]
    plain = response(from_nir(graph()).network, late)
    np.testing.assert_array_equal(response(made.network, XS[:30]).spikes[0], plain.spikes[0])


@pytest.mark.parametrize(
    ("delay", "message"),
    [(-1e-3, "delays of 5 inputs"), (np.nan, "delays of 5 inputs"), (2.0, "2,000 steps: 500")],
)
def test_what_is_no_delay(delay: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_nir(graph(o=delay))


def test_a_delay_between_steps_is_approximate() -> None:
    (label,) = [a for a in from_nir(graph(o=1.4e-3)).labels if a.type == "Delay"]
    assert (label.node, label.kind) == ("do", "approximate")
    assert label.reason == "rounded to steps of 0.001 s"


def learner(method: str, make: Any) -> Any:
    goal = Classification(3, 1, 0, 1.0, TrainingConfig())
    return make_learner(LearnerConfig(method=method), make, 2, goal)


def feed_forward(op: Any) -> Any:
    """A layer without recurrence; its output has delays of 0 to 3 steps, its input one of 2."""
    made = graph(w=2 * DT, o=np.arange(N) % 4 * DT)
    del made.nodes["v"]
    made.edges = [edge for edge in made.edges if "v" not in edge]
    return from_nir(made, operator=op).network


def recurrent(op: Any) -> Any:
    return from_nir(graph(w=2 * DT, v=DT, o=DT), operator=op).network


@pytest.mark.slow
@pytest.mark.parametrize("make", [feed_forward, recurrent])
def test_online_rules_learn_over_delays(make: Any) -> None:
    """D-RTRL has BPTT's gradient where neurons do not see each other, else the readout's."""
    stream = ArrayStream(jnp.asarray(XS[:20]))
    targets = Targets(jnp.asarray([1, 2]), jnp.ones(2))
    params = get_params(make("plain"))
    found = {}
    for method in ("diag", "bptt"):
        rule = learner(method, make)
        part = jax.jit(lambda p, r=rule: r.segment(p, r.fresh(), stream, targets, 0, 20))(params)
        found[method] = {k: np.asarray(g) for k, g in part.gradients.items()}
    same = params if make is feed_forward else ["readout.map.map.weight"]
    assert all(np.abs(g).max() > 0.1 for each in found.values() for g in each.values())
    for name in same:
        np.testing.assert_allclose(found["diag"][name], found["bptt"][name], rtol=1e-4, atol=1e-5)


def test_the_longest() -> None:
    with pytest.raises(UsageError, match="a delay of 501 steps: 500 at most"):
        Delayed(DenseMap(jnp.ones((2, 2))), np.array([0, 501]))
