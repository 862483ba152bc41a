"""One network in several frameworks: recurrent LIF layers, a leaky readout, forward and backward.

A spike is ``s_t = [u_t >= 1]``, a layer's membrane ``u_t = beta (u_{t-1} - s_{t-1}) + x_t W +
s_{t-1} V``, the readout ``r_t = a r_{t-1} + s_t W``, the loss the softmax cross-entropy of ``r_t``,
summed over steps, averaged over the batch; the spike's derivative is ``0.3 max(0, 1 - |u - 1|)``.
Each framework gets the same arrays and the fastest form that we found for it: layer after layer,
the products with a layer's input made for all steps at once, steps cut out by ``unbind`` (whose
gradient is one ``stack``, where that of ``x[t]`` is an array of all steps, for every step).

Frameworks are imported where they are used. ``FRAMEWORKS`` says what each does differently.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """Data, weights and constants of the network.

    Attributes:
        xs: ``(T, B, n_in)`` input. labels: ``(B,)`` classes.
        forward: of each layer ``(n_in or n, n)``. recurrent: ``(n, n)``. out: ``(n, n_out)``.
        decay: ``beta``, of the membranes. readout_decay: ``a``.
    """

    xs: np.ndarray
    labels: np.ndarray
    forward: list[np.ndarray]
    recurrent: list[np.ndarray]
    out: np.ndarray
    decay: float
    readout_decay: float


#: Calculates loss and gradients ``[*forward, *recurrent, out]``, in the framework's own arrays.
Run = Callable[[], tuple[Any, list[Any]]]


@dataclasses.dataclass(frozen=True)
class Framework:
    """A framework that the network can be run in.

    Attributes:
        module: to be imported; comes with the extra ``peers``, or with snnlab itself.
        make: the network as a function without arguments.
        differs: what is not as the module's docstring says.
        torch: whether it computes with torch.
    """

    module: str
    make: Callable[[Case], Run]
    differs: str
    torch: bool = True

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


# ---------------------------------------------------------------------- torch


def _spike() -> Any:
    """The spike as a function of torch."""
    import torch

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: Any) -> Any:
            ctx.save_for_backward(v)
            return (v >= 0).to(v.dtype)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (v,) = ctx.saved_tensors
            return grads[0] * (0.3 * torch.relu(1 - v.abs()))

    return Spike.apply


#: One layer over all steps: (its index, drive from its input ``(T, B, n)``) -> spikes.
Layer = Callable[[int, Any], Any]
#: The readout over all steps: drive ``(T, B, n_out)`` -> ``(T, B, n_out)``.
Readout = Callable[[Any], Any]


def _torch_run(
    case: Case, forward: list[Any], others: list[Any], layer: Layer, readout: Readout
) -> Run:
    """Forward, loss and backward of layers in torch.

    Args:
        case: data.
        forward: of each layer, and of the readout, the parameter ``(n_in, n)``.
        others: recurrent parameters.
        layer, readout: what follows the products.
    """
    import torch

    xs, labels = torch.from_numpy(case.xs), torch.from_numpy(case.labels).long()
    wanted = [*forward[:-1], *others, forward[-1]]
    repeated = labels.repeat(len(xs))

    def run() -> tuple[Any, list[Any]]:
        x = xs
        for i, weight in enumerate(forward[:-1]):
            x = layer(i, x @ weight)
        r = readout(x @ forward[-1])
        total = torch.nn.functional.cross_entropy(r.flatten(0, 1), repeated, reduction="sum")
        loss = total / len(labels)
        return loss.detach(), list(torch.autograd.grad(loss, wanted))

    return run


def _parameters(arrays: list[np.ndarray]) -> list[Any]:
    import torch

    return [torch.nn.Parameter(torch.from_numpy(np.array(a))) for a in arrays]


def _over_steps(drive: Any, step: Callable[[Any, Any], tuple[Any, Any]], state: Any) -> Any:
    """``step(drive of a step, state) -> (output, state)`` over the leading axis."""
    import torch

    outputs = []
    for x in drive.unbind(0):
        y, state = step(x, state)
        outputs.append(y)
    return torch.stack(outputs)


def _plain_readout(case: Case) -> Readout:
    import torch

    def step(x: Any, r: Any) -> tuple[Any, Any]:
        r = torch.add(x, r, alpha=case.readout_decay)
        return r, r

    return lambda drive: _over_steps(drive, step, torch.zeros_like(drive[0]))


def plain_torch(case: Case) -> Run:
    """A loop over steps in torch itself, as the RLIF of sparch (Bittar & Garner 2022)."""
    import torch

    spike = _spike()
    forward, recurrent = _parameters([*case.forward, case.out]), _parameters(case.recurrent)

    def layer(i: int, drive: Any) -> Any:
        def step(x: Any, state: Any) -> tuple[Any, Any]:
            u, s = state
            u = torch.addmm(x, s, recurrent[i]) + case.decay * (u - s)
            s = spike(u - 1.0)
            return s, (u, s)

        zero = torch.zeros_like(drive[0])
        return _over_steps(drive, step, (zero, zero))

    return _torch_run(case, forward, recurrent, layer, _plain_readout(case))


def snntorch(case: Case) -> Run:
    """``RLeaky`` layers and a ``Leaky`` readout without reset.

    snnTorch resets after the decay, ``u = beta u - s + ...``: with ``(1 - beta)`` added to the
    diagonal of V the two equations are one.
    """
    import snntorch
    import torch

    n = case.out.shape[0]
    forward = _parameters([*case.forward, case.out])
    cells = []
    for weight in case.recurrent:
        cell = snntorch.RLeaky(beta=case.decay, linear_features=n, spike_grad=_spike())
        cell.recurrent = torch.nn.Linear(n, n, bias=False)
        own = weight.T + (1 - case.decay) * np.eye(n, dtype=np.float32)
        cell.recurrent.weight = _parameters([own])[0]
        cells.append(cell)
    integrator = snntorch.Leaky(
        beta=case.readout_decay, reset_mechanism="none", surrogate_disable=True
    )

    def layer(i: int, drive: Any) -> Any:
        def step(x: Any, state: Any) -> tuple[Any, Any]:
            s, u = cells[i](x, *state)
            return s, (s, u)

        zero = torch.zeros_like(drive[0])
        return _over_steps(drive, step, (zero, zero))

    def readout(drive: Any) -> Any:
        def step(x: Any, r: Any) -> tuple[Any, Any]:
            _, r = integrator(x, r)
            return r, r

        return _over_steps(drive, step, torch.zeros_like(drive[0]))

    run = _torch_run(case, forward, [c.recurrent.weight for c in cells], layer, readout)
    return _turned(run, len(cells))


def _turned(run: Run, n: int) -> Run:
    """Gradients of ``n`` recurrent weights of ``torch.nn.Linear``, ``(out, in)``, the other way."""

    def turned() -> tuple[Any, list[Any]]:
        loss, found = run()
        return loss, [*found[:n], *(g.T for g in found[n : 2 * n]), *found[2 * n :]]

    return turned


def norse(case: Case) -> Run:
    """``LIFBoxCell`` (no synaptic current) with a product of its spikes, ``LIBoxCell`` as readout.

    norse integrates ``v + dt/tau (i - v)``, so a drive is divided by ``dt/tau = 1 - beta``.
    """
    import torch
    from norse.torch import LIBoxCell, LIFBoxCell
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    forward, recurrent = _parameters([*case.forward, case.out]), _parameters(case.recurrent)
    share, share_out = 1 - case.decay, 1 - case.readout_decay
    neuron = LIFBoxParameters(
        tau_mem_inv=torch.as_tensor(share), method="triangle", alpha=torch.as_tensor(0.3),
        reset_method=reset_subtract,
    )  # fmt: skip
    cells = [LIFBoxCell(neuron, dt=1.0) for _ in recurrent]
    integrator = LIBoxCell(LIBoxParameters(tau_mem_inv=torch.as_tensor(share_out)), dt=1.0)

    def layer(i: int, drive: Any) -> Any:
        def step(x: Any, state: Any) -> tuple[Any, Any]:
            s, v = state
            s, v = cells[i](torch.addmm(x, s, recurrent[i], alpha=1 / share), v)
            return s, (s, v)

        zero = torch.zeros_like(drive[0])
        return _over_steps(drive / share, step, (zero, LIFBoxFeedForwardState(zero)))

    def readout(drive: Any) -> Any:
        start = LIBoxState(torch.zeros_like(drive[0]))
        return _over_steps(drive / share_out, lambda x, r: integrator(x, r), start)

    return _torch_run(case, forward, recurrent, layer, readout)


def spikingjelly(case: Case) -> Run:
    """``LIFNode`` step by step with a product of its spikes; the readout is torch's."""
    import torch
    from spikingjelly.activation_based import functional, neuron

    forward, recurrent = _parameters([*case.forward, case.out]), _parameters(case.recurrent)
    nodes = [
        neuron.LIFNode(
            tau=1 / (1 - case.decay), decay_input=False, v_reset=None, surrogate_function=_spike()
        )
        for _ in recurrent
    ]

    def layer(i: int, drive: Any) -> Any:
        functional.reset_net(nodes[i])

        def step(x: Any, s: Any) -> tuple[Any, Any]:
            s = nodes[i](torch.addmm(x, s, recurrent[i]))
            return s, s

        return _over_steps(drive, step, torch.zeros_like(drive[0]))

    return _torch_run(case, forward, recurrent, layer, _plain_readout(case))


