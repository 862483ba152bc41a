"""Checkpoints: whole, summed, passed over when damaged, never in the way of a reader."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from snnlab.errors import UsageError
from snnlab.training import checkpoints
from snnlab.training.checkpoint_files import SUMS, Place, damage, places
from snnlab.training.checkpoint_writer import Due, Writer
from snnlab.training.checkpoints import Reader
from snnlab.training.programs import TrainState


class Moments(NamedTuple):
    scale: jax.Array


def state(value: float = 1.0, n: int = 3) -> TrainState:
    params = {"layers.0.w": jnp.full((n, 2), float(value)), "readout.b": jnp.arange(2.0) * value}
    return TrainState(
        params, optax.adam(0.1).init(params), Moments(jnp.float32(value)),
        jax.random.key_data(jax.random.key(int(value))), jnp.int32(value),
    )  # fmt: skip


def save(writer: Writer, place: Place, value: float) -> None:
    writer.save(
        place, state(value), {k: 10 * v for k, v in state(value).params.items()}, {"v": value}
    )
    writer.wait()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Checkpoints 1, 1-batch-5 and 2 of the values 1, 2 and 3."""
    folder = tmp_path / "a [b] c" / "checkpoints"
    writer = Writer(folder, 3)
    for value, place in enumerate((Place(1), Place(1, 5), Place(2)), start=1):
        save(writer, place, value)
    writer.close()
    return folder


def test_a_state_comes_back_bit_for_bit(three: Path) -> None:
    """Also from a path with brackets, and with the best parameters and the rest beside it."""
    found, best, meta = Reader(three).restore(state())
    assert jax.tree.structure(found) == jax.tree.structure(state())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state(3)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(best["readout.b"], [0.0, 30.0])
    assert (meta["place"], meta["v"]) == ([2, 0], 3)
    found, _, meta = Reader(three).restore(state(), Place(1, 5))
    assert (float(found.params["layers.0.w"][0, 0]), meta["v"]) == (2.0, 2)
    np.testing.assert_array_equal(Reader(three).best_params(state().params)["readout.b"], [0, 30])


def test_parameters_under_their_earlier_names(tmp_path: Path) -> None:
    """In the parameters, those of the best epoch, and what the optimiser keeps of them."""
    names = {
        "layers.0.pathways.0.map.weight": "layer.pathways.0.map.weight",
        "layers.1.value.alpha.weight": "layers.1.alpha.weight",
        "layers.0.value.beta.weight": "layers.0.adaptation.beta.weight",
        "readout.map.weight": "readout.w.weight",
        "readout.decay.tau.log": "readout.tau.log",
        "readout.other": "readout.other",
    }

    def made(keys: Iterable[str], value: float) -> TrainState:
        params = {name: jnp.full(2, value + k) for k, name in enumerate(keys)}
        moments = optax.adam(0.1).update(params, optax.adam(0.1).init(params))[1]
        return state()._replace(params=params, opt_state=moments)

    before, like = made(names.values(), 3.0), made(names, 0.0)
    writer = Writer(tmp_path / "c")
    writer.save(Place(1), before, before.params, {"progress": {"best_epoch": 1}})
    writer.close()
    found, best, _ = Reader(tmp_path / "c").restore(like)
    wanted = made(names, 3.0)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
    alone = Reader(tmp_path / "c").best_params(like.params)
    assert set(Reader(tmp_path / "c").weights()[0]) == set(names)
    for name, value in wanted.params.items():
        np.testing.assert_array_equal(best[name], value)
        np.testing.assert_array_equal(alone[name], value)


def test_what_is_saved_may_be_consumed(tmp_path: Path) -> None:
    """The copy is made before ``save`` returns, though writing goes on."""
    writer, consumed = Writer(tmp_path / "c"), state(7)
    run = jax.jit(lambda s: jax.tree.map(lambda a: a * 0, s), donate_argnums=0)
    writer.save(Place(1), consumed, consumed.params, {})
    jax.block_until_ready(run(consumed))
    writer.close()
    assert float(Reader(tmp_path / "c").restore(state())[0].params["layers.0.w"][0, 0]) == 7.0


