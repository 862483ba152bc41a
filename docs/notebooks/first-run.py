# %% [markdown]
# # A first run
#
# Train a small spiking network online, look at what it learned, train it on, and
# draw it. The data are scikit-learn's digits before a simulated event camera:
# nothing is downloaded.
#
# Everything that `snnlab run` does is there from Python, under the same names.

# %%
import matplotlib.pyplot as plt
import numpy as np

import snnlab

run = snnlab.train(
    "image-classification",
    method="expsm_diag",  # ES-D-RTRL: memory that does not grow with the sequence
    n_rec=64, n_layer=1, lr=0.02, batch_size=128, epochs=2, lr_schedule="constant",
    data_length=20, downsample=2, n_show=1, filepath="runs/first",
    progress=False,
)  # fmt: skip
print(run)

# %% [markdown]
# `run` is the folder `runs/first`, read when it is asked. The test set was read
# once, at the end, with the parameters of the epoch that did best on the validation
# set.

# %%
for name in (
    "test_accuracy",
    "test_accuracy_wilson95",
    "best_epoch",
    "epochs",
    "n_parameters",
):
    print(f"{name:24}{run.results[name]}")
for row in run.predictions[:5]:
    print(row)

# %% [markdown]
# ## Train on
#
# A resume goes on from the checkpoint, with the optimiser, the order of the data
# and the random numbers as they were: two epochs and four more are, bit for bit,
# six. (With a schedule that depends on the number of epochs they are not; that is
# why it is constant here.)

# %%
run = snnlab.train(
    "image-classification", resume=run.path, epochs=6, progress=False
)
print(f"after 6 epochs: {run.results['test_accuracy']:.3f}")

fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
for split in ("train", "val"):
    rows = [row for row in run.rows if row["split"] == split]
    ax.plot(
        [r["epoch"] for r in rows],
        [r["accuracy"] for r in rows],
        marker="o",
        label=split,
    )
ax.axvline(2, color="grey", linewidth=0.8, linestyle=":")
ax.set(xlabel="epoch", ylabel="accuracy")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Show it something
#
# `record` gives spikes, membranes and readout for any input. Here the events of a
# bar that moves over the sensor, upwards and downwards: input `(polarity * height +
# y) * width + x`.

# %%
side, steps = 17, 20
assert run.network().n_in == 2 * side * side
x = np.zeros((steps, 2, 2, side, side), np.float32)  # step, sample, polarity, y, x
for t in range(steps):
    y = t * side // steps
    x[t, 0, 0, side - 1 - y, 4:13] = x[t, 1, 0, y, 4:13] = 1
record = run.record(x.reshape(steps, 2, -1))
print("spikes of each layer:", [s.shape for s in record.spikes])

fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
for sample, (ax, name) in enumerate(zip(axes, ("upwards", "downwards"))):
    step, neuron = np.nonzero(record.spikes[0][:, sample])
    ax.scatter(step, neuron, s=4, color="black")
    ax.set(xlabel="step", title=name)
axes[0].set_ylabel("neuron")
plt.show()

# %% [markdown]
# The run has drawn figures of its own, among them test samples from events to
# decision.

# %%
print(*sorted(path.name for path in (run.path / "figures").iterdir()))
fig, ax = plt.subplots(figsize=(5, 8), dpi=120, layout="constrained")
ax.imshow(plt.imread(run.path / "figures" / "test-samples.png"))
ax.set_axis_off()
plt.show()
