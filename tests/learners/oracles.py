"""Every learning rule in NumPy and float64, written step by step from its equations.

Nothing here knows of chunks, stores, graphs or automatic differentiation: a network is written
out by hand with its derivatives (:func:`record`), and each rule is the recursion of its paper over
the recorded steps. States ``h (S, B, n)``, the membrane first; ``u (B, m + n)`` is the input of a
layer's map, the layer's input and its own last spikes; a parameter of a neuron has a value for
each of them.

A step, in the order of the suite's neurons (``z`` the argument of the spike function, ``H`` the
step function, ``g`` its surrogate derivative):

========  ==================================================================================
all       ``s' = H(z(h_{t-1}))``, ``V' = V_{t-1} - th s'``, ``y = u W``, ``s = H(z(h_t))``
``lif``   ``V = a V' + y + bias``; ``z = (V - th) / th``
``exp``   ``I = c I_{t-1} + y``, ``V = a V' + (1 - a) I + bias``; ``z`` as ``lif``
``alif``  ``V`` as ``lif``, ``A = rho (A_{t-1} + s')``; ``z = (V - th - beta A) / th``
readout   ``r = kappa r_{t-1} + s W_o``, and a loss of r
========  ==================================================================================

with ``a = exp(-1 / tau)``, ``c = exp(-1 / tau_syn)``. Gradients are of the sum over samples and
steps of ``weight`` times the loss, and of two penalties, by parameter name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Params = dict[str, Array]
Gradients = dict[str, Array]

#: ReluGrad of the suite: height and half width.
HEIGHT, WIDTH = 0.3, 1.0
#: What UORO adds to norms before it divides them.
TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Net:
    """A network of the family.

    Attributes:
        kind: ``lif``, ``exp`` or ``alif``.
        layers: number of them.
        detach: no gradient through the spike that resets (and that adapts).
        reset: whether a spike resets; otherwise a threshold acts on spikes alone.
        kappa, rho: decays of the readout and of adaptation.
        loss: ``cel`` or ``mse``.
        spikes, membranes: factors of the penalties; ``low``, ``high``, ``rate``: their constants.
        warmup: steps without loss.
    """

    kind: str = "lif"
    layers: int = 2
    detach: bool = False
    reset: bool = True
    kappa: float = 0.9
    rho: float = 0.99
    loss: str = "cel"
    spikes: float = 0.0
    membranes: float = 0.0
    rate: float = 0.01
    low: float = -1.0
    high: float = 1.0
    warmup: int = 0

    @property
    def own(self) -> tuple[str, ...]:
        """Parameters of a neuron."""
        more = {"lif": (), "exp": ("tau_syn",), "alif": ("beta",)}[self.kind]
        return ("tau", "threshold", "bias", *more)


@dataclasses.dataclass
class Layer:
    """A layer in a step.

    Attributes:
        w, n_x: its map, and how many of its rows belong to the layer's input.
        u: the map's input.
        h: states after the step; s: spikes.
        D: ``dh/dh_{t-1}`` of the same neuron at a given ``u``, ``(S, S, B, n)``.
        f: ``dh/dy (S, B, n)``.
        own: ``dh/dtheta`` at given ``u`` and ``h_{t-1}``, by name of a neuron's parameter; of time
            constants by the decay.
        o, q: ``ds/dh (S, B, n)`` and ``ds/dtheta (B, n)`` at given ``h``.
        o_last, q_last: the same of the spikes that the step begins with.
        chain: derivative of the decay by its time constant; of others 1.
        pen_s, pen_v: derivatives of the penalties by spikes and membrane.
    """

    w: Array
    n_x: int
    u: Array
    h: Array
    s: Array
    D: Array
    f: Array
    own: dict[str, Array]
    o: Array
    q: dict[str, Array]
    o_last: Array
    q_last: dict[str, Array]
    chain: dict[str, Array]
    pen_s: Array
    pen_v: Array


@dataclasses.dataclass
class Step:
    """A step of the network.

    Attributes:
        net, layers: what it is made of.
        r: of the readout.
        e: ``dL_t/dr (B, n_out)``.
        out: the readout's map.
        loss: of the task.
        scored: 0 where there is no loss.
    """

    net: Net
    layers: list[Layer]
    r: Array
    e: Array
    out: Array
    loss: float
    scored: float


# ---------------------------------------------------------------------- the network


def spike(net: Net, h: Array, p: Params) -> tuple[Array, Array, dict[str, Array]]:
    """``s``, ``ds/dh`` and ``ds/dtheta``."""
    v, th = h[0], p["threshold"]
    top = th + p["beta"] * h[1] if net.kind == "alif" else th
    z = (v - top) / th
    s = (z >= 0).astype(float)
    g = HEIGHT * np.maximum(WIDTH - np.abs(z), 0.0)
    o = np.zeros_like(h)
    o[0] = g / th
    q = {"threshold": -g * (z + 1.0) / th}
    if net.kind == "alif":
        o[1] = -g * p["beta"] / th
        q["beta"] = -g * h[1] / th
    return s, o, q


def advance(net: Net, h: Array, x: Array, w: Array, p: Params) -> Layer:
    """One step of a layer."""
    th, bias = p["threshold"], p["bias"]
    a = np.exp(-1.0 / p["tau"])
    s_last, o_last, q_last = spike(net, h, p)
    through = 0.0 if net.detach else 1.0
    u = np.concatenate([x, s_last], axis=1)
    y = u @ w
    jump = th if net.reset else 0.0 * th
    left = h[0] - jump * s_last
    # what the reset makes of the states and of the parameters in z
    left_h = -jump * through * o_last
    left_h[0] += 1.0
    left_own = {name: -jump * through * value for name, value in q_last.items()}
    left_own["threshold"] = left_own["threshold"] - s_last * net.reset
    new, D, f = np.empty_like(h), np.zeros((len(h), *h.shape)), np.zeros_like(h)
    own = {name: np.zeros_like(h) for name in net.own}
    chain = {name: np.ones_like(bias) for name in net.own}
    chain["tau"] = a / p["tau"] ** 2
    drive = y
    D[0] = a * left_h
    own["tau"][0] = left
    f[0] = 1.0
    if net.kind == "exp":
        c = np.exp(-1.0 / p["tau_syn"])
        new[1] = c * h[1] + y
        drive = (1.0 - a) * new[1]
        D[1, 1] = c
        D[0, 1] += (1.0 - a) * c
        f[0], f[1] = 1.0 - a, 1.0
        own["tau"][0] = left - new[1]
        own["tau_syn"][1] = h[1]
        own["tau_syn"][0] = (1.0 - a) * h[1]
        chain["tau_syn"] = c / p["tau_syn"] ** 2
    if net.kind == "alif":
        new[1] = net.rho * (h[1] + s_last)
        D[1] = net.rho * through * o_last
        D[1, 1] += net.rho
        for name, value in q_last.items():
            own[name][1] = net.rho * through * value
    new[0] = a * left + drive + bias
    own["bias"][0] = 1.0
    for name, value in left_own.items():
        own[name][0] = a * value
    s, o, q = spike(net, new, p)
    nothing = np.zeros_like(s)
    return Layer(w, x.shape[1], u, new, s, D, f, own, o, q, o_last, q_last, chain, nothing, nothing)


def loss_of(net: Net, r: Array, labels: Array, weight: Array) -> tuple[float, Array]:
    """The task's loss of a readout, and ``dL/dr``."""
    hot = np.eye(r.shape[1])[labels]
    if net.loss == "mse":
        each, e = np.mean((r - hot) ** 2, axis=1), 2.0 * (r - hot) / r.shape[1]
    else:
        top = np.exp(r - r.max(1, keepdims=True))
        share = top / top.sum(1, keepdims=True)
        each, e = -np.log(np.sum(share * hot, axis=1)), share - hot
    return float(weight @ each), weight[:, None] * e


