"""Cue accumulation trials."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from snnlab.data.cue import CueLoader, CueTask, cue_sample, cue_stream, draw_trials
from snnlab.data.repeated import RepeatedStream
from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError


def loader(**changes) -> CueLoader:
    given = {
        "task": CueTask(), "n_samples": 20, "batch_size": 8, "repeat": 2, "scale": 5.0, "seed": 3,
        "split": 0, "shuffle": True,
    }  # fmt: skip
    return CueLoader(**{**given, **changes})


def test_rates_and_timing() -> None:
    trials = draw_trials(100, 0, 0)
    stream = cue_stream(CueTask(), trials)
    assert (stream.n_steps, stream.batch_size, stream.n_in) == (2250, 100, 40)
    x = np.asarray(jax.jit(lambda s: s.window(0, 2250))(stream)).reshape(2250, 100, 4, 10)
    assert CueTask().first_scored == 1050
    cue = np.zeros(2250, bool)
    for k in range(7):
        at = slice(50 + 150 * k, 150 + 150 * k)
        cue[at] = True
        for side in (0, 1):
            mine = trials.sides[:, k] == side
            assert abs(x[at][:, mine, side].mean() - 0.04) < 0.003
            assert x[at][:, ~mine, side].sum() == 0
    recall = np.arange(2250) >= 2100
    assert x[~cue][:, :, :2].sum() == 0
    assert x[~recall][:, :, 2].sum() == 0
    assert abs(x[recall][:, :, 2].mean() - 0.04) < 0.003
    assert abs(x[:, :, 3].mean() - 0.01) < 0.0005


def test_labels_follow_the_majority_and_lean_both_ways() -> None:
    trials = draw_trials(4000, 1, 0)
    np.testing.assert_array_equal(trials.labels, trials.sides.sum(1) > 3)
    assert abs(trials.labels.mean() - 0.5) < 0.03
    # P(majority agrees with the lean) for 7 cues at 0.7 is 0.874.
    assert abs(trials.sides.mean() - 0.5) < 0.02
    assert abs((np.abs(trials.sides.sum(1) - 3.5) > 2).mean() - 0.333) < 0.03


def test_splits_and_seeds_differ_and_repeat_themselves() -> None:
    a = draw_trials(50, 0, 0)
    for other in (draw_trials(50, 0, 1), draw_trials(50, 1, 0)):
        assert (a.sides != other.sides).any()
        assert (a.salt != other.salt).all()
    np.testing.assert_array_equal(a.salt, draw_trials(50, 0, 0).salt)
    np.testing.assert_array_equal(cue_sample(CueTask(), 4), cue_sample(CueTask(), 4))
    assert cue_sample(CueTask(), 4).shape == (CueTask().n_steps, 40)


def test_repeat_and_scale() -> None:
    xs = np.random.default_rng(0).random((5, 2, 3)).astype(np.float32)
    stream = RepeatedStream(DenseStream(xs), 4, 2.0)
    assert (stream.n_steps, stream.batch_size, stream.n_in) == (20, 2, 3)
    np.testing.assert_array_equal(stream.window(0, 20), 2 * np.repeat(xs, 4, 0))
    np.testing.assert_array_equal(jax.jit(lambda s, t: s.at(t))(stream, 7), 2 * xs[1])


def test_batches_cover_the_split_once_and_the_last_is_padded() -> None:
    made = loader()
    assert len(made) == 3
    orders = []
    for epoch in (1, 2):
        made.set_epoch(epoch)
        batches = list(made)
        seen = np.concatenate([b.indices[b.targets.mask > 0] for b in batches])
        assert sorted(seen) == list(range(20))
        assert batches[-1].targets.mask.sum() == 4
        for b in batches:
            np.testing.assert_array_equal(
                b.targets.values[b.targets.mask > 0], made.labels[b.indices[b.targets.mask > 0]]
            )
        orders.append(seen)
    assert (orders[0] != orders[1]).any()
    # A trial is the same in every batch.
    b = made.batch(0)
    alone = cue_stream(made.task, type(made.trials)(*(a[b.indices[:1]] for a in made.trials)))
    np.testing.assert_array_equal(b.stream.at(301)[:1], 5.0 * alone.at(150))


def test_a_restored_loader_goes_on() -> None:
    made, other = loader(), loader()
    made.set_epoch(2)
    rest = iter(made)
    next(rest)
    state = made.state_dict()
    other.load_state_dict(state)
    other.set_epoch(2)
    for a, b in zip(rest, other, strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
    with pytest.raises(UsageError, match="seed 3"):
        loader(seed=4).load_state_dict(state)
