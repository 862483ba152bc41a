"""A neuron of one's own: it adapts, and its time constants are trained beside the weights."""

import jax
import jax.numpy as jnp
import numpy as np

import snnlab

N_IN, N, STEPS, BATCH = 10, 20, 100, 4
spike = jax.custom_jvp(lambda v: (v > 0).astype(v.dtype))
spike.defjvp(lambda v, dv: (spike(*v), dv[0] * jnp.maximum(0.0, 1 - jnp.abs(v[0]))))


def step(params, carry, x):  # v' = alpha v + (1 - alpha) (drive - a) - s,  a' = rho a + 0.3 s
    v, a = carry["v"], carry["a"]
    alpha, rho = (jnp.exp(-jnp.exp(-params[name])) for name in ("log_tau", "log_tau_a"))
    s = spike(v - 1.0)
    a = rho * a + 0.3 * s
    v = alpha * v + (1 - alpha) * (x @ params["w"] + s @ params["v"] - a) - s
    return {"v": v, "a": a}, spike(v - 1.0) @ params["out"]


rng = np.random.default_rng(0)
params = {"w": rng.normal(0, 4, (N_IN, N)), "v": rng.normal(0, 0.5, (N, N)),
          "out": rng.normal(0, 0.5, (N, 1)), "log_tau": np.full(N, np.log(10.0)),
          "log_tau_a": rng.uniform(np.log(20.0), np.log(200.0), N)}  # fmt: skip
params = jax.tree.map(jnp.float32, params)
rest = {"v": jnp.zeros((BATCH, N)), "a": jnp.zeros((BATCH, N))}
xs = jnp.float32(rng.random((STEPS, BATCH, N_IN)) < 0.3)
target = jnp.broadcast_to(jnp.sin(jnp.arange(STEPS) / 8.0)[:, None, None], (STEPS, BATCH, 1))
found = {}
for rule in ("bptt", "d-rtrl"):
    learner = snnlab.learner(rule, step, params, carry=rest, n_in=N_IN,
                             loss=lambda y, goal: ((y - goal) ** 2).mean())  # fmt: skip
    _, found[rule], _ = jax.jit(learner.value_and_grad)(params, learner.init(), xs, target)
for name in params:
    a, b = (np.ravel(found[rule][name]) for rule in found)
    print(f"{name}: cosine of D-RTRL to BPTT {a @ b / np.linalg.norm(a) / np.linalg.norm(b):.3f}")
