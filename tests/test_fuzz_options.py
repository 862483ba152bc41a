"""Any flags and any YAML: a config, or one short line and exit code 2. Never a traceback.

The short form runs in the gate, the long one with ``-m slow``.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from snnlab import config as configs
from snnlab.errors import LONGEST, UsageError, run_command
from snnlab.experiment.sweep_command import Sweeping
from snnlab.experiment.sweep_file import members_of, read_settings, read_sweep
from snnlab.problems import (
    balanced,
    gradient_analysis,
    image_classification,
    pattern_generation,
    stream,
    working_memory,
)
from snnlab.problems.balanced import BalancedRSNN
from snnlab.problems.boerlin import Boerlin
from snnlab.problems.delayed_match import LongTermDependency
from snnlab.problems.evidence import CobaEI
from snnlab.problems.gradient_analysis import GradientAnalysis
from snnlab.problems.image_classification import ImageClassification
from snnlab.problems.pattern_generation import PatternGeneration
from snnlab.problems.stream import EndlessStream
from snnlab.problems.working_memory import WorkingMemory
from snnlab.yaml_files import parse_yaml

ROOT = Path(__file__).resolve().parents[1] / "configs"
TASKS: dict[type, Any] = {
    ImageClassification: image_classification.adapt, LongTermDependency: None, CobaEI: None,
    BalancedRSNN: balanced.defaults, PatternGeneration: pattern_generation.defaults,
    EndlessStream: stream.defaults, WorkingMemory: working_memory.defaults,
    GradientAnalysis: gradient_analysis.adapt, Boerlin: None, Sweeping: None,
}  # fmt: skip
SHORT, LONG = 40, 1200
SEEDS = [path.read_text() for path in sorted(ROOT.rglob("*.yaml"))]
SWEEPS = [path.read_text() for path in sorted((ROOT / "sweeps").glob("*.yaml"))]


def checked(main: Callable[[], Any], folder: Path) -> None:
    """``main`` as a command: exit code 0 without a word on stderr, or 2 and one short line."""
    out, err = io.StringIO(), io.StringIO()
    began = time.process_time()
    with (
        contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):  # fmt: skip
        run_command(lambda: main() and None, "task")
    assert time.process_time() - began < 10
    lines = err.getvalue()
    assert left.value.code in (0, 2)
    assert lines.count("\n") == (left.value.code == 2), lines
    assert len(lines) <= LONGEST + len("task: error: \n")
    assert "Traceback" not in lines
    assert not list(folder.iterdir())


def bounded(short: bool) -> Any:
    """Settings of the short or the long form."""
    return settings(
        max_examples=SHORT if short else LONG, deadline=None, database=None, derandomize=short,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


NUMBERS = st.sampled_from(
    ["0", "-1", "1", "0.5", "1e-3", "1e-320", "1e309", "inf", "-inf", "nan", "1e38", "1e39", "2.5",
     "9" * 5000, "0x10", "0777", "1_000", "1e", "--", "٣", "²", "true", "none", "auto", "", " 1 ",
     "2147483648", "99999999999999999999", "-0", "0.", "1:30"]
) | st.floats().map(str) | st.integers().map(str)  # fmt: skip
WORDS = st.sampled_from(
    ["~nosuchuser/x", "a" * 300, "/" * 5000, "[/x]", "[bold]", "\udcff", "a\0b", "a\nb", "..",
     "8.4", "40,80", "[40", "bias,V_th", "tau_o", "cpu", "0,1", "lif-delta", "RLIF", "cue",
     "shd", "diag", "bptt", "plateau",
     "milestones", "coba", "no", "yes", "*", "{}", "💥", "\x1b[31m"]
) | st.text(max_size=12)  # fmt: skip
VALUES = NUMBERS | WORDS


def names(task: type) -> Any:
    known = configs.entries(task)
    every = [n for e in known.values() for n in (e.name, *e.aliases)]
    return st.sampled_from([*every, "config", "help", "help_all", "dry_run"]) | st.text(max_size=8)


def _joined(lists: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(lists))


def argument_lists(task: type) -> Any:
    one = st.tuples(names(task), VALUES, st.sampled_from(["=", " ", ""])).map(
        lambda t: [f"--{t[0]}={t[1]}"] if t[2] == "=" else [f"--{t[0]}", t[1]] if t[2]
        else [f"--{t[0].replace('_', '-')}"]
    )  # fmt: skip
    return st.lists(one | VALUES.map(lambda v: [v]), max_size=5).map(_joined)


FRAGMENTS = st.sampled_from(
    ["&a", "*a", "!!int", "!x", "[", "]", "{", "}", ": ", "\n", "\n  ", "- ", "? ", "<<: *a", "|",
     ">", "'", '"', "#", "%", "---", "\t", "\x00", "\ufeff", "\ud800", "0777", "0x1f", "1:30",
     "2020-01-02", "9" * 5000, "[" * 3000, "null", "~", "run:", "lr: 1", "grid: {x: [1, 2]}",
     "runs: {a: }",
     "task: x", "\\U00110000", '"\\ud800"', "é"]
) | st.text(max_size=6)  # fmt: skip


def mutated(texts: list[str]) -> Any:
    """Config files with parts cut out, doubled, or replaced."""

    def mutate(given: tuple[str, list[tuple[int, int, str]]]) -> str:
        text, edits = given
        for place, length, new in edits:
            at = place % (len(text) + 1)
            text = text[:at] + new + text[at + length :]
        return text

    edit = st.tuples(st.integers(0, 10_000), st.integers(0, 12), FRAGMENTS)
    return st.tuples(st.sampled_from(texts), st.lists(edit, min_size=1, max_size=4)).map(mutate)


def yaml_of(task: type) -> Any:
    """Mappings of the task's own options to anything."""
    value = VALUES | FRAGMENTS
    pairs = st.lists(st.tuples(names(task), value), min_size=1, max_size=4)
    return pairs.map(lambda p: "".join(f"{k}: {v}\n" for k, v in p))