def layer_params(net: Net, params: Params, k: int) -> Params:
    return {name: params[f"{name}.{k}"] for name in net.own}


def record(
    net: Net, params: Sequence[Params], xs: Array, labels: Array, weight: Array
) -> list[Step]:
    """The forward pass.

    Args:
        net: the network.
        params: of each step.
        xs: ``(T, B, n_in)``.
        labels: ``(B,)``.
        weight: of each sample ``(B,)``.
    """
    batch, states = xs.shape[1], 1 if net.kind == "lif" else 2
    first = params[0]
    h = [np.zeros((states, batch, first[f"bias.{k}"].size)) for k in range(net.layers)]
    r = np.zeros((batch, first["out"].shape[1]))
    steps = []
    for t, (p, x) in enumerate(zip(params, xs, strict=True)):
        layers = []
        for k in range(net.layers):
            layer = advance(net, h[k], x, p[f"w.{k}"], layer_params(net, p, k))
            x, h[k] = layer.s, layer.h
            layers.append(layer)
        r = net.kappa * r + x @ p["out"]
        loss, e = loss_of(net, r, labels, weight)
        scored = float(t >= net.warmup)
        for layer in layers:
            n = layer.s.shape[1]
            mean, v = weight @ layer.s, layer.h[0]
            layer.pen_s = scored * net.spikes * np.outer(weight, 2.0 * (mean - net.rate) / n)
            beyond = np.maximum(v - net.high, 0.0) - np.maximum(net.low - v, 0.0)
            layer.pen_v = scored * net.membranes * weight[:, None] * 2.0 * beyond / n
        steps.append(Step(net, layers, r, scored * e, p["out"], scored * loss, scored))
    return steps


