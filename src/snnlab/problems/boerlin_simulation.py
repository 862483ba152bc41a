"""The sandbox: a spiking network beside the linear system that it tracks.

See :mod:`snnlab.models.integrator` for the equations. Unlike the other tasks it trains nothing:
one compiled scan simulates both systems, and a run folder holds figures and ``results.json``
(``mse`` of the decoded state, ``spikes_per_neuron_step``, ``balance``, ``simulation_seconds``).
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.analysis import figures
from snnlab.analysis.balance import BalanceTracker, lowpass
from snnlab.analysis.config import Metric
from snnlab.data.cue import CueTask, cue_sample
from snnlab.data.recordings import SHD_UNITS, load_recordings
from snnlab.data.store import TRAIN
from snnlab.devices import require_memory
from snnlab.errors import UsageError
from snnlab.models import integrator
from snnlab.models.integrator import Integrator, State
from snnlab.problems.boerlin import Boerlin

FLOAT_STEPS = 20_000
SHD_BINS, SHD_FIRST = 100, 501
BLOCK = 500  # steps whose noise is drawn at once

# ------------------------------------------------------------------------- input


def input_bins(config: Boerlin, seed: int) -> tuple[np.ndarray, int]:
    """Noise-free input ``(bins, J) float32`` and the steps of a bin.

    ``float``: dimension 0 is 0, then 50 in steps 2000-5000 and -100 in 7000-9000 of 20,000; any
    further one has 3 to 8 plateaus of whole numbers in [-100, 100].

    Raises:
        UsageError: no SHD recording, or fewer channels than asked for.
    """
    data, n_dim = config.data, config.model.j
    if data.data == "float":
        bins = np.zeros((FLOAT_STEPS, n_dim), np.float32)
        bins[2000:5000, 0], bins[7000:9000, 0] = 50, -100
        draw = random.Random(seed)
        for dim in range(1, n_dim):
            lengths = [draw.randint(1, FLOAT_STEPS) for _ in range(draw.randint(3, 8))]
            ends = np.cumsum(lengths) * FLOAT_STEPS // sum(lengths)
            start = 0
            for end in ends.tolist():
                bins[start:end, dim] = draw.randint(-100, 100)
                start = end
        return bins, 1
    if data.data == "cue":
        return data.input_scale * cue_sample(CueTask(), seed), data.repeat
    store = load_recordings("shd", data.data_path)
    of_train = np.flatnonzero(store.split == TRAIN)
    if not len(of_train):
        raise UsageError(f"--data_path {data.data_path}: no training recording")
    events = store.events_of(int(of_train[0]))
    kept = events[events["t"] < store.sensor.window_us]
    bins = np.zeros((SHD_BINS, SHD_UNITS), np.float32)
    bins[kept["t"] * SHD_BINS // store.sensor.window_us, kept["x"]] = data.input_scale
    if n_dim >= 1:
        if SHD_FIRST + n_dim > SHD_UNITS:
            raise UsageError(
                f"--j {n_dim}: shd has {SHD_UNITS - SHD_FIRST} channels from {SHD_FIRST} on; "
                "--j 0 takes all 700"
            )
        bins = bins[:, SHD_FIRST : SHD_FIRST + n_dim]
    return bins, data.repeat


# -------------------------------------------------------------------- simulation


class Simulation(NamedTuple):
    """What a simulation leaves.

    Attributes:
        x, decoded: ``(T, J)`` state of the linear system and of the network.
        spikes: ``(T,)`` the neuron that spiked in each step, N for none.
        exc, inh: ``(T,)`` currents of the drawn neuron (without tracking ``(T, 0)``).
        balance: of all neurons, or ``None``.
    """

    x: jax.Array
    decoded: jax.Array
    spikes: jax.Array
    exc: jax.Array
    inh: jax.Array
    balance: Any


def simulate(
    net: Integrator, bins: jax.Array, key: jax.Array, *, repeat: int, sigma_s: float,
    metric: Metric | None = None, neuron: int = 0,
) -> Simulation:  # fmt: skip
    """Both systems in one scan; meant to be compiled.

    Args:
        net: network.
        bins: ``(bins, J)`` input.
        key: of all noise.
        repeat: steps of a bin.
        sigma_s: noise of the input.
        metric: track the balance with this filter.
        neuron: whose currents are returned.
    """
    n, n_dim = net.decoders.shape
    n_steps = bins.shape[0] * repeat
    tracker = BalanceTracker(metric, n_steps) if metric else None
    none = jnp.zeros(0)

    def advance(carry: tuple[State, Any], given: Any, first: bool = False) -> Any:
        state, measured = carry
        k, noise, xi, draw = given
        c = bins[k // repeat] + sigma_s * noise
        new = integrator.step(net, state, c, xi, draw)
        exc = inh = none
        if tracker:
            exc, inh, slow = integrator.currents(net, state, c)
            measured = tracker.init(exc, inh) if first else tracker.update(measured, exc, inh)
            new, exc, inh = new._replace(slow=slow), exc[neuron], inh[neuron]
        return (new, measured), (new.x, new.decoded, new.spike, exc, inh)

    def drawn(key: jax.Array, length: int) -> Any:
        of_noise, of_choice = jax.random.split(key)
        normal = jax.random.normal(of_noise, (length, n_dim + n))
        draws = jax.random.bits(of_choice, (length,), jnp.uint32)
        return normal[:, :n_dim], normal[:, n_dim:], draws

    def block(carry: Any, given: Any) -> Any:
        first, key = given
        return jax.lax.scan(advance, carry, (first + jnp.arange(BLOCK), *drawn(key, BLOCK)))

    # The first step starts the tracker, whole blocks follow, and then the rest.
    n_blocks, left = divmod(n_steps - 1, BLOCK)
    keys = jax.random.split(key, n_blocks + 1)
    steps = jnp.concatenate([jnp.zeros(1, int), n_steps - left + jnp.arange(left)])
    odd = (steps, *drawn(keys[-1], 1 + left))
    start = (integrator.rest(net), None)
    carry, out = advance(start, jax.tree.map(lambda a: a[0], odd), first=True)
    outs = [jax.tree.map(lambda a: a[None], out)]
    if n_blocks:
        carry, out = jax.lax.scan(block, carry, (1 + BLOCK * jnp.arange(n_blocks), keys[:-1]))
        outs += [jax.tree.map(lambda a: a.reshape(n_blocks * BLOCK, *a.shape[2:]), out)]
    if left:
        carry, out = jax.lax.scan(advance, carry, jax.tree.map(lambda a: a[1:], odd))
        outs += [out]
    out = jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
    x, decoded, spikes, exc, inh = out
    found = tracker.result(carry[1]) if tracker else None
    return Simulation(x, decoded, spikes, exc, inh, found)


def make_network(config: Boerlin, n_dim: int, seed: int) -> Integrator:
    """The network of a config."""
    m = config.model
    require_memory(12.0 * m.n * n_dim, f"a network of {m.n:,} neurons and {n_dim:,} dimensions")
    key = jax.random.fold_in(jax.random.key(seed), 1)
    w = integrator.decoders(m.w_init, m.n, n_dim, m.alpha, m.weight_sparsity, key)
    off_diagonal = 0.0 if m.auto_encoder else m.coupling
    return integrator.make_integrator(
        w, off_diagonal * (1 - jnp.eye(n_dim)), decay=m.alpha, mu=m.mu, nu=m.nu,
        v_rest=m.v_rest, sigma_v=m.sigma_v,
    )  # fmt: skip


def run(config: Boerlin, console: Console) -> dict[str, Any]:
    """Simulate, measure, draw; returns what ``results.json`` holds."""
    seed = config.run.seed if config.run.seed >= 0 else time.time_ns() % 2**31
    bins, repeat = input_bins(config, seed)
    n_dim = bins.shape[1]
    steps = len(bins) * repeat
    require_memory(12.0 * steps * n_dim, f"a simulation of {steps:,} steps, {n_dim:,} dimensions")
    net = make_network(config, n_dim, seed)
    folder = runs.RunFolder.create(
        config.run.filepath, "boerlin", config.data.data, config.run.exp_name
    )
    folder.write_config(configs.to_yaml(config, runs.provenance()))
    metric = config.run.balance_metric if config.run.track_balance else None

    def program(bins: Any, key: Any) -> Any:
        made = simulate(
            net, bins, key, repeat=repeat, sigma_s=config.data.sigma_s, metric=metric,
            neuron=config.run.plot_neuron,
        )  # fmt: skip
        error = jnp.mean((made.x - made.decoded) ** 2)
        return made, error, jnp.mean(made.spikes < config.model.n) / config.model.n

    args = (jnp.asarray(bins), jax.random.fold_in(jax.random.key(seed), 2))
    began = time.perf_counter()
    compiled = jax.jit(program).lower(*args).compile()
    compile_seconds = time.perf_counter() - began
    began = time.perf_counter()
    made, mse, rate = jax.block_until_ready(compiled(*args))
    seconds = time.perf_counter() - began
    results = {
        "mse": float(mse),
        "spikes_per_neuron_step": float(rate),
        "balance": None,
        "simulation_seconds": round(seconds, 4),
        "compile_seconds": round(compile_seconds, 3),
        "steps": len(bins) * repeat,
        "neurons": config.model.n,
        "dimensions": n_dim,
        "steps_with_spike": float(rate) * config.model.n,
        "seed": seed,
    }
    if made.balance is not None:
        scored = int(made.balance.n_scored)
        results["balance"] = float(made.balance.value) if scored else None
        results["balance_metric"] = metric
        results["neurons_scored"] = scored
        results["neurons_constant"] = int(made.balance.n_constant)
    folder.write_results(results)
    _report(results, console)
    for path in _draw(config, folder, bins, repeat, made):
        console.print(f"figure     {path}", highlight=False)
    console.print(f"run folder {folder.path}", highlight=False)
    return results


def _report(results: dict[str, Any], console: Console) -> None:
    balance = results["balance"]
    shown = f", balance {balance:.4f} ({results['balance_metric']})" if balance is not None else ""
    if results.get("neurons_constant"):
        shown += f", {results['neurons_constant']} neurons with a constant current not scored"
    console.print(
        f"{results['steps']:,} steps of {results['neurons']} neurons in "
        f"{results['simulation_seconds']:.2f} s (compiling {results['compile_seconds']:.1f} s): "
        f"mse {results['mse']:.3g}, {results['spikes_per_neuron_step']:.3g} spikes per neuron and "
        f"step{shown}", highlight=False,
    )  # fmt: skip
    if not np.isfinite(results["mse"]):
        console.print("the linear system grew beyond all numbers: choose --coupling nearer to 0")
    elif results["steps_with_spike"] > 0.98:
        console.print("a spike in nearly every step: the network cannot follow faster input")


def _draw(
    config: Boerlin, folder: runs.RunFolder, bins: np.ndarray, repeat: int, made: Simulation
) -> list[Path]:
    if not (config.run.plot or config.run.save):
        return []
    dims = min(config.run.plot_dim, bins.shape[1])
    spikes = np.asarray(made.spikes)
    as_raster = config.run.plot_input_raster and config.data.data != "float"
    currents = None
    if config.run.track_balance:
        currents = (np.asarray(lowpass(made.exc)), np.asarray(lowpass(made.inh)))
    fig = figures.integrator_figure(
        inputs=np.repeat(bins, repeat, 0), x=np.asarray(made.x), decoded=np.asarray(made.decoded),
        spike_steps=np.flatnonzero(spikes < config.model.n),
        spike_neurons=spikes[spikes < config.model.n], n=config.model.n, n_dim=dims,
        input_raster=as_raster, currents=currents, neuron=config.run.plot_neuron,
    )  # fmt: skip
    paths = []
    if config.run.plot:
        paths += figures.save(fig, folder.figures / "integrator.png")
    if config.run.save:
        paths += figures.save(
            fig, Path(config.run.save_path).expanduser() / f"{config.run.save}.png"
        )
    return paths
