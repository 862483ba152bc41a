"""Every option is used, or refused with the reason, or told to be accepted: of every task.

What a section declares (``only``) is compared with what the built network does: an option with
effect changes the network's equations, parameters or gradient; without one, its default is built.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.benchmarks.memory_and_speed import MemoryAndSpeed
from snnlab.config import SET, Over, option, section
from snnlab.errors import UsageError
from snnlab.experiment.sweep_command import Sweeping
from snnlab.learners.functional import PureNetwork, PureSequence, get_params
from snnlab.models import MODELS, ModelConfig, build_network
from snnlab.models.config import BalancedConfig, EIConfig, GIFConfig
from snnlab.options import Condition, Entry, shown_value
from snnlab.problems import (
    balanced,
    delayed_match,
    evidence,
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

SOURCE = Path(__file__).resolve().parents[1] / "src" / "snnlab"
TASKS: dict[type, Any] = {
    ImageClassification: image_classification.adapt, LongTermDependency: delayed_match.defaults,
    CobaEI: evidence.defaults,
    BalancedRSNN: balanced.defaults, PatternGeneration: pattern_generation.defaults,
    EndlessStream: stream.defaults, WorkingMemory: working_memory.defaults,
    GradientAnalysis: gradient_analysis.adapt, Boerlin: None, MemoryAndSpeed: None, Sweeping: None,
}  # fmt: skip
#: Options that nothing reads, since what they ask for holds anyway: published commands have them.
ACCEPTED = {"vjp_time", "save_best", "use_pretrained_model", "plot", "n_data_worker"}


def parse(task: type, *argv: str, notes: list[str] | None = None) -> Any:
    note = None if notes is None else notes.append
    return configs.parse(task, argv, prog="p", description="", adapt=TASKS[task], note=note)[0]


def other_value(entry: Entry, value: Any) -> Any:
    """A valid value of an option that is not ``value``."""
    if entry.name == "chunk_size":
        return 7
    kinds = {entry.annotation, *get_args(entry.annotation)}
    if get_origin(entry.annotation) is Literal or any(get_origin(k) is Literal for k in kinds):
        return next(c for c in entry.choices if c != str(value))
    if bool in kinds:
        return not value
    if str in kinds:
        known = {
            "quantize": "8.4", "quantize_adc": "8.4", "lr_milestones": "1", "trainable": "bias",
            "distributed": "localhost:2222,2,0", "log": "wandb", "tau_rec": "200,20000",
            "tau_out": "10,30",
        }  # fmt: skip
        return known.get(entry.name, "own")
    if int in kinds:
        return (value or 0) + 1
    return 0.5 * value if value else 0.25


def breaking(condition: Condition, known: dict[str, Entry]) -> dict[str, Any]:
    """The first option of a condition, with a value that breaks it."""
    name, wanted = next(iter(condition.items()))
    if wanted == SET:
        entry = known[name]
        return {name: type(entry.default)(0) if not isinstance(entry.default, str) else ""}
    if isinstance(wanted, Over):
        return {name: int(wanted.bound)}
    choices = [c for c in known[name].choices if c not in wanted]
    if choices:
        needed = {"network": "a.nir"} if choices[0] == "nir" else {}
        return {name: choices[0], **needed}
    return {name: not wanted[0] if isinstance(wanted[0], bool) else 7}


CONDITIONAL = [
    (task, name)
    for task in TASKS
    for name, entry in configs.entries(task).items() if entry.only
]  # fmt: skip


def case(item: tuple[type, str]) -> str:
    return f"{item[0].__name__}-{item[1]}"


@pytest.mark.parametrize("item", CONDITIONAL, ids=case)
def test_an_option_without_effect_is_refused(item: tuple[type, str]) -> None:
    task, name = item
    known = configs.entries(task)
    entry = known[name]
    context: dict[str, Any] = {}
    for condition in entry.only:
        context |= breaking(condition, known)
    if task is BalancedRSNN and "dataset" in context and name != "samples":
        context["dataset"] = "cue"
    if task is EndlessStream:  # which has no bptt, and whose reader has a name
        context |= {"method": "rtrl"} if "method" in context else {}
        context |= {"reader": "own:Reader"} if context.get("dataset") == "reader" else {}
    flags = [f"--{k}={shown_value(v)}" for k, v in context.items()]
    value = other_value(entry, entry.default)
    # A section's own check may come first, with more of a reason.
    words = "multi-step belongs to" if name == "vjp_method" else "does not apply (to|without) --"
    with pytest.raises(UsageError, match=f"--{name} {words}"):
        parse(task, *flags, f"--{name}={shown_value(value)}")
    made = parse(task, *flags)
    assert name in configs.void_options(made)
    assert configs.flat(made)[name] == entry.default
    assert not re.search(rf"^\s*{name}:", configs.to_yaml(made), re.MULTILINE)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.__name__)
def test_a_config_that_was_written_is_read_back(task: type, tmp_path: Path) -> None:
    made = parse(task)
    (tmp_path / "c.yaml").write_text(configs.to_yaml(made))
    assert parse(task, "--config", str(tmp_path / "c.yaml")) == made
    saved = configs.read_yaml(tmp_path / "c.yaml", task)
    assert configs.build(task, saved) == made


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.__name__)
def test_what_is_accepted_is_listed_and_told(task: type) -> None:
    for name, entry in configs.entries(task).items():
        if entry.accepted is None:
            continue
        assert name in ACCEPTED
        assert entry.help.startswith("accepted: ")
        value = entry.accepted[0] if entry.accepted else 4
        lines: list[str] = []
        more = ["--load_exp_folder=x"] * (name == "use_pretrained_model")
        parse(task, f"--{name}={shown_value(value)}", *more, notes=lines)
        assert lines == [f"--{name} {shown_value(value)}: {entry.help}"]
    for flags in (["--save_best", "0"], ["--plot", "0"]):
        if flags[0][2:] in configs.entries(task) and task is not Boerlin:
            with pytest.raises(UsageError, match=f"{flags[0]} false: not possible"):
                parse(task, *flags)


@section("toy")
class Toy:
    kind: Literal["a", "b"] = option("a", "Kind.")
    of_b: float = option(1.0, "Of b.", only={"kind": ("b",)})
    chained: int = option(0, "Of of_b.", only={"kind": ("b",), "of_b": SET})
    either: float = option(1.0, "Of two.", only=({"kind": ("b",)}, {"count": Over(1)}))
    count: int = option(1, "Number.")
    switch: bool = option(False, "Of b.", only={"kind": ("b",)})
    from_run: str = option("", "Whose options count.", continues=True)


@dataclasses.dataclass(frozen=True)
class OfToy:
    toy: Toy


def toy(*argv: str, **more: Any) -> Toy:
    return configs.parse(OfToy, argv, prog="p", description="", **more)[0].toy


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--of_b", "2"], "--of_b does not apply to --kind a, only with --kind b"),
        (["--of_b", "1"], "--of_b does not apply to --kind a"),  # its default, but asked for
        (
            ["--kind", "b", "--of_b", "0", "--chained", "3"],
            "--chained does not apply without --of_b",
        ),
        (["--either", "2"], "only with --kind b, or --count above 1"),
        (["--switch"], "--switch does not apply to --kind a"),
    ],
)
def test_given_in_vain(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        toy(*argv)


def test_given_where_it_counts_or_off_where_it_does_not(tmp_path: Path) -> None:
    assert toy("--kind", "b", "--of_b", "2", "--chained", "3").chained == 3
    assert toy("--count", "2", "--either", "2").either == 2.0
    assert toy("--switch", "0", "--chained", "0") == Toy()
    assert toy("--of_b", "2", "--from_run", "x").kind == "a"
    path = tmp_path / "c.yaml"
    path.write_text("of_b: 1.0\nkind: a\n")  # as a run of another version may have left it
    assert toy("--config", str(path)) == Toy()
    path.write_text("of_b: 2.0\n")
    with pytest.raises(UsageError, match=r"--of_b does not apply .*c\.yaml"):
        toy("--config", str(path))
    assert toy("--config", str(path), "--kind", "b").of_b == 2.0


def test_a_tasks_own_default_does_not_outlive_its_effect() -> None:
    adapt = {"adapt": lambda given: {"of_b": 5.0, "chained": 2}}
    assert toy(**adapt) == Toy()
    assert toy("--kind", "b", **adapt) == Toy(kind="b", of_b=5.0, chained=2)


def test_a_condition_on_an_option_that_is_none_is_a_bug() -> None:
    @section("x")
    class X:
        a: int = option(1, "A.", only={"nothing": SET})

    kind = dataclasses.make_dataclass("K", [("x", X)], frozen=True)
    with pytest.raises(TypeError, match="'a' depends on 'nothing'"):
        configs.entries(kind)


def test_help_says_where_an_option_counts(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse(ImageClassification, "--help_all")
    text = "".join(capsys.readouterr().out.split())  # lines may break at a hyphen
    assert "[ms;>0;onlywith--modelalif-delta,alif-exp-cuwith--beta;default100.0]" in text


def all_flags(capsys: pytest.CaptureFixture, *argv: str) -> tuple[list[str], str]:
    """Flags that ``--help_all`` lists beside ``argv``, and all that it says."""
    with pytest.raises(SystemExit) as left:
        parse(ImageClassification, "--help_all", *argv)
    assert left.value.code == 0
    text = capsys.readouterr().out
    return [line.split()[0] for line in text.splitlines() if line.startswith("  --")], text


def test_options_that_cannot_count_beside_the_flags_given_are_not_shown(capsys) -> None:
    every, text = all_flags(capsys)
    assert {f"--{name}" for name in configs.entries(ImageClassification)} <= set(every)
    assert "Without effect" not in text
    some, text = all_flags(capsys, "--model", "lif-delta")
    # tau_a depends on beta, which depends on the model.
    declared = [(n, e.only[0]["model"]) for n, e in configs.entries(ImageClassification).items()
                if e.only and "model" in e.only[0]]  # fmt: skip
    gone = {f"--{name}" for name, models in declared if "lif-delta" not in models}
    assert {"--beta", "--tau_a", "--tau_syn", "--fix_tau_rec", "--net"} <= gone
    assert set(every) - set(some) == gone
    assert "Without effect with --model lif-delta, and not shown:" in text
    here, text = all_flags(capsys, "--model", "alif-delta", "--beta", "0")
    assert "--beta" in here
    assert "--tau_a" not in here
    # Of several conditions one is enough.
    assert "--lr_gamma" in all_flags(capsys, "--lr_schedule", "milestones")[0]
    assert "--lr_gamma" in all_flags(capsys, "--lr_schedule", "constant")[0]
    assert "--lr_gamma" not in all_flags(capsys, "--lr_schedule", "cosine")[0]
    assert "--lr_patience" not in all_flags(capsys, "--lr_schedule", "cosine")[0]


def test_help_beside_flags_that_are_refused(capsys: pytest.CaptureFixture) -> None:
    for flags in (["--model", "lif"], ["--modl", "x"], ["--seed"]):
        flags_shown, text = all_flags(capsys, *flags)
        assert "--tau_a" in flags_shown
        assert "The flags given were not used: " in text


def attributes_read() -> set[str]:
    """Names of attributes, and texts, in all modules: what may read an option."""
    names: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names


def test_no_option_is_declared_that_nothing_reads() -> None:
    read = attributes_read()
    for task in TASKS:
        unread = {name for name in configs.entries(task) if name not in read} - ACCEPTED
        # format_of reads them by name, and adapt chooses defaults by it.
        unread -= {"quantize", "quantize_adc", "preset"}
        assert not unread, (task, unread)


# -------------------------------------------------------------- against the network


def fingerprint(network: Any) -> tuple[Any, ...]:
    """Parameters, initial state, and two steps with their gradient, as text and numbers."""
    params = get_params(network)
    x = jnp.ones((2, network.n_in))
    run: Any
    if network.layerwise:
        sequence = PureSequence(network, jnp.ones(2), training=True)
        xs = jnp.ones((2, 2, network.n_in))

        def run(p):
            return _total(sequence.run(p, sequence.initial, xs, jnp.ones(2))[1:])

    else:
        pure = PureNetwork(network, 2, training=True)

        def run(p):
            carry, first = pure.step(p, pure.initial, x)
            return _total(first) + _total(pure.step(p, carry, x)[1])

    with brainstate.environ.context(fit=True):
        closed = jax.make_jaxpr(jax.value_and_grad(run))(params)
    text = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))
    numbers = [np.asarray(v) for v in (*params.values(), *closed.consts)]
    return (text, *[a.tobytes() for a in numbers])


def _total(out: Any) -> Any:
    return sum(jnp.sum(a) for a in jax.tree.leaves(out) if jnp.issubdtype(a.dtype, jnp.inexact))


LAYERED = [name for name, model in MODELS.items() if not model.network]
#: Section, settings, whether it is of the short form.
SETTINGS: list[tuple[type, dict[str, Any], bool]] = [
    *[(ModelConfig, {"model": m, "n_rec": 5, "n_layer": 1}, m in ("gif-delta", "adLIF"))
      for m in LAYERED],
    (GIFConfig, {"n_rec": 4}, True),
    (GIFConfig, {"n_rec": 4, "A1": 1.0, "Ath": 1.0, "A2": 0.0}, False),
    *[(EIConfig, {"n_rec": 5, "net": net}, net == "cuba") for net in ("coba", "cuba")],
    *[(BalancedConfig, {"model": m, "n_rec": 5}, m in ("RLIF", "LiGRU")) for m in LAYERED],
    (BalancedConfig, {"model": "RLIF", "n_rec": 4, "balance": True, "gauss": 0.1}, False),
    (BalancedConfig, {"model": "RLIF", "n_rec": 4, "slow_dynamics": True}, False),
]  # fmt: skip
#: Options that act outside of the network: on how it is trained, or on the data.
ELSEWHERE = {"balance_refit", "auto_encoder", "model", "net", "n_exc"}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param(kind, settings, marks=() if short else pytest.mark.slow,
                     id="-".join([kind.__name__, *map(str, settings.values())]))
        for kind, settings, short in SETTINGS
    ],
)  # fmt: skip
def test_declarations_agree_with_the_network(kind: type, settings: dict[str, Any]) -> None:
    holder = dataclasses.make_dataclass("Holder", [("model", kind)], frozen=True)
    known, base = configs.entries(holder), kind(**settings)
    void = configs.void_options(holder(base))
    before = fingerprint(build_network(base, 3, 2, "plain", 0))
    assert before == fingerprint(build_network(base, 3, 2, "plain", 0))
    for name, entry in known.items():
        if name in settings or name in ELSEWHERE:
            continue
        value = other_value(entry, getattr(base, name))
        try:
            changed = dataclasses.replace(base, **{name: entry.read(value)})
        except ValueError:  # the section itself refuses it
            continue
        if name in void:  # what is built has its default
            assert changed.in_force() == base.in_force(), name
            continue
        after = fingerprint(build_network(changed, 3, 2, "plain", 0))
        assert after != before, (name, value)
