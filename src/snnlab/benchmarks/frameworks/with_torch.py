"""The network in torch: a bare loop, snnTorch, norse, SpikingJelly.

Arrays lie on torch's default device. The time of a loop over steps in torch is that of its
launches; on a GPU :func:`captured` makes one launch of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snnlab.benchmarks.frameworks.base import Case, Run


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


def captured(run: Run, cuda: Any = None) -> Run:
    """A run as a CUDA graph: recorded once, replayed as one launch.

    What it returns are the same tensors every time, with new values.

    Args:
        run: without a look at what it computes on the way.
        cuda: ``torch.cuda``.
    """
    if cuda is None:
        import torch

        cuda = torch.cuda
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):  # memory and libraries are ready before the recording
        for _ in range(3):
            run()
    cuda.current_stream().wait_stream(side)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        found = run()

    def replay() -> tuple[Any, list[Any]]:
        graph.replay()
        return found

    return replay


def waited(run: Run) -> Run:
    """A run of which the GPU has finished all when it returns."""
    import torch

    def finished() -> tuple[Any, list[Any]]:
        found = run()
        torch.cuda.synchronize()
        return found

    return finished


#: One layer over all steps: (its index, drive from its input ``(T, B, n)``) -> spikes.
Layer = Callable[[int, Any], Any]
#: The readout over all steps: drive ``(T, B, n_out)`` -> ``(T, B, n_out)``.
Readout = Callable[[Any], Any]


class _Weights:
    """The parameters of a case: of layers, of the recurrence and the readout if there are any."""

    def __init__(self, case: Case) -> None:
        self.forward = [_parameter(w) for w in case.forward]
        self.recurrent = [_parameter(w) for w in case.recurrent]
        self.out = [] if case.out is None else [_parameter(case.out)]

    def own(self, i: int) -> Callable[..., Any]:
        """A function (drive of a step, spikes of the one before, scale) -> the layer's drive."""
        import torch

        def own(x: Any, s: Any, scale: float = 1.0) -> Any:
            return torch.addmm(x, s, self.recurrent[i], alpha=scale) if self.recurrent else x

        return own


def _parameter(array: np.ndarray) -> Any:
    import torch

    return torch.nn.Parameter(torch.as_tensor(np.array(array)))


def _torch_run(case: Case, weights: _Weights, layer: Layer, readout: Readout) -> Run:
    """Forward, loss and backward of layers in torch.

    Args:
        case: data.
        weights: its parameters.
        layer, readout: what follows the products.
    """
    import torch

    # A copy: torch warns of arrays that cannot be written.
    xs, labels = torch.as_tensor(np.array(case.xs)), torch.as_tensor(case.labels).long()
    wanted = [*weights.forward, *weights.recurrent, *weights.out]
    repeated = labels.repeat(len(xs))

    def run() -> tuple[Any, list[Any]]:
        x = xs
        for i, weight in enumerate(weights.forward):
            x = layer(i, x @ weight)
        if weights.out:
            r = readout(x @ weights.out[0])
            total = torch.nn.functional.cross_entropy(r.flatten(0, 1), repeated, reduction="sum")
        else:
            total = x.sum()
        loss = total / xs.shape[1]
        return loss.detach(), list(torch.autograd.grad(loss, wanted))

    return run


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

    spike, weights = _spike(), _Weights(case)

    def layer(i: int, drive: Any) -> Any:
        own = weights.own(i)

        def step(x: Any, state: Any) -> tuple[Any, Any]:
            u, s = state
            u = own(x, s) + case.decay * (u - s)
            s = spike(u - 1.0)
            return s, (u, s)

        zero = torch.zeros_like(drive[0])
        return _over_steps(drive, step, (zero, zero))

    return _torch_run(case, weights, layer, _plain_readout(case))