# ---------------------------------------------------------------------- signals


def exact(step: Step) -> list[Array]:
    """``dL_t/ds_t`` by layer from above: through the maps and the readout, within the step."""
    above, found = step.e @ step.out.T, []
    for layer in reversed(step.layers):
        found.append(above)
        above = through_drive(layer, at_states(layer, above)) @ layer.w[: layer.n_x].T
    return found[::-1]


def at_states(layer: Layer, signal: Array) -> Array:
    """``dL_t/dh_t (S, B, n)`` from what comes to the spikes, penalties added."""
    d = layer.o * (signal + layer.pen_s)
    d[0] += layer.pen_v
    return d


def through_drive(layer: Layer, d: Array) -> Array:
    """``dL/dy``."""
    return np.sum(layer.f * d, axis=0)


def fed_back(step: Step, weights: Sequence[Array]) -> list[Array]:
    """The readout's error through a matrix ``B (n, n_out)`` for each layer."""
    return [step.e @ b.T for b in weights]


def local_error(step: Step, weights: Sequence[Array], labels: Array, weight: Array) -> list[Array]:
    """The error of each layer's own readout ``G (n, n_out)``."""
    return [
        step.scored * loss_of(step.net, layer.s @ g, labels, weight)[1] @ g.T
        for layer, g in zip(step.layers, weights, strict=True)
    ]


# ---------------------------------------------------------------------- rules of single neurons


def along(D: Array, e: Array) -> Array:
    """``D e`` of each neuron; ``e (S, B, n)``, or ``(S, B, i, n)`` for a map."""
    if e.ndim == 3:
        return np.einsum("pqbn,qbn->pbn", D, e)
    return np.einsum("pqbn,qbin->pbin", D, e)


def entering(layer: Layer) -> Array:
    """``u f`` of a map, ``(S, B, m + n, n)``."""
    return layer.u[None, :, :, None] * layer.f[:, :, None, :]


def neuron_gradients(k: int, layer: Layer, d: Array, c: Array, e: dict[str, Array]) -> Gradients:
    """Of a neuron's parameters from their traces; ``c`` is the signal at spikes, ``d`` at states.

    ``q c``: what a parameter does to the spikes of the step past all states.
    """
    found = {}
    for name, trace in e.items():
        whole = np.sum(d * trace, axis=(0, 1))
        if name in layer.q:
            whole = whole + np.sum(layer.q[name] * c, axis=0)
        found[f"{name}.{k}"] = whole * layer.chain[name]
    return found


def neuron_traces(layer: Layer, e: dict[str, Array]) -> dict[str, Array]:
    """``e_t = D e_{t-1} + dh/dtheta``."""
    return {name: along(layer.D, old) + layer.own[name] for name, old in e.items()}


def readout(steps: list[Step]) -> list[Gradients]:
    """``sbar_t = kappa sbar_{t-1} + s_t``, the readout's exact gradient."""
    trace, found = 0.0, []
    for step in steps:
        trace = step.net.kappa * trace + step.layers[-1].s
        found.append({"out": trace.T @ step.e})
    return found


def start(step: Step, k: int) -> tuple[Array, dict[str, Array]]:
    layer = step.layers[k]
    nothing = np.zeros_like(layer.h)
    return np.zeros_like(entering(layer)), dict.fromkeys(layer.own, nothing)


Signals = list[list[Array]]


def exact_signals(steps: list[Step]) -> Signals:
    return [exact(step) for step in steps]


def join(*parts: list[Gradients]) -> list[Gradients]:
    """Gradients of different parameters, step by step."""
    return [{name: g for part in each for name, g in part.items()} for each in zip(*parts)]


def drtrl(steps: list[Step], signals: Signals) -> list[Gradients]:
    """D-RTRL of the layers: ``e_t = D_t e_{t-1} + u_t f_t``, ``dW = sum d_t e_t``."""
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        e, own = start(steps[0], k)
        for t, step in enumerate(steps):
            layer = step.layers[k]
            e, own = along(layer.D, e) + entering(layer), neuron_traces(layer, own)
            d, c = at_states(layer, signals[t][k]), signals[t][k] + layer.pen_s
            found[t][f"w.{k}"] = np.einsum("sbn,sbin->in", d, e)
            found[t].update(neuron_gradients(k, layer, d, c, own))
    return found


