"""A run that is ended anywhere and resumed is the run that was not, for every problem."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np
import pytest
import yaml

import on_disk
import runs
from snnlab import interrupts
from snnlab.errors import UsageError
from snnlab.interrupts import Interrupted


class Stop:
    """Makes the k-th look for a signal find one."""

    def __init__(self) -> None:
        self.after: int | None = None

    def check(self) -> None:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                self.after = None
                raise Interrupted(signal.SIGTERM)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stop]:
    made = Stop()
    monkeypatch.setattr(interrupts, "check", made.check)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """Runs that nothing ended, by problem and flags."""
    made: dict[tuple[str, ...], Path] = {}

    def of(problem: str, *flags: str) -> Path:
        key = (problem, *flags)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("whole") / problem
            runs.call(problem, *flags, "--filepath", str(made[key]))
        return made[key]

    return of


def ended(problem: str, run: Path, stop: Stop, ends: list[int], *flags: str) -> None:
    """Start a run, end it at each of ``ends`` looks for a signal, and let it finish."""
    for k, after in enumerate([*ends, None]):
        stop.after = after
        begun = ["--resume", str(run)] if k else [*flags, "--filepath", str(run)]
        if after is None:
            assert runs.call(problem, *begun) == 0
        else:
            with pytest.raises(Interrupted, match=r"go on with: python .* --resume "):
                runs.call(problem, *begun)


@pytest.mark.parametrize(
    "problem",
    [
        p if p in ("image", "balanced") else pytest.param(p, marks=pytest.mark.slow)
        for p in sorted(runs.TINY)
    ],
)
def test_ended_inside_an_epoch_and_inside_its_evaluation(
    problem: str, whole, stop: Stop, tmp_path: Path
) -> None:
    """After the second batch; then, resumed, in the evaluation, after a batch of it."""
    reference = whole(problem)
    n_batches = {"image": 6, "balanced": 3}.get(problem, 4)
    ended(problem, tmp_path / "run", stop, [2, n_batches - 2 + 2])
    runs.assert_same(tmp_path / "run", reference)


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(p, marks=pytest.mark.slow) if p in ("evidence", "match", "memory") else p
        for p in sorted(runs.TINY)
    ],
)
def test_resumed_between_two_epochs(problem: str, whole, tmp_path: Path) -> None:
    """What changes there (the refit of balanced networks) is part of the checkpoint."""
    import shutil

    run = copy_of(whole(problem), tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "3")
    assert runs.call(problem, "--resume", str(run)) == 0
    runs.assert_same(run, whole(problem))


#: How often a run looks, where that is less than 12 times: in few batches.
LOOKS = {"image": 10, "patterns": 9}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "ends"),
    [
        pytest.param(p, ends, id=f"{p}-{ends}")
        for p in sorted(runs.TINY)
        for ends in [*([k] for k in range(LOOKS.get(p, 12))), [1] * 6]
    ],
)
def test_ended_anywhere(problem: str, ends: list[int], whole, stop: Stop, tmp_path: Path) -> None:
    ended(problem, tmp_path / "run", stop, ends)
    runs.assert_same(tmp_path / "run", whole(problem))


OPTIONS = {
    "plateau": ("image", "--lr_schedule plateau --lr_patience 0"),
    "milestones": ("image", "--lr_schedule milestones --lr_milestones 1,2"),
    "workers": ("image", "--n_data_worker 2"),
    "updates": ("image", "--update_every 3 --method diag"),
    "dropout": ("balanced", "--dropout 0.3"),
    "hardware": ("balanced", "--gauss 0.1 --gauss_on drive --quantize 4.0 --quantize_as affine"),
    "checkpoints": ("image", "--checkpoint_every 1 --max_to_keep 1"),
    "hybrid": ("image", "--method hybrid"),
    "bptt": ("image", "--method bptt"),
    "augment": ("image", "--aug_drop 0.2 --aug_noise 5 --aug_jitter_ms 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_that_changes_between_epochs(
    name: str, whole, stop: Stop, tmp_path: Path
) -> None:
    problem, flags = OPTIONS[name]
    ended(problem, tmp_path / "run", stop, [3, 4], *flags.split())
    runs.assert_same(tmp_path / "run", whole(problem, *flags.split()))


@pytest.mark.slow
def test_seeds_in_one_program(whole, stop: Stop, tmp_path: Path) -> None:
    """Ended inside the first epoch and in its evaluation, with one seed that stops early."""
    flags = ["--trials", "2", "--epochs", "2"]
    reference, run = whole("match", *flags), tmp_path / "run"
    ended("match", run, stop, [2, 5], *flags)
    for seed in ("seed-0", "seed-1"):
        runs.assert_same(run / seed, reference / seed)
    results = [json.loads((f / "results.json").read_text()) for f in (run, reference)]
    assert results[0]["vmapped"]
    assert results[0]["test_accuracies"] == results[1]["test_accuracies"]
    with pytest.raises(UsageError, match="has finished its 2 seeds"):
        runs.call("match", "--resume", str(run))


@pytest.mark.slow
def test_seeds_one_after_another(whole, stop: Stop, tmp_path: Path) -> None:
    flags = ["--trials", "2", "--epochs", "2", "--vmap_trials", "no"]
    ended("match", tmp_path / "run", stop, [2, 15], *flags)
    for seed in ("seed-0", "seed-1"):
        runs.assert_same(tmp_path / "run" / seed, whole("match", *flags) / seed)


# ------------------------------------------------------- what a resume is told, and refuses


def copy_of(run: Path, to: Path) -> Path:
    import shutil

    shutil.copytree(run, to)
    return to


def test_a_run_without_its_first_checkpoint_starts_anew(whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((whole("match") / "config.yaml").read_text())
    assert runs.call("match", "--resume", str(run)) == 0
    runs.assert_same(run, whole("match"))


def test_a_run_that_was_ended_at_once_can_be_started_again(tmp_path: Path) -> None:
    """Between its first folder and its config."""
    run = tmp_path / "run"
    (run / "checkpoints" / ".0.part").mkdir(parents=True)
    (run / ".lock").touch()
    assert runs.call("match", "--epochs", "1", "--filepath", str(run)) == 0
    with pytest.raises(UsageError, match="holds a run already"):
        runs.call("match", "--epochs", "1", "--filepath", str(run))


def test_a_damaged_config_is_not_trusted(
    whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint's own is; without a checkpoint nothing is made up."""
    run = copy_of(whole("match"), tmp_path / "run")
    text = (run / "config.yaml").read_text()
    lacking = "".join(x for x in text.splitlines(True) if not x.strip().startswith("lr:"))
    (run / "config.yaml").write_text(lacking)
    assert runs.call("match", "--resume", str(run), "--epochs", "4") == 0
    assert (
        "differs from the config of the checkpoint (lr), which is used" in capsys.readouterr().out
    )
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["lr"] == 0.01
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text(lacking)
    with pytest.raises(UsageError, match="lacks the option lr"):
        runs.call("match", "--resume", str(bare))


