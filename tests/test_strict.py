"""Our own programs promote no types by themselves, and our objectives no ranks.

Where the line is: networks (brainpy's equations; values of neurons ``(n,)`` beside states
``(B, n)``) and optax's updates are traced as usual. Learners mean it that a Jacobian ``(B, n)``
meets signals of all steps ``(T, B, n)``, so ranks are held strictly in objectives alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from short_training import FakeLoader, make_programs
from snnlab.learners import tuning
from snnlab.models.base import StepOutput
from snnlab.models.networks import LayeredNetwork
from zoo import BATCH, make_targets, objective

METHODS = [
    {"method": "bptt"}, {"method": "bptt", "backend": "plain"},
    {"method": "bptt", "precision": "bfloat16"}, {"method": "tbptt", "chunk_size": 4},
    {"method": "diag", "update_every": 3},
    {"method": "diag", "precision": "mixed", "chunk_size": 4},
    {"method": "expsm_diag", "update_every": 3}, {"method": "hybrid"}, {"method": "eprop"},
    {"method": "rflo"}, {"method": "decolle"}, {"method": "ottt"}, {"method": "otpe"},
    {"method": "ostl"}, {"method": "snap-1"}, {"method": "uoro"}, {"method": "rtrl"},
]  # fmt: skip


def as_usual(function: Any) -> Any:
    """A function of others, traced with JAX's own promotions."""

    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return traced


@pytest.mark.parametrize("learner", METHODS, ids=lambda m: "-".join(map(str, m.values())))
def test_programs_promote_no_types(
    learner: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayeredNetwork, "update", as_usual(LayeredNetwork.update))
    device = tuning.ACCELERATOR if learner.get("precision") == "mixed" else tuning.CPU
    with tuning.planned_for(device), jax.numpy_dtype_promotion("strict"):
        programs, state, _ = make_programs(**learner)
        optimizer = programs.optimizer
        programs.optimizer = optax.GradientTransformation(
            optimizer.init, as_usual(optimizer.update)
        )
        batch = next(iter(FakeLoader()))
        new, numbers = jax.eval_shape(programs.train_fn, state, batch.stream, batch.targets)
        jax.eval_shape(programs.evaluate_fn, state.params, batch.stream, batch.targets)
    assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, state)
    assert numbers["loss"].dtype == jnp.float32


def test_a_promotion_is_found() -> None:
    """The control."""
    with jax.numpy_dtype_promotion("strict"), pytest.raises(Exception, match="promotion"):
        jax.eval_shape(lambda x: x * jnp.arange(3), jnp.ones(3))


@pytest.mark.parametrize("changes", [{"loss": "cel"}, {"loss": "mse", "spk_reg_factor": 1.0,
                                                       "v_reg_factor": 1.0}], ids=str)  # fmt: skip
def test_an_objective_promotes_no_ranks(changes: dict[str, Any]) -> None:
    goal, targets = objective(2, **changes), make_targets()
    out = StepOutput(
        jnp.ones((BATCH, goal.n_out)), (jnp.ones((BATCH, 4)),) * 2, (jnp.ones((BATCH, 4)),) * 2
    )
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        loss, metrics = jax.eval_shape(goal.step, out, jnp.int32(3), targets)
        numbers = jax.eval_shape(goal.summarise, metrics, targets)
    assert loss.shape == ()
    assert "loss" in numbers
