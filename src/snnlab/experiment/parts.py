"""The pieces of a run: learner, optimiser, compiled programs, initial state."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.experiment.problem import Problem
from snnlab.learners import PureNetwork, PureSequence, get_params, make_learner
from snnlab.learners.functional import param_states
from snnlab.models import Network
from snnlab.models.normalization import RunningStatistic
from snnlab.training.config import TrainingConfig
from snnlab.training.losses import Classification
from snnlab.training.optim import Plateau, make_optimizer
from snnlab.training.programs import Programs, TrainState


@dataclasses.dataclass
class Parts:
    """The pieces of a run, built once."""

    programs: Programs
    plateau: Plateau
    state: TrainState
    network: Network


def build_parts(config: Any, problem: Problem) -> Parts:
    """Learner, optimiser, programs and initial state of a problem."""
    plain = problem.make_network("plain")
    objective = Classification(
        problem.n_classes, len(problem.layer_names),
        max(problem.first_scored, config.training.warmup_steps(problem.n_steps)),
        problem.step_ms(plain), config.training,
    )  # fmt: skip
    _check_rate(config.training, objective.step_ms)
    if objective.warmup >= problem.n_steps:
        raise UsageError(
            f"--warmup_ratio {config.training.warmup_ratio:g}: {objective.warmup} steps without "
            f"loss leave none of the sequence's {problem.n_steps}"
        )
    learner = make_learner(config.learner, problem.make_network, problem.batch_size, objective)
    every = min(config.learner.update_every or problem.n_steps, problem.n_steps)
    per_epoch = len(problem.train) * -(-problem.n_steps // every)
    optimizer = make_optimizer(config.training, per_epoch)
    plateau = Plateau(config.training)
    params = jax.tree.map(jnp.copy, get_params(plain))  # training consumes its state
    evaluated: PureNetwork | PureSequence
    if config.training.use_regularizers and not learner.layerwise:
        raise UsageError(
            "--use_regularizers needs the rates of whole sequences: --method bptt --backend "
            "layerwise (every learner has --spk_reg_factor, a penalty of each step)"
        )
    if learner.layerwise:
        evaluated = PureSequence(plain, objective.example(problem.batch_size).mask)
    else:
        evaluated = PureNetwork(plain, problem.batch_size)
    programs = Programs(
        learner, optimizer, objective, evaluated, problem.n_steps, config.learner.update_every
    )
    key = jax.random.key_data(jax.random.key(config.run.seed))
    state = TrainState(params, optimizer.init(params), plateau.init(), key, jnp.int32(0))
    return Parts(programs, plateau, state, plain)


def _check_rate(training: TrainingConfig, step_ms: float) -> None:
    """A neuron spikes once in a step at most."""
    most = 1000.0 / step_ms
    if training.spk_reg_factor > 0 and training.spk_reg_rate > most * (1 + 1e-9):
        raise UsageError(
            f"--spk_reg_rate {training.spk_reg_rate:g} Hz cannot be reached: a neuron spikes once "
            f"in a step of {step_ms:.4g} ms at most, that is {most:.4g} Hz"
        )


def n_parameters(parts: Parts) -> int:
    """Numbers that are no running statistics."""
    states = param_states(parts.network)
    running = {name for name, s in states.items() if isinstance(s, RunningStatistic)}
    return int(sum(p.size for name, p in parts.state.params.items() if name not in running))