def esdrtrl_map(steps: list[Step], signals: Signals, k: int, a: float) -> list[Gradients]:
    """ES-D-RTRL of a layer's map.

    ``xbar_t = a xbar_{t-1} + x_t``, ``fbar_t = a D_t fbar_{t-1} + (1 - a) f_t``,
    ``dW = sum_t xbar_t (d_t fbar_t) / (1 - a^(t+1))``, t from 0.
    """
    x_bar, f_bar, found = 0.0, np.zeros_like(steps[0].layers[k].f), []
    for t, step in enumerate(steps):
        layer = step.layers[k]
        x_bar = a * x_bar + layer.u
        f_bar = a * along(layer.D, f_bar) + (1.0 - a) * layer.f
        d = at_states(layer, signals[t][k])
        found.append({f"w.{k}": x_bar.T @ np.sum(d * f_bar, axis=0) / (1.0 - a ** (t + 1))})
    return found


def esdrtrl_readout(steps: list[Step], a: float) -> list[Gradients]:
    """ES-D-RTRL of the readout's map: D is kappa and f is 1."""
    x_bar, f_bar, found = 0.0, 0.0, []
    for t, step in enumerate(steps):
        x_bar = a * x_bar + step.layers[-1].s
        f_bar = a * step.net.kappa * f_bar + (1.0 - a)
        found.append({"out": x_bar.T @ (step.e * f_bar) / (1.0 - a ** (t + 1))})
    return found


def eprop(
    steps: list[Step], signals: Signals, kappa: float, leak: float | None = None
) -> list[Gradients]:
    """e-prop of the layers.

    ``eps_t = D_t eps_{t-1} + u_t f_t``, ``e_t = (ds_t/dh_t) eps_t + ds_t/dtheta``,
    ``ebar_t = kappa ebar_{t-1} + e_t``, ``dW = sum_t L_t ebar_t``; penalties are not filtered.
    With ``leak`` in the place of D it is OTPE.
    """
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        e, own = start(steps[0], k)
        bar: Array | float = 0.0
        own_bar = dict.fromkeys(own, 0.0)
        for t, step in enumerate(steps):
            layer, signal = step.layers[k], signals[t][k]
            D = layer.D
            if leak is not None:
                D = leak * np.eye(len(layer.h))[:, :, None, None] * np.ones_like(layer.s)
            e = along(D, e) + entering(layer)
            own = {name: along(D, old) + layer.own[name] for name, old in own.items()}
            bar = kappa * bar + np.einsum("sbn,sbin->bin", layer.o, e)
            pen = at_states(layer, np.zeros_like(signal))
            found[t][f"w.{k}"] = np.einsum("bn,bin->in", signal, bar) + np.einsum(
                "sbn,sbin->in", pen, e
            )
            found[t].update(neuron_gradients(k, layer, pen, layer.pen_s, own))
            for name, trace in own.items():
                now = np.sum(layer.o * trace, axis=0) + layer.q.get(name, 0.0)
                own_bar[name] = kappa * own_bar[name] + now
                found[t][f"{name}.{k}"] = found[t][f"{name}.{k}"] + layer.chain[name] * np.sum(
                    signal * own_bar[name], axis=0
                )
    return found


def ottt_maps(steps: list[Step], signals: Signals, a: float) -> list[Gradients]:
    """OTTT of the layers' maps: ``xbar_t = a xbar_{t-1} + u_t``, ``dW = sum xbar_t (d_t f_t)``."""
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        x_bar: Array | float = 0.0
        for t, step in enumerate(steps):
            layer = step.layers[k]
            x_bar = a * x_bar + layer.u
            found[t][f"w.{k}"] = x_bar.T @ through_drive(layer, at_states(layer, signals[t][k]))
    return found


def immediate(steps: list[Step]) -> list[Gradients]:
    """Nothing is remembered: ``dW = sum_t u_t (d_t f_t)``; the readout neither."""
    found = []
    for step in steps:
        now = {"out": step.layers[-1].s.T @ step.e}
        for k, (layer, signal) in enumerate(zip(step.layers, exact(step), strict=True)):
            d = at_states(layer, signal)
            now[f"w.{k}"] = layer.u.T @ through_drive(layer, d)
            now.update(neuron_gradients(k, layer, d, signal + layer.pen_s, layer.own))
        found.append(now)
    return found


def feedback_gradients(steps: list[Step]) -> list[Gradients]:
    """Of learned feedback: that of a readout of the layer, ``sbar_t^T e_t``."""
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        trace: Array | float = 0.0
        for t, step in enumerate(steps):
            trace = step.net.kappa * trace + step.layers[k].s
            found[t][f"feedback.{k}"] = trace.T @ step.e
    return found


# ---------------------------------------------------------------------- rules of whole layers


