"""What the rows of ``metrics.jsonl`` say about a network that does not learn.

Silence (a layer whose every output was 0 during a whole epoch, or on a whole split after it) and
gradients that were all zero during a whole epoch; both would pass without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnlab.options import flat, void_options

#: Options that make neurons spike, as far as a config has them: more of these, or less of those.
MORE, LESS = ("ff_scale", "dataset_scale"), ("V_th", "mu", "nu")
#: Surrogates whose gradient is zero nowhere.
WIDE = ("s2nn", "multi_gaussian")
#: Below, the gradients of a loss may be zero because there is nothing left to learn.
LEARNED = 1e-6
PLACES = {
    "train": "throughout epoch {epoch}", "val": "on the validation set after epoch {epoch}",
    "test": "on the test set", "sim": "in this batch",
}  # fmt: skip


def alarms(rows: Sequence[Mapping[str, Any]], layer_names: Sequence[str], config: Any) -> list[str]:
    """One line for silence, one for gradients that were all zero, each of where it was first.

    Args:
        rows: of ``metrics.jsonl``.
        layer_names: of the recurrent layers, in the order of ``firing_rates``.
        config: sections, from whose options the advice is taken.

    Returns:
        At most two lines, the earlier one first; with more rows, these stay as they are.
    """
    found: dict[str, str] = {}
    for row in rows:
        place = PLACES.get(row["split"], "").format(epoch=row["epoch"])
        if "step" in row:  # of a stream
            place = f"in the {row['steps']:,} steps before step {row['step']:,}"
        rates = row.get("firing_rates") or row.get("mean_outputs") or ()
        silent = [name for name, rate in zip(layer_names, rates) if rate == 0]
        if silent:
            were = "was" if len(silent) == 1 else "were"
            found.setdefault(
                "silent",
                f"{', '.join(silent)} {were} silent {place}, not one output but 0: "
                + _advice(config),
            )
        loss = row.get("loss")
        if row.get("grad_norm") == 0 and (loss is None or loss >= LEARNED):
            found.setdefault(
                "flat",
                f"all gradients were zero {place}, nothing was learned: " + _advice(config, True),
            )
    return list(found.values())


def new_alarms(
    rows: Sequence[Mapping[str, Any]], n_new: int, layer_names: Sequence[str], config: Any
) -> list[str]:
    """The :func:`alarms` that came with the last ``n_new`` rows."""
    before = alarms(rows[: len(rows) - n_new], layer_names, config)
    return [text for text in alarms(rows, layer_names, config) if text not in before]


def _advice(config: Any, gradients: bool = False) -> str:
    void = void_options(config)
    values = {name: value for name, value in flat(config).items() if name not in void}
    ways = ["give it larger input weights"] * (not {*MORE, *LESS} & {*values})
    ways += [f"raise --{name} (now {values[name]:g})" for name in MORE if name in values]
    ways += [f"lower --{name} (now {values[name]:g})" for name in LESS if values.get(name, 0) > 0]
    if gradients and values.get("spk_fun", WIDE[0]) not in WIDE:
        ways.append(f"take --spk_fun {WIDE[0]}, whose gradient is zero nowhere")
    return " or ".join([", ".join(ways[:-1]), ways[-1]] if len(ways) > 1 else ways)
