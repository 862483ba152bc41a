"""Every task's programs of training and evaluation, from its own config, for GPU and TPU."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

import runs
from exports import exported, for_accelerators
from snnlab import config as configs
from snnlab.data import pack
from snnlab.experiment import assemble
from snnlab.problems.tasks import TASKS, task_of

#: A tiny run of :data:`runs.TINY` -> task.
TASK = {
    "image": "image-classification",
    "match": "long-term-dependency",
    "balanced": "balanced-rsnn",
    "patterns": "pattern-generation",
    "evidence": "coba-ei",
    "memory": "working-memory",
}
#: Rules of the published experiments, as flags.
RULES = ("--method bptt", "--method diag", "--method expsm_diag --etrace_decay 0.9")


def waves() -> Any:
    """A few recordings, which are there sooner than a dataset."""
    x = np.random.default_rng(0).random((24, 8, 12)) < 0.3
    return pack("noise", x, np.arange(24) % 3, test=np.arange(24) >= 18)


def programs(name: str, *flags: str, recorded: bool = False) -> tuple[bytes, bytes]:
    """The training and the evaluation program of a tiny run as StableHLO of both platforms.

    Args:
        name: of the run.
        flags: after its own; a method in the place of its own.
        recorded: whether it is on :func:`waves`, in the place of its dataset.
    """
    task, (_, own) = task_of(TASK[name]), runs.TINY[name]
    if any("--method" in flag for flag in flags):
        own = re.sub(r"--(method|etrace_decay) \S+", "", own)
    argv = [*own.split(), *" ".join(flags).split()]
    config: Any = configs.parse(task.config, argv, prog="x", description="", adapt=task.adapt)[0]
    build = functools.partial(task.build, config, **({"recordings": waves()} if recorded else {}))
    with for_accelerators():
        problem = build()
        parts = assemble(config, problem)
        made = parts.programs
        batch = next(iter(problem.train))
        train = exported(made.train_fn, parts.state, batch.stream, batch.targets)
        return train, exported(made.evaluate_fn, parts.state.params, batch.stream, batch.targets)


def test_every_task_has_a_tiny_run() -> None:
    assert set(TASK) == set(runs.TINY)
    assert {*TASK.values(), "stream"} == set(TASKS.names())  # that one in test_stream.py


@pytest.mark.parametrize("name", ["image", "balanced", "patterns"])
def test_programs_of_a_task(name: str) -> None:
    """By its tiny run's own rule; slow tests have all tasks and rules."""
    train, evaluate = programs(name, recorded=name == "image")
    assert len(train) > len(evaluate) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", TASK)
def test_programs_of_a_task_and_rule(name: str, rule: str) -> None:
    programs(name, rule)


@pytest.mark.slow
@pytest.mark.parametrize("more", ["--connectivity 0.3", "--update_every 1"])
@pytest.mark.parametrize("method", ["bptt", "diag"])
def test_programs_of_sparse_maps_and_of_updates_on_the_way(method: str, more: str) -> None:
    programs("image", f"--method {method} {more}", recorded=True)
