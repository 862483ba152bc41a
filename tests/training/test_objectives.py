"""Objectives against NumPy: masks of samples and of steps, padding, regression's learners."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.answers import UNASKED, Answers
from snnlab.data.batch import Targets, padded
from snnlab.data.patterns import draw_sines
from snnlab.data.stream import DenseStream
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.models import StepOutput
from snnlab.scores import SCORES, Score, score_of
from snnlab.training.averages import Averages
from snnlab.training.config import RegressionTraining, TrainingConfig
from snnlab.training.objectives import (
    Classification,
    Objective,
    Regression,
    SequenceClassification,
)
from zoo import BATCH, N_OUT, STEPS, make_network_fn, make_stream, model_config

T, B, C, N, WARM = 6, 4, 3, 5, 2
DRAW = np.random.default_rng(0)
READOUT = DRAW.normal(size=(T, B, C)).astype(np.float32)
SPIKES = (DRAW.random((T, B, N)) < 0.3).astype(np.float32)
LABELS = np.array([2, 0, 1, 0], np.int32)
SEQUENCE = DRAW.normal(size=(T, B, C)).astype(np.float32)
MASK = np.array([1, 1, 1, 0], np.float32)
OF_STEP = np.array([1, 1, 1, 0, 1, 1], np.float32)
OF_SAMPLE = (DRAW.random((T, B)) < 0.6).astype(np.float32)
STEPS_MASKS = {"all": None, "steps": OF_STEP, "samples": OF_SAMPLE}


def counted(steps: np.ndarray | None) -> np.ndarray:
    """``(T, B)``: what counts."""
    found = (np.arange(T) >= WARM)[:, None] * np.ones((T, B))
    if steps is not None:
        found = found * (steps if steps.ndim == 2 else steps[:, None])
    return found * MASK


def measured(goal: Objective, targets: Targets, readout: Any = READOUT) -> tuple[Any, Any]:
    """Total loss, and the batch's numbers."""

    def step(t: jax.Array) -> Any:
        spikes, membrane = jnp.asarray(SPIKES)[t], jnp.zeros((B, N))
        return goal.step(StepOutput(jnp.asarray(readout)[t], (spikes,), (membrane,)),
                         t, targets)  # fmt: skip

    losses, metrics = jax.vmap(step)(jnp.arange(T))
    metrics = jax.tree.map(lambda a: a.sum(0), metrics)
    return losses.sum(), goal.summarise(metrics, targets)


@pytest.mark.parametrize("steps", STEPS_MASKS.values(), ids=STEPS_MASKS)
@pytest.mark.parametrize("loss", ["cel", "mse"])
def test_classification_by_hand(loss: str, steps: np.ndarray | None) -> None:
    goal = Classification(C, 1, WARM, 2.0, TrainingConfig(loss=loss))  # type: ignore[arg-type]
    total, numbers = measured(goal, Targets(LABELS, MASK, steps))
    shifted = READOUT - READOUT.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    each = -np.take_along_axis(log_p, LABELS[None, :, None], 2)[..., 0]
    if loss == "mse":
        each = ((READOUT - np.eye(C)[LABELS]) ** 2).mean(-1)
    counts = counted(steps)
    np.testing.assert_allclose(total, (counts * each).sum() / MASK.sum(), rtol=1e-5)
    scored = counts.sum() / MASK.sum()
    np.testing.assert_allclose(numbers["loss"], total / scored, rtol=1e-5)
    decided = (counts[..., None] * READOUT).sum(0).argmax(-1)
    accuracy = numbers["measures"]["accuracy"]
    assert float(accuracy.above) == (MASK * (decided == LABELS)).sum()
    assert float(accuracy.below) == numbers["count"] == 3
    rates = (SPIKES.mean(-1) * MASK).sum() / MASK.sum() / T * 500
    np.testing.assert_allclose(numbers["rates"], [rates], rtol=1e-5)


@pytest.mark.parametrize("steps", STEPS_MASKS.values(), ids=STEPS_MASKS)
def test_regression_by_hand(steps: np.ndarray | None) -> None:
    goal = Regression(C, 1, WARM, 1.0, RegressionTraining())
    total, numbers = measured(goal, Targets(SEQUENCE, MASK, steps))
    counts, squared = counted(steps), (READOUT - SEQUENCE) ** 2
    np.testing.assert_allclose(total, (counts * squared.mean(-1)).sum() / MASK.sum(), rtol=1e-5)
    nmse = numbers["measures"]["nmse"]
    above, below = ((counts[..., None] * a).sum() for a in (squared, SEQUENCE**2))
    np.testing.assert_allclose([nmse.above, nmse.below], [above, below], rtol=1e-5)


