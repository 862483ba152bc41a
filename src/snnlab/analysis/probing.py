"""What a trained memory network holds, and how long: decoding from windows of activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from snnlab.analysis import style
from snnlab.analysis._time_axis import SIMULATED
from snnlab.learners.functional import Params, PureNetwork


def windowed_activity(
    network: PureNetwork, params: Params, stream: Any, width: int
) -> tuple[jax.Array, jax.Array]:
    """Spike counts and mean membrane of every neuron in successive windows of a trial.

    Args:
        network: with one recurrent layer (the last one is taken).
        params: its parameters.
        stream: input; steps behind the last whole window are left out.
        width: steps of a window.

    Returns:
        Counts and membrane (mV), ``(W, B, n)`` each.
    """

    def window(carry: Any, first: Any) -> Any:
        def step(state: Any, t: Any) -> Any:
            carry, spikes, membrane = state
            carry, out = network.step(params, carry, stream.at(t))
            return (carry, spikes + out.spikes[-1], membrane + out.membrane[-1]), None

        like = jax.eval_shape(lambda: network.step(params, carry, stream.at(0))[1].spikes[-1])
        zero = jnp.zeros(like.shape, jnp.float32)
        (carry, spikes, membrane), _ = jax.lax.scan(
            step, (carry, zero, zero), first + jnp.arange(width)
        )
        return carry, (spikes, membrane / width)

    start = jax.tree.map(jnp.asarray, network.initial)
    firsts = width * jnp.arange(stream.n_steps // width)
    return jax.lax.scan(window, start, firsts)[1]


def decode(
    features: np.ndarray, labels: np.ndarray, n_classes: int, *, folds: int = 5, ridge: float = 1.0
) -> float:
    """Cross-validated accuracy of a linear decoder (ridge regression to one-hot labels).

    Features are standardised with the statistics of the training folds; a constant one is left
    out of the scale.

    Args:
        features: ``(N, d)``.
        labels: ``(N,)`` integers below ``n_classes``.
        n_classes: C; chance is 1/C for classes of equal size.
        folds: sample i is tested in fold ``i % folds``.
        ridge: penalty per sample.

    Raises:
        ValueError: fewer samples than folds.
    """
    n = len(labels)
    if n < folds:
        raise ValueError(f"{n} samples cannot make {folds} folds")
    one_hot = np.eye(n_classes)[labels]
    fold = np.arange(n) % folds
    correct = 0
    for k in range(folds):
        train, test = fold != k, fold == k
        mean, sd = features[train].mean(0), features[train].std(0)
        scaled = (features - mean) / np.where(sd > 1e-9, sd, 1.0)
        x, y = scaled[train], one_hot[train]
        centre = y.mean(0)
        gram = x.T @ x + ridge * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ (y - centre))
        correct += int(np.sum((scaled[test] @ weights + centre).argmax(1) == labels[test]))
    return correct / n


def probe_figure(
    delays_ms: Sequence[float],
    accuracies: Sequence[float],
    trained_ms: float,
    times_ms: Sequence[float],
    decoded: Mapping[str, Sequence[float]],
    chance: float,
    periods: Sequence[tuple[str, float, float]],
) -> Figure:
    """Accuracy against delay length, and the decoded sample through the trial.

    Args:
        delays_ms, accuracies: of the first panel; accuracies are fractions.
        trained_ms: the delay of training, marked.
        times_ms: middles of the windows.
        decoded: name of a signal -> accuracy in each window.
        chance: of the decoder.
        periods: (name, start, stop) in ms, shaded and named in the second panel.
    """
    fig = style.figure(7.2, 2.5)
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1.0, 1.5]})
    left.plot(
        delays_ms, 100 * np.asarray(accuracies), color=style.BLUE, marker="o", markersize=3.5,
        linewidth=style.LINE_PT,
    )  # fmt: skip
    left.axvline(trained_ms, color=style.FAINT, linewidth=style.THIN_PT, linestyle=(0, (4, 2)))
    left.axhline(50, color=style.FAINT, linewidth=style.THIN_PT)
    left.set(ylim=(40, 102), xlim=(0, None))
    style.tidy(left, x="delay (ms)", y="accuracy (%)")
    style.notes_right(left, [(50.0, "chance", style.GREY)])
    left.annotate(
        "trained", (trained_ms, 0.03), xycoords=("data", "axes fraction"), xytext=(3, 0),
        textcoords="offset points", fontsize=style.NOTE_PT, color=style.GREY,
    )  # fmt: skip
    for i, (name, start, stop) in enumerate(periods):
        if i % 2 == 0:
            right.axvspan(start, stop, color=style.SHADE, linewidth=0, zorder=0)
        right.annotate(
            name, ((start + stop) / 2, 1.02), xycoords=("data", "axes fraction"), ha="center",
            fontsize=style.NOTE_PT, color=style.GREY,
        )  # fmt: skip
    for colour, (_, values) in zip(style.CYCLE, decoded.items()):
        right.plot(times_ms, 100 * np.asarray(values), color=colour, linewidth=style.LINE_PT)
    right.axhline(100 * chance, color=style.FAINT, linewidth=style.THIN_PT)
    right.set(ylim=(0, 102), xlim=(periods[0][1], periods[-1][2]))
    style.tidy(right, x=SIMULATED, y="sample decoded (%)")
    ends = [(100 * values[-1], name, c) for c, (name, values) in zip(style.CYCLE, decoded.items())]
    style.notes_right(right, [*ends, (100 * chance, "chance", style.GREY)])
    return fig
