"""What a node is called: exact, approximate or unsupported, for each model and reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exchanged import EXACT, of_model
from snnlab.errors import UsageError
from snnlab.exchange import READERS, to_nir
from snnlab.exchange.labels import Label, table, worst

pytest.importorskip("nir", reason="of the extra 'nir'")

#: Model with its options -> kind and type of a layer's neuron for the reader `nir`, and a reason.
NEURONS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "lif-delta": ({}, "approximate", "LIF", "subtracts the threshold"),
    "lif-exp-cu": ({"spk_reset": "hard"}, "exact", "CubaLIF", "steps of 0.001 s"),
    "alif-delta": ({"spk_reset": "hard"}, "unsupported", "LIF", "adaptation of the threshold"),
    "if-delta": ({"spk_reset": "hard"}, "exact", "IF", "steps of 0.001 s"),
    "lif-std-exp-cu": ({}, "unsupported", "CubaLIF", "short-term plasticity"),
    "gif-delta": ({}, "unsupported", "LIF", "after-spike currents"),
    "LIF": ({}, "approximate", "LIF", "subtracts the threshold"),
    "RLIF": ({"reset": "voltage"}, "exact", "LIF", "steps of 0.001 s"),
    "RLIF ": ({"reset": "voltage", "single_spike": True}, "unsupported", "LIF", "one spike"),
    "adLIF": ({}, "unsupported", "LIF", "no adaptation"),
    "CuBaLIF": ({}, "exact", "CubaLIF", "steps of 0.001 s"),
    "LIF ": ({"normalization": "layernorm"}, "unsupported", "LIF", "normalisation"),
}  # fmt: skip
#: Models of which no node says anything.
NONE = ("lif-exp-co", "ei", "SE-adLIF", "BRF", "GRU")


@pytest.mark.parametrize("model", NEURONS)
def test_a_neuron(model: str) -> None:
    options, kind, type_, reason = NEURONS[model]
    network = of_model(model.strip(), n_layer=1, **options)
    made = to_nir(network, unsupported=True)
    (label,) = [a for a in made.labels if a.node == "layer0.neuron"]
    assert (label.kind, label.type) == (kind, type_)
    assert reason in label.reason
    node = made.graph.nodes["layer0.neuron"]
    assert node.metadata == {"label": kind, "reason": label.reason}
    if kind == "unsupported":
        with pytest.raises(UsageError, match=r"layer0.neuron \(.*\) is unsupported: .*NIR has no"):
            to_nir(network)


@pytest.mark.parametrize(
    "model", [m if m in ("BRF", "GRU") else pytest.param(m, marks=pytest.mark.slow) for m in NONE]
)
def test_a_neuron_of_which_nothing_can_be_written(model: str) -> None:
    network = of_model(model, n_layer=1)
    with pytest.raises(UsageError, match=r"layer0.neuron is unsupported: NIR has no"):
        to_nir(network, unsupported=True)


@pytest.mark.parametrize(
    ("name", "reader", "node", "reason"),
    [
        ("lif", "snntorch", "layer0.neuron", "no recurrence of LIF"),
        ("lif-feed-forward", "snntorch", "readout.leak", "no LI"),
        ("if", "norse", "layer0.neuron", "no IF"),
        ("lif", "norse", "readout.leak", "no LI"),
        ("if", "norse-subtract", "layer0.neuron", "no IF"),
    ],
)
def test_what_a_reader_does_not_read(name: str, reader: str, node: str, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"{node} \(.*\) is unsupported: .*{reason}"):
        to_nir(EXACT[name](), reader)


def test_other_readers() -> None:
    with pytest.raises(UsageError, match="one tau for all neurons"):
        to_nir(of_model("lif-delta", spk_reset="hard"), "spikingjelly", readout=False)
    with pytest.raises(UsageError, match=r"no reader 'norsee' \(did you mean 'norse'\?\); valid"):
        to_nir(EXACT["lif"](), "norsee")
    with pytest.raises(UsageError, match="no layers"):
        to_nir(object())
    with pytest.raises(UsageError, match="read backwards"):
        to_nir(of_model("LIF", bidirectional=True), unsupported=True)


def test_a_reader_that_subtracts() -> None:
    made = to_nir(EXACT["lif"](), "norse-subtract", readout=False)
    (label,) = [a for a in made.labels if a.node == "layer0.neuron"]
    assert (label.type, label.kind) == ("CubaLIF", "approximate")
    assert "sets v to v_reset here" in label.reason
    soft = to_nir(of_model("lif-delta"), "norse-subtract", readout=False)
    assert {a.kind for a in soft.labels} == {"exact"}
    none = to_nir(of_model("RLIF", fix_w_rec=True), "norse-subtract", readout=False)
    assert "subtracts nothing from v here, and the reader the threshold" in none.labels[2].reason


@pytest.mark.parametrize("reader", READERS)
def test_parameters_are_those_of_the_readers_step(reader: str) -> None:
    """Its decay and gain are the network's: tau and r of a LIF node follow from its dt."""
    network = EXACT["lif"]()
    made = to_nir(network, reader, readout=False, unsupported=True)
    node, weights = (made.graph.nodes[f"layer0.{part}"] for part in ("neuron", "weights"))
    beta = np.exp(-1.0 / 10.0)
    step = made.dt / getattr(node, "tau", getattr(node, "tau_mem", None))
    decay = np.exp(-step) if READERS[reader].scheme == "exponential" else 1 - step
    np.testing.assert_allclose(decay, beta, rtol=1e-6)
    w = np.asarray(network.layers[0].pathways[0].map.effective_weight())[: network.n_in].T
    np.testing.assert_allclose((1 - decay)[:, None] * node.r[:, None] * weights.weight, w, 1e-5)


@pytest.mark.parametrize("reader", ["nir", "spikingjelly"])
def test_the_threshold_is_that_of_the_reader(reader: str) -> None:
    """v on the threshold spikes here (neurons in ms) or not; the reader's neuron does the same."""
    low, high = np.float32(-np.inf), np.float32(np.inf)
    one = np.float32(1)
    for model, spikes_there in {"lif-delta": True, "CuBaLIF": False}.items():
        options = {"spk_reset": "hard", "tau_mem_sigma": 0.0} if spikes_there else {}
        made = to_nir(of_model(model, n_layer=1, **options), reader, readout=False)
        wanted = {
            (True, False): np.nextafter(one, low), (False, True): np.nextafter(one, high)
        }.get((spikes_there, READERS[reader].at_threshold), one)  # fmt: skip
        assert (made.graph.nodes["layer0.neuron"].v_threshold == wanted).all()


def test_the_table() -> None:
    labels = [Label("a", "LIF", "exact", "for steps of 0.001 s"), Label("bb", "LI", "unsupported",
              " ".join(["NIR has no such thing"] * 4))]  # fmt: skip
    for width in (60, 100):
        lines = table(labels, width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("a   LIF  exact")
        assert " ".join(" ".join(lines).split()).count("NIR has no such thing") == 4
    odd = table([Label("a\x1b[2J\nb", "LIF", "exact", "")])
    assert odd.startswith("a\\x1b[2J b  LIF")
    assert odd.isprintable()
    assert worst(["exact", "unsupported", "approximate"]) == "unsupported"
    assert worst([]) == "exact"


def test_the_default_of_a_run_is_labelled() -> None:
    kinds = {a.node: a.kind for a in to_nir(of_model("lif-delta")).labels}
    assert kinds["layer0.neuron"] == kinds["layer1.neuron"] == "approximate"
    assert {kind for node, kind in kinds.items() if not node.endswith("neuron")} == {"exact"}
