"""Online training on a stream without end: what was the input two steps ago?"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import snnlab

N_IN, N, BATCH, K, DELAY = 2, 64, 32, 10, 2
rng, optimizer = np.random.default_rng(0), optax.adam(1e-2)
params = {"w": rng.normal(0, 1, (N_IN, N)), "out": rng.normal(0, 0.05, (N, N_IN)),
          "decay": rng.uniform(0.2, 0.9, N), "bias": rng.normal(0, 1, N)}  # fmt: skip
params = jax.tree.map(jnp.float32, params)


def step(params, carry, x):
    carry = params["decay"] * carry + x @ params["w"]
    return carry, jnp.tanh(carry + params["bias"]) @ params["out"]


learner = snnlab.learner("d-rtrl", step, params, carry=jnp.zeros((BATCH, N)), n_in=N_IN,
                         loss=lambda y, goal: ((y - goal) ** 2).mean())  # fmt: skip


@jax.jit
def update(params, state, carry, xs, targets):
    loss, gradients, carry = learner.value_and_grad(params, carry, xs, targets)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, carry, loss / K


state, carry = optimizer.init(params), learner.init()
past = np.zeros((DELAY, BATCH, N_IN), np.float32)
for i in range(2001):  # or for ever: nothing grows
    seen = np.concatenate([past, np.float32(rng.random((K, BATCH, N_IN)) < 0.3)])
    params, state, carry, loss = update(params, state, carry, seen[DELAY:], seen[:K])
    past = seen[K:]
    if i % 500 == 0:
        print(f"{i * K} steps: loss {loss:.4f}")
