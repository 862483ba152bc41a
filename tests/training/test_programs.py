"""One compiled program per batch, updates when they are due, and a stop at the first NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from short_training import FakeLoader, make_programs, run
from snnlab.training.evaluation import Diverged
from snnlab.training.hooks import Hook, Moment
from snnlab.training.metrics import MetricsFile
from snnlab.training.objectives import Targets
from zoo import STEPS, make_stream, make_targets


def test_two_programs_serve_all_batches() -> None:
    programs, state, plateau = make_programs(method="expsm_diag")
    state = run(programs, state, plateau, epochs=3)
    assert programs.n_compiled == 2  # training and evaluation
    assert int(state.updates) == 9
    assert programs.compile_seconds > 0


@pytest.mark.parametrize("every", [1, 7, STEPS])
def test_updates_inside_the_sequence(every: int) -> None:
    programs, state, _ = make_programs(every, method="expsm_diag")
    before = jax.tree.map(np.asarray, state.params)
    state, numbers = programs.train(state, make_stream(), make_targets())
    assert int(state.updates) == -(-STEPS // every)
    assert np.isfinite(numbers["loss"])
    assert all(np.abs(np.asarray(state.params[n]) - before[n]).max() > 0 for n in before)


def test_online_updates_change_the_rest_of_the_sequence() -> None:
    losses = []
    for every in (STEPS, 5):
        programs, state, _ = make_programs(every, method="expsm_diag")
        _, numbers = programs.train(state, make_stream(), make_targets())
        losses.append(float(numbers["loss"]))
    assert losses[0] != losses[1]


def test_nothing_is_updated_before_the_first_scored_step() -> None:
    programs, state, _ = make_programs(5, warmup=STEPS, method="expsm_diag")
    before = jax.tree.map(np.asarray, state.params)
    state, _ = programs.train(state, make_stream(), make_targets())
    assert all(np.array_equal(state.params[n], before[n]) for n in before)


def test_evaluation_counts_only_real_samples() -> None:
    programs, state, _ = make_programs(method="bptt")
    targets = make_targets()
    numbers = programs.evaluate(state.params, make_stream(), targets)
    right = np.asarray(numbers["predictions"] == targets.values)
    assert numbers["measures"]["accuracy"].above == right.sum()
    masked = Targets(targets.values, jnp.asarray([1.0, 0.0, 0.0]))
    numbers = programs.evaluate(state.params, make_stream(), masked)
    assert numbers["count"] == 1
    assert numbers["measures"]["accuracy"].above == right[0]


@pytest.mark.parametrize(("layer", "expected"), [(0, "layer 1"), (1, "layer 2")])
def test_a_nan_names_its_layer(layer: int, expected: str) -> None:
    programs, state, plateau = make_programs(method="expsm_diag")
    name = f"layers.{layer}.pathways.0.map.weight"
    state.params[name] = state.params[name].at[3].set(jnp.nan)
    with pytest.raises(Diverged, match=f"epoch 1, batch 1: .* membrane of {expected}"):
        run(programs, state, plateau)


def test_a_nan_of_the_gradient_alone_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, state, plateau = make_programs(method="bptt")
    segment = programs.learner.segment

    def broken(*args):
        part = segment(*args)
        bad = {k: v * jnp.nan for k, v in part.gradients.items()}
        return part._replace(gradients=bad)

    monkeypatch.setattr(programs.learner, "segment", broken)
    with pytest.raises(Diverged, match="the gradient of"):
        run(programs, state, plateau)


def test_training_learns() -> None:
    class Same(FakeLoader):
        def set_epoch(self, epoch: int) -> None:
            self.epoch = 0

    class Rows(Hook):
        def on_epoch(self, now: Moment) -> None:
            rows.append(now.rows[0][0])

    rows = []
    programs, state, plateau = make_programs(method="expsm_diag")
    run(programs, state, plateau, 25, Same(), [Rows()])
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


# ---------------------------------------------------------------- files


def test_metrics_survive_a_torn_line(tmp_path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    assert file.rows() == []
    for epoch in (1, 2, 3):
        file.append({"epoch": epoch, "split": "val", "loss": 0.5})
    with open(file.path, "a") as out:
        out.write('{"epoch": 4, "lo')
    assert [r["epoch"] for r in file.rows()] == [1, 2, 3]
    file.write(file.rows()[:2])
    file.append({"epoch": 3, "split": "val", "loss": 0.25})
    assert [r["loss"] for r in file.rows()] == [0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"null", b"[1]", b'{"a": 1}', b'{"epoch": ' + b"9" * 5000 + b"}",
             b"[" * 100_000]
)  # fmt: skip
def test_foreign_lines_are_no_rows(line: bytes, tmp_path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"epoch": 1, "split": "val"})
    file.path.write_bytes(file.path.read_bytes() + line + b"\n")
    assert file.rows() == [{"epoch": 1, "split": "val"}]


def test_json_has_no_nan(tmp_path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"epoch": 1, "split": "val", "loss": float("nan"), "rates": [1.0, float("inf")]})
    assert file.path.read_text() == (
        '{"epoch": 1, "split": "val", "loss": null, "rates": [1.0, null]}\n'
    )


def test_large_constants_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of a sparse map is not written into a program, whose numbers stay the same, to
    rounding."""
    programs, state, _ = make_programs(method="expsm_diag")
    given, found = (state.params, make_stream(), make_targets()), []
    for limit in (2**24, 1):
        monkeypatch.setattr("snnlab.training.programs.LARGE_CONSTANTS", limit)
        program = programs.program(f"below {limit}", programs.evaluate_fn, *given)
        size = program.memory_analysis().argument_size_in_bytes
        found.append((size, jax.tree.map(np.asarray, program(*given))))
    (few, old), (more, new) = found
    assert more > few
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), old, new)
