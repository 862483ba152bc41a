# %% [markdown]
# # An endless stream
#
# A stream has no end at which one could run backwards, and it changes while one
# learns. Here every twenty steps another of four sources feeds twenty input lines,
# and what each source does to the lines drifts: after a while nothing is as it was.
# A network learns online, with an update every ten steps, and names the source in
# every step. A second one stops learning half way.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import snnlab

SOURCES, N_IN, N, BATCH, K, HOLD = 4, 20, 40, 8, 10, 20
spike = jax.custom_jvp(lambda v: (v > 0).astype(v.dtype))
spike.defjvp(lambda v, dv: (spike(*v), dv[0] / (1 + 5 * jnp.abs(v[0])) ** 2))


def step(params, carry, x):
    """Adaptive neurons, whose readout says which source is on."""
    v, a, s, y = carry
    a = 0.97 * a + 0.1 * s
    v = 0.85 * v * (1 - s) + x @ params["w_in"] + s @ params["w_rec"] - a
    s = spike(v - 1.0)
    y = 0.8 * y + s @ params["w_out"]
    return (v, a, s, y), y


loss = optax.softmax_cross_entropy_with_integer_labels
rng = np.random.default_rng(0)
shapes = {"w_in": (N_IN, N), "w_rec": (N, N), "w_out": (N, SOURCES)}
params = {
    k: jnp.float32(rng.normal(0, 1.2 / s[0] ** 0.5, s)) for k, s in shapes.items()
}
rest = tuple(jnp.zeros((BATCH, n)) for n in (N, N, N, SOURCES))
learner = snnlab.learner("d-rtrl", step, params, carry=rest, n_in=N_IN, loss=loss)

# %% [markdown]
# ## One update
#
# `value_and_grad` takes the next `K` steps and the carry of those before: states,
# and the traces of the rule. It does not grow with the stream. What the network
# decides comes from the step alone, and before the update that has seen the answer.

# %%
optimizer = optax.adam(6e-3)


@jax.jit
def update(params, state, carry, xs, sources, rate):
    _, gradients, after = learner.value_and_grad(params, carry, xs, sources)
    updates, state = optimizer.update(gradients, state)
    return (
        optax.apply_updates(params, jax.tree.map(lambda u: rate * u, updates)),
        state,
        after,
    )


@jax.jit
def decisions(params, carry, xs):
    """Forward alone: new states, and the source that each step names."""
    carry, y = jax.lax.scan(lambda c, x: step(params, c, x), carry, xs)
    return carry, y.argmax(-1)


# %% [markdown]
# ## The stream
#
# Each source has a rate for each line, and the pattern of rates moves along the
# lines, one line in 2,500 steps. Lines fire at random.

# %%
patterns = 0.05 + 0.4 * (rng.random((SOURCES, N_IN)) < 0.3)


def stream(seed):
    """Segments without end: spikes (K, B, n_in), source of each step (K, B)."""
    draw, t = np.random.default_rng(seed), 0
    sources = draw.integers(0, SOURCES, BATCH)
    while True:
        if t % HOLD == 0:
            sources = draw.integers(0, SOURCES, BATCH)
        place = t / 2500  # rates between two lines
        low, part = int(place), place % 1
        now = (1 - part) * np.roll(patterns, low, 1) + part * np.roll(
            patterns, low + 1, 1
        )
        spikes = draw.random((K, BATCH, N_IN)) < now[sources]
        yield np.float32(spikes), np.int32(np.tile(sources, (K, 1)))
        t += K


# %% [markdown]
# ## Learn, and go on learning
#
# Both networks see the same stream. The learning rate of the second is set to 0
# half way.

# %%
SEGMENTS = 1600


def run(learns_until):
    """Accuracy of each segment, of a network that learns until a segment."""
    now, state, carry, states = params, optimizer.init(params), learner.init(), rest
    right = []
    for segment, (xs, sources) in zip(range(SEGMENTS), stream(1)):
        states, guess = decisions(now, states, xs)
        right.append(float((guess == sources).mean()))
        rate = jnp.float32(segment < learns_until)
        now, state, carry = update(now, state, carry, xs, sources, rate)
    size = sum(a.nbytes for a in jax.tree.leaves(carry))
    print(f"{SEGMENTS * K:,} steps; carried on each time: {size / 1024:.0f} KiB")
    return np.array(right)


accuracy = {"learns on": run(SEGMENTS), "stops half way": run(SEGMENTS // 2)}

# %%
window = 100
fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
for name, each in accuracy.items():
    moving = np.convolve(each, np.full(window, 1 / window), "valid")
    ax.plot(K * np.arange(window, SEGMENTS + 1), moving, label=name)
    last = each[-window:].mean()
    print(f"{name:16} accuracy of the last {window * K:,} steps {last:.3f}")
ax.axhline(1 / SOURCES, color="grey", linewidth=0.8, linestyle=":")
ax.axvline(K * SEGMENTS / 2, color="grey", linewidth=0.8, linestyle=":")
ax.set(xlabel="step", ylabel="moving accuracy", ylim=(0, 1))
ax.legend(frameon=False, loc="lower left")
plt.show()
