"""The pieces of a run: learner, optimiser, compiled programs, initial state."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from snnlab import processes
from snnlab.devices import chosen, require_memory
from snnlab.errors import UsageError
from snnlab.experiment.problem import Problem
from snnlab.learners import PureNetwork, PureSequence, get_params, make_learner
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import Params, param_states
from snnlab.models import Network
from snnlab.models.maps import Operator
from snnlab.models.normalization import RunningStatistic
from snnlab.models.trained import NeuronValue
from snnlab.training.config import TrainingConfig
from snnlab.training.endless import EndlessPrograms
from snnlab.training.optim import Plateau, make_optimizer
from snnlab.training.placement import ALONE, Columns, Placement
from snnlab.training.programs import Programs, TrainState


@dataclasses.dataclass
class Assembly:
    """The pieces of a run, built once.

    Attributes:
        make_network: what is trained, for an operator: the problem's network, its readout summed
            where the loss is of sums.
    """

    programs: Programs
    plateau: Plateau
    state: TrainState
    network: Network
    make_network: Callable[[Operator], Network]


def placed(config: Any) -> Placement:
    """The devices of a run, in all processes: those of ``--devices``; of a figure or a probe one.

    Raises:
        UsageError: a device that is not there, other numbers of them in other processes;
            ``--shard neurons`` of one device, or of several seeds.
    """
    if config.run.mode != "train":
        return ALONE
    devices = chosen(config.run.devices)
    if config.run.shard == "batch":
        return Placement(of_all_processes(devices))
    if len(devices) < 2:
        raise UsageError("--shard neurons needs several --devices (0,1, all, cpu:N)")
    return Columns(devices)


def of_all_processes(chosen: list[jax.Device]) -> list[jax.Device]:
    """The devices that each process has chosen, in the order of their parts of the batch.

    Raises:
        UsageError: not the same number in all.
    """
    if processes.count() == 1:
        return chosen
    mine = chosen or jax.local_devices()[:1]
    processes.agree({"the number of --devices": str(len(mine))})
    ids = [number for theirs in processes.gathered([d.id for d in mine]) for number in theirs]
    there = {d.id: d for d in jax.devices()}
    return [there[number] for number in ids]


def assemble(config: Any, problem: Problem, placement: Placement | None = None) -> Assembly:
    """Learner, optimiser, programs and initial state of a problem.

    Args:
        placement: devices of the batch, instead of those that the config names.

    Raises:
        UsageError: options that do not fit each other, the data or the devices.
    """
    placement = placed(config) if placement is None else placement
    training, n_steps = config.training, problem.n_steps
    first = training.first_counted(problem.first_scored, n_steps)
    make_network = problem.make_network
    if training.loss_of == "sum":
        make_network = functools.partial(_summed, problem.make_network, first)
    plain = make_network("plain")
    objective = problem.objective(
        problem.n_out, len(problem.layer_names),
        n_steps - 1 if training.loss_steps == "end" else first, problem.step_ms(plain), training,
    )  # fmt: skip
    _check_rate(config.training, objective.step_ms)
    if first >= problem.n_steps:
        raise UsageError(
            f"--warmup_ratio {config.training.warmup_ratio:g}: {first} steps without "
            f"loss leave none of the sequence's {problem.n_steps}"
        )
    given, least = config.training.warmup_ratio, problem.first_scored
    if given and config.training.warmup_steps(problem.n_steps) <= least:
        raise UsageError(
            f"--warmup_ratio {given:g} has no effect: the loss of this task begins at step {least} "
            f"of {problem.n_steps} anyway"
        )
    learn = config.learner
    if learn.update_every > problem.n_steps:
        raise UsageError(
            f"--update_every {learn.update_every} is longer than the sequence of "
            f"{problem.n_steps} steps"
        )
    if learn.window is not None and learn.window >= problem.n_steps:
        raise UsageError(
            f"--chunk_size {learn.chunk_size} covers the whole sequence of {problem.n_steps} "
            "steps: such a window is plain BPTT, ask for --method bptt"
        )
    size = placement.size(problem.batch_size)
    _check_split(config.learner, placement.n)
    with placement.planned():
        learner = make_learner(config.learner, make_network, size, objective, config.run.seed)
    placement.check(learner)
    every = min(config.learner.update_every or problem.n_steps, problem.n_steps)
    per_batch = -(-problem.n_steps // every)
    values = {n for n, s in param_states(plain).items() if isinstance(s, NeuronValue)}
    optimizer = make_optimizer(
        config.training, len(problem.train) * per_batch, values, per_batch,
        problem.n_steps - objective.warmup,
    )  # fmt: skip
    plateau = Plateau(config.training, objective.score)
    if config.run.mode == "train":
        needed = training_bytes(learner, optimizer, get_params(plain), every)
        needed //= placement.n if isinstance(placement, Columns) else 1
        require_memory(needed, "training (gradients, optimiser, traces)")
    params = {**get_params(plain), **learner.parameters()}
    params = jax.tree.map(jnp.copy, params)  # training consumes its state
    if config.training.use_regularizers and not learner.layerwise:
        raise UsageError(
            "--use_regularizers needs the rates of whole sequences: --method bptt --backend "
            "layerwise (every learner has --spk_reg_factor, a penalty of each step)"
        )
    if learner.layerwise and training.loss_of == "sum":
        raise UsageError(
            "--loss_of sum: networks of whole sequences (--backend layerwise) have no running sum"
        )

    def evaluated(size: int) -> PureNetwork | PureSequence:
        if learner.layerwise:
            return PureSequence(plain, objective.example(size).mask)
        return PureNetwork(plain, size)

    of_shard = None
    if size != problem.batch_size:
        with placement.planned():
            of_shard = evaluated(size)
    kind = EndlessPrograms if problem.endless else Programs
    programs = kind(
        learner, optimizer, objective, evaluated(problem.batch_size), problem.n_steps,
        config.learner.update_every, placement, of_shard,
    )  # fmt: skip
    programs.spiking = getattr(getattr(config, "model", None), "is_spiking", True)
    key = jax.random.key_data(jax.random.key(config.run.seed))
    state = TrainState(params, optimizer.init(params), plateau.init(), key, jnp.int32(0))
    return Assembly(programs, plateau, programs.started(state), plain, make_network)


def _check_split(config: LearnerConfig, n: int) -> None:
    """Refuse what mixes samples in a way that no sum over devices can make up for."""
    if n > 1 and config.backend == "brainscale" and config.method != "expsm_diag":
        raise UsageError(
            f"--backend brainscale --method {config.method} with {n} devices: it divides traces by "
            "their largest value over the samples of a batch; use another backend, or one device"
        )


def _summed(make: Callable[[Operator], Network], first: int, operator: Operator) -> Network:
    """A network whose readout is summed from step ``first`` on."""
    network = make(operator)
    network.sum_readout(first)
    return network


def _check_rate(training: TrainingConfig, step_ms: float) -> None:
    """A neuron spikes once in a step at most."""
    most = 1000.0 / step_ms
    if training.spk_reg_factor > 0 and training.spk_reg_rate > most * (1 + 1e-9):
        raise UsageError(
            f"--spk_reg_rate {training.spk_reg_rate:g} Hz cannot be reached: a neuron spikes once "
            f"in a step of {step_ms:.4g} ms at most, that is {most:.4g} Hz"
        )


def training_bytes(learner: Any, optimizer: Any, params: Params, length: int) -> int:
    """Bytes of gradients, optimiser and traces, for segments of ``length`` steps; at least.

    Traces are those of D-RTRL in chunks; what a chunk itself takes is left out.
    """

    def size(tree: Any) -> int:
        return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))

    chunk = getattr(learner, "chunk_size", None)
    steps = chunk(length) if callable(chunk) else chunk
    traces = getattr(learner, "trace_bytes", 0) if steps and steps < length else 0
    return size(params) + size(jax.eval_shape(optimizer.init, params)) + traces


def n_parameters(parts: Assembly) -> int:
    """Numbers of the network that are no running statistics."""
    states = param_states(parts.network)
    running = {name for name, s in states.items() if isinstance(s, RunningStatistic)}
    mine = [p for name, p in parts.state.params.items() if name in states and name not in running]
    return int(sum(p.size for p in mine))
