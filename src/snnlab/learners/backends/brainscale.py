"""D-RTRL and ES-D-RTRL of brainscale 0.1.0, the library of the published experiments.

Its numerics are kept as they are. Two of them matter: after every step ``D_RTRL`` divides the
whole trace of a relation by its largest absolute value if that exceeds 1, so it is D-RTRL only
as long as no trace exceeds 1; and its last release runs with jax < 0.10 only. Its hybrid
algorithm does not run; ``--method hybrid`` is composed by :mod:`snnlab.learners.rules.hybrid`.
"""

from __future__ import annotations

from typing import Any

import brainstate
import jax

from snnlab.errors import UsageError, missing
from snnlab.learners.backends.library import LibraryLearner


def require_brainscale() -> None:
    """Check that brainscale can run here.

    Raises:
        UsageError: jax 0.10 or newer, or brainscale is not installed.
    """
    version = tuple(int(part) for part in jax.__version__.split(".")[:2])
    if version >= (0, 10):
        raise UsageError(
            f"--backend brainscale needs jax < 0.10 (here jax {jax.__version__}); "
            "use --backend braintrace, its successor"
        )
    if package := missing("brainscale", "brainscale"):
        raise UsageError(
            f"--backend brainscale needs {package}; or use --backend braintrace, its successor"
        )


class BrainScale(LibraryLearner):
    """``diag`` or ``expsm_diag`` by brainscale, with batched states."""

    def compile(self, model: brainstate.nn.Module) -> Any:
        require_brainscale()
        import brainscale

        mode = brainstate.mixin.Batching()
        brainstate.nn.init_all_states(model, batch_size=self.batch_size)
        method = self.config.vjp_method
        if self.config.method == "diag":
            made = brainscale.D_RTRL(model, mode=mode, vjp_method=method)
        else:
            made = brainscale.ES_D_RTRL(
                model, decay_or_rank=float(self.config.decay), mode=mode, vjp_method=method
            )
        made.compile_graph(self._example)
        return made

    def traced_parameters(self) -> set[str]:
        by_id = {id(state): name for name, state in self.params.items()}
        return {
            by_id[id(relation.weight)]
            for relation in self.algorithm.graph.hidden_param_op_relations
            if id(relation.weight) in by_id
        }

    def as_window(self, xs: jax.Array) -> Any:
        import brainscale

        return brainscale.MultiStepData(xs)
