# %% [markdown]
# # D-RTRL against BPTT
#
# BPTT runs backwards over a stored sequence. D-RTRL carries, forward in time, how
# each parameter has moved the state of its own neuron, and drops how neurons moved
# each other. What does its gradient lose, and what does it save? Both rules, one
# network, one batch.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import snnlab

N_IN, N, N_OUT, BATCH = 20, 40, 3, 8
spike = jax.custom_jvp(lambda v: (v > 0).astype(v.dtype))
spike.defjvp(lambda v, dv: (spike(*v), dv[0] / (1 + 5 * jnp.abs(v[0])) ** 2))


def step(params, carry, x):
    """One step of LIF neurons whose spikes are read; x (B, n_in)."""
    v, s = carry
    v = 0.9 * v * (1 - s) + x @ params["w_in"] + s @ params["w_rec"]
    s = spike(v - 1.0)
    return (v, s), s @ params["w_out"]


rng = np.random.default_rng(0)
shapes = {"w_in": (N_IN, N), "w_rec": (N, N), "w_out": (N, N_OUT)}
start = {
    k: jnp.float32(rng.normal(0, 1.5 / s[0] ** 0.5, s)) for k, s in shapes.items()
}
rest = jnp.zeros((BATCH, N)), jnp.zeros((BATCH, N))
loss = optax.softmax_cross_entropy_with_integer_labels
learners = {
    name: snnlab.learner(name, step, start, carry=rest, n_in=N_IN, loss=loss)
    for name in ("bptt", "d-rtrl", "es-d-rtrl")
}


# %% [markdown]
# ## Gradients
#
# The cosine between each rule's gradient and that of BPTT, as the recurrent weights
# grow. Without recurrence D-RTRL is exact: what it drops goes through `w_rec`.
# ES-D-RTRL smooths what D-RTRL computes, and is not. The readout's gradient is
# exact in both: nothing lies behind it.


# %%
def compiled(name, steps):
    """A rule's program for sequences of so many steps, B samples."""
    xs = jax.ShapeDtypeStruct((steps, BATCH, N_IN), jnp.float32)
    targets = jax.ShapeDtypeStruct((steps, BATCH), jnp.int32)
    program = jax.jit(learners[name].value_and_grad)
    return program.lower(start, resting[name], xs, targets).compile()


T = 100
resting = {name: learner.init() for name, learner in learners.items()}
programs = {name: compiled(name, T) for name in learners}
labels = rng.integers(0, N_OUT, BATCH)
rates = np.where(np.arange(N_IN) % N_OUT == labels[:, None], 0.3, 0.1)
xs = jnp.float32(rng.random((T, BATCH, N_IN)) < rates)
targets = jnp.tile(jnp.int32(labels), (T, 1))
scales = (0.0, 0.5, 1.0, 2.0)
cosines = {name: [] for name in ("d-rtrl", "es-d-rtrl")}
for scale in scales:
    params = {**start, "w_rec": scale * start["w_rec"]}
    found = {
        k: run(params, resting[k], xs, targets)[1] for k, run in programs.items()
    }
    for name, of_scale in cosines.items():
        pairs = [
            (np.ravel(found[name][p]), np.ravel(found["bptt"][p])) for p in shapes
        ]
        of_scale.append(
            [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        )
print(f"{'':24}{'  '.join(shapes)}")
for name, of_scale in cosines.items():
    for scale, row in zip(scales, of_scale):
        print(f"{name:10} w_rec x {scale:<6}{'  '.join(f'{c:5.3f}' for c in row)}")

fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
for ax, (name, of_scale) in zip(axes, cosines.items()):
    ax.plot(scales, of_scale, marker="o", label=list(shapes))
    ax.set(xlabel="scale of w_rec", title=name)
axes[0].set_ylabel("cosine to BPTT")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ## Memory
#
# What a compiled program needs beside its arguments, by XLA's own count. BPTT
# stores every step; the traces of D-RTRL do not grow.

# %%
memory = {}
for name in ("bptt", "d-rtrl"):
    both = {T: programs[name], 8 * T: compiled(name, 8 * T)}
    memory[name] = {
        n: p.memory_analysis().temp_size_in_bytes / 1024 for n, p in both.items()
    }
    told = (f"{n} steps: {kb:,.0f} KiB" for n, kb in memory[name].items())
    print(f"{name:10}{'; '.join(told)}")

fig, ax = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
for place, (name, needed) in enumerate(memory.items()):
    ax.bar(np.arange(2) + 0.4 * place, needed.values(), 0.35, label=name)
ax.set_xticks(np.arange(2) + 0.2, [f"{n} steps" for n in needed])
ax.set_ylabel("memory (KiB)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Learning
#
# A gradient need not be exact to be of use: the same network trained by each rule,
# new spikes in every update.

# %%
optimizer = optax.adam(2e-3)
fig, ax = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
for name, gradient in programs.items():
    params, state, losses = start, optimizer.init(start), []
    draws = np.random.default_rng(1)
    for _ in range(50):
        x = jnp.float32(draws.random((T, BATCH, N_IN)) < rates)
        value, gradients, _ = gradient(params, resting[name], x, targets)
        updates, state = optimizer.update(gradients, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value) / T)
    print(f"{name:10} loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    ax.plot(losses, label=name)
ax.set(xlabel="update", ylabel="loss of a step")
ax.legend(frameon=False)
plt.show()
