# %% [markdown]
# # A network of one's own
#
# A neuron is its equations. Named by an entry point of your package, it is a
# `--model` of every task, learner and checkpoint. Here a neuron whose threshold
# rises with its spikes learns, online, to draw a sum of sines.
#
# A package is what `pip install` leaves: a module, and a file that names its entry
# points (pip makes it of `[project.entry-points."snnlab.models"]` in
# `pyproject.toml`). This notebook writes both into the present folder.

# %%
import sys
from pathlib import Path

NEURON = '''
"""A neuron whose threshold rises by 0.3 with each spike, and falls back."""

import numpy as np

from snnlab.models.neuron import Neuron, Value
from snnlab.models.options import RECURRENT
from snnlab.models.registry import Model


class Adaptive(Neuron):
    states = ("v", "b")  # what evolves, from 0; the membrane first

    def values(self, n, rng):  # of each neuron; trained, without --fix_tau_rec
        return {
            "decay": Value.uniform(rng, 0.7, 0.95, n),
            "recovery": Value.uniform(rng, 0.9, 0.99, n),
        }

    def step(self, state, spikes, drive, value):  # drive: all that arrives
        return {
            "v": value["decay"] * (state["v"] - spikes) + drive,
            "b": value["recovery"] * state["b"] + 0.3 * spikes,
        }

    def excess(self, state, value):  # a spike where this is above 0
        return state["v"] - 1.0 - state["b"]


MODEL = Model("an adaptive threshold", RECURRENT, "my_neurons:Adaptive")
'''
ENTRY_POINTS = """[snnlab.models]
adaptive = my_neurons:MODEL
"""
info = Path("my_neurons-1.0.dist-info")
info.mkdir()
(info / "METADATA").write_text(
    "Metadata-Version: 2.1\nName: my-neurons\nVersion: 1.0\n"
)
(info / "entry_points.txt").write_text(ENTRY_POINTS)
Path("my_neurons.py").write_text(NEURON)
sys.path.insert(0, str(Path.cwd()))

# %% [markdown]
# It is in the table of models, as `snnlab models` shows.

# %%
from snnlab.models.registry import MODELS

print(f"adaptive: {MODELS['adaptive'].summary}")

# %% [markdown]
# ## Train it online
#
# `pattern-generation`: frozen noise comes in, the readout is to follow a sum of
# sines. D-RTRL needs the derivative of a neuron's states by each other, and takes
# it from `step`: nothing is to be derived by hand.

# %%
import matplotlib.pyplot as plt

import snnlab

run = snnlab.train(
    "pattern-generation", model="adaptive", method="diag", n_rec=60, lr=0.01,
    n_in=30, noise_rate=100, n_out=1, frequencies="5,15", t_trial=200,
    epochs=8, epoch_batches=10, n_show=1, filepath="runs/adaptive", progress=False,
)  # fmt: skip
error, updates = run.results["test_nmse"], run.results["batches"]
print(f"normalised squared error {error:.3f}, after {updates} updates")

rows = [row for row in run.rows if row["split"] == "val"]
fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
ax.semilogy([r["epoch"] for r in rows], [r["nmse"] for r in rows], marker="o")
ax.set(xlabel="epoch", ylabel="normalised squared error")
plt.show()

# %% [markdown]
# What it drew, with the noise, spikes and some membranes:

# %%
fig, ax = plt.subplots(figsize=(5, 7), dpi=120, layout="constrained")
ax.imshow(plt.imread(run.path / "figures" / "test-samples.png"))
ax.set_axis_off()
plt.show()

# %% [markdown]
# ## What was trained
#
# Weights, and the values of the neurons: `decay` and `recovery` began evenly
# between their limits, the dotted lines, to which they are clipped in use.

# %%
for name, value in run.weights.items():
    print(f"{name:40}{value.shape}")
fig, axes = plt.subplots(1, 2, figsize=(6, 2.4), sharey=True, layout="constrained")
for ax, (name, limits) in zip(
    axes, {"decay": (0.7, 0.95), "recovery": (0.9, 0.99)}.items()
):
    ax.hist(run.weights[f"layers.0.value.{name}.weight"], bins=15, color="grey")
    for limit in limits:
        ax.axvline(limit, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel=name)
axes[0].set_ylabel("neurons")
plt.show()
