"""Samples per second of the event pipeline against tonic's ``ToFrame``.

Both sides make dense frames of the same recordings in the same number of bins and batches,
from recordings decoded beforehand, without workers. Here a batch is cut on the host, sent as
events and made dense step by step in a compiled scan; there ``tonic.transforms.ToFrame
(n_time_bins)`` makes frames that torch's ``DataLoader`` collates by ``tonic.collation
.PadTensors``. Each side reads one element of each step it made. The sides run in turns, each
in fresh processes with torch's and XLA's own thread settings; the first pass of a process,
which compiles, is left out. On a busy machine tonic's passes scatter by a factor of ten
(torch's threads wait for each other), hence the median and all passes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from snnlab.errors import UsageError, missing, run_command

if TYPE_CHECKING:
    from snnlab.data import Data, EventStore

BOUND = 10.0
PASSES = 3


def run(
    dataset: str = "event-digits",
    data_path: str = "",
    data_length: int = 100,
    batch_size: int = 64,
    repeats: int = 3,
    tonic_samples: int = 256,
) -> dict[str, Any]:
    """Measure both pipelines.

    Args:
        dataset: ``event-digits`` or ``nmnist``.
        data_path: of nmnist.
        data_length: bins.
        batch_size: of both.
        repeats: fresh processes of each side, in turns, with three timed passes each.
        tonic_samples: recordings of a pass of tonic's side (a pass of ours is the split).

    Returns:
        JSON-able: ``samples_per_s`` and ``tonic_samples_per_s`` (medians over all passes), the
        passes of both, ``ratio`` of the medians, the ratio to tonic's fastest pass, ``bound``,
        ``met``, and what was measured.

    Raises:
        UsageError: another dataset, or data that cannot be used.
    """
    if dataset not in ("event-digits", "nmnist"):
        raise UsageError(f"--dataset {dataset}: the comparison knows event-digits and nmnist")
    for module in ("tonic", "torch"):
        if package := missing(module, "data"):
            raise UsageError(f"the comparison needs {package}")
    common = {
        "dataset": dataset, "data_path": data_path, "data_length": data_length,
        "batch_size": batch_size,
    }  # fmt: skip
    store = _data(common).train.cutter.store  # the cache is built before anything is timed
    own: list[float] = []
    other: list[float] = []
    for _ in range(repeats):
        own += _fresh_process({**common, "side": "events"})
        other += _fresh_process({**common, "side": "tonic", "tonic_samples": tonic_samples})
    ratio = statistics.median(own) / statistics.median(other)
    return {
        "dataset": dataset,
        "data_length": data_length,
        "batch_size": batch_size,
        "events_per_sample": float((store.ends - store.starts).mean()),
        "samples_per_s": statistics.median(own),
        "tonic_samples_per_s": statistics.median(other),
        "passes": own,
        "tonic_passes": other,
        "ratio": ratio,
        "ratio_to_tonics_best_pass": statistics.median(own) / max(other),
        "bound": BOUND,
        "met": ratio >= BOUND,
    }


def _data(common: dict[str, Any]) -> Data:
    from snnlab.data import DataConfig, build_data

    return build_data(DataConfig(**common, binary_bins=False), seed=0)


def _fresh_process(job: dict[str, Any]) -> list[float]:
    command = [sys.executable, "-m", "snnlab.benchmarks.pipeline", "--job", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job['side']} failed:\n{done.stderr}")
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def _job(job: dict[str, Any]) -> list[float]:
    """One process: samples per second of each timed pass."""
    side, n = job.pop("side"), job.pop("tonic_samples", 0)
    one_pass = event_pass(_data(job)) if side == "events" else tonic_pass(_data(job), n)
    one_pass()
    return [one_pass() for _ in range(PASSES)]


def event_pass(data: Data) -> Callable[[], float]:
    """A function that consumes an epoch of ``data.train`` and returns samples per second."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def consume(stream: Any) -> jax.Array:
        def step(total: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            return total + stream.at(t)[0, 0], None

        return jax.lax.scan(step, jnp.zeros(()), jnp.arange(data.n_steps))[0]

    def one_pass() -> float:
        start = time.perf_counter()
        jax.block_until_ready([consume(batch.stream) for batch in data.train])
        return data.train.n_samples / (time.perf_counter() - start)

    return one_pass


class _Recordings:
    """Decoded recordings as a torch dataset with a transform, in memory."""

    def __init__(self, store: EventStore, n: int, transform: Callable[[Any], Any]) -> None:
        self.events = [store.events_of(i) for i in range(min(n, len(store)))]
        self.labels = store.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.transform(self.events[i]), int(self.labels[i])


def tonic_pass(data: Data, n: int) -> Callable[[], float]:
    """The same with tonic, on the first ``n`` recordings."""
    import tonic
    import torch

    store = data.train.cutter.store
    sensor = store.sensor
    frames = tonic.transforms.ToFrame(
        sensor_size=(sensor.width, sensor.height, sensor.polarities), n_time_bins=data.n_steps
    )
    source = _Recordings(store, n, frames)
    batches = torch.utils.data.DataLoader(
        source,
        batch_size=data.train.cutter.batch_size,
        shuffle=True,
        collate_fn=tonic.collation.PadTensors(batch_first=False),
    )

    def one_pass() -> float:
        start, total = time.perf_counter(), 0.0
        for xs, _ in batches:
            total += float(xs[:, 0, 0, 0, 0].sum())
        return len(source) / (time.perf_counter() - start)

    return one_pass


def main(argv: Sequence[str] | None = None) -> int:
    """Print the measurement as JSON; 0 if the bound is met, else 1."""
    parser = argparse.ArgumentParser(prog="pipeline", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", default="event-digits", help="event-digits or nmnist")
    parser.add_argument("--data_path", "--data-path", default="", help="of nmnist")
    parser.add_argument("--data_length", "--data-length", type=int, default=100, help="bins")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes of each side")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = vars(parser.parse_args(argv))
    job = options.pop("job")
    if job:
        print(json.dumps(_job(json.loads(job))))
        return 0
    result = run(**options)
    print(json.dumps(result, indent=1))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    run_command(main, "pipeline")
