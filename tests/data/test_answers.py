"""Answers: which label a step has, by hand; parts; as a pytree."""

from __future__ import annotations

import jax
import numpy as np

from snnlab.data.answers import UNASKED, Answers

LABELS = np.array([[2, 0], [UNASKED, 1], [1, UNASKED], [0, 2]], np.int32)
SPANS = ((2, 4), (5, 8))


def test_labels_by_step() -> None:
    answers = Answers(LABELS, SPANS)
    number = [int(answers.number(t)) for t in range(10)]
    assert number == [2, 2, 0, 0, 2, 1, 1, 1, 2, 2]
    found = jax.jit(lambda a: jax.vmap(a.at)(np.arange(10)))(answers)
    nothing = np.full(4, UNASKED)
    for t, n in enumerate(number):
        np.testing.assert_array_equal(found[t], LABELS[:, n] if n < 2 else nothing)


def test_parts_are_those_of_the_samples() -> None:
    first, second = Answers(LABELS, SPANS).parts(2)
    np.testing.assert_array_equal(first.labels, LABELS[:2])
    np.testing.assert_array_equal(second.labels, LABELS[2:])
    assert first.spans == second.spans == SPANS
