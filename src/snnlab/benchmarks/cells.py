"""One cell of a benchmark: a training program of one size, measured in a process of its own.

The whole training program of a batch is timed (events made dense, forward, gradient, clipping,
Adam), the same loop for every learner. Compilation is apart, the first runs are dropped, every
run is waited for.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cell:
    """Size and learner of one measurement.

    Attributes:
        method, backend, chunk_size: the learner; ``chunk_size`` 0 leaves it to the backend.
        model: layer model.
        n_in, n_rec, n_layer, batch_size, data_length: sizes.
        density: share of input lines that are active in a step.
        events: whether our learners may visit events; otherwise the input counts as dense.
        connectivity: share of the connections onto each layer that exist; 1 = all, dense.
        update_every: steps between updates; 0 = once per sequence.
        remat: of our BPTT.
        precision, kernels: of our learners.
        repeats: timed runs; 0 measures compilation and memory only.
        seed: of network and input.
    """

    #: Which measurement a job of these fields is, for ``benchmarks cell``.
    kind: ClassVar[str] = "learner"

    method: str = "bptt"
    backend: str = "auto"
    chunk_size: int = 0
    vjp_method: str = "single-step"
    model: str = "lif-delta"
    n_in: int = 2312
    n_rec: int = 512
    n_layer: int = 3
    batch_size: int = 32
    data_length: int = 100
    density: float = 0.02
    events: bool = True
    connectivity: float = 1.0
    update_every: int = 0
    repeats: int = 5
    seed: int = 0
    remat: bool = False
    precision: str = "float32"
    kernels: str = "auto"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the process of the measurement needs."""
        return {}


def clock() -> Callable[[], float]:
    """The clock of a measurement, seconds.

    On a single core (``taskset -c 0 ...``) of a CPU, the CPU time of this process: the same as the
    time that passes, but for what other programs take of the core. Otherwise the time that passes.
    """
    import jax

    single = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
    return time.process_time if single and jax.default_backend() == "cpu" else time.perf_counter


def make_stream(cell: Cell) -> Any:
    """Random events of the given density as an :class:`EventStream`."""
    from snnlab.data.stream import BLOCK, EventStream

    rng = np.random.default_rng(cell.seed)
    width = cell.batch_size * cell.n_in
    counts = rng.binomial(width, cell.density, cell.data_length)
    cells = np.concatenate([np.sort(rng.choice(width, n, replace=False)) for n in counts])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    padded = np.full(len(cells) + BLOCK, width, np.int32)
    padded[: len(cells)] = cells
    return EventStream(
        padded, offsets, batch_size=cell.batch_size, n_in=cell.n_in, binary=True, block=BLOCK,
        events=cell.events,
    )  # fmt: skip


class Made(NamedTuple):
    """A cell's learner, its programs and what they are called with."""

    learner: Any
    exact: Callable[[], Any]
    programs: Any
    state: Any
    stream: Any
    targets: Any

    @property
    def batch(self) -> tuple[Any, Any]:
        return self.stream, self.targets


def make(cell: Cell) -> Made:
    """What a cell measures, not compiled yet. ``exact`` makes the learner with float32."""
    import jax
    import jax.numpy as jnp

    from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner
    from snnlab.models import ModelConfig, build_network
    from snnlab.training.config import TrainingConfig
    from snnlab.training.objectives import Classification, Targets
    from snnlab.training.optim import Plateau, make_optimizer
    from snnlab.training.programs import Programs, TrainState

    n_out = 10
    model = ModelConfig(
        model=cell.model, n_rec=cell.n_rec, n_layer=cell.n_layer,
        connectivity=cell.connectivity,
    )  # fmt: skip
    training = TrainingConfig()
    config = LearnerConfig(
        method=cell.method, backend=cell.backend, vjp_method=cell.vjp_method,  # type: ignore[arg-type]
        chunk_size=cell.chunk_size or None, update_every=cell.update_every, remat=cell.remat,
        precision=cell.precision, kernels=cell.kernels,  # type: ignore[arg-type]
    )  # fmt: skip

    @functools.cache
    def network(operator: Any) -> Any:
        return build_network(model, cell.n_in, n_out, operator, cell.seed)

    def learner(config: LearnerConfig) -> Any:
        return make_learner(config, network, cell.batch_size, goal)

    goal = Classification(n_out, cell.n_layer, 0, 1.0, training)
    plain, made = network("plain"), learner(config)
    optimizer = make_optimizer(training, 1)
    programs = Programs(
        made, optimizer, goal, PureNetwork(plain, 1), cell.data_length, cell.update_every
    )
    params = jax.tree.map(jnp.copy, get_params(plain))
    plateau, key = Plateau(training).init(), jax.random.key_data(jax.random.key(0))
    state = TrainState(params, optimizer.init(params), plateau, key, jnp.int32(0))
    labels = np.random.default_rng(1).integers(0, n_out, cell.batch_size)
    targets = Targets(jnp.asarray(labels, jnp.int32), jnp.ones(cell.batch_size, jnp.float32))

    def exact() -> Any:
        return learner(dataclasses.replace(config, precision="float32"))

    return Made(made, exact, programs, state, make_stream(cell), targets)


