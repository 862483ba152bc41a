"""Optimisers, schedules and penalties do what their names say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.config import build
from snnlab.errors import UsageError
from snnlab.scores import NMSE
from snnlab.training.config import TrainingConfig
from snnlab.training.optim import Plateau, learning_rate, make_optimizer, norm, norms

PARAMS = {"w": jnp.asarray([1.0, -2.0, 0.5])}
GRADS = {"w": jnp.asarray([0.3, 0.4, 0.0])}


def first_update(**changes) -> np.ndarray:
    rule = make_optimizer(TrainingConfig(**changes), updates_per_epoch=10)
    updates, _ = rule.update(GRADS, rule.init(PARAMS), PARAMS)
    return np.asarray(updates["w"])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum", "rmsprop"])
def test_every_optimizer_descends_a_parabola(name: str) -> None:
    rule = make_optimizer(TrainingConfig(optimizer=name, lr=0.05, clip_norm=0.0), 10)
    params, state = PARAMS, rule.init(PARAMS)
    for _ in range(200):
        updates, state = rule.update({"w": 2.0 * params["w"]}, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.abs(params["w"]).max()) < 0.06


def test_clipping_is_to_the_global_norm() -> None:
    assert np.allclose(first_update(optimizer="sgd", lr=1.0, clip_norm=0.0), [-0.3, -0.4, 0.0])
    assert np.linalg.norm(first_update(optimizer="sgd", lr=1.0, clip_norm=0.1)) == pytest.approx(
        0.1
    )


def test_a_mean_over_steps_is_taken_before_clipping() -> None:
    """Of 4 steps that count; the norm of the sum, 0.5, would be clipped to 0.2."""
    config = TrainingConfig(optimizer="sgd", lr=1.0, clip_norm=0.2, loss_reduction="mean")
    rule = make_optimizer(config, 10, n_scored=4)
    found, _ = rule.update(GRADS, rule.init(PARAMS), PARAMS)
    assert np.allclose(found["w"], [-0.075, -0.1, 0.0])


@pytest.mark.parametrize(("reduction", "at", "times"), [
    ("sum", "update", 1), ("sum", "step", 4), ("mean", "step", 1), ("mean", "update", 1),
])  # fmt: skip
def test_an_l1_penalty_of_each_step(reduction: str, at: str, times: int) -> None:
    config = TrainingConfig(
        optimizer="sgd", lr=1.0, clip_norm=0.0, weight_L1=0.01, weight_L1_at=at,
        loss_reduction=reduction,
    )  # fmt: skip
    rule = make_optimizer(config, 10, n_scored=4)
    zero = {"w": jnp.zeros(3)}
    found, _ = rule.update(zero, rule.init(PARAMS), PARAMS)
    assert np.allclose(found["w"], [-0.01 * times, 0.01 * times, -0.01 * times])


def test_the_rate_falls_after_every_so_many_batches() -> None:
    """As published: the rate of batch i is lr 0.9^(i // k); two updates a batch here."""
    rate = learning_rate(TrainingConfig(lr=0.1, lr_step=3, lr_gamma=0.9), 10, updates_per_batch=2)
    found = [float(rate(2 * batch)) for batch in range(7)]
    assert np.allclose(found, [0.1, 0.1, 0.1, 0.09, 0.09, 0.09, 0.081])
    with pytest.raises(ValueError, match="are two schedules"):
        TrainingConfig(lr_step=3, lr_milestones="1")
    with pytest.raises(ValueError, match="needs --lr_step"):
        TrainingConfig(lr_schedule="step")


def test_a_plateau_ends_at_the_smallest_rate() -> None:
    plateau = Plateau(TrainingConfig(lr=0.1, lr_schedule="plateau", lr_patience=0, lr_min=0.02))
    state = plateau.init()
    for _ in range(4):
        state = plateau.observe(state, 0.5)
    assert float(state.scale) == pytest.approx(0.2)


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_clipping_is_that_of_optax(size: float) -> None:
    rng = np.random.default_rng(0)
    shapes = {"scalar": (), "bias": (7,), "weight": (5, 3), "kernel": (4, 3, 2)}
    grads = {n: jnp.asarray(rng.normal(size=shape), jnp.float32) for n, shape in shapes.items()}
    grads = {n: size * g / optax.tree.norm(grads) for n, g in grads.items()}
    each, whole = norms(grads)
    assert float(whole) == pytest.approx(size, rel=1e-6)
    for name, value in grads.items():
        assert float(each[name]) == pytest.approx(np.linalg.norm(np.ravel(value)), rel=1e-6)
    rule = make_optimizer(TrainingConfig(optimizer="sgd", lr=1.0, clip_norm=1.0), 10)
    found, _ = rule.update(grads, rule.init(grads), grads)
    clip = optax.clip_by_global_norm(1.0)
    want, _ = clip.update(grads, clip.init(grads))
    for name, value in want.items():
        np.testing.assert_allclose(found[name], -value, rtol=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e18, 1e25, 1e36])
