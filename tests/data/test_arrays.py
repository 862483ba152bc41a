"""``snnlab.data.pack``: arrays as recordings."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from snnlab.data import DataConfig, data_of, pack
from snnlab.errors import UsageError

N, STEPS, LINES = 40, 12, 7


def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.4, (N, STEPS, LINES))
    return x, np.arange(N) % 3, np.arange(N) >= 30


@pytest.mark.parametrize("binary", [True, False])
def test_a_batch_has_the_spikes_of_the_arrays(binary: bool) -> None:
    """Each recording comes back in its bins, of the split and class that it was given."""
    x, labels, test = arrays()
    store = pack("own", x, labels, test, bin_ms=2.5, class_names=["a", "b", "c"])
    config = DataConfig(data_length=STEPS, batch_size=16, binary_bins=binary)
    data = data_of(store, config, seed=0)
    assert (data.dataset, data.n_in, data.n_out, data.n_steps) == ("own", LINES, 3, STEPS)
    assert (data.bin_ms, data.class_names) == (2.5, ("a", "b", "c"))
    seen = []
    for batch in data.test:
        made = np.asarray(jax.jit(lambda s: s.window(0, STEPS))(batch.stream))
        for b in np.flatnonzero(batch.targets.mask):
            wanted = x[test][batch.indices[b]]
            np.testing.assert_array_equal(made[:, b], np.minimum(wanted, 1) if binary else wanted)
            assert batch.targets.values[b] == labels[test][batch.indices[b]]
            seen.append(int(batch.indices[b]))
    assert sorted(seen) == list(range(10))
    assert data.counts["train"] + data.counts["val"] == 30


def test_it_is_known_by_its_content() -> None:
    x, labels, test = arrays()
    first, again = (pack("own", x, labels, test) for _ in range(2))
    assert first.path == again.path
    x[0, 0, 0] += 1
    assert pack("own", x, labels, test).content != first.content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((N, STEPS))}, r"have shapes \(40, 12\), \(40,\), \(40,\); needed"),
        ({"labels": np.zeros(3, int)}, r"needed: \(N, T, n_in\), \(N,\), \(N,\)"),
        ({"x": np.zeros((N, STEPS, LINES))}, "x, labels and test are float64, int64, bool"),
        ({"x": -np.ones((N, STEPS, LINES), int)}, "x and labels must not be below 0"),
        ({"test": np.zeros(N, bool)}, "test must hold some of the recordings, and not all"),
        ({"test": np.zeros(N, int)}, "x, labels and test are int64, int64, int64"),
        ({"bin_ms": 0.0001}, r"bin_ms 0\.0001: must be at least 0\.001"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    x, labels, test = arrays()
    with pytest.raises(UsageError, match=message):
        pack("own", **{"x": x, "labels": labels, "test": test, **change})
