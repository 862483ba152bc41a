"""A process with eight devices of its CPU: ``python shards.py CASES FOLDER``; one JSON line a case.

A case is ``[name, kind, ...]``, and a kind is a function below. See
``tests/training/test_placement.py``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

from snnlab import config as configs
from snnlab.data.arrays import pack
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.problems.tasks import run_task, task_of
from snnlab.training.placement import Columns, Placement, Spread
from snnlab.training.seeds import _Program

FOLDER = Path(sys.argv[2])
#: Numbers of a batch that are not compared as they are: decisions, and what is true or false.
BESIDE = ("predictions", "broken", "broken_gradients")


def recordings() -> Any:
    """20 recordings of three classes to train on, so that the third batch of 8 is half padding."""
    draw = np.random.default_rng(0)
    labels = np.arange(28) % 3
    x = draw.random((28, 12, 30)) < 0.1 + 0.3 * (np.arange(30) // 10 == labels[:, None])[:, None]
    return pack("shards", x, labels, np.arange(28) >= 24)


def problem_of(task: str, flags: str) -> tuple[Any, Any]:
    kind = task_of(task)
    argv = flags.split()
    config: Any = configs.parse(kind.config, argv, prog="x", description="", adapt=kind.adapt)[0]
    more = {"recordings": recordings()} if task == "image-classification" else {}
    return config, kind.build(config, **more)


def batches(loader: Any, n: int) -> Iterator[Any]:
    for epoch in range(1, 1 + n):
        loader.set_epoch(epoch)
        for batch in loader:
            yield batch
            n -= 1
            if n == 0:
                return


def trained(
    config: Any, problem: Any, n_devices: int, n: int, kind: Any = Placement
) -> dict[str, Any]:
    """Parameters before and after ``n`` batches, numbers of all, of an evaluation, bytes."""
    parts = assemble(config, problem, kind(jax.devices()[:n_devices]))
    programs, state, found = parts.programs, parts.state, []
    start = jax.tree.map(np.array, state.params)
    for batch in batches(problem.train, n):
        state, numbers = programs.train(state, batch.stream, batch.targets)
        found.append(jax.device_get(numbers))
    # Of a whole batch: the few recordings of a test split would all lie in the first shard.
    batch = next(batches(problem.train, 1))
    test = jax.device_get(programs.evaluate(state.params, batch.stream, batch.targets))
    compiled = next(made for (name, _), made in programs._compiled.items() if name == "train")
    return {
        "start": start, "params": jax.device_get(state.params), "updates": int(state.updates),
        "numbers": found, "test": test, "traces": getattr(programs.learner, "trace_bytes", 0),
        "temp": compiled.memory_analysis().temp_size_in_bytes,
    }  # fmt: skip


def size(tree: Any) -> float:
    leaves = [np.asarray(v, np.float64).ravel() for v in jax.tree.leaves(tree)]
    return float(np.linalg.norm(np.concatenate(leaves)))


def apart(a: Any, b: Any) -> float:
    """The largest relative difference of an array."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(size(x - y) / max(size(y), 1e-30) for x, y in pairs)


def smooth(numbers: Any) -> Any:
    return {name: value for name, value in numbers.items() if name not in BESIDE}


