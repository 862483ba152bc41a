"""The learner's options: aliases, and combinations that make no sense."""

from __future__ import annotations

import pytest

from snnlab.errors import UsageError
from snnlab.learners import tuning
from snnlab.learners.config import LearnerConfig


@pytest.mark.parametrize(
    ("spelling", "method"),
    [("d-rtrl", "diag"), ("diag", "diag"), ("esd-rtrl", "expsm_diag"),
     ("ES-D-RTRL", "expsm_diag"), ("expsm_diag", "expsm_diag"), ("bptt", "bptt"),
     ("es_d_rtrl", "expsm_diag"), ("pp_prop", "expsm_diag"), ("e-prop", "eprop"),
     ("SnAp-1", "snap-1"), ("OSTL", "ostl")],
)  # fmt: skip
def test_names_of_methods(spelling: str, method: str) -> None:
    assert LearnerConfig(method=spelling).method == method


@pytest.mark.parametrize(
    ("value", "decay"), [(None, 0.9), (0.99, 0.99), (0, 0.0), (19, 0.9), (3, 0.5), (2.0, 1 / 3)]
)
def test_decay_and_rank(value: float | None, decay: float) -> None:
    config = LearnerConfig(method="expsm_diag", etrace_decay=value)
    assert config.decay == pytest.approx(decay)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "expsm_diag", "etrace_decay": 1.0}, r"\[0, 1\) or an integer rank"),
        ({"method": "expsm_diag", "etrace_decay": -0.1}, r"\[0, 1\) or an integer rank"),
        ({"method": "expsm_diag", "etrace_decay": 1.5}, r"\[0, 1\) or an integer rank"),
        ({"method": "bptt", "etrace_decay": 0.9}, "no meaning with --method bptt"),
        ({"method": "diag", "etrace_decay": 0.9}, "no meaning with --method diag"),
        ({"method": "diag", "vjp_time": "t_minus_1"}, "not implemented; use t"),
        ({"method": "diag", "vjp_method": "multi-step"}, "needs --chunk_size"),
        ({"method": "bptt", "vjp_method": "multi-step", "chunk_size": 5}, "not bptt"),
        ({"method": "rtlr"}, "bptt"),
        ({"method": "tbptt"}, "needs --chunk_size"),
        ({"method": "rflo", "feedback": "symmetric"}, "would be --method diag"),
        ({"method": "eprop", "vjp_method": "multi-step", "chunk_size": 5}, "not eprop"),
        ({"method": "eprop", "backend": "braintrace"}, "not eprop; of ours diag"),
        ({"method": "rtrl", "precision": "mixed"}, "rtrl is float32"),
        ({"method": "bptt", "backend": "braintrace"}, "not bptt"),
        ({"method": "diag", "backend": "plain"}, "bptt alone"),
        ({"method": "diag", "remat": True}, "belongs to --method bptt"),
        ({"method": "bptt", "remat": True, "checkpoint_block": 5}, "choose one"),
        ({"method": "diag", "checkpoint_block": 5}, "5 belongs to --method bptt with --backend p"),
        ({"backend": "snnlab", "checkpoint_block": 5}, "5 belongs to --method bptt with --backend"),
        ({"backend": "layerwise", "checkpoint_block": 5}, "5 belongs to --method bptt with --bac"),
        ({"method": "diag", "backend": "braintrace", "chunk_size": 5}, "--backend snnlab"),
        ({"method": "diag", "chunk_size": 0}, "greater than 0"),
        ({"update_every": -1}, "greater than or equal"),
    ],
)
def test_bad_combinations(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**values)


@pytest.mark.parametrize("value", ["auto", None])
def test_automatic_chunk_size(value: str | None) -> None:
    assert LearnerConfig(method="diag", chunk_size=value).chunk_size is None  # type: ignore[arg-type]


def test_kernels_of_accelerators_on_a_cpu() -> None:
    none = tuning.Kernels()
    assert tuning.kernels("auto") == tuning.kernels("xla") == none
    with pytest.raises(UsageError, match="--kernels pallas needs a GPU or TPU: a CPU would"):
        tuning.kernels("pallas")
    with tuning.planned_for(tuning.GPU):
        assert tuning.kernels("auto") == (8, False)  # as measured: docs/performance/gpu-h200.md
        assert tuning.kernels("xla") == none
        assert tuning.kernels("pallas") > (10**9, False)
    with tuning.planned_for(tuning.ACCELERATOR):
        assert tuning.kernels("auto") == none
