"""The network in spyx: 0.1 with Haiku, 1.0 with flax; one compiled program.

The spike's derivative is given as a function. spyx resets after the decay, as snnTorch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np

from snnlab.benchmarks.frameworks.base import Case, Run

#: ``(params, xs, labels) -> loss``; ``params`` by the names of :func:`_params`.
Loss = Callable[[Any, Any, Any], Any]


def spyx(case: Case) -> Run:
    """``RLIF`` (without recurrence ``LIF``) and ``LI``, in the version that is installed."""
    import jax
    import jax.numpy as jnp

    new = int(importlib.metadata.version("spyx").partition(".")[0]) >= 1
    params, loss_of = (_with_flax if new else _with_haiku)(case)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    xs, labels = jnp.asarray(case.xs), jnp.asarray(case.labels)
    program = jax.jit(jax.value_and_grad(loss_of))
    layers = range(len(case.forward))
    names = [("forward", i) for i in layers] + [
        ("recurrent", i) for i, _ in enumerate(case.recurrent)
    ]
    names += [] if case.out is None else [("out", 0)]

    def run() -> tuple[Any, list[Any]]:
        loss, found = jax.block_until_ready(program(params, xs, labels))
        return loss, [found[kind][i] for kind, i in names]

    return run


def _params(case: Case) -> dict[str, Any]:
    """Weights by kind and layer; V as for snnTorch. Decays are parameters too, as spyx has them."""
    n = case.forward[-1].shape[1]
    own = (1 - case.decay) * np.eye(n, dtype=np.float32)
    return {
        "forward": list(case.forward),
        "recurrent": [w + own for w in case.recurrent],
        "decay": [np.float32(case.decay) for _ in case.forward],
        "out": [] if case.out is None else [case.out],
        "readout_decay": [] if case.out is None else [np.float32(case.readout_decay)],
    }


def _loss(r: Any, labels: Any, case: Case) -> Any:
    import jax.numpy as jnp
    import optax

    if case.out is None:
        return r.sum() / r.shape[1]
    repeated = jnp.broadcast_to(labels, r.shape[:2])
    return optax.softmax_cross_entropy_with_integer_labels(r, repeated).mean(-1).sum()


def _spike() -> Any:
    import jax
    import jax.numpy as jnp
    from spyx import axn

    return axn.custom(lambda x: 0.3 * jax.nn.relu(1 - jnp.abs(x)), axn.heaviside)


def _with_haiku(case: Case) -> tuple[Any, Loss]:
    import haiku as hk
    from spyx import nn

    spike, layers = _spike(), range(len(case.forward))

    def network(x: Any) -> Any:
        for i in layers:
            n = case.forward[i].shape[1]
            x = hk.Linear(n, with_bias=False, name=f"forward_{i}")(x)
            kind = nn.RLIF if case.recurrent else nn.LIF
            cell = kind((n,), beta=case.decay, activation=spike, name=f"layer_{i}")
            x, _ = hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[1]))
        if case.out is None:
            return x
        n_out = case.out.shape[1]
        x = hk.Linear(n_out, with_bias=False, name="out")(x)
        cell = nn.LI((n_out,), beta=case.readout_decay, name="readout")
        return hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[1]))[0]

    made = hk.transform(network)

    def loss_of(params: Any, xs: Any, labels: Any) -> Any:
        own = {f"forward_{i}": {"w": params["forward"][i]} for i in layers}
        own |= {f"layer_{i}": {"beta": params["decay"][i]} for i in layers}
        for i, w in enumerate(params["recurrent"]):
            own[f"layer_{i}"]["w"] = w
        if case.out is not None:
            own["out"] = {"w": params["out"][0]}
            own["readout"] = {"beta": params["readout_decay"][0]}
        return _loss(made.apply(own, None, xs), labels, case)

    return _params(case), loss_of


def _with_flax(case: Case) -> tuple[Any, Loss]:
    from flax import nnx
    from spyx import nn

    spike, rngs = _spike(), nnx.Rngs(0)
    kind = nn.RLIF if case.recurrent else nn.LIF
    cells = [
        nnx.split(kind((w.shape[1],), beta=case.decay, activation=spike, rngs=rngs))
        for w in case.forward
    ]
    readout = None
    if case.out is not None:
        readout = nnx.split(nn.LI((case.out.shape[1],), beta=case.readout_decay, rngs=rngs))

    def loss_of(params: Any, xs: Any, labels: Any) -> Any:
        def over_steps(parts: Any, values: dict[str, Any], drive: Any) -> Any:
            graph, state = parts
            state = nnx.clone(state)
            for name, value in values.items():
                state[name] = state[name].replace(value)
            return nn.run(nnx.merge(graph, state), drive)[0]

        x = xs
        for i, weight in enumerate(params["forward"]):
            values = {"beta": params["decay"][i]}
            if case.recurrent:
                values["recurrent_w"] = params["recurrent"][i]
            x = over_steps(cells[i], values, x @ weight)
        if readout is not None:
            values = {"beta": params["readout_decay"][0]}
            x = over_steps(readout, values, x @ params["out"][0])
        return _loss(x, labels, case)

    return _params(case), loss_of