def train(task: str, flags: str, counts: list[int], n: int, kind: str = "batch") -> dict[str, Any]:
    """``n`` batches on one device, and on each of ``counts``."""
    of_many = {"batch": Placement, "neurons": Columns}[kind]
    config, problem = problem_of(task, flags)
    alone = trained(config, problem, 1, n)
    first, last = alone["numbers"][0], alone["numbers"][-1]
    found: dict[str, Any] = {
        "moved": apart(alone["params"], alone["start"]), "penalty": float(last["penalty"]),
        "rates": first["rates"].tolist(), "updates": alone["updates"],
        "samples": [float(one["count"]) for one in alone["numbers"]],
    }  # fmt: skip
    for k in counts:
        try:
            other = trained(config, problem, k, n, of_many)
        except UsageError as error:
            found[str(k)] = {"refused": str(error)}
            continue
        found[str(k)] = {
            "params": apart(other["params"], alone["params"]),
            "numbers": apart(smooth(other["numbers"][0]), smooth(first)),
            "test": apart(smooth(other["test"]), smooth(alone["test"])),
            "decisions": all(
                np.array_equal(other["test"][name], alone["test"][name])
                for name in BESIDE[:2] if name in alone["test"]
            ),
            "traces": other["traces"] / max(alone["traces"], 1),
            "temp": other["temp"] / alone["temp"],
        }  # fmt: skip
    return found


def run(name: str, task: str, flags: str, devices: str) -> Path:
    """A run from the command line; its folder."""
    folder = FOLDER / name
    where = ["--resume" if folder.is_dir() else "--filepath", str(folder)]
    assert run_task(task, prog="x", argv=[*flags.split(), "--devices", devices, *where]) == 0
    return folder


def saved(folder: Path) -> Any:
    import orbax.checkpoint as ocp

    newest = max((folder / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name.split("-")[0]))
    return ocp.PyTreeCheckpointer().restore(newest / "state")["params"]


def resume(task: str, flags: str) -> dict[str, Any]:
    """Two epochs at once on 4 devices, and one after the other: on 4 and 4, and on 4 and 2."""
    whole = saved(run("whole", task, f"{flags} --epochs 2", "cpu:4"))
    found: dict[str, Any] = {}
    for name, second in (("same", "cpu:4"), ("other", "cpu:2"), ("one", "cpu")):
        run(name, task, f"{flags} --epochs 1", "cpu:4")
        now = saved(run(name, task, "--epochs 2", second))
        bits = [np.array_equal(now[k], v) for k, v in whole.items()]
        results = json.loads((FOLDER / name / "results.json").read_text())
        found[name] = {
            "params": apart(now, whole), "equal": all(bits), "devices": results.get("devices"),
        }  # fmt: skip
    return found


def seeds(task: str, flags: str, trials: int) -> dict[str, Any]:
    """Several seeds on one device, and spread over more than one."""
    one = run("seeds-one", task, f"{flags} --trials {trials}", "cpu")
    many = run("seeds-many", task, f"{flags} --trials {trials}", "cpu:4")
    found: dict[str, Any] = {"vmapped": [], "params": [], "devices": []}
    for seed in range(trials):
        results = json.loads((many / f"seed-{seed}" / "results.json").read_text())
        found["vmapped"].append(bool(results.get("vmapped")))
        found["devices"].append(results.get("devices"))
        pair = (saved(folder / f"seed-{seed}") for folder in (many, one))
        found["params"].append(apart(*pair))
    return found


def spread(n_devices: int, n_seeds: int) -> dict[str, Any]:
    """A program of seeds that differ in a constant, twice: what is carried, and summed."""

    def of(seed: int) -> Any:
        own = jnp.full(2, float(seed))
        return lambda state, x: (state * own + 1, x.sum())

    parts = Spread(jax.devices()[:n_devices], n_seeds)
    x = np.arange(2.0 * n_seeds).reshape(n_seeds, 2)
    program = _Program([of(k) for k in range(n_seeds)], (jnp.ones((n_seeds, 2)), x), True, parts)
    state, _ = program(jnp.ones((n_seeds, 2)), x)
    state, total = program(state, x)
    return {
        "state": state[:, 0].tolist(), "total": total.tolist(),
        "devices": len(state.sharding.device_set),
    }  # fmt: skip


if __name__ == "__main__":
    for name, kind, *case in json.loads(sys.argv[1]):
        kinds = {"train": train, "resume": resume, "seeds": seeds, "spread": spread}
        made = kinds[kind](*case)
        print("#" + json.dumps({"case": name, **made}), flush=True)
