"""A network that was written and read back is the same, bit for bit, and learns the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from exchanged import EXACT, N_IN, N_OUT, SOFT, XS, N, answer, first_difference, of_model
from snnlab.errors import UsageError
from snnlab.exchange import from_nir, read, to_nir, write
from snnlab.learners import LearnerConfig, make_learner
from snnlab.learners.forward import response
from snnlab.learners.functional import get_params
from snnlab.models import ModelConfig, build_network
from snnlab.models.config import BalancedConfig
from zoo import ArrayStream, Targets, objective

nir = pytest.importorskip("nir", reason="of the extra 'nir'")

#: Networks of which a graph leaves out, or changes, something.
OTHERS: dict[str, dict[str, Any]] = {
    "soft": {"model": "lif-delta", "trainable": "bias,tau_mem,V_th,tau_o"},
    "sparse": {"model": "lif-delta", "connectivity": 0.5},
    "adaptive": {"model": "alif-exp-cu"},
    "depressing": {"model": "lif-std-exp-cu"},
    "gif": {"model": "gif-delta"},
    "quantised": {"model": "RLIF", "quantize": "8.4", "reset": "voltage"},
    "adLIF": {"model": "adLIF", "dropout": 0.1},
    "CuBaLIF": {"model": "CuBaLIF", "trainable": "bias,V_th"},
}
#: Those of which every node is exact all the same.
EVEN_SO = ("sparse", "quantised", "CuBaLIF")


def same_bits(a: Any, b: Any) -> bool:
    x, y = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(x) == len(y) and all(np.array_equal(i, j) for i, j in zip(x, y))


@pytest.mark.parametrize(
    "name", [n if n in ("lif", "cuba-feed-forward") else pytest.param(n, marks=pytest.mark.slow)
             for n in EXACT],
)  # fmt: skip
def test_the_same_spikes(name: str, tmp_path: Path) -> None:
    """As the network that it was, and as any graph of these nodes."""
    network, out = answer(name)
    made = to_nir(network)
    assert {label.kind for label in made.labels} == {"exact"}
    graph = read(write(tmp_path / "a.nir", made.graph))
    again = from_nir(graph)
    assert again.original == ("feed" not in name)
    if again.original:
        assert get_params(again.network).keys() == get_params(network).keys()
        assert same_bits(get_params(again.network), get_params(network))
        assert same_bits(response(again.network, XS), out)
    graph.metadata = {}
    other = from_nir(graph)
    assert not other.original
    assert {label.kind for label in other.labels} == {"exact"}
    found = response(other.network, XS)
    for a, b in zip(out.spikes, found.spikes, strict=True):
        assert first_difference(a, b) is None
    np.testing.assert_allclose(found.readout, out.readout, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", [n if n == "soft" else pytest.param(n, marks=pytest.mark.slow)
             for n in OTHERS],
)  # fmt: skip
def test_what_a_graph_does_not_say_is_kept_beside_it(name: str, tmp_path: Path) -> None:
    network = of_model(**OTHERS[name])
    params = {k: v + 0.01 for k, v in get_params(network).items()}  # trained, as it were
    from snnlab.learners.functional import set_params

    set_params(network, params)
    made = to_nir(network, "norse", readout=False, unsupported=True)
    assert {label.kind for label in made.labels} - {"exact"} or name in EVEN_SO
    again = from_nir(read(write(tmp_path / "a.nir", made.graph)))
    assert again.original
    assert same_bits(get_params(again.network), params)
    assert same_bits(response(again.network, XS[:20]), response(network, XS[:20]))


@pytest.mark.slow
@pytest.mark.parametrize("name", SOFT)
def test_a_reset_that_subtracts(name: str) -> None:
    """It is said by whoever imports, or by snnlab."""
    network, out = answer(name)
    graph = to_nir(network).graph
    graph.metadata = {}
    found = response(from_nir(graph, reset="subtract").network, XS)
    assert first_difference(found.spikes[1], out.spikes[1]) is None
    assert first_difference(response(from_nir(graph).network, XS).spikes[1], out.spikes[1])
    again = to_nir(from_nir(graph, reset="subtract").network, "norse-subtract", readout=False)
    assert {label.kind for label in again.labels} == {"exact"}
    graph = to_nir(network, "norse-subtract", readout=False).graph
    graph.metadata["snnlab"].pop("model", None)
    found = response(from_nir(graph).network, XS)
    assert first_difference(found.spikes[1], out.spikes[1]) is None
    with pytest.raises(UsageError, match="leave out --nir_reset"):
        from_nir(graph, reset="value")
    with pytest.raises(UsageError, match="leave out --nir_step"):
        from_nir(graph, scheme="exponential")


@pytest.mark.slow
def test_a_summed_readout(tmp_path: Path) -> None:
    config = BalancedConfig(n_rec=N, reset="voltage")
    network = build_network(config, N_IN, N_OUT, "plain", 0, dt_ms=1.0, linear=True, repeat=2)
    made = to_nir(network)
    assert [(a.type, a.kind) for a in made.labels][-3:] == [
        ("LI", "exact"), ("I", "exact"), ("Output", "exact"),
    ]  # fmt: skip
    again = from_nir(read(write(tmp_path / "a.nir", made.graph)))
    assert again.original
    assert same_bits(response(again.network, XS[:9]), response(network, XS[:9]))


@pytest.mark.parametrize("change", ["weight", "tau", "options"])
def test_a_changed_graph_is_what_its_nodes_say(change: str) -> None:
    network, out = answer("lif")
    graph = to_nir(network).graph
    if change == "weight":
        graph.nodes["layer1.weights"].weight[3, 5] += 0.25
    elif change == "tau":
        graph.nodes["layer0.neuron"].tau *= 2
    else:
        meta = graph.metadata["snnlab"]
        meta["model"] = meta["model"].replace("hard", "soft")
    made = from_nir(graph)
    if change == "weight":  # still the network, of other weights
        assert made.original
        w = get_params(made.network)["layers.1.pathways.0.map.weight"]
        assert w[5, 3] == get_params(network)["layers.1.pathways.0.map.weight"][5, 3] + 0.25
    elif change == "tau":
        assert not made.original
        assert first_difference(response(made.network, XS).spikes[0], out.spikes[0]) is not None
    else:
        assert made.original  # the options are of the graph's own author
    with pytest.raises(Exception, match="written for steps of 1 ms, not 2 ms: --dt 1"):
        from_nir(to_nir(network).graph, dt_ms=2.0)


def gradients(make: Any, method: str) -> dict[str, np.ndarray]:
    """Of one sequence."""
    goal = objective(1)
    learner = make_learner(LearnerConfig(method=method), make, 2, goal)
    stream = ArrayStream(jax.numpy.asarray(XS[:30]))
    targets = Targets(jax.numpy.asarray([1, 3]), jax.numpy.ones(2))
    params = {**get_params(make("plain")), **learner.parameters()}
    part = jax.jit(lambda p: learner.segment(p, learner.fresh(), stream, targets, 0, 30))(params)
    return {name: np.array(g) for name, g in part.gradients.items()}


@pytest.mark.parametrize(
    ("method", "foreign"),
    [
        ("diag", False),
        *(
            pytest.param(method, True, marks=pytest.mark.slow)
            for method in ("diag", "expsm_diag", "eprop", "bptt")
        ),
    ],
)
def test_learning_goes_on(method: str, foreign: bool) -> None:
    """Of the network itself bit for bit; of any such graph up to the order of sums."""
    config = ModelConfig(model="CuBaLIF", n_rec=N, n_layer=1, ff_scale=9000.0, fix_tau_rec=True)
    graph = to_nir(build_network(config, N_IN, N_OUT, "plain", 5)).graph
    original = gradients(lambda op: build_network(config, N_IN, N_OUT, op, 5), method)
    assert max(np.abs(g).max() for g in original.values()) > 0
    if foreign:
        graph.metadata = {}
    again = gradients(lambda op: from_nir(graph, operator=op).network, method)
    assert again.keys() == original.keys()
    for name, g in original.items():
        if not foreign:
            np.testing.assert_array_equal(again[name], g)
            continue
        if name.endswith("v.weight"):  # neurons have no map to themselves; the graph's may have
            np.fill_diagonal(again[name], 0)
        np.testing.assert_allclose(again[name], g, rtol=2e-4, atol=2e-6 * np.abs(g).max())
