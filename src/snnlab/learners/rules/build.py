"""From a request to a learner: what the files of rules share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.learners.base import Objective
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import get_params
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Choose, Setting
from snnlab.learners.signals import Feedback, Signal, Window
from snnlab.models.base import READOUT_PREFIX, Network

if TYPE_CHECKING:
    from snnlab.learners.chunks import OnlineLearner


@dataclasses.dataclass(frozen=True)
class Request:
    """A learner that is asked for.

    Attributes:
        config: method and its options.
        network: built with the plain operator.
        batch_size: B of every batch.
        objective: loss of a step.
        seed: of what a rule draws (feedback weights, directions).
    """

    config: LearnerConfig
    network: Network
    batch_size: int
    objective: Objective
    seed: int = 0

    def online(
        self, choose: Choose, signal: Callable[[StepGraph], Signal] | None = None
    ) -> OnlineLearner:
        """The learner that chooses a rule for each relation; without ``signal`` the exact one."""
        from snnlab.learners.chunk_sizes import automatic
        from snnlab.learners.chunks import OnlineLearner

        config = self.config
        windowed = config.vjp_method == "multi-step"
        setting = Setting(config.decay, windowed, config.update_every > 0, config.update_every == 1)
        made = OnlineLearner(
            self.network, self.batch_size, self.objective, choose,
            (lambda _graph: Window(self.objective)) if windowed else signal,
            setting, config.chunk_size or 1, config.precision,
        )  # fmt: skip
        if config.chunk_size is None:
            made.chunk_size = automatic(made, config)
        return made

    def feedback(
        self, graph: StepGraph, kind: type[Feedback] = Feedback, *, learned: bool = False,
        at_spikes: bool = False,
    ) -> Feedback:  # fmt: skip
        """Weights from the readout's error to each layer, drawn as wide as the readout's own.

        Raises:
            UsageError: the readout does not read spikes.
        """
        self.require_spikes(graph)
        sizes = [v.aval.shape[1] for v in graph.out.spikes]
        own = [v for n, v in get_params(self.network).items() if n.startswith(READOUT_PREFIX)]
        scale = max((float(jnp.std(v)) for v in own if v.ndim > 1), default=0.0)
        return kind(
            self.objective, sizes, self.network.n_out, scale or max(sizes) ** -0.5, self.seed,
            learned, at_spikes,
        )  # fmt: skip

    def require_spikes(self, graph: StepGraph) -> None:
        """Refuse a network in which something else than spikes reaches the readout.

        Raises:
            UsageError: the state that does.
        """
        past = graph.reach_output_past_spikes()
        if past is not None:
            raise UsageError(
                f"--method {self.config.method} needs a readout of spikes; here state "
                f"{graph.states[past]} reaches it in another way: use --method diag"
            )
