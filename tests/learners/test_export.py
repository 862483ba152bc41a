"""Programs of accelerators, made on a machine without one: nothing without a lowering gets in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import exports
from short_training import make_programs
from snnlab.learners import tuning
from snnlab.learners.methods import METHODS, having
from zoo import LIVE, make_stream, make_targets

#: Rule -> options without which its programs are not those of longer sequences.
WITH: dict[str, dict[str, Any]] = {
    "tbptt": {"chunk_size": 7}, "expsm_diag": {"etrace_decay": 0.9},
    "hybrid": {"etrace_decay": 0.9}, "ottt": {"etrace_decay": 0.9}, "otpe": {"etrace_decay": 0.9},
}  # fmt: skip


def exported(every: int = 0, model: str = "lif-delta", **learner: Any) -> bytes:
    """The training program of a learner as StableHLO of both platforms."""
    with exports.for_accelerators():
        programs, state, _ = make_programs(every, model=model, **learner)
        return exports.exported(programs.train_fn, state, make_stream(), make_targets())


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_has_a_program_for_gpu_and_tpu(method: str) -> None:
    exported(method=method, **WITH.get(method, {}))


def test_evaluation_has_a_program_for_gpu_and_tpu() -> None:
    """It is the same for every rule."""
    with exports.for_accelerators():
        programs, state, _ = make_programs()
        exports.exported(programs.evaluate_fn, state.params, make_stream(), make_targets())


def test_a_call_into_this_process_is_found() -> None:
    x = jnp.float32(1.0)
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    with pytest.raises(NotImplementedError, match="callback"):
        exports.exported(lambda x: jax.pure_callback(lambda x: x, shape, x), x)
    with pytest.raises(ValueError, match="loop_of_a_cpu"):
        exports.exported(lambda x: jax.ffi.ffi_call("loop_of_a_cpu", shape)(x), x)


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
