"""A network of one's own: two spiking layers as a function, trained by D-RTRL and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import snnlab

N_IN, N, N_OUT, STEPS, BATCH = 20, 32, 2, 40, 16
spike = jax.custom_jvp(lambda v: (v > 0).astype(v.dtype))
spike.defjvp(lambda v, dv: (spike(*v), dv[0] / (1 + 5 * jnp.abs(v[0])) ** 2))


def step(params, carry, x):  # x (B, n_in): one time step
    v1, s1, v2, readout = carry
    v1 = 0.9 * v1 * (1 - s1) + x @ params["w_in"] + s1 @ params["w_rec"]
    s1 = spike(v1 - 1.0)
    v2 = 0.9 * v2 - spike(v2 - 1.0) + s1 @ params["w_up"]
    readout = 0.9 * readout + spike(v2 - 1.0) @ params["w_out"]
    return (v1, s1, v2, readout), readout


rng = np.random.default_rng(0)
shapes = {"w_in": (N_IN, N), "w_rec": (N, N), "w_up": (N, N), "w_out": (N, N_OUT)}
params = {k: jnp.float32(rng.normal(0, 2 / s[0] ** 0.5, s)) for k, s in shapes.items()}
rest = tuple(jnp.zeros((BATCH, n)) for n in (N, N, N, N_OUT))
loss = optax.softmax_cross_entropy_with_integer_labels
learner = snnlab.learner("d-rtrl", step, params, carry=rest, n_in=N_IN, loss=loss)
optimizer, gradient = optax.adam(3e-3), jax.jit(learner.value_and_grad)
state = optimizer.init(params)
targets = jnp.tile(rng.integers(0, N_OUT, BATCH), (STEPS, 1))  # the half that fires more often
rates = np.where((np.arange(N_IN) < N_IN // 2) == (targets[0][:, None] == 0), 0.2, 0.1)
for epoch in range(60):
    xs = jnp.float32(rng.random((STEPS, BATCH, N_IN)) < rates)
    value, gradients, _ = gradient(params, learner.init(), xs, targets)
    updates, state = optimizer.update(gradients, state)
    params = optax.apply_updates(params, updates)
    if epoch % 20 == 0 or epoch == 59:
        print(f"epoch {epoch}: loss {value / STEPS:.3f}")