@pytest.mark.parametrize("steps", STEPS_MASKS.values(), ids=STEPS_MASKS)
@pytest.mark.parametrize("kind", [Classification, Regression])
def test_what_does_not_count_has_no_gradient(kind: type, steps: np.ndarray | None) -> None:
    config = TrainingConfig() if kind is Classification else RegressionTraining()
    goal, values = kind(C, 1, WARM, 1.0, config), LABELS if kind is Classification else SEQUENCE
    targets = Targets(values, MASK, steps)
    gradient = jax.grad(lambda readout: measured(goal, targets, readout)[0])(jnp.asarray(READOUT))
    np.testing.assert_array_equal(np.abs(gradient).sum(-1) > 0, counted(steps) > 0)


#: Labels of steps 1 to 2, the first of them not scored, and 4 to 5; the last sample is padding.
ANSWERS = Answers(
    np.array([[2, 1], [UNASKED, 0], [1, UNASKED], [0, 0]], np.int32), ((1, 3), (4, 6))
)


@pytest.mark.parametrize("loss", ["cel", "mse"])
def test_sequences_by_hand(loss: str) -> None:
    goal = SequenceClassification(C, 1, WARM, 1.0, TrainingConfig(loss=loss))  # type: ignore[arg-type]
    targets = Targets(ANSWERS, MASK)
    total, numbers = measured(goal, targets)
    wanted = scored = right = asked = whole = 0.0
    for b in range(3):
        good = []
        for label, steps in zip(ANSWERS.labels[b], ([2], [4, 5]), strict=True):
            if label == UNASKED:
                continue
            for t in steps:
                r = READOUT[t, b]
                cel = np.log(np.exp(r).sum()) - r[label]
                wanted += cel if loss == "cel" else ((r - np.eye(C)[label]) ** 2).mean()
            scored += len(steps)
            good.append(READOUT[steps, b].sum(0).argmax() == label)
        right, asked, whole = right + sum(good), asked + len(good), whole + all(good)
    np.testing.assert_allclose(total, wanted / 3, rtol=1e-5)
    np.testing.assert_allclose(numbers["loss"], wanted / scored, rtol=1e-5)
    accuracy, sequences = (numbers["measures"][n] for n in ("accuracy", "sequence_accuracy"))
    assert (float(accuracy.above), float(accuracy.below)) == (right, asked) == (right, 4)
    assert (float(sequences.above), float(sequences.below)) == (whole, 3)
    assert numbers["predictions"].shape == (B, 2)
    labels, decided = goal.shown(READOUT[:, [1, 2]], targets, [1, 2])
    assert labels.tolist() == [[UNASKED, 0], [1, UNASKED]]
    taken = np.asarray(numbers["predictions"])[[1, 2]]
    np.testing.assert_array_equal(decided[labels >= 0], taken[labels >= 0])


def test_an_answer_without_scored_steps_counts_nowhere() -> None:
    goal = SequenceClassification(C, 1, 4, 1.0, TrainingConfig())
    numbers = measured(goal, Targets(ANSWERS, MASK))[1]
    assert {float(r.below) for r in numbers["measures"].values()} == {2.0}


