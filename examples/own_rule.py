"""A learning rule of one's own: D-RTRL whose traces have one leak, whatever the neurons do."""

import jax
import jax.numpy as jnp
import numpy as np

import snnlab
from snnlab.learners import DRTRL, Dynamics, PerParameter, hidden_maps


class Leaky(PerParameter):  # e_t = a e_{t-1} + x_t f_t ; the signal is D-RTRL's
    def edges(self):
        return {(b, b) for b in self.graph.trace_states}

    def dynamics(self, chunk):
        of, a = chunk.dynamics, self.setting.decay
        leak = {(b, b): jnp.full(shape, a) for b, shape in of.shapes.items()}
        return Dynamics(of.reach, leak, of.drive_jacobian, of.shapes)


def leaky(request):  # D-RTRL for readouts and values of neurons
    return request.online(hidden_maps(Leaky, DRTRL))


def step(params, carry, x):
    v = 0.9 * carry + x @ params["w"]
    s = jax.nn.sigmoid(5 * (v - 1.0))
    return v, (s @ params["out"], s)


rng = np.random.default_rng(0)
params = {k: jnp.float32(rng.normal(0, 1, s)) for k, s in {"w": (8, 16), "out": (16, 2)}.items()}
xs, goal, found = jnp.float32(rng.random((30, 5, 8)) < 0.2), jnp.zeros((30, 5, 2)), []
for rule, options in ("d-rtrl", {}), (leaky, {"etrace_decay": 0.9}), (leaky, {"etrace_decay": 0.5}):
    learner = snnlab.learner(rule, step, params, carry=jnp.zeros((5, 16)), n_in=8, **options,
                             loss=lambda output, target: ((output[0] - target) ** 2).sum(-1),
                             spikes=lambda _carry, output: output[1])  # fmt: skip
    found.append(learner.value_and_grad(params, learner.init(), xs, goal)[1]["w"])
    error = jnp.linalg.norm(found[-1] - found[0]) / jnp.linalg.norm(found[0])
    print(f"leak {options.get('etrace_decay')}: distance to D-RTRL {error:.6f}")
