"""Recordings of one's own: arrays of spikes as a dataset, a run on them, and what it learned."""

import tempfile
from pathlib import Path

import numpy as np

import snnlab
from snnlab.data import pack

N, STEPS, LINES, CLASSES = 300, 50, 30, 3
rng = np.random.default_rng(0)
labels = rng.integers(0, CLASSES, N)
# In class k a wave runs over a third of the lines, from step 15 k on.
step, line = np.arange(STEPS)[:, None], np.arange(LINES)
rates = np.stack([0.02 + 0.8 * (abs(step - 15 * k - line % 10) < 2) for k in range(CLASSES)])
x = rng.random((N, STEPS, LINES)) < rates[labels]
store = pack("waves", x, labels, test=np.arange(N) >= 240, bin_ms=2.0, class_names=["a", "b", "c"])

with tempfile.TemporaryDirectory() as folder:
    run = snnlab.train(
        "image-classification", recordings=store, data_length=STEPS, method="es-d-rtrl", n_rec=64,
        n_layer=1, batch_size=32, epochs=12, lr=0.02, filepath=Path(folder) / "waves",
        progress=False,
    )  # fmt: skip
    print(f"test accuracy {run.results['test_accuracy']:.2f}, {run.results['samples']}")
    best = max((row for row in run.rows if row["split"] == "val"), key=lambda r: r["accuracy"])
    print(f"best epoch {best['epoch']}: validation accuracy {best['accuracy']:.2f}")
    record = run.record(x[240:].transpose(1, 0, 2))  # (T, B, n_in)
    rate = record.spikes[0].mean() / 0.002
    guess = record.readout.sum(0).argmax(-1)
    print(f"{run.layers[0]}: {rate:.1f} Hz, accuracy {np.mean(guess == labels[240:]):.2f}")
