"""What learners make of neurons whose states act on each other within a step.

The states of a neuron are one block of the Jacobian; traces follow it whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from populations import Population, gradients
from snnlab.errors import UsageError
from snnlab.learners.methods import METHODS
from snnlab.models.neuron import Neuron
from snnlab.models.neurons.brf import BRF
from snnlab.models.neurons.cuba_lif import CuBaLIF
from snnlab.models.neurons.se_adlif import SEAdLIF
from zoo import assert_live, cosine, relative_error

STEPS, READOUT = 40, "readout.map.weight"


class Case(NamedTuple):
    """A neuron, strengths of input and recurrence with which it fires, what is trained."""

    neuron: Neuron
    scale: float
    recurrent: float
    trained: tuple[str, ...]


CASES = {
    "se-adlif": Case(SEAdLIF(), 30.0, 10.0, ("tau_u_share", "tau_w_share", "a", "b")),
    "brf": Case(BRF(), 250.0, 100.0, ("omega", "b_offset", "theta")),
    "cuba-lif": Case(
        CuBaLIF(tau_mem=10.0, tau_syn=5.0), 20.0, 5.0,
        ("log_tau_mem", "log_tau_syn", "theta"),
    ),
}  # fmt: skip
BPTT: Mapping[str, Any] = MappingProxyType({"method": "bptt"})


def of(
    case: str,
    learner: Mapping[str, Any],
    *,
    recurrent: bool,
    values: bool = True,
    decay: float = 0.0,
) -> tuple[dict[str, np.ndarray], Any]:
    """Gradients by name and metrics of a learner on the network of a case."""
    neuron, scale, strength, trained = CASES[case]
    return gradients(
        neuron, STEPS, dict(learner), scale=scale, recurrent=strength if recurrent else 0.0,
        trained=trained if values else (), decay=decay,
    )  # fmt: skip


@functools.cache
def reference(case: str, recurrent: bool, values: bool = True, decay: float = 0.0) -> Any:
    """BPTT's."""
    return of(case, BPTT, recurrent=recurrent, values=values, decay=decay)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_networks_are_live(case: str, recurrent: bool) -> None:
    found, metrics = reference(case, recurrent)
    assert_live(found, metrics, STEPS)
    names = {f"layer.trained.{name}" for name in CASES[case].trained}
    assert names | {"layer.w.weight", READOUT} <= set(found)


@pytest.mark.parametrize("case", CASES)
def test_drtrl_is_exact_without_recurrence(case: str) -> None:
    """Every path from a step to a later one is within a neuron: through all of its states."""
    found, _ = of(case, {"method": "diag", "chunk_size": 7}, recurrent=False)
    exact, _ = reference(case, False)
    for name in exact:
        assert relative_error(found[name], exact[name]) < 1e-4, name


@pytest.mark.parametrize("backend", ["snnlab", "braintrace"])
def test_spikes_are_read_of_what_is_stored(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Read of the values that the copies are made of, they would be lost to the maps above."""
    stored = Population.now

    def passing_by(layer: Population, made: dict[str, Any] | None = None) -> dict[str, Any]:
        return made or stored(layer)

    monkeypatch.setattr(Population, "now", passing_by)
    exact, _ = reference("cuba-lif", False)
    bptt, _ = of("cuba-lif", BPTT, recurrent=False)
    assert relative_error(bptt["layer.w.weight"], exact["layer.w.weight"]) < 1e-4
    window = {"method": "diag", "vjp_method": "multi-step", "chunk_size": STEPS // 2}
    cut, _ = of("cuba-lif", window, recurrent=False)
    assert relative_error(cut["layer.w.weight"], exact["layer.w.weight"]) < 1e-4
    values = backend == "snnlab"
    with pytest.raises(UsageError, match=r"^[^\n]*the map readout.map.weight in this step[^\n]*$"):
        of("cuba-lif", {"method": "diag", "backend": backend}, recurrent=False, values=values)


@pytest.mark.parametrize("case", CASES)
def test_drtrl_differs_with_recurrence(case: str) -> None:
    """The control: paths through the spikes of other neurons are dropped."""
    found, _ = of(case, {"method": "diag"}, recurrent=True)
    exact, _ = reference(case, True)
    for name in exact:
        if name == READOUT:
            assert relative_error(found[name], exact[name]) < 1e-4
            continue
        assert relative_error(found[name], exact[name]) > 0.02, f"{name} equals BPTT: a void test"
        assert cosine(found[name], exact[name]) > 0.5, name


@pytest.mark.parametrize("case", CASES)
def test_rtrl_is_exact_with_recurrence(case: str) -> None:
    found, _ = of(case, {"method": "rtrl"}, recurrent=True, decay=0.8)
    exact, _ = reference(case, True, decay=0.8)
    for name in exact:
        assert relative_error(found[name], exact[name]) < 1e-4, name


@pytest.mark.parametrize("case", CASES)
def test_eprop_is_exact_without_recurrence_below_a_leaky_readout(case: str) -> None:
    """The filter of the readout is one more state of the block (docs/learners.md)."""
    found, _ = of(case, {"method": "eprop", "feedback": "symmetric"}, recurrent=False, decay=0.8)
    exact, _ = reference(case, False, decay=0.8)
    for name in exact:
        assert relative_error(found[name], exact[name]) < 1e-4, name


@pytest.mark.parametrize("case", CASES)
def test_braintraces_drtrl_is_ours(case: str) -> None:
    """A second implementation of the same rule, with recurrence; it trains maps alone."""
    ours, _ = of(case, {"method": "diag"}, recurrent=True, values=False)
    theirs, _ = of(case, {"method": "diag", "backend": "braintrace"}, recurrent=True, values=False)
    assert set(ours) == {"layer.w.weight", "layer.v.weight", READOUT}
    for name in ours:
        assert relative_error(ours[name], theirs[name]) < 1e-4, name


def runs(case: str, method: str) -> None:
    """It gives every parameter a gradient."""
    window = {"chunk_size": 8} if method == "tbptt" else {}
    found, _ = of(case, {"method": method, **window}, recurrent=True, decay=0.8)
    assert set(reference(case, True, decay=0.8)[0]) <= set(found)
    for name, gradient in found.items():
        assert np.all(np.isfinite(gradient)), name
        assert np.linalg.norm(gradient) > 1e-4, name


@pytest.mark.parametrize("method", ["expsm_diag", "ottt"])
def test_other_rules_run(method: str) -> None:
    runs("se-adlif", method)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_all_rules_run(case: str, method: str) -> None:
    runs(case, method)


def test_a_backend_without_values_of_neurons_says_so() -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*layer\.trained\.b_offset[^\n]*$"):
        of("brf", {"method": "diag", "backend": "braintrace"}, recurrent=True)