def test_regularisers_of_a_layer_as_published() -> None:
    """(mean over samples and neurons - target)^2, and (mean of the excess)^2, in every step."""
    spikes = jnp.asarray([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    membrane = jnp.asarray([[2.0, 0.0, -3.0], [1.5, 0.0, 0.0], [9.0, 9.0, 9.0]])
    out = StepOutput(jnp.zeros((3, C)), (spikes,), (membrane,))
    targets = Targets(np.zeros(3, np.int32), np.array([1, 1, 0], np.float32))
    excess = ((2.0 - 1.4) ** 2 + (3.0 - 1.0) ** 2 + (1.5 - 1.4) ** 2) / 6

    def penalty(**options: Any) -> float:
        config = TrainingConfig(spk_reg_rate=100.0, v_reg_low=-1.0, **options)
        goal = Classification(C, 1, 0, 2.0, config)
        return float(goal.step(out, jnp.int32(0), targets)[1].penalty)

    of_layer = penalty(spk_reg_factor=3.0, spk_reg_of="population")
    assert of_layer == pytest.approx(3 * (0.5 - 0.2) ** 2)
    of_each = ((0.5 - 0.2) ** 2 + (0.0 - 0.2) ** 2 + (1.0 - 0.2) ** 2) / 3
    assert penalty(spk_reg_factor=3.0) == pytest.approx(3 * of_each)
    assert penalty(v_reg_factor=2.0) == pytest.approx(2 * excess)
    assert penalty(v_reg_factor=2.0, v_reg_square=True) == pytest.approx(2 * excess**2)


def test_a_score_of_batches_is_that_of_all_samples() -> None:
    """Also where the last batch is mostly padding."""
    goal = Regression(C, 1, WARM, 1.0, RegressionTraining())
    totals = Averages()
    for mask in (MASK, np.array([1, 0, 0, 0], np.float32)):
        totals.add(jax.device_get(measured(goal, Targets(SEQUENCE, mask))[1]))
    weight = (np.arange(T) >= WARM)[:, None, None] * np.array([2, 1, 1, 0])[None, :, None]
    wanted = (weight * (READOUT - SEQUENCE) ** 2).sum() / (weight * SEQUENCE**2).sum()
    row = totals.row(1, "val")
    assert row["nmse"] == pytest.approx(wanted, rel=1e-5)
    assert "accuracy" not in row
    again = Averages.of(totals.state_dict())
    assert again.row(1, "val") == row


def test_targets_by_step_are_those_of_an_array() -> None:
    goal = Regression(C, 1, WARM, 1.0, RegressionTraining())
    sines = draw_sines(C, (1.0, 3.0), 100.0, T, B, 0)
    array = np.asarray(sines.window(0, T))
    for values in (sines, DenseStream(array)):
        for one, other in zip(measured(goal, Targets(values, MASK)),
                              measured(goal, Targets(array, MASK)), strict=True):  # fmt: skip
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


def test_a_score_of_ones_own_is_known_to_figures() -> None:
    own = Score("hinge", rises=False)
    try:

        class Hinge(Classification):
            score = own

        assert score_of([{"epoch": 1, "hinge": 0.5}]) is own
    finally:
        SCORES.pop("hinge", None)


def test_padding_of_labels() -> None:
    targets, indices = padded(np.array([3, 1]), np.array([5, 6, 7, 8]), 4)
    assert targets.values.tolist() == [8, 6, 0, 0]
    assert targets.mask.tolist() == [1, 1, 0, 0]
    assert indices.tolist() == [3, 1, -1, -1]
    assert (targets.values.dtype, targets.mask.dtype) == (np.int32, np.float32)
    assert targets.steps is None


# ------------------------------------------------------------------------ learners


def gradients(rec_scale: float, **learner: Any) -> dict[str, np.ndarray]:
    config = model_config(n_layer=1, rec_scale=rec_scale, tau_o=0.0)
    goal = Regression(N_OUT, 1, 3, 1.0, RegressionTraining())
    make = make_network_fn(config)
    made = make_learner(LearnerConfig(**learner), make, BATCH, goal)
    stream = make_stream()
    targets = Targets(draw_sines(N_OUT, (20.0, 50.0), 1.0, STEPS, BATCH, 1), jnp.ones(BATCH))
    found = jax.jit(lambda p: made.segment(p, made.fresh(), stream, targets, 0, STEPS).gradients)(
        get_params(make("plain"))
    )
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("backend", ["snnlab", "braintrace"])
def test_d_rtrl_is_bptt_where_it_must_be(backend: str) -> None:
    """Of a readout without memory: everywhere without recurrent weights, else in the readout."""
    for rec_scale in (0.0, 2.0):
        wanted = gradients(rec_scale, method="bptt", backend="plain")
        found = gradients(rec_scale, method="diag", backend=backend, chunk_size=None)
        for name, value in wanted.items():
            assert np.linalg.norm(value) > 1e-3, name
            exact = name.startswith("readout.") or rec_scale == 0
            close = np.abs(found[name] - value).max() < 1e-4 * np.abs(value).max()
            assert close == exact, (name, rec_scale)


@pytest.mark.parametrize("steps", ["each", "end"])
def test_the_loss_of_a_sum(steps: str) -> None:
    """The network's own sum, against one that is taken of the readout of every step."""
    config, first = model_config(n_layer=1), 4
    warmup = STEPS - 1 if steps == "end" else first
    goal = Classification(N_OUT, 1, warmup, 1.0, TrainingConfig())
    labels = jnp.arange(BATCH, dtype=jnp.int32)
    targets, stream = Targets(labels, jnp.ones(BATCH)), make_stream()
    plain = make_network_fn(config)

    def summed(operator: Any) -> Any:
        network = plain(operator)
        network.sum_readout(first)
        return network

    params = get_params(plain("plain"))
    assert get_params(summed("plain")).keys() == params.keys()
    found = {}
    for method in ("bptt", "diag"):
        made = make_learner(LearnerConfig(method=method), summed, BATCH, goal)
        found[method] = made.segment(params, made.fresh(), stream, targets, 0, STEPS)

    from snnlab.learners import PureNetwork

    net = PureNetwork(plain("plain"), BATCH)

    def total(params: Any) -> jax.Array:
        outs = jax.lax.scan(lambda c, x: net.step(params, c, x), net.initial, stream.xs)[1].readout
        sums = jnp.cumsum(outs.at[:first].set(0.0), 0)[warmup:]
        log_p = jax.nn.log_softmax(sums)
        return -log_p[:, jnp.arange(BATCH), labels].mean(1).sum()

    value, wanted = jax.value_and_grad(total)(params)
    for method, segment in found.items():
        np.testing.assert_allclose(segment.metrics.loss, value, rtol=1e-5)
        for name, gradient in wanted.items():
            if method == "diag" and not name.startswith("readout."):
                continue
            atol = 1e-5 * np.abs(gradient).max()
            np.testing.assert_allclose(segment.gradients[name], gradient, rtol=1e-4, atol=atol)
