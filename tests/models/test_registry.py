"""The registry: read without JAX, with models of other packages, and with each model's options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.models.config import BalancedConfig, EIConfig, GIFConfig, ModelConfig
from snnlab.models.registry import MODELS
from snnlab.models.section import model_defaults
from snnlab.models.surrogates import SURROGATES
from snnlab.problems import delayed_match, image_classification
from snnlab.problems.balanced import BalancedRSNN
from snnlab.problems.delayed_match import LongTermDependency
from snnlab.problems.image_classification import ImageClassification
from snnlab.registry import load

ROOT = Path(__file__).resolve().parents[2]
MINE = '''
"""A neuron of a user."""
import typing
from snnlab.config import option
from snnlab.models.neuron import Neuron, Value
from snnlab.models.options import RECURRENT, Options
from snnlab.models.registry import Model
import numpy as np

class Own(Options):
    my_leak: float = option(default=0.5, help="share of the membrane that stays", ge=0, le=1)

class Mine(Neuron):
    states: typing.ClassVar = ("v",)
    def __init__(self, leak=0.5):
        self.leak = leak
    def values(self, n, rng):
        return {"gain": Value.uniform(rng, 5.0, 8.0, n), "theta": Value(np.ones(n, np.float32))}
    def step(self, state, spikes, drive, value):
        return {"v": self.leak * (state["v"] - spikes) + value["gain"] * drive}
    def excess(self, state, value):
        return state["v"] - value["theta"]

def build(draw, n_in):
    from snnlab.models.kinds.described import layer_of
    return layer_of(draw, n_in, Mine(draw.config.my_leak))

MODEL = Model("mine", (*RECURRENT, Own), "mine:build", {"n_rec": 7})
PLAIN = Model("a described neuron alone", RECURRENT, "mine:Mine")
'''
RUN = """
import jax, jax.numpy as jnp
from snnlab import config as configs
from snnlab.learners import PureNetwork, get_params
from snnlab.models import build_network
from snnlab.problems.image_classification import ImageClassification, adapt
def parse(*argv):
    return configs.parse(ImageClassification, argv, prog="p", description="", adapt=adapt)[0]
made = parse("--model", "mine", "--my_leak", "0.25", "--fix_w_rec", "--dataset", "nmnist")
assert made.model.n_rec == 7 and "my_leak: 0.25" in configs.to_yaml(made)
assert "my_leak" not in configs.to_yaml(parse("--model", "lif-delta"))
for model in (made.model, parse("--model", "mine-plain", "--n_rec", "7").model):
    net = build_network(model, 3, 2, "plain", 0)
    assert net.layers[0].neuron.leak == (0.25 if model is made.model else 0.5)
    pure = PureNetwork(net, 2)
    _, out = pure.step(get_params(net), pure.initial, jnp.ones((2, 3)))
    assert out.spikes[0].shape == (2, 7) and out.spikes[0].sum() > 0
