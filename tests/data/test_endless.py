"""Sources of endless streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnlab.data import pack
from snnlab.data.build import data_of
from snnlab.data.endless.config import StreamData
from snnlab.data.endless.loader import StretchLoader
from snnlab.data.endless.readers import Read, find_reader, open_reader
from snnlab.data.endless.sources import Changing, Drift, Live, Recordings, build_source
from snnlab.errors import UsageError


def options(**values: Any) -> StreamData:
    return StreamData(**{"stretch": 40, "hold": 10, "batch_size": 3, **values})


def dense(batch: Any) -> np.ndarray:
    return np.asarray(batch.stream.window(0, batch.stream.n_steps))


def test_a_stretch_is_a_function_of_seed_and_number() -> None:
    one, other = Drift(options(), 1), Drift(options(), 1)
    for number in (5, 0, 5):
        a, b = one.stretch(number), other.stretch(number)
        assert dense(a).shape == (40, 3, 20)
        assert np.array_equal(dense(a), dense(b))
        assert np.array_equal(a.targets.values, b.targets.values)
    assert not np.array_equal(dense(one.stretch(0)), dense(one.stretch(1)))
    assert not np.array_equal(dense(one.stretch(0)), dense(Drift(options(), 2).stretch(0)))


def test_a_class_holds_and_has_its_rates() -> None:
    source = Drift(options(stretch=20_000, hold=20), 0)
    batch = source.stretch(0)
    labels, xs = np.asarray(batch.targets.values), dense(batch)
    blocks = labels.reshape(-1, 20, 3)
    assert (blocks == blocks[:, :1]).all()
    assert set(labels.ravel()) == {0, 1, 2, 3}
    assert np.asarray(batch.targets.steps).all()
    for k in range(4):
        assert np.abs(xs[labels == k].mean(0) - source.rates[k]).max() < 0.02


def test_rates_move_along_the_inputs() -> None:
    source = Drift(options(drift_steps=100), 0)
    assert np.array_equal(source.rates_at(0), source.rates)
    assert np.allclose(source.rates_at(300), np.roll(source.rates, 3, 1))
    between = (np.roll(source.rates, 3, 1) + np.roll(source.rates, 4, 1)) / 2
    assert np.allclose(source.rates_at(350), between)
    assert np.allclose(source.rates_at(20 * 100 * 7), source.rates)


@pytest.mark.parametrize("kind", ["inputs", "labels"])
def test_a_change_trades_places_or_names(kind: str) -> None:
    plain, again = (Drift(options(stretch=400), 3) for _ in range(2))
    source = Changing(again, 2, kind, 3)
    tasks = []
    for number in range(6):
        was, now = plain.stretch(number), source.stretch(number)
        a, b = dense(was), dense(now)
        x, y = np.asarray(was.targets.values), np.asarray(now.targets.values)
        if kind == "inputs":
            assert np.array_equal(x, y)
            columns = [tuple(b.reshape(-1, 20)[:, i]) for i in range(20)]
            order = [columns.index(tuple(a.reshape(-1, 20)[:, i])) for i in range(20)]
        else:
            assert np.array_equal(a, b)
            names = dict(zip(x.ravel().tolist(), y.ravel().tolist(), strict=True))
            assert np.array_equal(np.vectorize(names.get)(x), y)
            order = [names[k] for k in range(4)]
        tasks.append(order)
    same = list(range(len(tasks[0])))
    assert tasks[0] == tasks[1] == same
    assert tasks[2] == tasks[3] != same
    assert tasks[4] == tasks[5] not in (same, tasks[2])


def recordings(seed: int = 0) -> Recordings:
    x = np.random.default_rng(0).random((40, 8, 12)) < 0.3
    store = pack("noise", x, np.arange(40) % 3, test=np.arange(40) >= 30)
    own = options(dataset="event-digits", data_length=8, batch_size=4)
    return Recordings(data_of(store, own, seed), 4)


def test_recordings_go_round_each_pass_in_another_order() -> None:
    source = recordings()
    passes = len(source.loader)
    labels = [np.asarray(source.stretch(n).targets.values) for n in range(2 * passes)]
    assert labels[0].shape == (8, 4)
    assert all((one == one[:1]).all() for one in labels)
    first, second = np.concatenate(labels[:passes], 1), np.concatenate(labels[passes:], 1)
    assert not np.array_equal(first, second)
    again = recordings()
    later = again.stretch(passes + 1)  # at once, without those before
    assert np.array_equal(later.targets.values, labels[passes + 1])
    assert np.array_equal(dense(later), dense(source.stretch(passes + 1)))


def test_inputs_of_recordings_trade_places() -> None:
    plain, source = recordings(), Changing(recordings(), 1, "inputs", 0)
    a, b = dense(plain.stretch(1)), dense(source.stretch(1))
    order = np.random.default_rng([0, 0xD3, 1]).permutation(12)
    assert np.array_equal(b[..., order], a)
    assert not np.array_equal(a, b)


class Counting:
    """A reader whose input is the number of the step."""

    n_in, n_out, batch_size = 2, 3, 1

    def __init__(self, _options: Any = None, _seed: int = 0) -> None:
        self.step = 0

    def read(self, steps: int) -> Read:
        t = self.step + np.arange(steps)
        self.step += steps
        return Read(np.stack([t, -t], 1)[:, None], np.where(t % 2, t % 3, -1)[:, None])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]

    def close(self) -> None:
        pass


def test_a_reader_is_read_on_and_goes_on() -> None:
    loader = StretchLoader(Live(Counting(), 5), 3, 0)
    loader.set_epoch(1)
    seen = iter(loader)
    next(seen), next(seen)
    saved = loader.state_dict()
    third = next(seen)
    assert dense(third)[:, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert np.asarray(third.targets.steps)[:, 0].tolist() == [0, 1, 0, 1, 0]  # unknown below 0
    again = StretchLoader(Live(Counting(), 5), 3, 0)
    again.load_state_dict(saved)
    again.set_epoch(1)
    assert np.array_equal(dense(next(iter(again))), dense(third))


def test_a_reader_that_gives_something_else_is_refused() -> None:
    class Wrong(Counting):
        def read(self, steps: int) -> Read:
            found = super().read(steps)
            return Read(found.xs[:-1], found.labels)

    class Class(Counting):
        n_out = 2

    with pytest.raises(UsageError, match=r"gave inputs \(4, 1, 2\).*needed: \(5, 1, 2\)"):
        Live(Wrong(), 5).stretch(0)

    class Broken(Counting):
        def read(self, steps: int) -> Read:
            raise OSError("unplugged")

    with pytest.raises(UsageError, match="whole numbers below 2"):
        Live(Class(), 10).stretch(0)
    with pytest.raises(UsageError, match=r"the reader failed \(unplugged\); what was read"):
        Live(Broken(), 10).stretch(0)

    class Infinite(Counting):
        def read(self, steps: int) -> Read:
            found = super().read(steps)
            return Read(found.xs * np.float32("nan"), found.labels)

    with pytest.raises(UsageError, match="a value that is not finite"):
        Live(Infinite(), 5).stretch(0)

    class Counted(Counting):
        def state_dict(self) -> dict[str, Any]:
            return {"at": np.int64(3)}

    with pytest.raises(UsageError, match="must be of plain numbers, texts, lists and dicts"):
        Live(Counted(), 10)


def test_a_reader_is_found_by_its_name() -> None:
    made = open_reader(options(dataset="reader", reader=f"{__name__}:Counting"), 0)
    assert isinstance(made, Counting)
    found = build_source(options(dataset="reader", reader=f"{__name__}:Counting"), 0)
    assert (found.n_in, found.n_out, found.batch_size) == (2, 3, 1)
    for name, why in (
        ("", "needs --reader"), ("nothing", "no such reader"),
        ("no_such_module:x", "cannot be imported"), ("math:nothing", "cannot be imported"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            find_reader(name)
    with pytest.raises(UsageError, match=r"cannot be opened \(.*takes no arguments"):
        open_reader(options(dataset="reader", reader="os:getcwd"), 0)
    with pytest.raises(UsageError, match="what it makes has no n_in"):
        open_reader(options(dataset="reader", reader="operator:is_"), 0)
