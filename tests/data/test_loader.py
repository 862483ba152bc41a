"""The loader: order, splits, padding, resuming, workers."""

from __future__ import annotations

import gc
import json
import multiprocessing
import subprocess
import sys
import textwrap
import warnings

import jax
import numpy as np
import pytest

from snnlab.data import DataConfig, Loader, build_data, data_of
from snnlab.data.splits import stratified
from snnlab.errors import UsageError

OPTIONS = {"data_length": 10, "batch_size": 4, "aug_noise": 3.0, "aug_jitter_ms": 0.05}


def _bits(batch) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(batch))


def _train(store, seed: int = 0, **change) -> Loader:
    return data_of(store, DataConfig(**{**OPTIONS, **change}), seed).train


# ---------------------------------------------------------------------- splits


def test_stratified():
    labels = np.repeat([0, 1, 2, 3], [100, 50, 10, 1])
    first, second = stratified(labels, 0.1, seed=0)
    assert sorted([*first, *second]) == list(range(161))
    assert np.bincount(labels[second], minlength=4).tolist() == [10, 5, 1, 0]
    assert np.array_equal(second, stratified(labels, 0.1, seed=0)[1])
    assert not np.array_equal(second, stratified(labels, 0.1, seed=1)[1])


def test_splits_are_disjoint_and_test_is_fixed(digits):
    a, b = (data_of(digits, DataConfig(), seed) for seed in (0, 1))
    parts = [set(getattr(a, n).cutter.store.indices.tolist()) for n in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert parts[2] == set(b.test.cutter.store.indices.tolist())
    assert parts[2] == set(np.flatnonzero(digits.split == 1).tolist())
    assert parts[1] != set(b.val.cutter.store.indices.tolist())
    assert a.counts["val"] == 144
    assert len(np.unique(a.val.labels)) == 10
    shares = np.bincount(a.val.labels) / np.bincount(digits.labels[digits.split == 0])
    assert shares.min() > 0.08
    assert shares.max() < 0.12


def test_nothing_left_for_validation(make_store):
    store = make_store(4)
    with pytest.raises(UsageError, match="--val_fraction"):
        data_of(store.subset(np.array([0, 2, 3])), DataConfig(data_length=10, batch_size=2), 0)


# ----------------------------------------------------------------------- order


def test_every_recording_once_per_epoch_in_an_order_of_seed_and_epoch(toy):
    orders = {}
    for seed in (0, 1):
        loader = _train(toy, seed)
        for epoch in (0, 1):
            loader.set_epoch(epoch)
            batches = list(loader)
            assert len(batches) == len(loader)
            indices = np.concatenate([b.indices for b in batches])
            assert sorted(indices[indices >= 0]) == list(range(loader.n_samples))
            orders[seed, epoch] = indices.tolist()
    assert orders[0, 0] != orders[0, 1] != orders[1, 1] != orders[1, 0]
    again = _train(toy, 0)
    assert np.concatenate([b.indices for b in again]).tolist() == orders[0, 0]


def test_evaluation_is_sequential(toy):
    data = data_of(toy, DataConfig(**OPTIONS), 0)
    indices = np.concatenate([b.indices for b in data.test])
    assert indices[indices >= 0].tolist() == list(range(data.counts["test"]))
    assert list(map(_bits, data.test)) == list(map(_bits, data.test))


def test_labels_go_with_their_events(toy):
    loader = _train(toy, aug_noise=0.0, aug_jitter_ms=0.0, binary_bins=False)
    for batch in loader:
        per_row = np.asarray(batch.stream.window(0, 10)).sum((0, 2))
        for row, i in enumerate(batch.indices):
            if i >= 0:
                store = loader.cutter.store
                assert batch.targets.values[row] == store.labels[i]
                assert per_row[row] == (store.events_of(i)["t"] < 1000).sum()


def test_short_batch_is_padded_and_masked(toy):
    loader = _train(toy)
    *full, last = list(loader)
    n = loader.n_samples % 4
    assert n
    assert all(b.targets.mask.tolist() == [1] * 4 for b in full)
    assert last.targets.mask.tolist() == [1.0] * n + [0.0] * (4 - n)
    assert (last.indices[n:] == -1).all()
    assert (last.targets.values[n:] == 0).all()
    assert not np.asarray(last.stream.window(0, 10))[:, n:].any()
    shapes = {tuple(x.shape for x in jax.tree.leaves(b)) for b in (*full, last)}
    assert len(shapes) == 1
    assert [x.dtype for x in (last.targets.values, last.targets.mask)] == [np.int32, np.float32]
    short = _train(toy, drop_last=True)
    assert len(short) == len(list(short)) == len(full)


def test_one_program_for_all_splits(digits):
    data = data_of(digits, DataConfig(data_length=20, batch_size=100), 0)
    trees = {
        (jax.tree.structure(b), tuple(x.shape for x in jax.tree.leaves(b)))
        for loader in (data.train, data.val, data.test)
        for b in loader
    }
    assert len(trees) == 1


# ---------------------------------------------------------------------- resume


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_resume_gives_the_remaining_batches_bit_for_bit(toy, stop):
    whole = _train(toy)
    whole.set_epoch(2)
    expected = [_bits(b) for b in whole]
    assert len(expected) == 5
    first = _train(toy)
    first.set_epoch(2)
    iterator = iter(first)
    for k in range(stop):
        assert _bits(next(iterator)) == expected[k]
    state = json.loads(json.dumps(first.state_dict()))
    assert (state["epoch"], state["position"]) == (2, stop)
    second = _train(toy)
    second.load_state_dict(state)
    assert second.state_dict() == state, "a restored loader has the same state"
    second.set_epoch(2)  # as a training loop does; keeps the position
    assert [_bits(b) for b in second] == expected[stop:]
    assert [_bits(b) for b in second] == expected, "the next pass is a whole one"
    second.set_epoch(3)
    assert [_bits(b) for b in second] != expected


def test_state_within_a_resumed_pass(toy):
    expected = [_bits(b) for b in _train(toy)]
    loader = _train(toy)
    for start in range(3):
        iterator = iter(loader)
        assert _bits(next(iterator)) == expected[start]
        state = loader.state_dict()
        assert state["position"] == start + 1
        loader = _train(toy)
        loader.load_state_dict(state)
    assert [_bits(b) for b in loader] == expected[3:]


def test_other_epoch_discards_a_position(toy):
    loader = _train(toy)
    next(iter(loader))
    other = _train(toy)
    other.load_state_dict(loader.state_dict())
    other.set_epoch(1)
    assert len(list(other)) == 5


def test_breaking_off_starts_anew(toy):
    loader = _train(toy)
    first = _bits(next(iter(loader)))
    assert _bits(next(iter(loader))) == first
    assert len(list(loader)) == 5


def test_state_of_other_data_is_refused(toy):
    state = _train(toy).state_dict()
    for change in ({"seed": 1}, {"batch_size": 5}):
        with pytest.raises(UsageError, match="saved data position"):
            _train(toy, **change).load_state_dict(state)


@pytest.mark.parametrize("n_worker", [0, 2])
def test_positions_of_earlier_versions(toy, n_worker):
    """They held torchdata's state of its own loader; the number of the batch is all it said."""
    inner = {"_sampler_iter_yielded": 3, "_num_yielded": 3, "_iterator_finished": False}
    if n_worker:
        inner = {"_snapshot": {"_snapshot_step": 3, "_main_snapshot": {"_num_workers": 2}}}
    whole = _train(toy)
    whole.set_epoch(2)
    expected = [_bits(b) for b in whole]
    whole.set_epoch(2)
    next(iter(whole))
    saved = whole.state_dict() | {"position": 3, "n_worker": n_worker, "torchdata": inner}
    loader = _train(toy)
    loader.load_state_dict(saved)
    loader.set_epoch(2)
    assert [_bits(b) for b in loader] == expected[3:]


# --------------------------------------------------------------------- workers


def test_workers_give_the_same_bits_and_resume_across_their_number(toy):
    expected = {}
    reference = _train(toy)
    for epoch in (0, 1):
        reference.set_epoch(epoch)
        expected[epoch] = [_bits(b) for b in reference]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = _train(toy, n_data_worker=2)
        assert [_bits(b) for b in loader] == expected[0]
        loader.set_epoch(1)
        iterator = iter(loader)
        assert [_bits(next(iterator)) for _ in range(2)] == expected[1][:2]
        state = json.loads(json.dumps(loader.state_dict()))
        assert [_bits(b) for b in loader] == expected[1], "persistent workers after a break"
        loader.load_state_dict(state)
        assert [_bits(b) for b in loader] == expected[1][2:], "same number"
        alone = _train(toy)
        alone.load_state_dict(state)
        assert [_bits(b) for b in alone] == expected[1][2:], "from two workers to none"
        iterator = iter(alone)
        next(iterator)
        loader.load_state_dict(alone.state_dict())
        assert [_bits(b) for b in loader] == expected[1][1:], "from none to two"


def test_processes_end_with_their_loader(toy):
    before = set(multiprocessing.active_children())
    loader = _train(toy, n_data_worker=2)
    batches = iter(loader)
    next(batches)
    processes = set(multiprocessing.active_children()) - before
    assert len(processes) == 2
    next(batches)
    list(loader)
    assert set(multiprocessing.active_children()) - before == processes, "the same in every pass"
    del batches, loader
    gc.collect()
    for process in processes:
        process.join(20)
    assert not any(process.is_alive() for process in processes)


def test_part_of_a_loader_whose_processes_run(toy):
    loader = _train(toy, n_data_worker=1)
    next(iter(loader))
    expected = [_bits(b) for b in _train(toy).part(1, 2)]
    assert [_bits(b) for b in loader.part(1, 2)] == expected


def test_process_that_is_killed_is_one_line(toy):
    before = set(multiprocessing.active_children())
    loader = _train(toy, n_data_worker=1)
    batches = iter(loader)
    next(batches)
    (process,) = set(multiprocessing.active_children()) - before
    process.kill()
    with pytest.raises(UsageError, match="--n_data_worker 1 ended before its time") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert len(list(loader)) == 5, "another one is started"


def test_worker_path_does_not_import_jax():
    code = textwrap.dedent(
        """
        import sys
        import snnlab.data.worker, snnlab.data
        heavy = {"jax", "brainstate", "tonic", "sklearn", "torch", "pydantic"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_script_is_not_imported_by_its_workers(toy, tmp_path):
    """A task script needs no ``__main__`` guard and its imports are not repeated."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import pathlib
            log = pathlib.Path({str(tmp_path / "log")!r})
            log.write_text((log.read_text() if log.exists() else "") + "x")
            from snnlab.data import DataConfig, data_of, EventStore
            store = EventStore({str(toy.path)!r})
            data = data_of(store, DataConfig(data_length=10, batch_size=4, n_data_worker=1), 0)
            assert len(list(data.train)) == 5
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "log").read_text() == "x"


# ----------------------------------------------------------------------- build


def test_build_event_digits(digits):
    data = build_data(DataConfig(downsample=2, data_length=60), seed=3)
    assert (data.dataset, data.n_in, data.n_out, data.n_steps) == ("event-digits", 578, 10, 60)
    assert data.bin_ms == 5.0
    assert data.sensor == (17, 17, 2)
    assert {k: data.counts[k] for k in ("train", "val", "test")} == {
        "train": 1293, "val": 144, "test": 360,
    }  # fmt: skip
    batch = next(iter(data.train))
    assert (batch.stream.n_steps, batch.stream.batch_size, batch.stream.n_in) == (60, 128, 578)
    assert isinstance(batch.stream.cell, np.ndarray)


def test_dense_recordings_are_not_taken_as_events(digits):
    """Products visit events where a small share of the inputs has one."""
    many = build_data(DataConfig(dataset="event-digits", data_length=60), 0)
    few = build_data(DataConfig(dataset="event-digits", data_length=5), 0)
    assert next(iter(many.test)).stream.events
    assert not next(iter(few.test)).stream.events
