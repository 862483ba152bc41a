"""How far a run got, from its folder alone: read only, and without JAX."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snnlab.errors import UsageError, one_line
from snnlab.runs import RunFolder
from snnlab.scores import SCORES, interval_of_test
from snnlab.training.checkpoint_files import Place, damage, places

#: Options that say where a run is and what is to be done, not what it is.
PLACES = ("filepath", "resume", "mode", "data_path", "devices")


class State(NamedTuple):
    """How a run stands.

    Attributes:
        words: in a line.
        goes_on: whether a resume has something to do.
    """

    words: str
    goes_on: bool = False


def state_of(folder: RunFolder, options: dict[str, Any]) -> State:
    """How a run stands.

    Args:
        folder: of one seed.
        options: of its config: ``mode``, ``epochs``.
    """
    results, saved = folder.read_results(), places(folder.checkpoints)
    place = saved[-1] if saved else None
    if folder.in_use:
        return State(f"in training now, last checkpoint after {place or 'none yet'}")
    if options.get("mode", "train") != "train":
        return State(f"drawn, not trained (--mode {options['mode']})")
    if "error" in results:
        return State(f"failed: {one_line(str(results['error']))}", bool(saved))
    if "epochs" not in options and "steps" in options:
        return _of_stream(folder, options["steps"], results, place)
    epochs = options.get("epochs", "?")
    if folder.finished:
        told = one_line(str(results.get("given_up", "--pruning_epochs")))
        why = f" (given up: {told})" if results.get("pruned") else ""
        return State(f"finished after {results.get('epochs', '?')} of {epochs} epochs{why}")
    if place is None:
        return State("ended before its first checkpoint", True)
    if place == Place(place.epoch) and place.epoch == epochs:
        return State(f"trained for {epochs} epochs, not tested yet", True)
    return State(f"interrupted after {place}, of {epochs} epochs", True)


def _of_stream(
    folder: RunFolder, steps: int, results: Mapping[str, Any], place: Place | None
) -> State:
    """How a run on an endless stream stands; its end is ``steps``, 0 for none."""
    if place is None:
        return State("ended before its first checkpoint", True)
    if steps and results.get("steps") == steps:
        return State(f"finished after {steps:,} steps")
    known = [row["step"] for row in folder.metrics.rows() if isinstance(row.get("step"), int)]
    end = f"{steps:,} steps" if steps else "no end"
    return State(f"interrupted after {max(known, default=0):,} steps or more, of {end}", True)


def checkpoints(folder: RunFolder) -> list[str]:
    """A line for each checkpoint, the last one first: place, size, whether it is whole."""
    lines = []
    for place in reversed(places(folder.checkpoints)):
        path = folder.checkpoints / place.name
        wrong = damage(path)
        when = datetime.datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "minutes")
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        lines.append(
            f"{place}: {'damaged, ' + wrong if wrong else 'whole'} ({size / 1e6:.1f} MB, {when})"
        )
    return lines


def found(results: dict[str, Any]) -> str:
    """What a run of one or several seeds found; empty where it has no scores."""
    score = SCORES.get(str(results.get("score", "accuracy")))
    if score is None:
        return ""
    parts = []
    for split, words in (("test", "test"), ("val", "validation")):
        value = results.get(f"{split}_{score.name}")
        if isinstance(value, int | float):
            spread = results.get(f"{split}_{score.name}_sd")
            more = f" ± {score.show(spread)}" if isinstance(spread, int | float) else ""
            interval = interval_of_test(score, results) if split == "test" else ""
            more += f" ({interval})" if interval else ""
            parts.append(f"{words} {score.words} {score.show(value)}{more}")
    if isinstance(results.get("moving_accuracy"), float):
        parts.append(
            f"accuracy {results['moving_accuracy']:.2%} over the last {results['window']:,} steps"
        )
    if results.get("changes"):
        parts.append(f"recovered from {results['recovered']} of {results['changes']} changes")
    if "best_epoch" in results and parts:
        parts.append(f"best epoch {results['best_epoch']}")
    seconds = results.get("seconds")
    if isinstance(seconds, int | float) and parts:
        parts.append(f"{seconds:.0f} s")
    return ", ".join(parts)


def costs(results: Mapping[str, Any]) -> list[str]:
    """Lines about ``costs`` of ``results.json``; what a number lacks is said once."""
    found = results.get("costs")
    if not isinstance(found, dict) or not found:
        return []

    def show(name: str, form: str = "{:,.0f}", scale: float = 1.0) -> str:
        value = found.get(name)
        return form.format(scale * value) if isinstance(value, int | float) else "unknown"

    lines = [
        f"{show('footprint_bytes')} bytes, of which {show('parameter_bytes')} parameters",
        f"sparsity {show('connection_sparsity', '{:.2%}')} of connections, "
        f"{show('activation_sparsity', '{:.2%}')} of activations",
        f"of a sample in {show('steps')} steps, over {show('samples')} samples:",
        f"  {show('synaptic_operations_dense')} synaptic operations, dense",
        f"  {show('synaptic_operations_effective_acs')} ACs, "
        f"{show('synaptic_operations_effective_macs')} MACs, effective",
        f"  {show('membrane_updates')} membrane updates",
        f"  {show('energy_estimate_nj', '{:,.4g}')} nJ, an estimate:",
        *(f"    {part}" for part in _of_energy(found)),
    ]
    reasons = found.get("reasons")
    if isinstance(reasons, dict):
        lines += dict.fromkeys(f"unknown: {one_line(str(why))}" for why in reasons.values())
    return lines


def _of_energy(found: Mapping[str, Any]) -> list[str]:
    text = str(found.get("energy_estimate_source", "")).removeprefix("estimate: ")
    return [part.strip() for part in text.split(";") if part.strip()]


def head_of(folder: RunFolder) -> dict[str, str]:
    """Versions, commit, device, time and recordings, of the head of ``config.yaml``."""
    facts: dict[str, str] = {}
    try:
        with open(folder.config, encoding="utf-8") as file:
            for line in file:
                name, colon, value = line.removeprefix("# ").partition(":")
                if not line.startswith("# ") or not colon:
                    break
                facts[name] = value.strip()
    except (OSError, UnicodeDecodeError):
        return {}
    return facts


def made_with(folder: RunFolder) -> str:
    """A line of :func:`head_of`; empty without one."""
    facts = head_of(folder)
    shown = [f"{k} {facts[k]}" for k in ("snnlab", "commit", "jax", "device") if k in facts]
    return ", ".join([*shown, *([facts["written"]] if "written" in facts else [])])


#: Programs that are no task of trials and can be resumed: an option of ``config.yaml`` that no
#: other has.
MARKS = {"gradient-analysis": "rules"}


def program_of(options: Mapping[str, Any]) -> str:
    """Which of :data:`MARKS` a run with these options is; empty for a task's."""
    return next((name for name, mark in MARKS.items() if mark in options), "")


def members_of_sweep(folder: Path) -> list[Path]:
    """The run folders of a sweep's folder; empty for any other folder."""
    if not (folder / "sweep.yaml").is_file():
        return []
    return sorted(path for path in folder.iterdir() if RunFolder(path).holds_a_run)


def options_of(folder: RunFolder) -> dict[str, Any]:
    """What ``config.yaml`` says; empty where it cannot be read."""
    try:
        return folder.read_config()
    except UsageError:
        return {}