def test_finite_gradients_have_a_norm_whatever_their_size(size: float) -> None:
    """The squares of values above 1.8e19 are not finite in float32."""
    grads = {"a": jnp.asarray([[3.0, -4.0]]) * size, "b": jnp.asarray([12.0]) * size}
    each, whole = jax.jit(norms)(grads)
    assert float(each["a"]) == pytest.approx(5 * size, rel=1e-6)
    assert float(whole) == pytest.approx(13 * size, rel=1e-6)
    rule = make_optimizer(TrainingConfig(optimizer="sgd", lr=1.0, clip_norm=1.0), 10)
    clipped, _ = rule.update(grads, rule.init(grads), grads)
    assert np.allclose(np.ravel(clipped["a"]), [-3 / 13, 4 / 13], rtol=1e-6)


def test_norms_of_several_seeds_are_those_of_each() -> None:
    """To the bit, whatever the others have."""
    seeds = {
        "a": jnp.asarray([[0.1, 0.7], [3e25, 4e25], [np.nan, 1.0]]),
        "b": jnp.asarray([1.0, 2]),
    }
    each, whole = jax.jit(jax.vmap(norms, [{"a": 0, "b": None}]))(seeds)
    for k in range(3):
        own, total = norms({"a": seeds["a"][k], "b": seeds["b"]})
        np.testing.assert_array_equal(each["a"][k], own["a"])
        np.testing.assert_array_equal(each["b"][k], own["b"])
        np.testing.assert_array_equal(whole[k], total)
    assert float(whole[1]) == pytest.approx(5e25)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_told_from_a_large_one(bad: float) -> None:
    each, whole = norms({"a": jnp.asarray([1e25, bad]), "b": jnp.asarray([3e25])})
    assert not np.isfinite(each["a"])
    assert not np.isfinite(whole)
    assert float(each["b"]) == pytest.approx(3e25, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_shows_in_the_norm(bad: float) -> None:
    assert not np.isfinite(norm(jnp.ones((3, 4)).at[1, 2].set(bad)))


def test_penalties_are_gradients_of_l1_and_l2() -> None:
    plain = first_update(optimizer="sgd", lr=1.0, clip_norm=0.0)
    l1 = first_update(optimizer="sgd", lr=1.0, clip_norm=0.0, weight_L1=0.1)
    assert np.allclose(plain - l1, 0.1 * np.sign(PARAMS["w"]))
    l2 = first_update(optimizer="sgd", lr=1.0, clip_norm=0.0, weight_L2=0.1)
    assert np.allclose(plain - l2, 0.2 * np.asarray(PARAMS["w"]))


def test_a_decay_of_the_optimiser_is_added_after_clipping() -> None:
    """As published: w itself, where the penalty's gradient is 2 w and is clipped with the rest."""
    changes = {"optimizer": "sgd", "lr": 1.0, "clip_norm": 0.1}
    plain = first_update(**changes)
    found = first_update(**changes, weight_L2=0.3, weight_L2_as="decay")
    assert np.allclose(plain - found, 0.3 * np.asarray(PARAMS["w"]))
    penalty = first_update(**changes, weight_L2=0.3)
    assert np.linalg.norm(penalty) == pytest.approx(0.1)


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd", "weight_L1": 0.1}, {"optimizer": "sgd", "weight_L2": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
])  # fmt: skip
def test_penalties_are_of_weights_alone(changes: dict) -> None:
    """They would pull the logarithm of a time constant to the value 1."""
    both = {"w": PARAMS["w"], "tau.log": PARAMS["w"]}
    grads = dict.fromkeys(both, GRADS["w"])

    def first(*no_weights: str, **more) -> dict:
        config = TrainingConfig(lr=1.0, clip_norm=0.0, **more)
        rule = make_optimizer(config, 10, no_weights)
        return rule.update(grads, rule.init(both), both)[0]

    plain = first(optimizer=changes["optimizer"])
    everything, some = first(**changes), first("tau.log", **changes)
    np.testing.assert_array_equal(some["w"], everything["w"])
    np.testing.assert_array_equal(some["tau.log"], plain["tau.log"])
    assert not np.allclose(everything["tau.log"], plain["tau.log"])


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_the_readout_keeps_its_learning_rate(factor: float) -> None:
    params = {"layer.w": jnp.ones(2), "readout.map.weight": jnp.ones(2)}
    rule = make_optimizer(TrainingConfig(optimizer="sgd", lr=0.5, lr_rec_factor=factor), 10)
    updates, _ = rule.update({n: 0.2 * p for n, p in params.items()}, rule.init(params), params)
    assert np.allclose(updates["readout.map.weight"], -0.1)
    assert np.allclose(updates["layer.w"], -0.1 * factor)


