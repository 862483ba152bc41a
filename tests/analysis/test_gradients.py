"""Measures of gradients and Jacobians, against ones made by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.analysis import figures
from snnlab.analysis.gradients import agreements, jacobian_shares, measured_steps
from snnlab.data.stream import DenseStream
from snnlab.learners.functional import PureStep


def test_agreements_by_hidden_layers_layer_and_parameter() -> None:
    exact = {"layers.0.w": [[3.0, 0.0]], "layers.0.b": [4.0], "readout.w": [1.0], "gain": [0.0]}
    found = {"layers.0.w": [[0.0, 5.0]], "layers.0.b": [4.0], "readout.w": [-2.0], "gain": [1.0]}
    rows = {(r.scope, r.name): r for r in agreements({**found, "feedback": [1.0]}, exact)}
    layer = rows["layer", "layer 1"]
    assert layer.cosine == pytest.approx(16 / (5 * np.sqrt(41)))
    assert layer.norm_ratio == pytest.approx(np.sqrt(41) / 5)
    assert rows["parameter", "layers.0.w"].cosine == 0.0
    assert rows["parameter", "readout.w"][2:4] == (-1.0, 2.0)
    assert rows["hidden", "hidden"].norm_bptt == 5.0  # without the readout
    assert rows["parameter", "gain"][2:4] == (None, None)  # BPTT's is zero
    assert rows["hidden", "hidden"].norm == pytest.approx(np.sqrt(42))
    assert not any(name == "feedback" for _, name in rows)


def test_a_gradient_that_is_not_finite_has_no_cosine() -> None:
    (_, _, row) = agreements({"layers.0.w": [np.nan]}, {"layers.0.w": [1.0]})
    assert row.cosine is None
    assert row.norm_ratio is None


class Linear(PureStep):
    """``h_t = J h_{t-1}``, J the blocks of two states of three neurons and one state of two.

    The second layer's state is scaled by the input, so that steps differ.
    """

    def __init__(self, j: np.ndarray) -> None:
        self.n_in, self.batch_size, self.j = 1, 2, jnp.asarray(j)
        self.names = {"layers.0.v": 3, "layers.0.i": 3, "layers.1.v": 2}
        self.initial = {k: jnp.zeros((2, n)) for k, n in self.names.items()}
        self.initial["layers.0.count"] = jnp.zeros((2, 3), jnp.int32)

    def params(self):
        return {}

    def of_size(self, batch_size):
        raise NotImplementedError

    def step(self, params, carry, x):
        h = jnp.concatenate([carry[k] for k in self.names], axis=1)
        h = h @ self.j.T * jnp.concatenate([jnp.ones((2, 6)), x + jnp.zeros((2, 2))], axis=1)
        parts = jnp.split(h, [3, 6], axis=1)
        return {**carry, **dict(zip(self.names, parts))}, None


def test_the_share_of_the_jacobian_on_own_blocks() -> None:
    j = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    j[1] = 0.0  # a row without anything is in no mean
    scale = np.array([[1.0, 2.0], [0.5, 3.0]], np.float32)  # (steps that count, samples)
    xs = np.zeros((4, 2, 1), np.float32)
    xs[1, :, 0], xs[3, :, 0] = scale
    wanted = measured_steps(4, 2)
    found = jax.jit(lambda s: jacobian_shares(Linear(j), {}, s, wanted))(DenseStream(xs))
    neuron = np.array([0, 1, 2, 0, 1, 2, 10, 11])
    for layer, kept in {"layer 1": range(6), "layer 2": (6, 7), "network": range(8)}.items():
        kept = list(kept)
        own = (neuron[:, None] == neuron)[np.ix_(kept, kept)]
        squares, shares = np.zeros(2), []
        for by in scale.ravel():
            full = j * np.where(np.arange(8) < 6, 1.0, by)[:, None]
            part = np.abs(full[np.ix_(kept, kept)])
            squares += (part**2 * own).sum(), (part**2).sum()
            sums = part.sum(1)
            shares.append((part * own).sum(1)[sums > 0] / sums[sums > 0])
        np.testing.assert_allclose(found[layer].norm, squares[0] / squares[1], rtol=1e-5)
        np.testing.assert_allclose(found[layer].rows, np.concatenate(shares).mean(), rtol=1e-5)
        assert 0.05 < found[layer].norm < 0.95


def test_dependence_grid_has_a_panel_for_each_measure_and_thing() -> None:
    lines = {"layer 1": [(1.0, [0.5, 0.7]), (100.0, [0.2])]}
    columns = {"diag": {"cosine": lines, "ratio": lines}, "eprop": {"cosine": lines}}
    fig = figures.dependence_grid(columns, "steps", log_x=True, log_y=("ratio",))
    assert len(fig.axes) == 4
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles[:2] == ["diag", "eprop"]
    assert fig.axes[0].containers[0][0].get_ydata().tolist() == pytest.approx([0.6, 0.2])
    assert [ax.get_yscale() for ax in fig.axes] == ["linear", "linear", "log", "log"]
    with pytest.raises(ValueError, match="no line"):
        figures.dependence_grid({"diag": {"cosine": {}}}, "steps")


def test_no_line_joins_what_is_no_number() -> None:
    lines = {"layer 1": [(0.0, [0.5]), (1.0, [0.2]), (2.0, [0.4])]}
    for words, style in (((), "-"), (("lif", "alif", "gif"), "None")):
        fig = figures.dependence_grid({"diag": {"cosine": lines}}, "model", words=words)
        assert fig.axes[0].containers[0][0].get_linestyle() == style


def test_no_line_joins_seeds() -> None:
    points = {"test": [(float(seed), [50.0 + seed]) for seed in range(3)]}
    for joined, style in ((True, "-"), (False, "None")):
        fig = figures.dependence_figure(points, "seed", "test (%)", joined=joined)
        assert fig.axes[0].containers[0][0].get_linestyle() == style
