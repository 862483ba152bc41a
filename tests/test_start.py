"""A command line is read without JAX: ``--help``, ``--dry_run`` and every refusal start at once."""

from __future__ import annotations

import pytest
import yaml

from light import ROOT, without_jax

#: Task -> command lines that are refused, and what is said.
REFUSED = {
    "task-image-classification.py": {
        "--n_rec 0": "--n_rec 0: must be greater than 0",
        "--update_every 100": "longer than the sequence",
        "--devices one": "--devices one: must be a comma list",
        "--resume nowhere": "nowhere",
        "--backend braintrace --method diag --trainable bias": "trains maps alone",
    },
    "task-balanced-rsnn.py": {
        "--bidirectional --remat": "need whole sequences",
        "--model GRU --method diag": "is not defined for --model GRU",
    },
    "task-coba-ei-rsnn.py": {"--n_cue 4": "must be odd", "--cue_rate 900 --dt 2": "at most 500 Hz"},
    "task-rsnn-long-term-dependency.py": {"--t_delay 0.5": "is not a multiple of the step"},
    "task-pattern-generation.py": {"--frequencies 600": "show at most 500 Hz"},
    "task-working-memory.py": {
        "--t_symbol 0.5": "is not a multiple of the step",
        "--n_symbol 1": "--n_symbol 1: must be greater than 1",
        "--t_delay 20": "--t_delay does not apply to --dataset store-recall",
    },
    "task-stream.py": {
        "--method bptt": "needs whole sequences",
        "--update_every 7": "must divide the stretch (--stretch 500)",
        "--change_every 600": "such as 1000",
        "--steps 15000": "such as 20000",
        "--dataset reader": "needs --reader",
        "--trials 2": "--trials",
    },
    "task-memory-and-speed-evaluation-tpu.py": {"--model x": "no such model", "--n_in x": "--n_in"},
    "task-gradient-analysis.py": {"--rules x": "--rules x: no such rule"},
    "task-sweep.py": {"": "--sweep is missing"},
    "boerlin.py": {"--j 0": "only --data shd has a number of its own"},
}


def test_every_task_is_here() -> None:
    assert set(REFUSED) == {path.name for path in (ROOT / "tasks").glob("*.py")}


@pytest.mark.parametrize("script", REFUSED)
def test_a_task_is_read_without_jax(script: str) -> None:
    refused = REFUSED[script]
    path = str(ROOT / "tasks" / script)
    sweep = "--sweep configs/sweeps/balanced.yaml " if script == "task-sweep.py" else ""
    lines = ["--help", "--help-all", f"{sweep}--dry_run", *refused]
    short, whole, dry, *others = without_jax(path, lines)
    assert [code for code, _, _ in (short, whole, dry)] == [0, 0, 0]
    assert "--help_all" in short[1]
    assert "examples:" in short[1]
    flags = [line.split()[0] for line in whole[1].splitlines() if line.startswith("  --")]
    shown = [line.split()[0] for line in short[1].splitlines() if line.startswith("  --")]
    assert set(shown) <= set(flags)
    assert len(flags) >= len(shown)
    if not sweep:
        assert len(shown) < 30
        assert len(flags) > len(shown)
        assert isinstance(yaml.safe_load(dry[1]), dict)
    for (code, out, error), message in zip(others, refused.values(), strict=True):
        assert (code, out) == (2, ""), error
        assert message in error
        assert error.count("\n") == 1


def test_benchmarks_are_read_without_jax() -> None:
    lines = ["--help", "pipeline --help", "peers --n_rec 0", "pipeline --dataset x"]
    found = without_jax("snnlab.benchmarks", lines)
    assert [code for code, _, _ in found] == [0, 0, 2, 2]
    assert "must be at least 1" in found[2][2]
    assert "event-digits and nmnist" in found[3][2]


def test_jax_is_what_the_test_takes_away() -> None:
    """The control: a command that goes on to its network fails there."""
    with pytest.raises(AssertionError, match="import of jax halted"):
        without_jax(str(ROOT / "tasks" / "boerlin.py"), ["--devices cpu"])
