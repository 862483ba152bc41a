"""Stratified splits of labels."""

from __future__ import annotations

import math

import numpy as np


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions so that every class gives the same share.

    Args:
        labels: ``(n,)`` integers.
        fraction: share of the second part, ``ceil(fraction * n)`` positions, apportioned to
            the classes by largest remainder; of a class of two or more at least one and never
            all (a class of one recording stays in the first part).
        seed: the split is a pure function of ``labels``, ``fraction`` and ``seed``.

    Returns:
        Sorted positions of the first and of the second part; disjoint, together all.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 0x51])
    classes, counts = np.unique(labels, return_counts=True)
    share = fraction * counts
    wanted = np.floor(share).astype(np.int64)
    missing = math.ceil(round(fraction * len(labels), 9)) - int(wanted.sum())
    wanted[np.argsort(wanted - share, kind="stable")[:missing]] += 1
    wanted = np.minimum(np.maximum(wanted, 1), counts - 1)
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(classes, wanted, strict=True)
    ]
    second = np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))
    return np.setdiff1d(np.arange(len(labels)), second), second
