"""The spiking network that solves a linear system, in closed form and without training.

The linear system of J dimensions, ``tau dx/dt = (A - I) x + c``, in steps of ``(1-a) tau``:

    x_{k+1} = x_k + (1-a) ((A - I) x_k + c_k) = a x_k + (1-a) (c_k + A x_k)

and N neurons whose membrane is the projected error of what their spikes decode,
``v_i = w_i . (x - x_snn)``; neuron i spikes when adding its decoder ``w_i`` (column i of
``w_out (J, N)``) to ``x_snn`` makes the error smaller than the spike costs. One step, in this
order, with the spike ``o_k`` read from ``v_k``:

    I_k       = w_in c_k + w_slow r_k + w_fast o_k
    v_{k+1}   = a v_k + (1-a) (v_rest + I_k) + sigma_v xi_k
    r_{k+1}   = a r_k + o_k
    x_snn,k+1 = a x_snn,k + w_out o_k                                  (= w_out r_{k+1})
    o_{k+1}   = at most one spike: a random one of the neurons with v_{k+1} > theta

    w_in   = w_out^T                     w_fast = -(w_out^T w_out + mu I) / (1-a)
    w_slow = w_out^T A w_out             theta  = (nu + mu + |w_i|^2) / 2

Every weight matrix is ``w_out`` sandwiched, and at most one neuron spikes, so a step costs
O(J N): no N x N matrix is ever made, not for the excitatory and inhibitory parts either.

Source: Boerlin, Machens & Deneve 2013 (PLoS Comput. Biol. 9:e1003258), eqs. 2, 4-9; the
normalisation is that of Stadtmann, Paessens & Gemmeke 2024 (c in units of x per tau). Departures
from the latter: ``w_slow`` there carries a further 1/(1-a) and the linear system has no A, so
that with A != 0 the network does not follow it; with J > 1 ``boerlin-fix`` gives all dimensions
the same decoder there, here every neuron decodes one dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from snnlab.models.config import DecoderInit

#: Decoder weights are up to ``(1-a) / UNIT``: 0.1 at a = 0.9999.
UNIT = 0.001
#: Neurons of ``custom`` that decode anything: so many of either sign.
CUSTOM = 5


class Integrator(NamedTuple):
    """Parameters; see the module.

    Attributes:
        decoders: ``(N, J)``, the transpose of ``w_out``.
        coupling: ``(J, J)``, A; zeros for the auto-encoder.
        threshold: ``(N,)``.
        mu: quadratic spike cost.
        decay: a.
        v_rest: resting potential.
        sigma_v: standard deviation of the membrane noise of a step.
    """

    decoders: jax.Array
    coupling: jax.Array
    threshold: jax.Array
    mu: float
    decay: float
    v_rest: float
    sigma_v: float


class State(NamedTuple):
    """What evolves.

    Attributes:
        v: ``(N,)`` membrane.
        x: ``(J,)`` linear system.
        decoded: ``(J,)`` x_snn.
        spike: the neuron that spiked last, N for none.
        slow: ``(2, N)`` positive and negative part of ``w_slow r``, for :func:`currents`.
    """

    v: jax.Array
    x: jax.Array
    decoded: jax.Array
    spike: jax.Array
    slow: jax.Array


def decoders(
    init: DecoderInit, n: int, n_dim: int, decay: float, sparsity: float, key: jax.Array
) -> jax.Array:
    """``(N, J)`` decoding weights.

    With ``g = (1-a) / 0.001``: ``boerlin-fix`` +g for the first half of the neurons and -g for
    the second, neuron i decoding dimension i mod J; ``boerlin-rand`` U(0.6 g, g) and U(-g,
    -0.6 g) for the halves, a share ``sparsity`` of them 0; ``rand`` U(-g, g), likewise sparse;
    ``kaiming-normal`` N(0, 2/N); ``kaiming-uniform`` U(-1/sqrt(N), 1/sqrt(N)); ``custom`` +g for
    five neurons, -g for five, on dimension 0, and 0 for the rest.
    """
    g = (1 - decay) / UNIT
    shape = (n, n_dim)
    of_size, of_mask = jax.random.split(key)
    sign = jnp.where(jnp.arange(n) < n // 2, 1.0, -1.0)[:, None]
    kept = jax.random.bernoulli(of_mask, 1 - sparsity, shape)
    if init == "boerlin-fix":
        own = jnp.arange(n_dim) == (jnp.arange(n) % n_dim)[:, None]
        return g * sign * own
    if init == "boerlin-rand":
        return sign * kept * jax.random.uniform(of_size, shape, minval=0.6 * g, maxval=g)
    if init == "rand":
        return kept * jax.random.uniform(of_size, shape, minval=-g, maxval=g)
    if init == "kaiming-normal":
        return jax.random.normal(of_size, shape) * (2 / n) ** 0.5
    if init == "kaiming-uniform":
        return jax.random.uniform(of_size, shape, minval=-(n**-0.5), maxval=n**-0.5)
    neuron, first = jnp.arange(n)[:, None], jnp.arange(n_dim) == 0
    size = jnp.where(neuron < CUSTOM, g, jnp.where(neuron < 2 * CUSTOM, -g, 0.0))
    return size * first


def make_integrator(
    w: jax.Array, coupling: jax.Array, *, decay: float, mu: float = 0.0, nu: float = 0.0,
    v_rest: float = 0.0, sigma_v: float = 0.0,
) -> Integrator:  # fmt: skip
    """The network of decoders ``w (N, J)``; see the module for the arguments."""
    threshold = 0.5 * (nu + mu + (w * w).sum(1))
    return Integrator(w, coupling, threshold, mu, decay, v_rest, sigma_v)


def rest(net: Integrator) -> State:
    """The state at the start: membranes at ``v_rest``, x and x_snn 0, no spike."""
    n, n_dim = net.decoders.shape
    zero = jnp.zeros(n_dim)
    return State(jnp.full(n, net.v_rest), zero, zero, jnp.int32(n), jnp.zeros((2, n)))


def _last_decoder(net: Integrator, state: State) -> jax.Array:
    """``(J,)`` decoder of the neuron that spiked last, zeros if none did."""
    n = net.decoders.shape[0]
    row = lax.dynamic_index_in_dim(net.decoders, jnp.minimum(state.spike, n - 1), keepdims=False)
    return jnp.where(state.spike < n, row, 0.0)


def step(net: Integrator, state: State, c: jax.Array, xi: jax.Array, draw: jax.Array) -> State:
    """One step; ``slow`` is left as it is.

    Args:
        c: ``(J,)`` input.
        xi: ``(N,)`` standard normal noise.
        draw: uint32 that chooses among neurons above threshold.
    """
    n = net.decoders.shape[0]
    neuron = jnp.arange(n, dtype=jnp.int32)
    a, b = net.decay, 1 - net.decay
    kick = _last_decoder(net, state)
    v = a * state.v + b * net.v_rest + net.sigma_v * xi
    v += net.decoders @ (b * (c + net.coupling @ state.decoded) - kick)
    v -= net.mu * (neuron == state.spike)
    x = a * state.x + b * (c + net.coupling @ state.x)
    decoded = a * state.decoded + kick
    # A uniform choice: the largest of one hash per candidate.
    lot = jnp.where(v > net.threshold, _mix(neuron.astype(jnp.uint32) ^ draw) | 1, 0)
    first = jnp.argmax(lot).astype(jnp.int32)
    spike = jnp.where(lot[first] > 0, first, n)
    return State(v, x, decoded, spike, state.slow)


def currents(
    net: Integrator, state: State, c: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Excitation and inhibition of the step that follows ``state``.

    The positive and the negative terms of ``sum_j w_in[i,j] c_j + sum_m w_fast[i,m] o_m +
    sum_m w_slow[i,m] r_m``, each ``(N,)``, and ``slow`` of the next state: one neuron spikes, so
    ``w_slow+- r`` follows from its last value and one column.
    """
    w, b = net.decoders, 1 - net.decay
    n = w.shape[0]
    drive = w * c
    kick = _last_decoder(net, state)
    fast = -(w @ kick + net.mu * (jnp.arange(n) == state.spike)) / b
    exc = jnp.maximum(drive, 0).sum(1) + jnp.maximum(fast, 0) + state.slow[0]
    inh = jnp.minimum(drive, 0).sum(1) + jnp.minimum(fast, 0) + state.slow[1]
    column = w @ (net.coupling @ kick)
    parts = jnp.stack([jnp.maximum(column, 0), jnp.minimum(column, 0)])
    return exc, inh, net.decay * state.slow + parts


def _mix(x: jax.Array) -> jax.Array:
    """A bijective hash of uint32 (Wellons 2018, "Prospecting for hash functions")."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)
