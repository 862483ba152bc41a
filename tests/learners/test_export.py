"""Programs of accelerators, made on a machine without one: nothing without a lowering gets in."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from short_training import make_programs
from snnlab.learners import tuning
from snnlab.learners.methods import METHODS, having
from zoo import LIVE, make_stream, make_targets

PLATFORMS = ("tpu", "cuda")
#: Rule -> options without which its programs are not those of longer sequences.
WITH: dict[str, dict[str, Any]] = {
    "tbptt": {"chunk_size": 7}, "expsm_diag": {"etrace_decay": 0.9},
    "hybrid": {"etrace_decay": 0.9}, "ottt": {"etrace_decay": 0.9}, "otpe": {"etrace_decay": 0.9},
}  # fmt: skip


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype), tree)


def exported(every: int = 0, model: str = "lif-delta", **learner: Any) -> list[str]:
    """The training and the evaluation program of a learner as StableHLO of both platforms."""
    with tuning.planned_for(tuning.ACCELERATOR):
        programs, state, _ = make_programs(every, model=model, **learner)
        batch = shapes((make_stream(), make_targets()))
        pairs = ((programs.train_fn, state), (programs.evaluate_fn, state.params))
        found = [
            jax.export.export(jax.jit(fun), platforms=PLATFORMS)(shapes(first), *batch)
            for fun, first in pairs
        ]
    assert all(one.platforms == PLATFORMS for one in found)
    return [one.mlir_module() for one in found]


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_has_a_program_for_gpu_and_tpu(method: str) -> None:
    train, evaluate = exported(method=method, **WITH.get(method, {}))
    # No call into this process: numba's loops and callbacks are a CPU's.
    for text in (train, evaluate):
        assert "xla_ffi" not in text
        assert "callback" not in text


@pytest.mark.parametrize("method", ["diag", "eprop"])
def test_chunks_with_traces_and_an_update_at_every_step(method: str) -> None:
    for every in (0, 1):
        exported(every, method=method, **({} if every else {"chunk_size": 4}))


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in LIVE if name != "lif-delta"])
def test_every_layered_model(model: str) -> None:
    exported(model=model, method="diag")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bptt", "diag", "expsm_diag"])
def test_mixed_precision(method: str) -> None:
    exported(method=method, precision="mixed", **WITH.get(method, {}))


@pytest.mark.slow
def test_windows() -> None:
    assert "diag" in having("windows")
    exported(method="diag", vjp_method="multi-step", chunk_size=4)


def test_what_is_planned_for_another_device_ends_with_the_block() -> None:
    before = tuning.current()
    with tuning.planned_for(tuning.ACCELERATOR):
        assert tuning.current() is tuning.ACCELERATOR
    assert tuning.current() is before