def test_the_latest_are_kept(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "c", max_to_keep=2)
    for k in range(5):
        save(writer, Place(k), 1.0)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["3", "4"]
    writer.close()
    writer = Writer(tmp_path / "c", max_to_keep=2)  # a resumed run keeps as many
    save(writer, Place(4, 2), 1.0)
    assert places(tmp_path / "c") == [Place(4), Place(4, 2)]


def test_another_network_is_refused(three: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint in .* was made"):
        Reader(tmp_path / "none").restore(state())
    with pytest.raises(UsageError, match=r"does not fit.*layers.0.w.*float32 \[3, 2\]"):
        Reader(three).restore(state(n=4))
    with pytest.raises(UsageError, match=r"holds another network: layers.0.w is float32 \[3, 2\]"):
        Reader(three).best_params(state(n=4).params)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def newest_value(folder: Path, told: list[str] | None = None) -> float:
    """The value of the newest sound checkpoint, checked to be all of one piece."""
    found, best, meta = Reader(folder, (told if told is not None else []).append).restore(state())
    value = meta["v"]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state(value)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(best["readout.b"], [0.0, 10.0 * value])
    return value


def test_every_file_that_is_damaged_is_noticed(three: Path) -> None:
    """Deleted, cut, grown, emptied or replaced, one at a time: the one before takes over."""
    newest, kept = three / "2", three.parent / "kept"
    shutil.copytree(newest, kept)
    names = files(newest)
    assert len(names) > 10
    for name in names:
        data = (kept / name).read_bytes()
        for bad in (None, data[:-1], data + b"\0", b"", os.urandom(len(data) + 1)):
            if bad == data:
                continue
            (newest / name).unlink()
            if bad is not None:
                (newest / name).write_bytes(bad)
            assert damage(newest), (name, bad)
            (newest / name).write_bytes(data)
    assert not damage(newest)
    (newest / "state" / "more").write_text("x")
    told: list[str] = []
    assert newest_value(three, told) == 2
    assert told == ["checkpoint 2 is passed over: state/more does not belong to it"]
    shutil.rmtree(newest)
    (newest).mkdir()
    assert newest_value(three, told) == 2


@pytest.mark.parametrize("flips", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_flipped_bit_goes_unnoticed(flips: int, three: Path) -> None:
    rng = np.random.default_rng(flips)
    newest = three / "2"
    names = files(newest)
    sizes = np.array([(newest / n).stat().st_size for n in names])
    for k in range(flips):  # every file has its turn, large or small
        path = newest / names[k % len(names)]
        data = bytearray(path.read_bytes())
        if not data:
            continue
        bit = int(rng.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        assert damage(newest), (path, bit)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
    assert sizes.sum() > 0
    assert not damage(newest)


def test_nothing_sound_is_one_line(three: Path) -> None:
    for name in ("1", "1-batch-5", "2"):
        (three / name / SUMS).write_text("")
    with pytest.raises(UsageError, match=rf"no checkpoint in .* is sound \({SUMS} is damaged\)"):
        Reader(three).newest()


def test_what_is_named_like_a_checkpoint_is_passed_over(three: Path) -> None:
    """A copy under another name, an empty folder, a file."""
    shutil.copytree(three / "2", three / "9")
    (three / "10").mkdir()
    (three / "11").touch()
    told: list[str] = []
    assert newest_value(three, told) == 3
    assert told == [
        f"checkpoint 10 is passed over: {SUMS} is missing",
        "checkpoint 9 is passed over: it was renamed: it holds epoch 2",
    ]


def test_to_go_on_from_an_older_one_sets_the_newer_aside(three: Path) -> None:
    writer = Writer(three, 2)
    writer.begin_at(Place(1, 5))
    assert places(three) == [Place(1), Place(1, 5)]
    assert (three / "damaged-2").is_dir()
    save(writer, Place(2), 4)
    assert newest_value(three) == 4


def test_what_a_killed_process_left_is_no_checkpoint(three: Path) -> None:
    shutil.copytree(three / "1", three / ".3.part")
    assert places(three)[-1] == Place(2)
    assert Reader(three).newest()[0] == Place(2)
    assert (three / ".3.part").exists()  # a reader removes nothing
    Writer(three, 3).close()
    assert sorted(p.name for p in three.iterdir()) == ["1", "1-batch-5", "2"]


@pytest.mark.parametrize("readings", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_readers_beside_a_run(readings: int, tmp_path: Path) -> None:
    """A run that saves without pause: every reading is of one piece, and harms nothing."""
    folder, over = tmp_path / "c", threading.Event()
    writer = Writer(folder, 1)
    save(writer, Place(0), 0)
    failed: list[BaseException] = []

    def train() -> None:
        try:
            for k in range(1, 100_000):
                writer.save(Place(k), state(k), {n: 10 * v for n, v in state(k).params.items()},
                            {"v": k})  # fmt: skip
                if over.wait(0.002):
                    return
        except BaseException as error:  # noqa: BLE001 (the test itself raises it)
            failed.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        values = [newest_value(folder) for _ in range(readings)]
    finally:
        over.set()
        thread.join()
        writer.close()
    assert not failed
    assert values == sorted(values)
    assert values[-1] > values[0]
    assert not damage(folder / places(folder)[-1].name)


def test_a_look_that_misses_the_one_that_goes_and_the_one_that_comes(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is not listed at once, and a run that keeps one checkpoint renames and removes."""
    looks = [[], checkpoints.places(three)]
    monkeypatch.setattr(checkpoints, "places", lambda folder: looks.pop(0))
    assert checkpoints.Reader(three).newest()[0].name == "2"
    assert not looks


def test_a_full_disk_keeps_the_one_before(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(three, 3)
    real = os.rename

    def full(source, target):
        if Path(target).name == "3":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return real(source, target)

    monkeypatch.setattr(os, "rename", full)
    writer.save(Place(3), state(9), state(9).params, {"v": 9})
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    assert sorted(p.name for p in three.iterdir()) == ["1", "1-batch-5", "2"]
    assert newest_value(three) == 3


def test_a_disk_without_room_is_noticed_before(
    three: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """orbax itself would print pages of tracebacks."""
    real = os.statvfs(three)
    full = os.statvfs_result([*real[:3], 3, 3, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    writer = Writer(three, 3)
    writer.save(Place(3), state(9), state(9).params, {"v": 9})
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    assert newest_value(three) == 3
    assert capfd.readouterr() == ("", "")


def test_names_of_places() -> None:
    for place, name in ((Place(0), "0"), (Place(12), "12"), (Place(3, 20), "3-batch-20")):
        assert place.name == name
        assert Place.of(name) == place
    for other in ("", "03", "3-batch-0", "3-batch-", "a", ".3", "3.part", "9" * 60, "damaged-3"):
        assert Place.of(other) is None
    assert sorted([Place(10), Place(2, 100), Place(2)]) == [Place(2), Place(2, 100), Place(10)]


def test_when_a_checkpoint_is_due() -> None:
    clock = [0.0]
    due = Due(every=20, minutes=10, clock=lambda: clock[0])
    assert [b for b in range(1, 70) if due.now(b)] == [20, 40, 60]
    clock[0] = 599.0
    assert not due.now(3)
    clock[0] = 600.0
    assert due.now(3)
    due.saved()
    assert not due.now(4)
    never = Due(every=0, minutes=0, clock=lambda: clock[0])
    clock[0] = 1e9
    assert not any(never.now(b) for b in range(1, 100))
