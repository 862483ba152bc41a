"""Optimisers and schedules by name; optax underneath."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import reduce_on_plateau

from snnlab.learners.functional import Params
from snnlab.models.base import READOUT_PREFIX
from snnlab.scores import ACCURACY, Score
from snnlab.training.config import TrainingConfig


def learning_rate(
    config: TrainingConfig, updates_per_epoch: int, updates_per_batch: int = 1
) -> Any:  # fmt: skip
    """Learning rate as a number or as an optax schedule of the update count."""
    if config.schedule == "milestones":
        steps = {m * updates_per_epoch: config.lr_gamma for m in config.milestones}
        return optax.piecewise_constant_schedule(config.lr, steps)
    if config.schedule == "step":
        return optax.exponential_decay(
            config.lr, config.lr_step * updates_per_batch, config.lr_gamma, staircase=True
        )
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(config.lr, config.epochs * updates_per_epoch)
    return config.lr


def make_optimizer(
    config: TrainingConfig, updates_per_epoch: int, no_weights: Collection[str] = (),
    updates_per_batch: int = 1, n_scored: int = 1,
) -> optax.GradientTransformation:  # fmt: skip
    """The mean over steps, penalties, then clipping to a global norm, then the optimiser.

    With ``loss_reduction`` mean, gradients are divided by ``n_scored``, the steps that count.

    Updates of all parameters but the readout's are multiplied by ``lr_rec_factor``.
    ``weight_L1 * sum |w|`` and ``weight_L2 * sum w^2`` enter as gradients of the loss
    (``weight_L2_as`` decay: ``weight_L2 * w`` is added to gradients that are clipped already);
    ``weight_decay`` is decoupled (adamw). The parameters ``no_weights`` are left out of the three:
    values of neurons, of which 0 is no natural size. ``weight_L1_at`` step is the penalty in each
    step's loss: of a sum over steps ``n_scored`` times as strong.
    """

    def are_weights(params: Params) -> dict[str, bool]:
        return {name: name not in no_weights for name in params}

    of = are_weights if no_weights else None
    rate = learning_rate(config, updates_per_epoch, updates_per_batch)
    of_mean = config.loss_reduction == "mean"
    momentum = config.momentum or None
    rules = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=config.weight_decay, mask=of),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "sgd": lambda: optax.sgd(rate, momentum=momentum),
        "rmsprop": lambda: optax.rmsprop(rate, momentum=momentum),
    }
    steps = [optax.scale(1.0 / n_scored)] if of_mean else []
    if config.weight_L1 > 0:
        times = 1 if of_mean or config.weight_L1_at == "update" else n_scored
        steps.append(_l1_penalty(times * config.weight_L1, no_weights))
    decays = config.weight_L2_as == "decay"
    if config.weight_L2 > 0 and not decays:
        steps.append(optax.add_decayed_weights(2.0 * config.weight_L2, mask=of))
    if config.clip_norm > 0:
        steps.append(_clip(config.clip_norm))
    if config.weight_L2 > 0 and decays:
        steps.append(optax.add_decayed_weights(config.weight_L2, mask=of))
    steps.append(rules[config.optimizer]())
    if config.lr_rec_factor != 1:
        steps.append(_beside_readout(config.lr_rec_factor))
    return optax.chain(*steps)


def norm(value: jax.Array) -> jax.Array:
    """Euclidean norm of an array: that of its columns' norms.

    Summing columns first makes a compiled reduction three times as fast on a CPU as one to a
    single number; the root between the two sums keeps compilers from making it that again.
    """
    columns = jnp.sqrt(jnp.sum(jnp.square(jnp.atleast_1d(value)), axis=0))
    return jnp.sqrt(jnp.sum(jnp.square(columns)))


@jax.custom_batching.custom_vmap
def norms(values: Params) -> tuple[Params, jax.Array]:
    """The norm of every array, and of all together; finite where all values are.

    Squares of float32 overflow above 1.8e19, which the gradient of BPTT over thousands of steps
    reaches: there they are taken of values divided by the largest.
    """
    found = _norms(values)
    return jax.lax.cond(jnp.isfinite(found[1]), lambda: found, lambda: _scaled_norms(values))


@norms.def_vmap
def _norms_of_seeds(_size: int, batched: list[Any], values: Params) -> tuple[Any, Any]:
    """One branch for all, where a choice for each would take both ways."""
    axes = jax.tree.map(lambda has: 0 if has else None, batched)
    plain, scaled = (jax.vmap(f, axes) for f in (_norms, _scaled_norms))
    found = plain(values)
    fine = jnp.isfinite(found[1])

    def chosen() -> tuple[Params, jax.Array]:
        return jax.tree.map(functools.partial(jnp.where, fine), found, scaled(values))

    found = jax.lax.cond(jnp.all(fine), lambda: found, chosen)
    return found, jax.tree.map(lambda _: True, found)


def _norms(values: Params) -> tuple[Params, jax.Array]:
    each = {name: norm(value) for name, value in values.items()}
    return each, norm(jnp.stack(list(each.values())))


def _scaled_norms(values: Params) -> tuple[Params, jax.Array]:
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(v), initial=0) for v in values.values()]))
    by = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1)
    each, whole = _norms({name: value / by for name, value in values.items()})
    return {name: by * value for name, value in each.items()}, by * whole


def _clip(most: float) -> optax.GradientTransformation:
    """``optax.clip_by_global_norm``, with :func:`norms`: at most ``most`` for all together."""

    def scaled(updates: Any, _params: Any) -> Any:
        size = norms(updates)[1]
        factor = jnp.where(size > most, most / size, 1.0)
        return {n: factor * u for n, u in updates.items()}

    return optax.stateless(scaled)


def _beside_readout(factor: float) -> optax.GradientTransformation:
    def scaled(updates: Any, _params: Any) -> Any:
        return {n: u if n.startswith(READOUT_PREFIX) else factor * u for n, u in updates.items()}

    return optax.stateless(scaled)


def _l1_penalty(strength: float, no_weights: Collection[str]) -> optax.GradientTransformation:
    def with_sign(updates: Any, params: Any) -> Any:
        return {
            n: g if n in no_weights else g + strength * jnp.sign(params[n])
            for n, g in updates.items()
        }

    return optax.stateless(with_sign)


class Plateau:
    """Learning-rate factor that falls when a validation score, of either direction, stalls.

    ``scale`` multiplies every update; ``observe`` is called once per epoch. Without
    ``--lr_schedule plateau`` the scale stays 1.

    ``lr_patience`` P counts as in PyTorch's ``ReduceLROnPlateau``, whose name and meaning the
    published flag ``--scheduler-patience`` has: P epochs in a row without improvement are let
    pass, the next one reduces the rate. optax's rule, which does the work, reduces at the P-th.
    """

    def __init__(self, config: TrainingConfig, score: Score = ACCURACY) -> None:
        self.score = score
        self.active = config.schedule == "plateau"
        self._rule = reduce_on_plateau(
            factor=config.lr_gamma, patience=config.lr_patience + 1,
            min_scale=min(config.lr_min / config.lr, 1.0),
        )  # fmt: skip

    def init(self) -> Any:
        return self._rule.init(jnp.zeros(()))

    def observe(self, state: Any, score: float) -> Any:
        """The state after an epoch with that validation score."""
        if not self.active:
            return state
        _, state = self._rule.update(
            jnp.zeros(()), state, value=jnp.float32(self.score.falling(score))
        )
        return state
