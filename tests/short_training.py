"""Training of a small network on three batches, without files."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.batch import Batch
from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner
from snnlab.training.config import TrainingConfig
from snnlab.training.hooks import Moment
from snnlab.training.loop import fit
from snnlab.training.optim import Plateau, make_optimizer
from snnlab.training.programs import Programs, TrainState
from zoo import BATCH, STEPS, make_network_fn, make_stream, make_targets, model_config, objective


class FakeLoader:
    """Three batches, different in every epoch."""

    def __init__(self, scale: float = 1.0) -> None:
        self.epoch, self.scale = 0, scale

    def __len__(self) -> int:
        return 3

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        for k in range(3):
            seed = 10 * self.epoch + k
            targets = make_targets(seed)
            stream = make_stream(seed)
            stream = type(stream)(stream.xs * self.scale)
            yield Batch(stream, jax.tree.map(np.asarray, targets))


def make_programs(update_every: int = 0, warmup: int = 0, model: str = "lif-delta", **learner):
    config, training = model_config(model), TrainingConfig()
    make, goal = make_network_fn(config), objective(2, warmup)
    optimizer = make_optimizer(training, 3)
    made = make_learner(LearnerConfig(update_every=update_every, **learner), make, BATCH, goal)
    plain = make("plain")
    programs = Programs(made, optimizer, goal, PureNetwork(plain, BATCH), STEPS, update_every)
    params = jax.tree.map(jnp.copy, get_params(plain))
    key = jax.random.key_data(jax.random.key(0))
    plateau = Plateau(training)
    state = TrainState(params, optimizer.init(params), plateau.init(), key, jnp.int32(0))
    return programs, state, plateau


def run(programs, state, plateau, epochs=2, train=None, hooks=()):
    return fit(
        programs, Moment(state), train or FakeLoader(), FakeLoader(), hooks, epochs=epochs,
        plateau=plateau, layer_names=("layer 1", "layer 2"),
    )  # fmt: skip
