"""Flags, YAML and defaults become one validated config, or one line that says why not."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import yaml

from snnlab import config
from snnlab.config import option, section
from snnlab.console import make_console
from snnlab.errors import UsageError


@section("training")
class Train:
    learning_rate: float = option(0.001, "Step size.", gt=0, aliases=("lr",))
    tau_mem_ms: float = option(20.0, "Membrane time constant, 100 % leaky.", unit="ms", gt=0)
    offset: float = option(0.0, "May be negative.")
    resume: bool = option(False, "Go on with the last checkpoint.")
    method: Literal["bptt", "expsm_diag"] = option("bptt", "Learner.")
    order: Literal[1, 2] = option(1, "A choice of numbers.")
    limit: int | None = option(3, "None for no limit.", ge=1)

    def __post_init__(self) -> None:
        if self.tau_mem_ms == 7:
            raise ValueError("tau_mem_ms 7 does not go with the rest")


@section("data")
class Data:
    batch_size: int = option(32, "Samples.", ge=1, le=100, aliases=("batch-n",))


@dataclasses.dataclass(frozen=True)
class Config:
    train: Train
    data: Data


def read(*argv: str, **more) -> Config:
    return config.parse(Config, argv, prog="p", description="d", **more)[0]


def fault(*argv: str, **more) -> str:
    with pytest.raises(UsageError) as error:
        read(*argv, **more)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str, name: str = "c.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


# ------------------------------------------------------------------ precedence


def test_defaults() -> None:
    assert read() == Config(Train(), Data())


def test_flags_over_yaml_over_adapted_over_task_defaults_over_defaults(yaml_file) -> None:
    path = yaml_file("learning_rate: 4\nlimit: 4\n")
    more = {
        "defaults": {"offset": 2, "tau_mem_ms": 2, "limit": 2, "learning_rate": 2},
        "adapt": lambda values: {"tau_mem_ms": 3, "limit": 3, "learning_rate": 3},
    }
    got = read("--config", path, "--learning_rate", "5", **more).train
    assert (got.order, got.offset, got.tau_mem_ms) == (1, 2.0, 3.0)
    assert (got.limit, got.learning_rate) == (4, 5.0)


def test_adapt_sees_what_was_given(yaml_file) -> None:
    seen = {}
    path = yaml_file("train: {offset: 1.5}")
    read("--config", path, "--lr", "2", adapt=lambda values: seen.update(values) or {})
    assert seen == {"offset": 1.5, "learning_rate": "2"}


def test_a_later_yaml_file_wins_and_a_later_flag_wins(yaml_file) -> None:
    one, two = yaml_file("offset: 1\nlimit: 1", "1.yaml"), yaml_file("offset: 2", "2.yaml")
    got = read("--config", one, "--config", two).train
    assert (got.offset, got.limit) == (2.0, 1)
    assert read("--lr", "1", "--learning_rate", "2").train.learning_rate == 2.0


# ------------------------------------------------------------------- spellings


@pytest.mark.parametrize("name", ["learning_rate", "learning-rate", "lr"])
@pytest.mark.parametrize("equals", [True, False])
def test_every_spelling_of_a_flag(name: str, equals: bool) -> None:
    argv = [f"--{name}=0.5"] if equals else [f"--{name}", "0.5"]
    assert read(*argv).train.learning_rate == 0.5


@pytest.mark.parametrize("flag", ["--tau_mem_ms=5", "--tau-mem-ms=5", "--tau-mem_ms=5"])
def test_mixed_dashes(flag: str) -> None:
    assert read(flag).train.tau_mem_ms == 5.0


@pytest.mark.parametrize("flag", ["--batch-n", "--batch_n", "--batch-size"])
def test_an_alias_with_a_dash(flag: str) -> None:
    assert read(flag, "7").data.batch_size == 7


@pytest.mark.parametrize("key", ["learning_rate", "learning-rate", "lr"])
def test_every_spelling_of_a_yaml_key(key: str, yaml_file) -> None:
    assert read("--config", yaml_file(f"{key}: 1e-3")).train.learning_rate == 0.001
    assert read("--config", yaml_file(f"train: {{{key}: 2}}")).train.learning_rate == 2.0


@pytest.mark.parametrize("value", ["-3", "-1e-3", "-.5", "-2.5E+1"])
def test_a_negative_number_is_a_value(value: str) -> None:
    assert read("--offset", value).train.offset == float(value)
    assert read(f"--offset={value}", "--lr", "1").train.offset == float(value)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], False),
        (["--resume"], True),
        (["--resume", "--lr", "1"], True),
        (["--resume", "1"], True),
        (["--resume", "0"], False),
        (["--resume=0"], False),
        (["--resume=true"], True),
        (["--resume", "false"], False),
    ],
)
def test_bool_flags(argv: list[str], expected: bool) -> None:
    assert read(*argv).train.resume is expected


def test_a_flag_can_undo_a_yaml_file(yaml_file) -> None:
    path = yaml_file("resume: true\nlimit: 5")
    got = read("--config", path, "--resume", "0", "--limit", "none").train
    assert (got.resume, got.limit) == (False, None)


def test_choices_may_be_numbers() -> None:
    assert read("--order", "2").train.order == 2


# ---------------------------------------------------------------------- faults


def test_unknown_flag_names_the_nearest() -> None:
    assert fault("--batchsize", "3") == (
        "unknown flag --batchsize (did you mean 'batch_size'?); --help_all lists all"
    )
    assert fault("--learning-rat=3").startswith("unknown flag --learning-rat (did you mean 'learn")
    assert fault("--dryrun").startswith("unknown flag --dryrun (did you mean 'dry_run'?)")


def test_an_abbreviation_is_unknown() -> None:
    assert fault("--learn", "3").startswith("unknown flag --learn")


@pytest.mark.parametrize("word", ["word", "-x", "-lr"])
def test_a_bare_word(word: str) -> None:
    assert fault(word) == f"unexpected argument '{word}'; options start with --"


def test_a_flag_without_its_value() -> None:
    assert fault("--lr") == "argument --learning_rate: expected one argument"
    assert fault("--lr", "--resume") == "argument --learning_rate: expected one argument"


def test_a_wrong_choice_lists_the_valid_ones() -> None:
    assert fault("--method", "expsm") == (
        "--method expsm: no such choice (did you mean 'expsm_diag'?); valid: bptt, expsm_diag"
    )
    assert fault("--order", "3").endswith("valid: 1, 2")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr", "0"], "--learning_rate 0: must be greater than 0"),
        (["--lr", "nan"], "--learning_rate nan: must be a finite number"),
        (["--batch_size", "0"], "--batch_size 0: must be greater than or equal to 1"),
        (["--batch_size", "101"], "--batch_size 101: must be less than or equal to 100"),
        (["--lr", "fast"], "--learning_rate fast: must be a valid number"),
        (["--batch_size", "2.5"], "--batch_size 2.5: must be a valid integer"),
        (["--lr", ""], "--learning_rate : must be a valid number"),
        (["--resume", "maybe"], "--resume maybe: must be a valid boolean"),
        (["--lr", "none"], "--learning_rate none: must be a valid number"),
        (["--lr", "inf"], "--learning_rate inf: must be a finite number"),
        (["--offset", "-inf"], "--offset -inf: must be a finite number"),
        (["--offset", "nan"], "--offset nan: must be a finite number"),
        (["--lr", "1e-320"], "--learning_rate 9.99989e-321: must be a number that float32 holds"),
        (["--offset", "1e39"], "--offset 1e+39: must be a number that float32 holds"),
        (["--limit", "2147483648"], "--limit 2147483648: must be a number below 2^31"),
        (["--limit", "9" * 5000], "--limit " + "9" * 77 + "...: unable to parse input string"),
        (["--lr", "x" * 5000], "--learning_rate " + "x" * 77 + "...: must be a valid number"),
    ],
)
def test_values_out_of_bounds_or_of_the_wrong_type(argv: list[str], message: str) -> None:
    assert fault(*argv).startswith(message)


def test_all_faults_in_one_line() -> None:
    message = fault("--lr", "0", "--batch_size", "0", "--method", "x")
    assert [part.split()[0] for part in message.split("; --")] == [
        "--learning_rate", "method", "batch_size",
    ]  # fmt: skip


def test_a_check_over_several_options() -> None:
    assert fault("--tau_mem_ms", "7") == "tau_mem_ms 7 does not go with the rest"


def test_yaml_values_are_checked_like_flags(yaml_file) -> None:
    path = yaml_file("batch_size: 0")
    assert fault("--config", path) == fault("--batch_size", "0")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("batchsize: 3", ["unknown key 'batchsize' (did you mean 'batch_size'?)", "valid keys: b"]),
        ("train: {batch_size: 3}", ["unknown key 'batch_size' in section 'train'", "tau_mem_ms"]),
        ("trian: {lr: 3}", ["unknown key 'trian'"]),
        ("train: 3", ["section 'train' must be a mapping"]),
        ("- a\n- b", ["must be a mapping of options, not list"]),
        ("just text", ["must be a mapping of options, not str"]),
        ("a: [1", ["is not valid YAML"]),
        ("lr: 1\ntrain: {learning_rate: 2}", ["option 'learning_rate' is given twice"]),
        ("1: 2", ["unknown key '1'"]),
    ],
)
def test_faults_of_a_yaml_file(text: str, parts: list[str], yaml_file) -> None:
    path = yaml_file(text)
    message = fault("--config", path)
    assert message.startswith(f"config {path}")
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train: {}\ndata:\n"])
def test_an_empty_yaml_file_or_section_sets_nothing(text: str, yaml_file) -> None:
    assert read("--config", yaml_file(text)) == read()


def test_a_missing_and_a_binary_yaml_file(tmp_path: Path) -> None:
    assert "No such file" in fault("--config", str(tmp_path / "none.yaml"))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "is not valid YAML" in fault("--config", str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: true", "--learning_rate true: must be a number, not true or false"),
        ("batch_size: false", "--batch_size false: must be a number"),
        ("limit: true", "--limit true: must be a number"),
        ("lr: yes", "--learning_rate yes: must be a valid number"),
        ("lr: 1\nlr: 2", "'lr' is given twice"),
        ("batch_size: 0777", "0777 may mean two things"),
        ("batch_size: 1:30", "1:30 may mean two things"),
        ("lr: [1]", "--learning_rate [1]: must be a valid number"),
        ("lr: {a: 1}", "--learning_rate {'a': 1}: must be a valid number"),
    ],
)
def test_a_value_of_yaml_is_no_other(text: str, message: str, yaml_file) -> None:
    assert message in fault("--config", yaml_file(text))


@section("paths")
class Paths:
    where: config.PathText = option("", "A folder.")
    name: config.NameText = option("", "A part of a name.")
    word: str = option("", "Anything.")


@dataclasses.dataclass(frozen=True)
class OfPaths:
    paths: Paths


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--where", "~nosuchuser/x"], "--where ~nosuchuser/x: there is no such user"),
        (["--where", "a" * 256], "longer than a file system takes"),
        (["--where", "a/" * 2500], "longer than a file system takes"),
        (["--where", "\udcff"], "--where \\udcff: must be printable text"),
        (["--where", "a\0b"], "--where a\\x00b: must be printable text"),
        (["--word", "a\nb"], "--word a b: must be printable text of one line"),
        (["--name", "a/b"], "--name a/b: must be a name of at most 100 bytes"),
        (["--name", "é" * 51], "must be a name of at most 100 bytes"),
    ],
)
def test_paths_and_names(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        config.parse(OfPaths, argv, prog="p", description="d")
    assert message in str(error.value)


@pytest.mark.parametrize("path", ["~/x", "[/x] [bold]", "a b", "é", "x" * 255])
def test_a_usable_path_stays_as_it_is(path: str) -> None:
    made, _ = config.parse(OfPaths, ["--where", path], prog="p", description="d")
    assert made.paths.where == path


def test_a_console_prints_text_as_it_is(capsys) -> None:
    make_console(width=20).print("run folder [/x] [bold] :smile: " + "y" * 40)
    assert capsys.readouterr().out == "run folder [/x] [bold] :smile: " + "y" * 40 + "\n"


def test_build_names_an_unknown_option() -> None:
    with pytest.raises(UsageError, match=r"unknown option 'batch' .did you mean 'batch_size'"):
        config.build(Config, {"batch": 3})


# ---------------------------------------------------------------- declarations


def two_sections(second_name: str, aliases: tuple[str, ...] = ()) -> type:
    @section("a")
    class A:
        same_name: int = option(1, "One.", aliases=("short",))

    namespace = {
        "__annotations__": {second_name: int},
        second_name: option(2, "Two.", aliases=aliases),
    }
    b = section("b")(type("B", (), namespace))
    return dataclasses.make_dataclass("Both", [("a", A), ("b", b)], frozen=True)


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("same_name", ()),
        ("other", ("same_name",)),
        ("other", ("same-name",)),
        ("short", ()),
        ("other", ("short",)),
        ("config", ()),
        ("other", ("dry-run",)),
    ],
)
def test_two_options_of_one_name_are_a_bug(name: str, aliases: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match="is declared by"):
        config.entries(two_sections(name, aliases))


def test_different_names_are_none() -> None:
    assert list(config.entries(two_sections("other", ("another",)))) == ["same_name", "other"]


def test_a_config_is_frozen() -> None:
    got = read()
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.train.learning_rate = 1.0


# -------------------------------------------------------------- help and YAML


def test_help_shows_each_option_once_with_unit_bound_default_and_alias(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        read("--help", defaults={"limit": 9})
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in config.entries(Config):
        assert shown.count(f"--{name} ") == 1, name
    assert "[> 0; default 0.001; also --lr]" in shown
    assert "100 % leaky. [ms; > 0; default 20.0]" in shown
    assert "--method {bptt,expsm_diag}" in shown
    assert "[>= 1; default 9]" in shown
    assert "--tau-mem-ms" not in shown


def test_help_shows_the_defaults_beside_the_flags_given(capsys) -> None:
    def adapt(given):
        return {"limit": 6} if str(given.get("batch_size")) == "7" else {}

    for argv, limit in ((["--help"], "3"), (["--help", "--batch-size", "7"], "6")):
        with pytest.raises(SystemExit):
            config.parse(Config, argv, prog="p", description="d", adapt=adapt)
        assert f"[>= 1; default {limit}]" in " ".join(capsys.readouterr().out.split())


def test_to_yaml_marks_what_differs_from_a_default(yaml_file) -> None:
    given = ["--lr", "2", "--limit", "5"]
    made = read(*given)
    text = config.to_yaml(made, defaults=config.defaults_beside(Config, {}, {"limit": 4}))
    plain = config.to_yaml(made).splitlines()
    assert [line.partition("  # default")[0] for line in text.splitlines()] == plain
    marked = [line.strip() for line in text.splitlines() if "#" in line]
    assert marked == ["learning_rate: 2.0  # default 0.001", "limit: 5  # default 4"]
    assert read("--config", yaml_file(text)) == made


@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run"])
def test_dry_run(flag: str) -> None:
    made, dry = config.parse(Config, [flag, "--lr", "2"], prog="p", description="d")
    assert dry
    assert made.train.learning_rate == 2.0
    assert not config.parse(Config, [], prog="p", description="d")[1]


def test_to_yaml_reads_back(yaml_file) -> None:
    made = read("--lr", "1e-7", "--limit", "none", "--resume", "--method", "expsm_diag")
    text = config.to_yaml(made, {"commit": "abc\ndef"})
    assert text.startswith("# commit: abc def\ntrain:\n")
    assert list(yaml.safe_load(text)) == ["train", "data"]
    assert read("--config", yaml_file(text)) == made


def test_flat_and_differences() -> None:
    a, b = read(), read("--lr", "2", "--batch_size", "3")
    assert config.flat(a)["learning_rate"] == 0.001
    assert config.differences(a, a) == []
    assert config.differences(a, b) == ["learning_rate: 0.001 != 2.0", "batch_size: 32 != 3"]
    assert config.differences(a, b, ignore=["batch_size"]) == ["learning_rate: 0.001 != 2.0"]


def test_a_command_leaves_with_code_2_and_one_line(tmp_path: Path) -> None:
    script = tmp_path / "task.py"
    script.write_text(
        "import dataclasses\n"
        "from snnlab import config\n"
        "from snnlab.errors import run_command\n"
        "@config.section('a')\n"
        "class A:\n"
        "    lr: float = config.option(1.0, 'Rate.', gt=0)\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class C:\n"
        "    a: A\n"
        "def main():\n"
        "    made, dry = config.parse(C, prog='task', description='d')\n"
        "    print(config.to_yaml(made), end='')\n"
        "run_command(main, 'task')\n",
        encoding="utf-8",
    )

    def call(*argv: str) -> tuple[int, str, str]:
        command = [sys.executable, str(script), *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert call("--lr", "-1") == (2, "", "task: error: --lr -1: must be greater than 0\n")
    assert call("--rl", "1")[0] == 2
    assert call("--lr", "2") == (0, "a:\n  lr: 2.0\n", "")


@pytest.mark.parametrize("flag", ["--resume", "--load_exp_folder", "--filepath", "--config"])
@pytest.mark.parametrize("form", ["two", "one"])
def test_an_empty_path_is_refused(flag: str, form: str) -> None:
    """As of a variable that is not set: it would mean another thing."""
    from snnlab.problems.image_classification import ImageClassification

    argv = [flag, ""] if form == "two" else [f"{flag}="]
    with pytest.raises(UsageError, match=rf"{flag} is given, but empty"):
        config.given_values(ImageClassification, argv, prog="x")


# --------------------------------------------------------------- lists of YAML and Python


@section("lists")
class Lists:
    names: config.CommaText = option("a,b", "A comma list.")
    word: str = option("", "One word.")


@dataclasses.dataclass(frozen=True)
class OfLists:
    lists: Lists


@pytest.mark.parametrize(
    ("text", "value"),
    [("[x, y]", "x,y"), ("[1, 2.5, true]", "1,2.5,true"), ("[]", ""), ("[x]", "x"), ("x,y", "x,y")],
)
def test_a_list_of_yaml_is_a_comma_list(text: str, value: str, yaml_file) -> None:
    """Whoever reads what was given sees the text as well."""
    seen = {}
    made, _ = config.parse(
        OfLists, ["--config", yaml_file(f"names: {text}")], prog="p", description="",
        adapt=lambda given: seen.update(given) or {},
    )  # fmt: skip
    assert made.lists.names == value
    assert seen == {"names": value}
    assert config.build(OfLists, {"names": value.split(",")}).lists.names == value


@pytest.mark.parametrize("text", ["names: [[x], y]", "names: [~]", "names: {x: 1}", "word: [x]"])
def test_another_list_is_refused(text: str, yaml_file) -> None:
    with pytest.raises(UsageError, match="must be a valid string"):
        config.parse(OfLists, ["--config", yaml_file(text)], prog="p", description="")
