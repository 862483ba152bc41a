"""brainscale's numerics, as they are: what is the same as braintrace, and what is not."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners.backends import brainscale as module
from snnlab.learners.config import LearnerConfig
from zoo import (
    assert_live,
    cosine,
    gradients,
    make_stream,
    make_targets,
    model_config,
    needs_brainscale,
)
from zoo import relative_error as error

HIDDEN = "layers.0.pathways.0.map.weight"


def both(method: str, stream, **config):
    args = model_config(**config), stream, make_targets()
    ours, metrics = gradients(*args, method=method)
    theirs, _ = gradients(*args, method=method, backend="brainscale")
    return ours, theirs, metrics


@needs_brainscale
def test_trace_below_one_is_d_rtrl() -> None:
    """One step: the trace is x f <= 1, nothing is rescaled, and the two libraries agree."""
    ours, theirs, metrics = both("diag", make_stream(steps=1, rate=0.4), n_layer=1)
    assert np.asarray(metrics.spikes) > 0
    for name in ours:
        assert error(theirs[name], ours[name]) < 1e-5


@needs_brainscale
def test_trace_above_one_is_rescaled() -> None:
    """After some steps a trace exceeds 1: brainscale divides all of it, the gradient shrinks."""
    ours, theirs, metrics = both("diag", make_stream(), n_layer=1)
    assert_live(ours, metrics)
    norm = np.linalg.norm
    assert norm(theirs[HIDDEN]) < 0.7 * norm(ours[HIDDEN])
    assert error(theirs[HIDDEN], ours[HIDDEN]) > 0.2
    assert cosine(theirs[HIDDEN], ours[HIDDEN]) > 0.5


@needs_brainscale
def test_es_d_rtrl_runs_and_points_the_same_way() -> None:
    ours, theirs, metrics = both("expsm_diag", make_stream())
    assert_live(ours, metrics)
    for name in ours:
        assert np.linalg.norm(theirs[name]) > 1e-4
        assert cosine(theirs[name], ours[name]) > 0.6


@needs_brainscale
def test_sign_constrained_maps_run() -> None:
    _, theirs, _ = both("diag", make_stream(), model="lif-exp-co")
    assert all(np.linalg.norm(g) > 0 for g in theirs.values())


def test_new_jax_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "__version__", "0.11.0")
    with pytest.raises(UsageError, match=r"needs jax < 0\.10 \(here jax 0\.11\.0\)"):
        module.require_brainscale()


def test_brainscale_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "__version__", "0.9.2")
    monkeypatch.setitem(sys.modules, "brainscale", None)
    with pytest.raises(UsageError, match=r"--backend brainscale needs .* the extra 'brainscale'"):
        module.require_brainscale()


def test_bptt_is_not_brainscales() -> None:
    with pytest.raises(ValueError, match="online methods, not bptt"):
        LearnerConfig(method="bptt", backend="brainscale")