def test_figures_that_were_not_drawn_are_drawn(whole, tmp_path: Path) -> None:
    """Ended between the results and the figures."""
    run = copy_of(whole("match"), tmp_path / "run")
    (run / "figures" / "test-samples.png").unlink()
    assert runs.call("match", "--resume", str(run)) == 0
    runs.assert_same(run, whole("match"))


def test_a_damaged_checkpoint_is_passed_over(
    whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(whole("match"), tmp_path / "run")
    newest = run / "checkpoints" / "3"
    victim = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(bytes(data))
    assert runs.call("match", "--resume", str(run)) == 0
    assert "checkpoint 3 is passed over: " in capsys.readouterr().out
    runs.assert_same(run, whole("match"))


@pytest.mark.parametrize("lines", [b"\xff\xfe\n", b"null\n[1]\n", b"9" * 5000 + b"\n"])
def test_metrics_come_back_from_the_checkpoint(lines: bytes, whole, tmp_path: Path) -> None:
    run = copy_of(whole("match"), tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(lines)
    (run / "results.json").unlink()
    assert runs.call("match", "--resume", str(run)) == 0
    runs.assert_same(run, whole("match"))


def test_lost_checkpoints_are_not_trained_over(whole, tmp_path: Path) -> None:
    import shutil

    run = copy_of(whole("match"), tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match="has lost its checkpoints: it was trained for 3 epochs"):
        runs.call("match", "--resume", str(run))
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_damaged_run_to_start_from_is_told(
    whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(whole("match"), tmp_path / "run")
    (run / "checkpoints" / "3" / "meta.json").unlink()
    runs.call("match", "--only_do_testing", "--load_exp_folder", str(run), "--filepath",
              str(tmp_path / "test"))  # fmt: skip
    assert "checkpoint 3 is passed over: meta.json is missing" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json", "log.txt", "figures", ".lock"])
def test_a_folder_for_a_file_is_one_line(name: str, whole, tmp_path: Path) -> None:
    run = copy_of(whole("match"), tmp_path / "run")
    if name == "figures":
        import shutil

        shutil.rmtree(run / name)
        (run / name).touch()
    else:
        (run / name).unlink()
        (run / name).mkdir()
    with pytest.raises(UsageError, match=rf"{name} is a (file|folder), needed: a"):
        runs.call("match", "--resume", str(run), "--epochs", "4")


def test_a_lock_that_was_removed_ends_the_run(tmp_path: Path, monkeypatch) -> None:
    """Before two processes write into one folder."""
    from snnlab.training.checkpoint_writer import Writer

    run, real = tmp_path / "run", Writer.save

    def save(self, place, *args):
        real(self, place, *args)
        if place.epoch == 1:
            (run / ".lock").unlink()

    monkeypatch.setattr(Writer, "save", save)
    with pytest.raises(UsageError, match=r"lock was removed: another process may train this run"):
        runs.call("match", "--filepath", str(run))
    monkeypatch.undo()
    assert runs.call("match", "--resume", str(run)) == 0


def test_an_output_that_is_closed_ends_the_run_with_a_checkpoint(whole, tmp_path: Path) -> None:
    """``| head -1``"""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*runs.command_of("match"), "--filepath", str(run)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert said.count("\n") == 1
    assert "ended by SIGPIPE; go on with: python" in said
    assert runs.call("match", "--resume", str(run)) == 0
    runs.assert_same(run, whole("match"))


def test_one_run_one_process(whole, tmp_path: Path) -> None:
    run = copy_of(whole("match"), tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with filelock.FileLock(run / ".lock"):
        with pytest.raises(UsageError, match="in use: another process is training this run"):
            runs.call("match", "--resume", str(run), "--epochs", "4")
        assert runs.call("match", "--resume", str(run), "--mode", "sim") == 0  # a reader may
    assert all(p.read_bytes() == data for p, data in before.items())


def test_other_recordings_are_refused(tmp_path: Path) -> None:
    """Same names, sizes and number; the same ones in another folder are welcome."""
    import shutil

    data, run = on_disk.nmnist(tmp_path / "data"), tmp_path / "run"
    flags = ["--dataset", "nmnist", "--data_length", "5", "--val_fraction", "0.3"]
    runs.call("image", *flags, "--data_path", str(data), "--filepath", str(run))
    assert "# recordings: nmnist sha256 " in (run / "config.yaml").read_text()
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    more = ["--resume", str(run), "--epochs", "4"]
    assert runs.call("image", *more, "--data_path", str(moved)) == 0
    (data / "Train" / "0" / "00000.bin").write_bytes(on_disk.event(x=30) * 20)
    with pytest.raises(UsageError, match=r"trained on other recordings .*sha256"):
        runs.call("image", "--resume", str(run), "--epochs", "5", "--data_path", str(data))


def test_a_run_resumes_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of its data is stored absolute."""
    monkeypatch.chdir(tmp_path)
    on_disk.nmnist(tmp_path / "data")
    flags = ["--dataset", "nmnist", "--data_length", "5", "--val_fraction", "0.3"]
    runs.call("image", *flags, "--data_path", "data", "--filepath", "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runs.call("image", "--resume", str(tmp_path / "run"), "--epochs", "4") == 0


def test_new_runs_of_one_second_do_not_collide(tmp_path: Path, monkeypatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from snnlab.runs import RunFolder

    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.create("", "t", "m", ""), range(40)))
    assert len({f.path for f in made}) == 40


def test_a_run_that_reached_its_goal_trains_no_further(tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.call("match", "--acc_th", "0.01", "--filepath", str(run))
    state = runs.state_of(run)
    with pytest.raises(UsageError, match=r"reached --acc_th 0.01; a higher --acc_th"):
        runs.call("match", "--resume", str(run))
    (run / "results.json").unlink()
    runs.call("match", "--resume", str(run))
    assert all(np.array_equal(v, state[k]) for k, v in runs.state_of(run).items())
    runs.call("match", "--resume", str(run), "--acc_th", "0")
    assert json.loads((run / "results.json").read_text())["epochs"] == 3


def test_a_schedule_that_ends_elsewhere_is_told(
    whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(whole("image"), tmp_path / "run")
    runs.call("image", "--resume", str(run), "--epochs", "4")
    assert "--epochs 4 instead of 3: the cosine schedule now ends there" in capsys.readouterr().out


def test_an_evaluation_that_is_not_finite_is_no_best_epoch(tmp_path: Path, monkeypatch) -> None:
    from snnlab.training.programs import Programs

    real, calls = Programs.evaluate, []

    def evaluate(self, *args):
        numbers = dict(real(self, *args))
        calls.append(1)
        return numbers | ({"loss": numbers["loss"] * np.nan} if len(calls) > 2 else {})

    monkeypatch.setattr(Programs, "evaluate", evaluate)
    run = tmp_path / "run"
    with pytest.raises(
        UsageError, match=r"epoch 2, evaluation: .* not finite in the loss; the check"
    ):
        runs.call("match", "--filepath", str(run))
    results = json.loads((run / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["best_epoch"] == 1
    assert "not finite" in results["error"]


# ----------------------------------------------------------------- as a process


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(
    signum: signal.Signals, whole, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*runs.command_of("match"), "--epochs", "100000", "--filepath", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "2").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, told
    assert f"--resume {run}" in told
    assert "Traceback" not in told
    assert len(told.splitlines()) == 2
