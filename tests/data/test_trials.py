"""Generated trials: the stream inside a program, the loader, durations."""

from __future__ import annotations

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.periods import n_steps, period_steps, steps_of
from snnlab.data.stream import Stream
from snnlab.data.trials import TrialLoader, draw_batch
from snnlab.errors import UsageError
from snnlab.problems.delayed_match import DelayedMatch

TASK = DelayedMatch(fixation=5, sample=20, delay=10, test=15)


def loader(split: int = 0, renewed: bool = True, seed: int = 3, n: int = 4) -> TrialLoader:
    return TrialLoader(TASK, 16, n, seed, split, renewed)


def same(a: object, b: object) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_the_stream_fulfils_the_protocol() -> None:
    stream = draw_batch(TASK, jax.random.key(0), 7).stream
    assert isinstance(stream, Stream)
    assert (stream.n_steps, stream.batch_size, stream.n_in) == (50, 7, 100)
    assert stream.at(0).shape == (7, 100)
    assert stream.at(0).dtype == jnp.float32


def test_a_step_is_the_same_in_every_program() -> None:
    stream = draw_batch(TASK, jax.random.key(1), 8).stream
    one_by_one = np.stack([np.asarray(stream.at(t)) for t in range(50)])
    scanned = jax.jit(lambda s: jax.lax.scan(lambda c, t: (c, s.at(t)), 0, jnp.arange(50))[1])
    assert np.array_equal(one_by_one, scanned(stream))
    assert np.array_equal(one_by_one[10:30], jax.jit(lambda s: s.window(10, 20))(stream))
    two = jax.tree.map(lambda a: jnp.stack([a, a]), stream)
    vmapped = jax.vmap(lambda s: s.at(12))(two)
    assert np.array_equal(vmapped, np.stack([one_by_one[12]] * 2))


def test_spikes_of_different_steps_and_inputs_are_independent() -> None:
    """Correlations of the underlying uniform draws stay within four standard errors."""
    task = DelayedMatch(fixation=400, sample=1, delay=1, test=1, background=500.0, peak=0.0)
    stream = draw_batch(task, jax.random.key(5), 16).stream
    x = np.asarray(stream.window(0, 400)).reshape(400, -1) - 0.5
    scale = 4 * x.size
    for lag in (1, 2, 7):
        assert abs(np.sum(x[lag:] * x[:-lag]) * 4 / x.size) < 4 / np.sqrt(x.size)
        assert abs(np.sum(x[:, lag:] * x[:, :-lag]) * 4 / x.size) < 4 / np.sqrt(x.size)
    assert abs(x.sum() * 4 / scale) < 4 * 0.5 / np.sqrt(x.size)


def test_batches_are_a_function_of_seed_split_epoch_and_number() -> None:
    a, b = loader(), loader()
    for epoch in (1, 2):
        a.set_epoch(epoch)
        b.set_epoch(epoch)
        assert same(list(a), list(b))
    a.set_epoch(1)
    b.set_epoch(2)
    assert not same(a.batch(0), b.batch(0))
    assert not same(a.batch(0), a.batch(1))
    assert not same(a.batch(0), loader(split=1).batch(0))
    assert not same(a.batch(0), loader(seed=4).batch(0))


def test_a_split_that_is_not_renewed_stays() -> None:
    val = loader(split=1, renewed=False)
    before = val.batch(2)
    val.set_epoch(9)
    assert same(before, val.batch(2))


def test_the_position_is_saved_and_restored() -> None:
    a = loader()
    a.set_epoch(2)
    taken = list(itertools.islice(a, 2))
    saved = json.loads(json.dumps(a.state_dict()))
    b = loader()
    b.load_state_dict(saved)
    b.set_epoch(2)
    rest = list(b)
    assert len(rest) == 2
    a.set_epoch(1)
    a.set_epoch(2)
    assert same([*taken, *rest], list(a))
    assert len(list(b)) == len(b) == 4


def test_a_position_of_other_trials_is_refused() -> None:
    with pytest.raises(UsageError, match="seed 3, this run has 4"):
        loader(seed=4).load_state_dict(loader().state_dict())


def test_periods() -> None:
    assert n_steps(TASK) == 50
    assert period_steps(TASK, "test") == slice(35, 50)
    with pytest.raises(KeyError):
        period_steps(TASK, "recall")


@pytest.mark.parametrize(
    ("duration", "zero", "message"),
    [
        (-10.0, False, "cannot be negative"),
        (10.5, False, "not a multiple"),
        (0.0, False, "at least one step"),
        (0.2, True, "not a multiple"),
    ],
)
def test_bad_durations(duration: float, zero: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        steps_of("t_delay", duration, 1.0, zero=zero)


def test_good_durations() -> None:
    assert steps_of("t", 0.0, 1.0, zero=True) == 0
    assert steps_of("t", 0.3, 0.1) == 3
    assert steps_of("t", 1000.0, 0.5) == 2000
