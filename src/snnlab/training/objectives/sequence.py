"""Several labels for every sequence, one after another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnlab.data.answers import UNASKED, Answers
from snnlab.data.batch import Targets
from snnlab.models.base import StepOutput
from snnlab.scores import ACCURACY, SEQUENCES
from snnlab.training.objectives.base import Objective, Ratio


class SequenceClassification(Objective):
    """A label for each stretch of a sequence (:class:`snnlab.data.answers.Answers`).

    ``l_t`` of a step in which a sample is asked is softmax cross-entropy (``cel``), or the squared
    error to one-hot (``mse``, mean over units); in all others it is 0. A stretch's decision is the
    largest readout, summed over its scored steps. The score is the share of asked labels that are
    right; ``sequence_accuracy`` is that of sequences whose labels are all right. A stretch of which
    no step is scored (``--warmup_ratio``, ``--loss_steps end``) counts in neither.
    """

    score = ACCURACY
    beside = (SEQUENCES,)

    def example(self, batch_size: int) -> Targets:
        labels = jnp.zeros((batch_size, 1), jnp.int32)
        answers = Answers(labels, ((self.warmup, self.warmup + 1),))
        return Targets(answers, jnp.ones(batch_size, jnp.float32))

    def counted(self, t: jax.Array, targets: Targets) -> jax.Array:
        return (targets.values.at(t) != UNASKED).astype(jnp.float32)

    def compare(
        self, out: StepOutput, t: jax.Array, targets: Targets, counts: jax.Array
    ) -> tuple[jax.Array, Any]:
        answers = targets.values
        labels = jnp.maximum(answers.at(t), 0)
        if self.config.loss == "cel":
            loss = optax.softmax_cross_entropy_with_integer_labels(out.readout, labels)
        else:
            loss = jnp.mean((out.readout - jax.nn.one_hot(labels, self.n_out)) ** 2, axis=-1)
        here = jax.nn.one_hot(answers.number(t), len(answers.spans))  # zeros outside of all
        return loss, here[:, None] * (counts * out.readout)[:, None, :]

    def measures(self, measured: Any, targets: Targets) -> dict[str, Ratio]:
        labels, mask = jnp.asarray(targets.values.labels), targets.mask
        asked = (labels != UNASKED) & self._scored(targets.values)
        right = self._decided(measured) == labels
        each = mask[:, None] * asked
        some = mask * asked.any(1)
        whole = some * jnp.all(right | ~asked, axis=1)
        return {
            "accuracy": Ratio(jnp.sum(each * right), each.sum()),
            SEQUENCES.name: Ratio(whole.sum(), some.sum()),
        }

    def decisions(self, measured: Any) -> dict[str, jax.Array]:
        """``predictions (B, n)``, a class for each stretch, asked or not."""
        return {"predictions": self._decided(measured)}

    def shown(
        self, readout: np.ndarray, targets: Targets, which: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """True classes and decisions, ``(b, n)`` each."""
        labels = np.asarray(targets.values.labels)[which]
        spans = [slice(max(a, self.warmup), b) for a, b in targets.values.spans]
        sums = [readout[span].sum(0).argmax(-1) for span in spans]
        return np.where(self._scored(targets.values), labels, UNASKED), np.stack(sums, axis=1)

    def _scored(self, answers: Answers) -> np.ndarray:
        """Which stretches have scored steps: ``(n,)``."""
        return np.array([stop > self.warmup for _, stop in answers.spans])

    @staticmethod
    def _decided(measured: Any) -> jax.Array:
        return jnp.argmax(measured, axis=-1)
