"""How the loss reaches the neurons of a layer: the learning signal.

============  ==========================================================================
`Exact`       everything that happens inside the step, upper layers and readout included
`Window`      backpropagation inside a window of steps, whose size then matters
`Feedback`    the readout's error through fixed or learned weights of its own, to every layer
`Local`       a fixed readout of each layer with a loss of its own
============  ==========================================================================

In all of them the states of the readout see their own loss exactly, and so do penalties on spikes
and membranes. A signal at *spikes* (``at_spikes``) is kept apart from that at states, so that a
rule may filter it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.base import Objective, at_rest
from snnlab.learners.functional import Params
from snnlab.models.base import StepOutput


class Signal:
    """The exact signal of a step; base of the others.

    Args:
        objective: loss of a step.
        at_spikes: whether the rule wants the signal at spikes.
    """

    #: Whether the signal passes the maps of layers above.
    through_maps = True

    def __init__(self, objective: Objective, at_spikes: bool = False) -> None:
        self.objective = objective
        self.at_spikes = at_spikes

    def parameters(self) -> Params:
        """Parameters of its own, which the optimiser changes."""
        return {}

    def loss(self, params: Params, out: StepOutput, spikes: Any, t: Any, batch: Any) -> Any:
        """What to differentiate in a step: a scalar; the metrics, and what :meth:`learn` needs.

        Args:
            params: of the network, and its own.
            out: of the step; its spikes are for penalties.
            spikes: by layer, as maps see them.
            t, batch: for the objective.
        """
        loss, metrics = self.objective.step(out, t, batch)
        return loss, (metrics, None)

    def at_rest(self, batch_size: int) -> Any:
        """What it keeps between chunks, at the start of a sequence."""
        return None

    def learn(self, kept: Any, kappa: Any, state: Any) -> tuple[Params, Any]:
        """Gradient of its own parameters in a chunk, and what it keeps then.

        Args:
            kept: what :meth:`loss` returned, of all steps.
            kappa: the readout's decay.
            state: from before the chunk.
        """
        return {}, state


class Exact(Signal):
    """``dL_t/dh_t`` with all that happens inside step t, and nothing of later steps."""


class Window(Signal):
    """The adjoint within a window of steps (Wang et al. 2026, multi-step)."""


def output_error(objective: Objective, out: StepOutput, t: Any, batch: Any) -> jax.Array:
    """``dL_t/d readout (B, n_out)``, as a constant."""

    def of(readout: jax.Array) -> jax.Array:
        return objective.step(out._replace(readout=readout), t, batch)[0]

    return jax.lax.stop_gradient(jax.grad(of)(out.readout))


class Feedback(Signal):
    """The readout's error, sent to each layer's spikes by weights ``B (n, n_out)`` of its own.

    ``L_t[j] = sum_k B[j, k] dL_t/dy_t[k]`` (Lillicrap et al. 2016; to each layer directly,
    Nøkland 2016; broadcast alignment of Bellec et al. 2020). ``learned``: B is a parameter and gets
    the gradient that a readout of the layer would get, so that with the same start and weight decay
    it follows the readout (Kolen & Pollack 1994; adaptive e-prop).

    Args:
        objective: loss of a step.
        sizes: neurons of each layer.
        n_out: readout units.
        scale: standard deviation of B.
        seed: from which B is drawn.
        learned: see above.
        at_spikes: see :class:`Signal`.
    """

    through_maps = False

    def __init__(
        self, objective: Objective, sizes: list[int], n_out: int, scale: float, seed: int,
        learned: bool = False, at_spikes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(objective, at_spikes)
        draw = np.random.default_rng([seed, 0xFEEDBAC]).standard_normal
        self.weights = {
            f"feedback.{k}": jnp.asarray(scale * draw((n, n_out)), jnp.float32)
            for k, n in enumerate(sizes)
        }
        self.learned = learned

    def parameters(self) -> Params:
        return self.weights if self.learned else {}

    def loss(self, params: Params, out: StepOutput, spikes: Any, t: Any, batch: Any) -> Any:
        loss, metrics = self.objective.step(out, t, batch)
        error = output_error(self.objective, out, t, batch)
        for k, seen in enumerate(spikes):
            name = f"feedback.{k}"
            weight = params[name] if self.learned else self.weights[name]
            loss = loss + jnp.sum((error @ weight.T) * seen)
        return loss, (metrics, jax.lax.stop_gradient((error, spikes)) if self.learned else None)

    def at_rest(self, batch_size: int) -> Any:
        if not self.learned:
            return None
        sizes = [weight.shape[0] for weight in self.weights.values()]
        return [at_rest((batch_size, n)) for n in sizes]

    def learn(self, kept: Any, kappa: Any, state: Any) -> tuple[Params, Any]:
        if not self.learned:
            return {}, state
        error, spikes = kept
        found, ends = {}, list(state)
        for k, seen in enumerate(spikes):

            def filtered(old: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
                return kappa * old + now, kappa * old + now

            ends[k], trace = jax.lax.scan(filtered, state[k], seen)
            found[f"feedback.{k}"] = jnp.einsum("tbn,tbo->no", trace, error)
        return found, ends


class Local(Feedback):
    """A fixed random readout of each layer, whose loss that layer alone sees."""

    def loss(self, params: Params, out: StepOutput, spikes: Any, t: Any, batch: Any) -> Any:
        loss, metrics = self.objective.step(out, t, batch)
        fixed = jax.lax.stop_gradient(out)
        for weight, seen in zip(self.weights.values(), spikes, strict=True):
            guess = fixed._replace(readout=seen @ weight)
            loss = loss + self.objective.step(guess, t, batch)[0]
        return loss, (metrics, None)
