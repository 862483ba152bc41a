"""D-RTRL and ES-D-RTRL of braintrace.

D-RTRL is compiled for one sample and vmapped over the batch (its batched form is five times
slower on a CPU); ES-D-RTRL, and windows, are compiled with the batch inside.

Known limitations of braintrace 0.2.6 that reach the user: in windows (``multi-step``) the
warm-up correction of ES-D-RTRL counts windows, not steps; inside a window the gradient is
backpropagation, so a window as long as the sequence is BPTT whatever the method.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintrace
import jax

from snnlab.learners.backends.library import LibraryLearner


class BrainTrace(LibraryLearner):
    """``diag`` (D-RTRL) or ``expsm_diag`` (ES-D-RTRL, braintrace's pp-prop)."""

    def compile(self, model: brainstate.nn.Module) -> Any:
        options: dict[str, Any] = {"vjp_method": self.config.vjp_method}
        if self.config.method == "diag":
            return braintrace.compile(
                model, braintrace.D_RTRL, self._example, batch_size=self.batch_size,
                vmap=self.window == 1, **options,
            )  # fmt: skip
        return braintrace.compile(
            model, braintrace.pp_prop, self._example, batch_size=self.batch_size,
            decay_or_rank=float(self.config.decay), **options,
        )  # fmt: skip

    def traced_parameters(self) -> set[str]:
        compiled = getattr(self.algorithm, "module", self.algorithm)
        by_id = {id(state): name for name, state in self.params.items()}
        return {
            by_id[id(state)]
            for relation in compiled.graph.hidden_param_op_relations
            for state in relation.trainable_param_states.values()
            if id(state) in by_id
        }

    def as_window(self, xs: jax.Array) -> Any:
        return braintrace.MultiStepData(xs)