def snntorch(case: Case) -> Run:
    """``RLeaky`` (without recurrence ``Leaky``) layers and a ``Leaky`` readout without reset.

    snnTorch resets after the decay, ``u = beta u - s + ...``: with ``(1 - beta)`` added to the
    diagonal of V the two equations are one.
    """
    import snntorch
    import torch

    weights, n = _Weights(case), case.forward[-1].shape[1]
    cells: list[Any] = []
    for i, weight in enumerate(case.recurrent):
        cell = snntorch.RLeaky(beta=case.decay, linear_features=n, spike_grad=_spike())
        cell.recurrent = torch.nn.Linear(n, n, bias=False)
        own = weight.T + (1 - case.decay) * np.eye(n, dtype=np.float32)
        cell.recurrent.weight = weights.recurrent[i] = _parameter(own)
        cells.append(cell)
    cells = cells or [snntorch.Leaky(beta=case.decay, spike_grad=_spike()) for _ in case.forward]
    integrator = snntorch.Leaky(
        beta=case.readout_decay, reset_mechanism="none", surrogate_disable=True
    )

    def layer(i: int, drive: Any) -> Any:
        def step(x: Any, state: Any) -> tuple[Any, Any]:
            s, u = cells[i](x, *state)
            return s, (s, u)

        def alone(x: Any, u: Any) -> tuple[Any, Any]:
            s, u = cells[i](x, u)
            return s, u

        zero = torch.zeros_like(drive[0])
        if not case.recurrent:
            return _over_steps(drive, alone, zero)
        return _over_steps(drive, step, (zero, zero))

    def readout(drive: Any) -> Any:
        def step(x: Any, r: Any) -> tuple[Any, Any]:
            _, r = integrator(x, r)
            return r, r

        return _over_steps(drive, step, torch.zeros_like(drive[0]))

    return _turned(_torch_run(case, weights, layer, readout), len(case.forward), len(cells))


def _turned(run: Run, n_forward: int, n_recurrent: int) -> Run:
    """Gradients of the recurrent weights of ``torch.nn.Linear``, ``(out, in)``, the other way."""
    end = n_forward + n_recurrent

    def turned() -> tuple[Any, list[Any]]:
        loss, found = run()
        return loss, [*found[:n_forward], *(g.T for g in found[n_forward:end]), *found[end:]]

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

    weights = _Weights(case)
    share, share_out = 1 - case.decay, 1 - case.readout_decay
    neuron = LIFBoxParameters(
        tau_mem_inv=torch.as_tensor(share), method="triangle", alpha=torch.as_tensor(0.3),
        reset_method=reset_subtract,
    )  # fmt: skip
    cells = [LIFBoxCell(neuron, dt=1.0) for _ in case.forward]
    integrator = LIBoxCell(LIBoxParameters(tau_mem_inv=torch.as_tensor(share_out)), dt=1.0)

    def layer(i: int, drive: Any) -> Any:
        own = weights.own(i)

        def step(x: Any, state: Any) -> tuple[Any, Any]:
            s, v = state
            s, v = cells[i](own(x, s, 1 / share), v)
            return s, (s, v)

        zero = torch.zeros_like(drive[0])
        return _over_steps(drive / share, step, (zero, LIFBoxFeedForwardState(zero)))

    def readout(drive: Any) -> Any:
        start = LIBoxState(torch.zeros_like(drive[0]))
        return _over_steps(drive / share_out, lambda x, r: integrator(x, r), start)

    return _torch_run(case, weights, layer, readout)


def spikingjelly(case: Case) -> Run:
    """``LIFNode``, step by step with a product of its spikes; all steps at once without one."""
    import torch
    from spikingjelly.activation_based import functional, neuron

    weights = _Weights(case)
    nodes = [
        neuron.LIFNode(
            tau=1 / (1 - case.decay), decay_input=False, v_reset=None,
            surrogate_function=_spike(), step_mode="s" if case.recurrent else "m",
        )
        for _ in case.forward
    ]  # fmt: skip

    def layer(i: int, drive: Any) -> Any:
        functional.reset_net(nodes[i])
        if not case.recurrent:
            return nodes[i](drive)
        own = weights.own(i)

        def step(x: Any, s: Any) -> tuple[Any, Any]:
            s = nodes[i](own(x, s))
            return s, s

        return _over_steps(drive, step, torch.zeros_like(drive[0]))

    return _torch_run(case, weights, layer, _plain_readout(case))