def measure(cell: Cell) -> dict[str, Any]:
    """Measure a cell in this process.

    Returns:
        The cell's fields and ``ms_per_step`` (median, by :func:`clock`), ``ms_per_step_spread``
        (interquartile range), ``ms_per_step_quartiles`` (both), ``samples_per_second``,
        ``compile_seconds``, ``peak_temp_bytes``
        (XLA's memory analysis), ``chunk`` (steps between two readings of traces),
        ``product_flop_per_step`` and ``traffic_bytes_per_step`` (see
        :mod:`snnlab.benchmarks.roofline`), ``policies`` (of which kind of device, see
        :mod:`snnlab.learners.tuning`), ``device``, what :func:`device_memory` says,
        ``process_peak_bytes``, ``rates`` (Hz; input is generated, 1 ms a step); with another
        precision than float32 ``gradient_cosine``, the cosine between the gradient and that of
        float32.
    """
    import jax
    import jax.numpy as jnp

    from snnlab.benchmarks import machine, roofline
    from snnlab.learners import tuning

    made = make(cell)
    programs, state, batch = made.programs, made.state, made.batch
    program = programs.program("train", programs.train_fn, state, *batch)
    analysis = program.memory_analysis()
    row: dict[str, Any] = {
        **dataclasses.asdict(cell),
        "device": machine.here().device_kind,
        "policies": "cpu" if tuning.current().own_loops else "accelerator",
        "jax": jax.__version__,
        "compile_seconds": round(programs.compile_seconds, 3),
        "peak_temp_bytes": int(analysis.temp_size_in_bytes) if analysis else None,
    }
    span = programs.update_every
    longest = getattr(made.learner, "longest", None)
    chunk = longest(span) if longest else cell.chunk_size or 1
    flop = roofline.product_flop(programs.train_fn, state, *batch)
    row |= {
        "chunk": chunk,
        roofline.FLOP: round(flop / cell.data_length),
    }
    if cell.repeats and cell.precision != "float32":
        found = [
            jax.jit(lambda p, o=one: o.segment(p, o.fresh(), *batch, 0, span).gradients)(
                state.params
            )
            for one in (made.exact(), made.learner)
        ]
        a, b = (jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(f)]) for f in found)
        row["gradient_cosine"] = float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))
    if cell.repeats:
        times, numbers, now = [], None, clock()
        for i in range(cell.repeats + 1):
            began = now()
            state, numbers = program(state, *batch)
            jax.block_until_ready((state, numbers))
            if i:  # the first run warms up
                times.append((now() - began) / cell.data_length * 1e3)
        quartiles = np.percentile(times, [25, 75])
        median = statistics.median(times)
        row |= {
            "ms_per_step": round(median, 4),
            "ms_per_step_spread": round(float(quartiles[1] - quartiles[0]), 4),
            "ms_per_step_quartiles": [round(float(ms), 4) for ms in quartiles],
            "samples_per_second": round(cell.batch_size / (median * cell.data_length) * 1e3, 2),
            "rates": [round(float(r), 2) for r in numbers["rates"]] if numbers else [],
        }
    row[roofline.BYTES] = round(roofline.traffic_bytes(cell, chunk, row.get("rates", ())))
    return row | device_memory(machine.here()) | {"process_peak_bytes": process_peak()}


def device_memory(device: Any) -> dict[str, int | None]:
    """``device_peak_bytes`` in use so far, ``device_limit_bytes`` that JAX may use.

    ``None`` where the device does not tell (a CPU). Where JAX takes most of the memory at its
    start, the peak is still what arrays and programs took of it.
    """
    stats = device.memory_stats() or {}
    names = {"device_peak_bytes": "peak_bytes_in_use", "device_limit_bytes": "bytes_limit"}
    return {name: stats.get(theirs) for name, theirs in names.items()}


def process_peak() -> int:
    """Bytes of the host's memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
