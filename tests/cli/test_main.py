"""The command ``snnlab``: what it says, and that it says it without JAX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from light import ROOT, without_jax
from snnlab import config_files
from snnlab.cli import main as cli
from snnlab.cli.run import names
from snnlab.errors import UsageError
from snnlab.problems.tasks import TASKS
from snnlab.registry import load

#: Command line -> what it prints.
SAYS = {
    "": "usage: snnlab COMMAND ...",
    "--help": "examples:",
    "--version": "snnlab 0.",
    "run --help": "pattern-generation",
    "run image-classification --help": "examples:\n  snnlab run image-classification --method",
    "run boerlin --help": "snnlab run boerlin",
    "run gradient-analysis --help": "snnlab run gradient-analysis",
    "run --config gradient-analysis/small --dry_run": "rules: diag",
    "run --config two-cores --dry_run": "method: expsm_diag",
    "run coba-ei --config two-cores --config smoke --dry_run": "n_cue: 3",
    "run balanced-rsnn --config configs/balanced/hd.yaml --dry_run": "dataset: hd",
    "configs": "image-classification/shd-bptt",
    "configs list coba-ei": "coba-ei/two-cores",
    "configs show hd": "snnlab run --config balanced/hd",
    "configs show sweeps/balanced": "task: balanced-rsnn",
    "sweep balanced --list": "to do",
    "sweep --help": "snnlab sweep",
    "bench memory-and-speed --dry_run": "n_rec",
    "bench learners --help": "--methods",
    "tasks": "long-term-dependency",
    "models": "resonate-and-fire",
    "rules": "d-rtrl",
}
#: Command line -> the error.
REFUSED = {
    "rum": "no command 'rum' (did you mean 'run'?)",
    "image-classification": "did you mean 'snnlab run image-classification'?",
    "run": "which task?",
    "run --epochs 1": "which task?",
    "run image-clasification": "did you mean 'image-classification'?",
    "run --config smoke": "several configs are called 'smoke'",
    "run --config own.yaml": "does not say which task",
    "run --resume nowhere": "holds no run",
    "run coba-ei --config two-core": "no config 'two-core' (did you mean 'two-cores'?)",
    "run coba-ei --config coba-ei/two-core": "did you mean 'coba-ei/two-cores'?",
    "run coba-ei --config smoke.yaml": "cannot read config smoke.yaml",
    "run coba-ei --n_cue 4": "must be odd",
    "configs shw": "did you mean 'show'?",
    "configs show shd-bpt": "did you mean 'shd-bptt'?",
    "configs list coba": "did you mean 'coba-ei'?",
    "sweep": "--sweep is missing",
    "sweep balancd": "did you mean 'balanced'?",
    "bench learner": "learners",
    "rules --al": "unknown flag --al",
}


def test_commands_answer_without_jax() -> None:
    found = without_jax("snnlab", list(SAYS))
    for line, (code, out, error) in zip(SAYS, found, strict=True):
        assert (code, error) == (0, ""), line
        assert SAYS[line] in out, line


def test_commands_refuse_in_one_line_without_jax() -> None:
    found = without_jax("snnlab", list(REFUSED))
    for line, (code, out, error) in zip(REFUSED, found, strict=True):
        assert (code, out) == (2, ""), line
        assert REFUSED[line] in error, line
        assert error.count("\n") == 1, line
        assert error.startswith("snnlab: error: "), line


def test_the_help_names_every_command_and_its_examples_are_ones() -> None:
    text = cli.help_text()
    for name, about in cli.COMMANDS.items():
        assert f"  {name} " in text
        assert callable(load(f"snnlab.cli.{about.main}"))
    assert max(map(len, text.splitlines())) <= 100
    for line in cli.EXAMPLES:
        assert line.split()[0] in cli.COMMANDS


def test_a_sweep_of_a_task_by_name_runs_it_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are ``snnlab run``, configs by name included; what they would refuse is told first,
    what goes wrong in a run is that run's."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text("task: coba-ei\nconfig: two-cores\noptions: {devices: x}\ngrid: {n_cue: [3]}\n")
    done = subprocess.run(
        [sys.executable, "-m", "snnlab", "sweep", str(path)], capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.stderr.startswith("snnlab: error: --devices")
    assert done.returncode == 1
    path.write_text("task: coba-ei\nconfig: two-cores\ngrid: {n_cue: [3, 4]}\n")
    with pytest.raises(UsageError, match="run 'n_cue 4': --n_cue 4: must be odd"):
        cli.main(["sweep", str(path)])
    path.write_text("task: coba-e\ngrid: {n_cue: [3]}\n")
    with pytest.raises(UsageError, match="did you mean 'coba-ei'"):
        cli.main(["sweep", str(path)])


def test_every_config_has_a_task_and_a_name(capsys: pytest.CaptureFixture) -> None:
    folders = {task.files for _, task in TASKS.items()} | {"gradient-analysis"}
    folders |= {config_files.SWEEPS, config_files.CLAIMS, config_files.PUBLISHED}
    known = config_files.names()
    assert {path.parent.name for path in known.values()} == folders
    assert len(known) == len(list((ROOT / "configs").rglob("*.yaml")))
    assert cli.main(["configs"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == list(known)
    assert cli.main(["configs", "show", "coba-ei/coba"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs/coba-ei/coba.yaml").read_text()


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = str(config_files.names()["balanced/hd"])
    (tmp_path / "hd").mkdir()  # a folder is no config
    assert config_files.find("hd") == config_files.find("configs/balanced/hd.yaml") == named
    (tmp_path / "hd").rmdir()
    (tmp_path / "hd").write_text("")
    assert config_files.find("hd") == "hd"


@pytest.mark.parametrize("name", names())
def test_a_task_has_a_script(name: str) -> None:
    """That calls it by its name."""
    scripts = {path.stem: path.read_text() for path in (ROOT / "tasks").glob("*.py")}
    assert {name, f"task-{name}"} & set(scripts) or any(
        f'run_task("{name}"' in text for text in scripts.values()
    )


def test_options_come_from_a_config_by_name_in_python_too() -> None:
    from snnlab import config as configs

    task = TASKS["coba-ei"]
    given = configs.gather(task.config, ["two-cores", "smoke"], {"n_rec": 9}, task.files)
    own = yaml.safe_load((ROOT / "configs/coba-ei/two-cores.yaml").read_text())
    assert given["method"] == own["learner"]["method"]
    assert (given["n_cue"], given["n_rec"]) == (3, 9)


@pytest.mark.parametrize(
    ("argv", "goes_on"),
    [
        (["/x/bin/snnlab", "run", "coba-ei", "--lr", "1"], "{} run coba-ei"),
        (["/x/snnlab/__main__.py", "run", "--config", "hd"], "python -m snnlab run"),
        (["tasks/my task.py", "--lr", "1"], "python 'tasks/my task.py'"),
    ],
)
def test_what_goes_on_is_named_as_it_was_typed(
    argv: list[str], goes_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnlab import console
    from snnlab.experiment.opening import go_on
    from snnlab.runs import RunFolder

    monkeypatch.setattr(console.shutil, "which", lambda name: f"/x/bin/{name}")
    monkeypatch.setattr(sys, "argv", argv)
    named = goes_on.format("snnlab")
    assert go_on(RunFolder(Path("runs/a b"))) == f"go on with: {named} --resume 'runs/a b'"
    assert console.typed_command().startswith(named)
    assert console.typed_command().endswith(" ".join(argv[-2:]))
    monkeypatch.setattr(console.shutil, "which", lambda name: None)
    assert ("/x/bin/snnlab" in console.this_command()) == argv[0].startswith("/x/bin")


def test_a_sweep_that_is_ended_says_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnlab import interrupts

    def ended(command: list[str], root: Path) -> int:
        raise interrupts.Interrupted(15)

    monkeypatch.setattr(interrupts, "wait_for", ended)
    monkeypatch.setattr(sys, "argv", ["/x/snnlab/__main__.py", "sweep", "balanced"])
    with pytest.raises(interrupts.Interrupted) as left:
        cli.main(["sweep", "balanced", "--filepath", str(tmp_path / "out")])
    assert left.value.told == "go on with the same command: python -m snnlab sweep balanced"


def test_a_task_of_a_package_is_run_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "own_task-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own_task\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[snnlab.tasks]\nmy-task = own_task:TASK\n")
    (tmp_path / "own_task.py").write_text(
        "import dataclasses\nfrom snnlab.problems import evidence\n"
        "TASK = dataclasses.replace(evidence.TASK, title='Something of my own.')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "src")]))
    lines = ["tasks", "run --help", "run my-task --n_cue 3 --dry_run", "run my-tusk"]
    listed, helped, dry, wrong = without_jax("snnlab", lines)
    for code, out, _ in (listed, helped):
        assert code == 0
        assert "my-task               Something of my own." in out
    assert "n_cue: 3" in dry[1]
    assert (wrong[0], wrong[1]) == (2, "")
    assert "did you mean 'my-task'?" in wrong[2]