def test_schedules() -> None:
    config = TrainingConfig(lr=1.0, lr_milestones="2,4", lr_gamma=0.1)
    assert config.schedule == "milestones"
    rate = learning_rate(config, updates_per_epoch=10)
    values = [float(rate(n)) for n in (0, 19, 21, 39, 41)]
    assert values == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])
    cosine = learning_rate(TrainingConfig(lr=1.0, lr_schedule="cosine", epochs=4), 10)
    assert float(cosine(0)) == 1.0
    assert float(cosine(20)) == pytest.approx(0.5)
    assert float(cosine(40)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_that_of_pytorch(patience: int) -> None:
    """The published flags are those of ``ReduceLROnPlateau(mode="max")``: here is the original."""
    import torch

    accuracies = (0.5, 0.6, 0.6, 0.55, 0.61, 0.6, 0.58, 0.61, 0.61, 0.6, 0.6, 0.6, 0.7, 0.65)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.7, patience=patience
    )
    rule = Plateau(TrainingConfig(lr_schedule="plateau", lr_gamma=0.7, lr_patience=patience))
    state, scales, expected = rule.init(), [], []
    for accuracy in accuracies:
        reference.step(accuracy)
        state = rule.observe(state, accuracy)
        expected.append(optimizer.param_groups[0]["lr"])
        scales.append(float(state.scale))
    assert expected[-1] < 1.0
    assert scales == pytest.approx(expected)


def test_plateau_of_a_score_that_falls() -> None:
    """As PyTorch's ``mode="min"``, whose relative threshold this is."""
    import torch

    errors = (1.2, 0.9, 0.95, 0.5, 0.5, 0.4, 0.41, 0.42, 0.39, 0.39)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.7, patience=0)
    rule = Plateau(TrainingConfig(lr_schedule="plateau", lr_gamma=0.7, lr_patience=0), NMSE)
    state, scales, expected = rule.init(), [], []
    for error in errors:
        reference.step(error)
        state = rule.observe(state, error)
        expected.append(optimizer.param_groups[0]["lr"])
        scales.append(float(state.scale))
    assert len(set(expected)) == 6
    assert scales == pytest.approx(expected)


def test_no_plateau_without_its_schedule() -> None:
    idle = Plateau(TrainingConfig())
    state = idle.init()
    for _ in range(5):
        state = idle.observe(state, 0.1)
    assert float(state.scale) == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr_milestones": "40,20"}, "increasing"),
        ({"lr_milestones": "a"}, "increasing"),
        ({"lr_schedule": "milestones"}, "needs --lr_milestones"),
        ({"weight_decay": 0.1}, "adamw"),
        ({"warmup_ratio": 1.5}, "fraction below 1"),
        ({"v_reg_low": 2.0}, "must lie below"),
        ({"lr": -1}, "greater than 0"),
        ({"lr_rec_factor": -1}, "greater than or equal to 0"),
        ({"epochs": 0}, "greater than 0"),
    ],
)
def test_bad_training_options(values: dict, message: str) -> None:
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Only:
        training: TrainingConfig

    with pytest.raises(UsageError, match=message):
        build(Only, values)