def influence(steps: list[Step], signals: Signals, mask: Sequence[Array | None]) -> list[Gradients]:
    """OSTL and SnAp of the layers: ``J_t = M (A_t J_{t-1} + dh_t/dtheta)``, ``dW = sum d_t J_t``.

    ``A_t = D_t + f_t W_own^T ds_{t-1}/dh_{t-1}`` couples the neurons of the layer, and parameters
    of the spikes act through ``W_own`` too. ``mask[k] (n, n)`` by (neuron of the parameter,
    neuron of the state).
    """
    found: list[Gradients] = [{} for _ in steps]
    for k in range(steps[0].net.layers):
        J: dict[str, Array] = {}
        for t, step in enumerate(steps):
            layer = step.layers[k]
            n, rows = layer.s.shape[1], layer.u.shape[1]
            own_w, eye = layer.w[layer.n_x :], np.eye(n)
            A = np.einsum("pqbn,nm->pbnqm", layer.D, eye)
            A += np.einsum("pbn,mn,qbm->pbnqm", layer.f, own_w, layer.o_last)
            enter = {"w": np.einsum("bi,sbn,nm->sbnim", layer.u, layer.f, eye)}
            for name, value in layer.own.items():
                enter[name] = np.einsum("sbn,nm->sbnm", value, eye)
                if name in layer.q_last:
                    enter[name] = enter[name] + np.einsum(
                        "sbn,mn,bm->sbnm", layer.f, own_w, layer.q_last[name]
                    )
            d, c = at_states(layer, signals[t][k]), signals[t][k] + layer.pen_s
            for name, value in enter.items():
                if name in J:
                    value = value + np.einsum("pbnqm,qbm...->pbn...", A, J[name])
                if mask[k] is not None:
                    value = value * np.einsum("mn->nm", mask[k]).reshape(
                        (n, 1, n) if name == "w" else (n, n)
                    )
                J[name] = value
                whole = np.einsum("sbn,sbn...->...", d, value)
                if name in layer.q:
                    whole = whole + np.sum(layer.q[name] * c, axis=0)
                found[t][f"{name}.{k}"] = whole * layer.chain.get(name, 1.0)
            assert found[t][f"w.{k}"].shape == (rows, n)
    return found


def reached(step: Step, k: int, order: int) -> Array:
    """SnAp's pattern of a layer: neurons that a neuron reaches within ``order - 1`` steps."""
    layer = step.layers[k]
    found = np.eye(layer.s.shape[1])
    if order == 2:
        found = np.maximum(found, layer.w[layer.n_x :] != 0)
    return found


# ---------------------------------------------------------------------- the whole network


def bptt(steps: list[Step]) -> Gradients:
    """Backpropagation through the steps of a window."""
    return sweep(steps)[0]


def sweep(steps: list[Step]) -> tuple[Gradients, list[Array], Array]:
    """The same, and the adjoints of the states before it: by layer, and of the readout."""
    net, found = steps[0].net, {}

    def add(name: str, value: Array) -> None:
        found[name] = found[name] + value if name in found else value

    later = [np.zeros_like(layer.h) for layer in steps[0].layers]
    r_bar: Array | float = 0.0
    for step in reversed(steps):
        r_bar = step.e + net.kappa * r_bar
        add("out", step.layers[-1].s.T @ r_bar)
        above = r_bar @ step.out.T
        for k in range(net.layers - 1, -1, -1):
            layer = step.layers[k]
            s_bar = above + layer.pen_s
            h_bar = later[k] + layer.o * s_bar
            h_bar[0] += layer.pen_v
            y_bar = through_drive(layer, h_bar)
            u_bar = y_bar @ layer.w.T
            above, last_bar = u_bar[:, : layer.n_x], u_bar[:, layer.n_x :]
            add(f"w.{k}", layer.u.T @ y_bar)
            for name, value in layer.own.items():
                whole = np.sum(value * h_bar, axis=(0, 1))
                if name in layer.q:
                    both = layer.q[name] * s_bar + layer.q_last[name] * last_bar
                    whole = whole + np.sum(both, axis=0)
                add(f"{name}.{k}", whole * layer.chain[name])
            later[k] = np.einsum("pqbn,pbn->qbn", layer.D, h_bar) + layer.o_last * last_bar
    return found, later, net.kappa * r_bar