def read(task: type, *argv: str) -> Any:
    made, _ = configs.parse(task, argv, prog="task", description="d", adapt=TASKS[task])
    # What was accepted is written, and read back as the same.
    content = parse_yaml(configs.to_yaml(made), "written")
    flat = {k: v for part in content.values() for k, v in part.items()}
    assert configs.build(task, flat) == made
    return made


def fuzz_flags(task: type, short: bool, folder: Path) -> None:
    @seed(0)
    @bounded(short)
    @given(argument_lists(task))
    def run(argv: list[str]) -> None:
        checked(lambda: read(task, *argv), folder)

    run()


def fuzz_yaml(task: type, short: bool, folder: Path) -> None:
    @seed(0)
    @bounded(short)
    @given(mutated(SEEDS) | yaml_of(task))
    def run(text: str) -> None:
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "c.yaml"
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            checked(lambda: read(task, "--config", str(path)), folder)

    run()


def fuzz_sweeps(short: bool, folder: Path) -> None:
    @seed(0)
    @bounded(short)
    @given(mutated(SWEEPS), st.text(max_size=12))
    def run(text: str, extra: str) -> None:
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "s.yaml"
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            checked(lambda: members_of(read_sweep(path), read_settings(extra)), folder)

    run()


FORMS = [pytest.param(True, id="short"), pytest.param(False, id="long", marks=pytest.mark.slow)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which has to stay empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("short", FORMS)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.__name__)
def test_any_flags(task: type, short: bool, here: Path) -> None:
    fuzz_flags(task, short, here)


@pytest.mark.parametrize("short", FORMS)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.__name__)
def test_any_yaml(task: type, short: bool, here: Path) -> None:
    fuzz_yaml(task, short, here)


@pytest.mark.parametrize("short", FORMS)
def test_any_sweep_file(short: bool, here: Path) -> None:
    fuzz_sweeps(short, here)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    ["boerlin.py", "task-balanced-rsnn.py", "task-coba-ei-rsnn.py", "task-image-classification.py",
     "task-memory-and-speed-evaluation-tpu.py", "task-rsnn-long-term-dependency.py"],
)  # fmt: skip
def test_whole_commands(script: str, tmp_path: Path) -> None:
    deep, twice = tmp_path / "deep.yaml", tmp_path / "twice.yaml"
    deep.write_text("lr: " + "[" * 100_000)
    twice.write_text("filepath: a\nfilepath: b\n")
    for argv in (
        ["--filepath", "~nosuchuser/x"], ["--filepath", b"\xff"], ["--config", str(deep)],
        ["--config", str(twice)], ["--config", "/dev/zero"], ["--nonsense", "9" * 5000],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, ROOT.parent / "tasks" / script, *argv], capture_output=True,
            cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2, argv
        assert done.stderr.count(b"\n") == 1
        assert len(done.stderr) <= LONGEST + 60
    assert sorted(tmp_path.iterdir()) == [deep, twice]


def test_the_check_finds_what_it_looks_for(here: Path) -> None:
    """A bug keeps its traceback, and two lines are too many."""

    def fails() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        checked(fails, here)

    def writes() -> None:
        (here / "x").touch()
        raise UsageError("refused")

    with pytest.raises(AssertionError):
        checked(writes, here)
