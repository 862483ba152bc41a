"""Rows ``gradient`` of ``metrics.jsonl``: how a rule's gradient agrees with BPTT's.

Cosine ``<g, b> / (|g| |b|)`` and ratio of norms ``|g| / |b|`` of the rule's gradient ``g`` and
BPTT's ``b``, for the same parameters, loss and batch: the first training batch of epoch 1, as it
was shown. Both are sums over the whole sequence; a rule that updates within it (``--update_every``)
is compared by the sum of its parts, the parameters left as they are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

#: ``split`` of the rows.
SPLIT = "gradient"
#: Numbers of a row: of all parameters but the readout's, and of the readout's.
MEASURES = ("cosine", "norm_ratio", "readout_cosine", "readout_norm_ratio")
#: Said in ``results.json``.
COMPARED = (
    "the rule's gradient and that of BPTT, summed over the sequence, at the same parameters, on "
    "the first training batch of epoch 1"
)


def of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``gradient`` of ``results.json``; empty where nothing was compared.

    Each measure ``start`` (of the untrained network), ``during`` (mean of all later comparisons)
    and ``end`` (the last of these); ``None`` where a gradient was zero or not finite. ``epochs``:
    of the later ones.
    """
    found = [row for row in rows if row.get("split") == SPLIT]
    if not found:
        return {}
    first = [row for row in found if row["epoch"] == 0]
    later = [row for row in found if row["epoch"] > 0]
    facts: dict[str, Any] = {"compared": COMPARED, "epochs": [row["epoch"] for row in later]}
    for name in MEASURES:
        values = [v for v in (row.get(name) for row in later) if v is not None]
        facts[name] = {
            "start": first[0].get(name) if first else None,
            "during": statistics.fmean(values) if values else None,
            "end": later[-1].get(name) if later else None,
        }
    return {"gradient": facts}


def over_seeds(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of several seeds: means over those that have a number."""
    found = [one["gradient"] for one in facts if one.get("gradient")]
    if not found:
        return {}
    made = {name: found[0][name] for name in ("compared", "epochs")}
    for name in MEASURES:
        made[name] = {}
        for when in ("start", "during", "end"):
            values = [one[name][when] for one in found if one[name][when] is not None]
            made[name][when] = statistics.fmean(values) if values else None
    return {"gradient": made}