# ---------------------------------------------------------------------- JAX


def spyx(case: Case) -> Run:
    """``RLIF`` and ``LI`` of spyx in Haiku, one compiled program.

    The spike's derivative is given as a function; V as for snnTorch.
    """
    import haiku as hk
    import jax
    import jax.numpy as jnp
    import optax
    from spyx import axn, nn

    (n, n_out), n_layers = case.out.shape, len(case.forward)
    spike = axn.custom(lambda x: 0.3 * jax.nn.relu(1 - jnp.abs(x)), axn.heaviside)

    def network(x: Any) -> Any:
        for i in range(n_layers):
            x = hk.Linear(n, with_bias=False, name=f"forward_{i}")(x)
            cell = nn.RLIF((n,), beta=case.decay, activation=spike, name=f"layer_{i}")
            x, _ = hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[1]))
        x = hk.Linear(n_out, with_bias=False, name="out")(x)
        cell = nn.LI((n_out,), beta=case.readout_decay, name="readout")
        return hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[1]))[0]

    def loss_of(params: Any, xs: Any, labels: Any) -> Any:
        r = made.apply(params, None, xs)
        repeated = jnp.broadcast_to(labels, r.shape[:2])
        each = optax.softmax_cross_entropy_with_integer_labels(r, repeated)
        return each.mean(-1).sum()

    made = hk.transform(network)
    xs, labels = jnp.asarray(case.xs), jnp.asarray(case.labels)
    own = (1 - case.decay) * np.eye(n, dtype=np.float32)
    params = {
        **{f"forward_{i}": {"w": w} for i, w in enumerate(case.forward)},
        **{f"layer_{i}": {"w": w + own, "beta": case.decay} for i, w in enumerate(case.recurrent)},
        "out": {"w": case.out}, "readout": {"beta": case.readout_decay},
    }  # fmt: skip
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    program = jax.jit(jax.value_and_grad(loss_of))
    names = [f"forward_{i}" for i in range(n_layers)] + [f"layer_{i}" for i in range(n_layers)]

    def run() -> tuple[Any, list[Any]]:
        loss, found = jax.block_until_ready(program(params, xs, labels))
        return loss, [found[name]["w"] for name in (*names, "out")]

    return run


FRAMEWORKS = {
    "torch": Framework("torch", plain_torch, "nothing"),
    "snnTorch": Framework("snntorch", snntorch, "no gradient through the reset; spikes at u > 1"),
    "norse": Framework("norse.torch", norse, "nothing; the recurrent product is torch's"),
    "SpikingJelly": Framework(
        "spikingjelly.activation_based",
        spikingjelly,
        "nothing; recurrent product and readout are torch's",
    ),
    "spyx": Framework(
        "spyx", spyx, "spikes leave a layer one step late; decays are trained too", torch=False
    ),
}