print("done")
"""


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    places = [str(ROOT / "src"), *map(str, path)]
    code = f"import sys; sys.path[:0] = {places!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def entry_points(folder: Path, group: str, **points: str) -> None:
    info = folder / "other-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")


def test_it_is_read_without_jax() -> None:
    """Nor without numpy, which takes a tenth of a second."""
    heavy = ("jax", "brainstate", "brainpy", "brainunit", "braintools", "numpy")
    done = python(
        f"sys.modules.update(dict.fromkeys({heavy}))\n"
        "from snnlab import config as configs\n"
        "from snnlab.models.config import BalancedConfig, ModelConfig\n"
        "from snnlab.models.registry import MODELS\n"
        "print(len(MODELS.names()), ModelConfig(model='adLIF', fix_tau_rec=True).model)"
    )
    assert done.stdout.split() == [str(len(MODELS.names())), "adLIF"], done.stderr


def test_a_model_of_a_users_package(tmp_path: Path) -> None:
    entry_points(tmp_path, "snnlab.models", mine="mine:MODEL", mine_plain="mine:PLAIN")
    (tmp_path / "mine.py").write_text(MINE)
    done = python(RUN, tmp_path)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lif-delta", "os:sep", "two entries for the model 'lif-delta'"),
        ("mine", "no_such_module:X", "model 'mine': its entry point no_such_module:X"),
        ("mine", "os:sep", "model 'mine': its entry is a str, not a Model"),
    ],
)
def test_a_wrong_entry_point_is_one_line(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    """Of every command that has models."""
    entry_points(tmp_path, "snnlab.models", **{name: value})
    done = python(
        "from snnlab.errors import run_command\n"
        "from snnlab.problems.tasks import run_task\n"
        "run_command(lambda: run_task('coba-ei', prog='p', argv=['--dry_run']), 'p')",
        tmp_path,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_users_surrogate(tmp_path: Path) -> None:
    entry_points(tmp_path, "snnlab.surrogates", own="own_surrogate:OWN")
    (tmp_path / "own_surrogate.py").write_text(
        "from snnlab.models.surrogates import Surrogate\nOWN = Surrogate('own', 'math:sqrt')\n"
    )
    done = python(
        "from snnlab.models import ModelConfig\n"
        "from snnlab.models.surrogates import SURROGATES\n"
        "print(ModelConfig(spk_fun='own').spk_fun, SURROGATES.get('own').make)",
        tmp_path,
    )
    assert done.stdout == "own math:sqrt\n", done.stderr


def test_every_line_names_something() -> None:
    for name in MODELS.names():
        assert callable(load(MODELS.get(name).build or MODELS.get(name).network))
    for name in SURROGATES.names():
        assert callable(load(SURROGATES.get(name).make))


def test_an_option_of_another_model_is_refused() -> None:
    def model(*argv: str):
        made, _ = configs.parse(
            ImageClassification, argv, prog="p", description="", adapt=image_classification.adapt
        )
        return made.model

    assert model("--model", "adLIF", "--fix_tau_rec").fix_tau_rec
    with pytest.raises(
        UsageError,
        match="--fix_tau_rec does not apply to --model lif-delta, only with --model LIF, adLIF, "
        "RLIF, RadLIF",
    ):
        model("--fix_tau_rec")
    with pytest.raises(UsageError, match="--tau_mem does not apply to --model adLIF"):
        model("--model", "adLIF", "--tau_mem", "20")
    with pytest.raises(UsageError, match=r"--model lif_delta: no such choice \(did you mean"):
        model("--model", "lif_delta")


def test_a_model_has_its_own_defaults() -> None:
    def model(*argv: str):
        made, _ = configs.parse(
            LongTermDependency, argv, prog="p", description="", adapt=delayed_match.defaults
        )
        return made.model

    assert (model().tau_mem, model().ff_scale) == (100.0, 6.0)
    assert (model("--model", "lif-exp-cu").tau_mem, model("--model", "ei").tau_mem) == (10.0, 200.0)
    assert model("--model", "ei", "--tau_mem", "30").tau_mem == 30.0
    assert model("--model", "gif-delta").tau_I2 == 100.0
    for section in (ModelConfig, GIFConfig, EIConfig, BalancedConfig):
        for name in MODELS.names():
            if MODELS.get(name).network:
                continue
            own = model_defaults(section, {"model": name})
            made = section(model=name, **own)
            for option, value in MODELS.get(name).defaults.items():
                assert getattr(made, option) == value or option in section.task_defaults


def test_earlier_names() -> None:
    """``--neurons`` and ``--tau_neu``, as flags, in files and of ``--trainable``."""
    made, _ = configs.parse(BalancedRSNN, ["--neurons", "9"], prog="p", description="")
    assert made.model.n_rec == 9
    made, _ = configs.parse(
        LongTermDependency, ["--tau-neu", "30", "--trainable", "tau_neu"], prog="p", description=""
    )
    assert (made.model.tau_mem, made.model.trained) == (30.0, ("tau_mem",))
    assert BalancedConfig(trainable="theta").trained == ("V_th",)
