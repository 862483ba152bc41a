"""``--mode probe`` of delayed match to sample: how long, and where, is the sample kept?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from snnlab.analysis import figures
from snnlab.analysis.probing import decode, probe_figure, windowed_activity
from snnlab.data.trials import TrialLoader
from snnlab.experiment import Problem, assemble
from snnlab.learners import LearnerConfig
from snnlab.learners.functional import Params, PureNetwork
from snnlab.training.evaluation import evaluate

#: Delays that are probed, as multiples of the trained one.
DELAYS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
#: Length of a decoding window, ms.
WINDOW_MS = 50.0
#: Number of the split of the probes' trials; training, validation and test have 0, 1, 2.
SPLIT = 3


def probe(
    config: Any, build: Callable[[Any], Problem], params: Params, folder: Path, console: Console
) -> dict[str, Any]:
    """Accuracy against delay length, and the sample decoded in windows through the trial.

    Trials are fresh ones (``--test_batches`` batches for each). The decoder is linear and
    cross-validated; what it reads are spike counts and mean membranes of a window.

    Returns:
        What ``probe.json`` holds.
    """
    data, dt, seed = config.data, config.model.dt, config.run.seed

    def loader(problem: Problem, batches: int) -> TrialLoader:
        return TrialLoader(problem.train.task, data.batch_size, batches, seed, SPLIT)

    delays, accuracies = [], []
    for factor in DELAYS:
        delay = max(1, round(factor * data.t_delay / dt)) * dt
        changed = dataclasses.replace(
            config, data=dataclasses.replace(data, t_delay=delay), learner=LearnerConfig()
        )
        problem = build(changed)
        programs = assemble(changed, problem).programs
        row = evaluate(programs, params, loader(problem, data.test_batches), 0, "probe")
        delays.append(delay)
        accuracies.append(row["accuracy"])
        console.print(f"delay {delay:6g} ms  accuracy {row['accuracy']:.2%}", highlight=False)

    trained = dataclasses.replace(config, learner=LearnerConfig())
    problem = build(trained)
    network = assemble(trained, problem).programs.network
    assert isinstance(network, PureNetwork)  # its layers run step by step
    width = max(1, round(WINDOW_MS / dt))
    run = jax.jit(lambda params, stream: windowed_activity(network, params, stream, width))
    counts, membranes, samples = [], [], []
    for batch in loader(problem, data.test_batches):
        spikes, membrane = run(params, batch.stream)
        counts.append(np.asarray(spikes))
        membranes.append(np.asarray(membrane))
        samples.append(np.asarray(batch.conditions["sample"]))
    labels = np.concatenate(samples)
    decoded = {
        name: [decode(window, labels, 8) for window in np.concatenate(parts, axis=1)]
        for name, parts in (("spike counts", counts), ("membrane", membranes))
    }
    times = [(k + 0.5) * width * dt for k in range(len(counts[0]))]
    ends = np.cumsum([0, *(p.steps for p in problem.train.task.periods)]) * dt
    periods = [
        (p.name, float(a), float(b))
        for p, a, b in zip(problem.train.task.periods, ends[:-1], ends[1:]) if p.name != "fixation"
    ]  # fmt: skip
    figure = probe_figure(delays, accuracies, data.t_delay, times, decoded, 1 / 8, periods)
    drawn = figures.save(figure, folder / "probe.png")
    console.print(f"figures    {drawn[0]}", highlight=False)
    return {
        "delays_ms": delays, "accuracies": accuracies, "window_ms": width * dt,
        "window_middles_ms": times, "decoded_sample": decoded, "chance": 1 / 8,
        "trials": len(labels),
    }  # fmt: skip
