"""Hooks: when they are called, with what, and what the loop keeps to itself meanwhile."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from short_training import FakeLoader, make_programs, run
from snnlab import interrupts
from snnlab.interrupts import Interrupted
from snnlab.training import evaluation
from snnlab.training.checkpoint_files import Place
from snnlab.training.hooks import Hook, Moment


class Told(Hook):
    """Writes down what it is told."""

    def __init__(self, told: list[Any], wanted: tuple[int, ...] = (), stop: int = 0) -> None:
        self.told, self.wanted, self.stop = told, wanted, stop
        self.params: dict[Place, Any] = {}

    def wants(self, place: Place) -> bool:
        return place.batch in self.wanted

    def on_start(self, now: Moment) -> None:
        self.told.append(("start", now.place, now.batches))

    def on_batch(self, now: Moment) -> None:
        assert now.averages is not None
        self.told.append(("batch", now.place, now.averages[0].samples, now.state is not None))
        if now.state is not None:
            self.params[now.place] = jax.tree.map(np.array, now.state.params)

    def on_epoch(self, now: Moment) -> bool:
        ((train, val),) = now.rows
        self.told.append(("epoch", now.place, train["split"], val["split"]))
        assert now.averages is None
        return now.place.epoch == self.stop

    def on_end(self, now: Moment, error: BaseException | None) -> None:
        self.told.append(("end", now.place, type(error)))


def test_the_order_of_calls_and_a_state_only_where_it_is_wanted() -> None:
    programs, state, plateau = make_programs(method="expsm_diag")
    told: list[Any] = []
    run(programs, state, plateau, epochs=5, hooks=[Told(told, wanted=(2,), stop=2)])
    samples = told[1][2]
    assert samples > 0
    epochs = [
        [
            ("batch", Place(e, 1), samples, False), ("batch", Place(e, 2), 2 * samples, True),
            ("batch", Place(e, 3), 3 * samples, True), ("epoch", Place(e + 1), "train", "val"),
        ]
        for e in (0, 1)
    ]  # fmt: skip
    assert told == [("start", Place(0), 3), *epochs[0], *epochs[1], ("end", Place(2), type(None))]


def test_wanting_states_changes_no_number() -> None:
    found = []
    for wanted in ((), (1, 2, 3)):
        programs, state, plateau = make_programs(method="expsm_diag")
        hook = Told([], wanted)
        found.append((run(programs, state, plateau, hooks=[hook]), hook.params))
    for name, value in found[0][0].params.items():
        np.testing.assert_array_equal(found[1][0].params[name], value)
    for place, params in found[0][1].items():  # of the last batch of each epoch
        for name, value in params.items():
            np.testing.assert_array_equal(found[1][1][place][name], value)
    assert len(found[1][1]) == 3 * len(found[0][1])


def test_numbers_are_read_while_the_next_batch_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs, state, plateau = make_programs(method="expsm_diag")
    order: list[str] = []
    train, add = programs.train, evaluation.add

    def given(*args: Any) -> Any:
        order.append("given")
        return train(*args)

    def read(*args: Any) -> None:
        order.append("read")
        add(*args)

    monkeypatch.setattr(programs, "train", given)
    monkeypatch.setattr("snnlab.training.loop.add", read)
    run(programs, state, plateau, epochs=1)
    assert order == ["given", "given", "read", "given", "read", "read"]


def test_a_signal_ends_where_the_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch under way is waited for, and its state is there for a checkpoint."""
    programs, state, plateau = make_programs(method="expsm_diag")
    whole = Told([], wanted=(1, 2, 3))
    run(programs, jax.tree.map(np.array, state), plateau, epochs=1, hooks=[whole])
    told: list[Any] = []
    hook, looks = Told(told), iter([False, True])

    def check() -> None:
        raise Interrupted(15)

    monkeypatch.setattr(interrupts, "came", lambda: next(looks))
    monkeypatch.setattr(interrupts, "check", check)
    with pytest.raises(Interrupted):
        run(programs, state, plateau, epochs=1, hooks=[hook])
    assert [(t[0], t[1]) for t in told[1:]] == [
        ("batch", Place(0, 1)), ("batch", Place(0, 2)), ("end", Place(0, 2)),
    ]  # fmt: skip
    for name, value in whole.params[Place(0, 2)].items():
        np.testing.assert_array_equal(hook.params[Place(0, 2)][name], value)


def test_every_hook_is_told_of_the_end_the_last_one_first() -> None:
    class Bad(Hook):
        def on_epoch(self, now: Moment) -> None:
            raise RuntimeError("mine")

    programs, state, plateau = make_programs(method="expsm_diag")
    first: list[Any] = []
    second: list[Any] = first
    with pytest.raises(RuntimeError, match="mine"):
        run(programs, state, plateau, train=FakeLoader(), hooks=[Told(first), Bad(), Told(second)])
    assert [t[0] for t in first[-2:]] == ["end", "end"]
    assert first[-1][2] is RuntimeError
