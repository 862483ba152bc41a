"""Backpropagation through whole sequences, layer after layer.

The order of computation is that of Bittar & Garner 2022: a layer's drive of all steps is one
product, then its neurons run through the steps, then comes the next layer. For networks whose
layers can also run step by step the gradient is that of backpropagation through the steps; batch
normalisation and bidirectional layers exist in this order only. Memory grows with the sequence.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.errors import UsageError
from snnlab.learners.base import Learner, Objective, Segment, sum_over_steps, template
from snnlab.learners.config import LearnerConfig, require_layerwise
from snnlab.learners.functional import Params, PureSequence
from snnlab.models.base import Network


class LayerwiseBPTT(Learner):
    """The exact gradient of a whole sequence; a segment is the sequence."""

    backend = "layerwise"
    layerwise = True

    def __init__(self, network: Network, batch_size: int, objective: Objective) -> None:
        self.objective = objective
        mask = objective.example(batch_size).mask
        self.net = PureSequence(network, mask, training=True)
        self.initial = template(self.net.initial)

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        if not (isinstance(start, int) and start == 0 and length == stream.n_steps):
            raise ValueError("layer after layer: a segment must be the whole sequence")

        def loss_of(params: Params) -> Any:
            end, renewed, outs = self.net.run(params, carry, stream.window(0, length), batch.mask)
            observe = jax.vmap(self.objective.step, (0, 0, None))
            losses, metrics = observe(outs, jnp.arange(length), batch)
            total = losses.sum() + self.objective.over_sequence(outs, batch)
            return total, (end, renewed, sum_over_steps(metrics))

        gradients, (end, renewed, metrics) = jax.grad(loss_of, has_aux=True)(params)
        return Segment(end, gradients, metrics, renewed)


def make(
    config: LearnerConfig, network: Network, batch_size: int, objective: Objective
) -> LayerwiseBPTT:
    """Of a network that exists in this order only, or where it is asked for.

    Raises:
        UsageError: BPTT in the order of steps, or a network that runs step by step only.
    """
    if network.layerwise:
        require_layerwise(config)
    if type(network).sequence is Network.sequence:
        raise UsageError("--backend layerwise: the layers of this network run step by step only")
    return LayerwiseBPTT(network, batch_size, objective)