def windows(
    steps: list[Step], lengths: Sequence[int], k: int, a: float | None = None
) -> list[Gradients]:
    """Windows of ``k`` steps (Wang et al. 2026, multi-step): backpropagation inside a window.

    What was before it enters by the adjoint ``c`` of the states before it: ``dW += c e`` with the
    trace of D-RTRL there; with ``a``, maps have ``xbar (c fbar) / (1 - a^t)`` of ES-D-RTRL after t
    steps in its place. Windows begin anew with each of the ``lengths``.
    """
    net, found = steps[0].net, []
    traces = [start(steps[0], i) for i in range(net.layers)]
    seen = np.zeros_like(steps[0].layers[-1].s)
    x_bar: list[Any] = [0.0] * (net.layers + 1)
    f_bar: list[Any] = [np.zeros_like(layer.f) for layer in steps[0].layers] + [0.0]
    before, first = 0, 0
    for length in lengths:
        for at in range(first, first + length, k):
            part = steps[at : min(at + k, first + length)]
            now, c, r_bar = sweep(part)
            warm = 1.0 if a is None else 1.0 - a ** max(before, 1)
            if a is None:
                now["out"] = now["out"] + seen.T @ r_bar
            else:
                s_bar = x_bar[-1] * np.ones_like(seen)
                now["out"] = now["out"] + s_bar.T @ (r_bar * f_bar[-1]) / warm
            for i, (e, own) in enumerate(traces):
                if a is None:
                    carried = np.einsum("sbn,sbin->in", c[i], e)
                else:
                    u_bar = x_bar[i] * np.ones_like(part[0].layers[i].u)
                    carried = u_bar.T @ np.sum(c[i] * f_bar[i], axis=0) / warm
                now[f"w.{i}"] = now[f"w.{i}"] + carried
                for name, trace in own.items():
                    share = np.sum(c[i] * trace, axis=(0, 1)) * part[0].layers[i].chain[name]
                    now[f"{name}.{i}"] = now[f"{name}.{i}"] + share
            nothing = {name: np.zeros_like(value) for name, value in now.items()}
            found += [now, *[nothing] * (len(part) - 1)]
            for step in part:
                seen = net.kappa * seen + step.layers[-1].s
                for i, layer in enumerate(step.layers):
                    e, own = traces[i]
                    traces[i] = along(layer.D, e) + entering(layer), neuron_traces(layer, own)
                    if a is not None:
                        x_bar[i] = a * x_bar[i] + layer.u
                        f_bar[i] = a * along(layer.D, f_bar[i]) + (1.0 - a) * layer.f
                if a is not None:
                    x_bar[-1] = a * x_bar[-1] + step.layers[-1].s
                    f_bar[-1] = a * net.kappa * f_bar[-1] + (1.0 - a)
            before += len(part)
        first += length
    return found


def names_of(steps: list[Step]) -> list[str]:
    net = steps[0].net
    return ["out", *(f"{name}.{k}" for k in range(net.layers) for name in ("w", *net.own))]


def sizes_of(steps: list[Step]) -> dict[str, tuple[int, ...]]:
    step, found = steps[0], {"out": steps[0].out.shape}
    for k, layer in enumerate(step.layers):
        found[f"w.{k}"] = layer.w.shape
        found.update({f"{name}.{k}": (layer.s.shape[1],) for name in layer.own})
    return found


Tangents = tuple[list[Array], Array]


