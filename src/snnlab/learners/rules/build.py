"""From a request to a learner: what the files of rules share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.learners.base import Objective
from snnlab.learners.functional import PureStep
from snnlab.learners.graph.requirements import reach_output_past_spikes
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Choose, Setting
from snnlab.learners.signals import Feedback, Signal, Window
from snnlab.learners.tuning import current

if TYPE_CHECKING:
    from snnlab.learners.chunks import OnlineLearner
    from snnlab.learners.config import LearnerConfig


@dataclasses.dataclass(frozen=True)
class Request:
    """A learner that is asked for.

    Attributes:
        config: method and its options.
        net: the step that is trained.
        objective: loss of a step.
        seed: of what a rule draws (feedback weights, directions).
    """

    config: LearnerConfig
    net: PureStep
    objective: Objective
    seed: int = 0

    def online(
        self, choose: Choose, signal: Callable[[StepGraph], Signal] | None = None
    ) -> OnlineLearner:
        """The learner that chooses a rule for each relation; without ``signal`` the exact one.

        Raises:
            UsageError: what the rule cannot take; fewer bits on a CPU, where they cost more.
        """
        from snnlab.learners.chunk_sizes import automatic
        from snnlab.learners.chunks import OnlineLearner

        config = self.config
        if config.precision != "float32" and current().own_loops:
            raise UsageError(
                f"--precision {config.precision} with --method {config.method}: a CPU would need "
                "more memory and no less time than with float32; use float32, or a GPU or TPU"
            )
        window = config.window or 0
        setting = Setting(config.decay, window, config.update_every > 0, config.update_every == 1)
        made = OnlineLearner(
            self.net, self.objective, choose,
            (lambda _graph: Window(self.objective)) if window else signal,
            setting, config.chunk_size or 1, config.precision,
        )  # fmt: skip
        if window or config.chunk_size is None:
            made.chunk_size = automatic(made, config)
        return made

    def feedback(
        self, graph: StepGraph, kind: type[Feedback] = Feedback, *, learned: bool = False,
        at_spikes: bool = False,
    ) -> Feedback:  # fmt: skip
        """Weights from the readout's error to each layer, drawn as wide as the readout's own.

        Raises:
            UsageError: the readout does not read spikes, or is no array ``(B, n_out)``.
        """
        self.require_spikes(graph)
        shapes = [v.aval.shape for v in jax.tree.leaves(graph.out.readout)]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise UsageError(
                f"--method {self.config.method} sends the error of a readout (B, n_out) back; here "
                f"the output has shapes {shapes}"
            )
        sizes = [v.aval.shape[1] for v in graph.out.spikes]
        params = self.net.params()
        own = [params[name] for name in graph.readouts() if params[name].ndim > 1]
        scale = max((float(jnp.std(v)) for v in own), default=0.0)
        return kind(
            self.objective, sizes, shapes[0][1], scale or max(sizes) ** -0.5, self.seed, learned,
            at_spikes,
        )  # fmt: skip

    def require_spikes(self, graph: StepGraph) -> None:
        """Refuse a network in which something else than spikes reaches the readout.

        Raises:
            UsageError: the state that does.
        """
        past = reach_output_past_spikes(graph)
        if past is not None:
            raise UsageError(
                f"--method {self.config.method} needs a readout of spikes; here state "
                f"{graph.states[past]} reaches it in another way: use --method diag, or "
                "--reads spikes where the readout reads membranes"
            )
