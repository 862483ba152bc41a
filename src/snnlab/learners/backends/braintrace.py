"""D-RTRL and ES-D-RTRL of braintrace.

D-RTRL is compiled for one sample and vmapped over the batch (its batched form is five times
slower on a CPU); ES-D-RTRL, and windows, are compiled with the batch inside.

Known limitations of braintrace (0.2.6 to 0.2.8) that reach the user: in windows (``multi-step``)
the warm-up correction of ES-D-RTRL counts windows, not steps; inside a window the gradient is
backpropagation, so a window as long as the sequence is BPTT whatever the method.
"""

from __future__ import annotations

from typing import Any

import brainstate
import braintrace
import jax

from snnlab.learners.backends.library import LibraryLearner


class BrainTrace(LibraryLearner):
    """``diag`` (D-RTRL), ``expsm_diag`` (ES-D-RTRL, braintrace's pp-prop), ``snap-1``, ``snap-2``.

    Its e-prop filters the traces of states, and its OSTL is SnAp-1: they are not ours of that name.
    """

    def compile(self, model: brainstate.nn.Module) -> Any:
        options: dict[str, Any] = {"vjp_method": self.config.vjp_method}
        traced: dict[str, tuple[Any, dict[str, Any]]] = {
            "diag": (braintrace.D_RTRL, {}),
            "snap-1": (braintrace.SnAp, {"n": 1}),
            "snap-2": (braintrace.SnAp, {"n": 2}),
        }
        if self.config.method in traced:
            rule, more = traced[self.config.method]
            return braintrace.compile(
                model, rule, self._example, batch_size=self.batch_size,
                vmap=self.window == 1, **options, **more,
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