class Whole:
    """Directional derivatives of a network's step, all parameters in one last axis P.

    Tangents are those of all layers' states ``(S, B, n, P)`` and of the readout ``(B, n_out, P)``.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.shapes = sizes_of(steps)
        self.at, self.size = {}, 0
        for name, shape in self.shapes.items():
            count = int(np.prod(shape))
            self.at[name] = np.arange(self.size, self.size + count).reshape(shape)
            self.size += count

    def nothing(self, step: Step, size: int) -> Tangents:
        return [np.zeros((*layer.h.shape, size)) for layer in step.layers], np.zeros(
            (*step.r.shape, size)
        )

    def push(self, step: Step, J: Tangents, direct: bool) -> tuple[Tangents, Array]:
        """Tangents after a step, and the derivative of its loss ``(B, P)``.

        ``direct``: with what the parameters themselves do in the step.
        """
        new, loss = [], np.zeros((step.e.shape[0], J[1].shape[-1]))
        below: Array | None = None
        for k, layer in enumerate(step.layers):
            n, neurons = layer.s.shape[1], np.arange(layer.s.shape[1])
            s_last = np.einsum("sbn,sbnp->bnp", layer.o_last, J[0][k])
            if direct:
                for name, value in layer.q_last.items():
                    at = self.at[f"{name}.{k}"]
                    s_last[:, neurons, at] += value * layer.chain[name]
            dy = np.einsum("bmp,mn->bnp", s_last, layer.w[layer.n_x :])
            if below is not None:
                dy += np.einsum("bmp,mn->bnp", below, layer.w[: layer.n_x])
            if direct:
                for i in range(layer.u.shape[1]):
                    dy[:, neurons, self.at[f"w.{k}"][i]] += layer.u[:, i : i + 1]
            dh = np.einsum("pqbn,qbnx->pbnx", layer.D, J[0][k]) + layer.f[..., None] * dy
            if direct:
                for name, value in layer.own.items():
                    at = self.at[f"{name}.{k}"]
                    dh[:, :, neurons, at] += value * layer.chain[name]
            below = np.einsum("sbn,sbnp->bnp", layer.o, dh)
            if direct:
                for name, value in layer.q.items():
                    at = self.at[f"{name}.{k}"]
                    below[:, neurons, at] += value * layer.chain[name]
            loss += np.einsum("bn,bnp->bp", layer.pen_s, below)
            loss += np.einsum("bn,bnp->bp", layer.pen_v, dh[0])
            new.append(dh)
            assert below.shape[1] == n
        dr = step.net.kappa * J[1] + np.einsum("bnp,no->bop", below, step.out)
        if direct:
            units = np.arange(step.out.shape[1])
            for i in range(step.out.shape[0]):
                dr[:, units, self.at["out"][i]] += step.layers[-1].s[:, i : i + 1]
        loss += np.einsum("bo,bop->bp", step.e, dr)
        return (new, dr), loss

    def named(self, flat: Array) -> Gradients:
        return {name: flat[at] for name, at in self.at.items()}

    def flat(self, J: Tangents) -> Array:
        """``(B, N, P)``: layer after layer, state after state, then the readout."""
        rows = [v for dh in J[0] for v in dh]
        return np.concatenate([*rows, J[1]], axis=1)

    def folded(self, step: Step, flat: Array) -> Tangents:
        found, place = [], 0
        for layer in step.layers:
            states, _, n = layer.h.shape
            parts = [flat[:, place + s * n : place + (s + 1) * n] for s in range(states)]
            found.append(np.stack(parts))
            place += states * n
        return found, flat[:, place:]


def rtrl(steps: list[Step]) -> list[Gradients]:
    """``J_t = (dh_t/dh_{t-1}) J_{t-1} + dh_t/dtheta`` of all states by all parameters."""
    whole, found = Whole(steps), []
    J = whole.nothing(steps[0], whole.size)
    for step in steps:
        J, loss = whole.push(step, J, direct=True)
        found.append(whole.named(loss.sum(0)))
    return found


def uoro(
    steps: list[Step], signs: Array, exists: dict[str, Array] | None = None
) -> list[Gradients]:
    """UORO with the signs ``(T, B, N)`` given, of the parameters that exist (all by default).

    ``dL_t = (dL_t/dh_{t-1} s_{t-1}) theta_{t-1} + direct``, then
    ``s_t = r0 (dh_t/dh_{t-1}) s_{t-1} + r1 v``,
    ``theta_t = theta_{t-1} / r0 + v dh_t/dtheta / r1``.
    """
    whole, found = Whole(steps), []
    batch, n = signs.shape[1:]
    s, theta = np.zeros((batch, n, 1)), np.zeros((batch, whole.size))
    kept = np.ones(whole.size)
    if exists is not None:
        for name, at in whole.at.items():
            kept[at] = exists.get(name, 0.0)

    def norm(v: Array) -> Array:
        return np.sqrt(np.sum(v.reshape(batch, -1) ** 2, axis=1))

    for step, v in zip(steps, signs, strict=True):
        moved, along_s = whole.push(step, whole.folded(step, s), direct=False)
        entered, direct = whole.push(step, whole.nothing(step, whole.size), direct=True)
        found.append(whole.named(np.sum(direct + along_s * theta, axis=0)))
        s_moved = whole.flat(moved)
        back = np.einsum("bn,bnp->bp", v, whole.flat(entered)) * kept
        r0 = np.sqrt((norm(theta) + TINY) / (norm(s_moved) + TINY))
        r1 = np.sqrt((norm(back) + TINY) / (norm(v) + TINY))
        s = r0[:, None, None] * s_moved + r1[:, None, None] * v[..., None]
        theta = theta / r0[:, None] + back / r1[:, None]
    return found


# ---------------------------------------------------------------------- by method


@dataclasses.dataclass
class Setting:
    """What a rule needs beside the recorded steps.

    Attributes:
        labels, weight: of the samples, for local losses.
        segments: lengths of the segments; BPTT ends at them.
        window: of truncated BPTT.
        decay: ``--etrace_decay``.
        feedback: ``B`` of each layer, by step.
        learned: whether it is learned.
        signs: of UORO.
        exists: of maps that are sparse, and of parameters that are trained, by name: 1 where a
            number exists.
    """

    labels: Array
    weight: Array
    segments: tuple[int, ...] = ()
    window: int = 0
    decay: float = 0.9
    feedback: Callable[[int], list[Array]] | None = None
    learned: bool = False
    signs: Array | None = None
    exists: dict[str, Array] | None = None


Oracle = Callable[[list[Step], Setting], list[Gradients]]


def _bptt(steps: list[Step], s: Setting) -> list[Gradients]:
    return _windows(steps, s, max(s.segments))


def _windows(steps: list[Step], s: Setting, k: int) -> list[Gradients]:
    """Backpropagation within windows of ``k`` steps, which begin anew with each segment."""
    found: list[Gradients] = []
    first = 0
    for length in s.segments:
        for at in range(first, first + length, k):
            part = steps[at : min(at + k, first + length)]
            nothing = {name: np.zeros(shape) for name, shape in sizes_of(steps).items()}
            found += [bptt(part), *[nothing] * (len(part) - 1)]
        first += length
    return found


def _esdrtrl(steps: list[Step], s: Setting) -> list[Gradients]:
    signals = exact_signals(steps)
    maps = [esdrtrl_map(steps, signals, k, s.decay) for k in range(steps[0].net.layers)]
    return join(drtrl(steps, signals), *maps, esdrtrl_readout(steps, s.decay))


def _hybrid(steps: list[Step], s: Setting) -> list[Gradients]:
    """The exact trace for maps of fewer weights than inputs and neurons together."""
    exact_rule = join(drtrl(steps, exact_signals(steps)), readout(steps))
    smooth, found = _esdrtrl(steps, s), []
    shapes, exists = sizes_of(steps), s.exists or {}
    for a, b in zip(exact_rule, smooth, strict=True):
        now = dict(b)
        for name, shape in shapes.items():
            if len(shape) == 2 and sum(shape) > np.sum(exists.get(name, np.ones(shape))):
                now[name] = a[name]
        found.append(now)
    return found


def _feedback(steps: list[Step], s: Setting) -> Signals:
    assert s.feedback is not None
    return [fed_back(step, s.feedback(t)) for t, step in enumerate(steps)]


def _learned(steps: list[Step], s: Setting) -> list[list[Gradients]]:
    return [feedback_gradients(steps)] if s.learned else []


def _eprop(steps: list[Step], s: Setting) -> list[Gradients]:
    signals = exact_signals(steps) if s.feedback is None else _feedback(steps, s)
    rule = eprop(steps, signals, steps[0].net.kappa)
    return join(rule, readout(steps), *_learned(steps, s))


def _rflo(steps: list[Step], s: Setting) -> list[Gradients]:
    return join(drtrl(steps, _feedback(steps, s)), readout(steps), *_learned(steps, s))


def _decolle(steps: list[Step], s: Setting) -> list[Gradients]:
    assert s.feedback is not None
    signals = [local_error(step, s.feedback(t), s.labels, s.weight) for t, step in enumerate(steps)]
    return join(drtrl(steps, signals), readout(steps))


def _ottt(steps: list[Step], s: Setting) -> list[Gradients]:
    signals = exact_signals(steps)
    return join(drtrl(steps, signals), ottt_maps(steps, signals, s.decay), readout(steps))


def _otpe(steps: list[Step], s: Setting) -> list[Gradients]:
    return join(eprop(steps, exact_signals(steps), s.decay, s.decay), readout(steps))


def _influence(order: int) -> Oracle:
    def rule(steps: list[Step], s: Setting) -> list[Gradients]:
        mask: Iterable[Any] = range(steps[0].net.layers)
        mask = [reached(steps[0], k, order) if order else None for k in mask]
        return join(influence(steps, exact_signals(steps), mask), readout(steps))

    return rule


def _uoro(steps: list[Step], s: Setting) -> list[Gradients]:
    assert s.signs is not None
    return uoro(steps, s.signs, s.exists)


def _diag(steps: list[Step], s: Setting) -> list[Gradients]:
    return join(drtrl(steps, exact_signals(steps)), readout(steps))


#: ``--method`` -> gradient of each step.
ORACLES: dict[str, Oracle] = {
    "bptt": _bptt,
    "tbptt": lambda steps, s: _windows(steps, s, s.window),
    "diag": _diag,
    "expsm_diag": _esdrtrl,
    "hybrid": _hybrid,
    "eprop": _eprop,
    "rflo": _rflo,
    "decolle": _decolle,
    "ottt": _ottt,
    "otpe": _otpe,
    "ostl": _influence(0),
    "ostl-without-h": _diag,
    "snap-1": _influence(1),
    "snap-2": _influence(2),
    "uoro": _uoro,
    "rtrl": lambda steps, s: rtrl(steps),
    "immediate": lambda steps, s: immediate(steps),
}


#: The same with ``--vjp_method multi-step``.
WINDOWED: dict[str, Oracle] = {
    "diag": lambda steps, s: windows(steps, s.segments, s.window),
    "expsm_diag": lambda steps, s: windows(steps, s.segments, s.window, s.decay),
}


def total(found: Sequence[Gradients]) -> Gradients:
    """Summed over steps."""
    return {name: np.sum([now[name] for now in found], axis=0) for name in found[0]}
