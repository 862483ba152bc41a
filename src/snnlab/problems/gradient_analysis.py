"""Gradients of learning rules against BPTT's: options, the plan of cells, and the command.

:mod:`snnlab.problems.gradient_rows` measures. Nothing is trained, unless ``--updates`` asks how the
agreement drifts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab import config as configs
from snnlab.console import make_console
from snnlab.data.images.config import defaults as of_images
from snnlab.devices import chosen
from snnlab.errors import UsageError, nearest, shown
from snnlab.experiment.command import proceed
from snnlab.learners.config import LearnerConfig
from snnlab.learners.methods import METHODS, canonical
from snnlab.models.config import ModelConfig
from snnlab.models.section import model_defaults
from snnlab.problems.gradient_config import (
    OF_RULES,
    POISSON,
    SWEPT,
    AnalysisRun,
    CompareConfig,
    DriftConfig,
    GradientData,
    parts,
)
from snnlab.problems.networks import check_model
from snnlab.runs import RunFolder

#: For ``--help``.
EXAMPLES = {
    "--rules diag,expsm_diag,immediate": "by layer and parameter, on Poisson spikes",
    "--lengths 50,100,200 --trials 3": "against the length of the sequence, three seeds",
    "--updates 200 --every 20": "while each rule trains",
    "--dataset event-digits --data_length 60": "on recordings",
}
#: Folder of ``configs/`` with its files.
FILES = "gradient-analysis"
MOST_CELLS = 1000


@dataclasses.dataclass(frozen=True)
class GradientAnalysis:
    """Config of ``tasks/task-gradient-analysis.py``."""

    run: AnalysisRun = dataclasses.field(default_factory=AnalysisRun)
    compare: CompareConfig = dataclasses.field(default_factory=CompareConfig)
    data: GradientData = dataclasses.field(default_factory=GradientData)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: DriftConfig = dataclasses.field(default_factory=DriftConfig)

    def __post_init__(self) -> None:
        if self.run.resume:
            return  # what is asked stands in the folder, too
        dt = self.model.dt
        if self.data.dataset == POISSON and self.data.rate * dt > 1000:
            raise UsageError(
                f"--rate {self.data.rate:g}: at most one spike in a step of {dt:g} ms, that is "
                f"{1000 / dt:g} Hz"
            )
        if self.training.updates and self.training.every > self.training.updates:
            raise UsageError(
                f"--every {self.training.every} is more than the --updates {self.training.updates}"
            )
        wanted = plan(self)
        if any(cell.config.model.needs_sequences for cell in wanted.cells):
            raise UsageError("batch normalisation and bidirectional layers have BPTT alone")
        for learner in rules_of(self).values():
            for cells in (wanted.cells, *wanted.sweeps.values()):
                if why := _refused_in_all(learner, cells):
                    raise why  # where only some are, these are rows with the reason

    @property
    def seeds(self) -> range:
        return range(self.run.seed, self.run.seed + self.run.trials)


def _refused_in_all(learner: LearnerConfig, cells: Sequence[Cell]) -> UsageError | None:
    """Why no network of these can have a learner; ``None`` if one can."""
    why = None
    for cell in cells:
        try:
            check_model(learner, cell.config.model)
        except UsageError as error:
            why = why or error
        else:
            return None
    return why


#: Options that a resume may have otherwise than the folder.
FREE = (
    *SWEPT, "rules", "seed", "trials", "updates", "devices", "filepath", "exp_name", "resume",
    "data_path", "n_data_worker",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network and input.

    Attributes:
        config: in which nothing is swept.
        values: of the options that may be swept, ``None`` for those without effect.
    """

    config: GradientAnalysis
    values: dict[str, Any]


def adapt(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the model and of images."""
    return model_defaults(ModelConfig, values) | of_images(values)


def rules_of(config: GradientAnalysis) -> dict[str, LearnerConfig]:
    """Text of a rule, as it is shown -> its learner.

    Raises:
        UsageError: no such rule, or one without such an option.
    """
    found: dict[str, LearnerConfig] = {}
    for text in parts(config.compare.rules):
        word, *options = text.split(":")
        name = canonical(word.strip())
        if name not in METHODS:
            raise UsageError(
                f"--rules {shown(word)}: no such rule{nearest(word, METHODS)}; valid: "
                f"{', '.join(METHODS)}"
            )
        given = configs.Given()
        for pair in options:
            key, sign, value = (part.strip() for part in pair.partition("="))
            key = key.replace("-", "_")
            if not sign or key not in OF_RULES:
                raise UsageError(
                    f"--rules {shown(text)}: behind a colon stands OPTION=VALUE, with an option of "
                    f"{', '.join(OF_RULES)}"
                )
            given[key] = value
        learner = _learner(name, given, text)
        shape = ":".join([name, *(f"{k}={v}" for k, v in given.items())])
        found[shape] = learner
    if not found:
        raise UsageError("--rules: give at least one")
    return found


def _learner(name: str, given: configs.Given, text: str) -> LearnerConfig:
    """The config of a rule, in which options without effect are refused."""
    kind: Any = dataclasses.make_dataclass(
        "OfRule", [("learner", LearnerConfig), ("training", DriftConfig)], frozen=True
    )
    try:
        built = configs.build(kind, {**given, "method": name}, given)
    except UsageError as error:
        raise UsageError(f"--rules {shown(text)}: {error}") from None
    learner: LearnerConfig = built.learner
    return learner


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        base: in which no quantity is changed.
        sweeps: swept option -> its cells, in the order of the list.
    """

    base: Cell
    sweeps: dict[str, list[Cell]]

    @property
    def cells(self) -> list[Cell]:
        """All of them, each once."""
        every = [self.base, *(cell for cells in self.sweeps.values() for cell in cells)]
        return list({tuple(cell.values.items()): cell for cell in every}.values())


def plan(config: GradientAnalysis) -> Plan:
    """The base, and a cell for every value of each swept quantity.

    Raises:
        UsageError: a value that is none, or a quantity that the network does not have.
    """
    lists = config.compare.lists
    if sum(map(len, lists.values())) >= MOST_CELLS:
        raise UsageError(f"at most {MOST_CELLS} values of swept quantities")
    flat = configs.flat(config) | dict.fromkeys(SWEPT, "") | {"resume": ""}
    base = _cell(configs.build(_Alone, flat))
    sweeps: dict[str, list[Cell]] = {}
    for flag, texts in lists.items():
        name = SWEPT[flag]
        if texts and base.values[name] is None:
            why = configs.void_options(base.config)[name]
            raise UsageError(f"--{flag} does not apply {why}, which has no --{name}")
        for text in texts:
            more = _of_model(config, text) if name == "model" else {}
            try:
                made = configs.build(_Alone, {**flat, **more, name: text})
            except UsageError as error:
                raise UsageError(f"--{flag} {shown(text)}: {error}") from None
            cell = _cell(made)
            if cell not in sweeps.setdefault(name, []):
                sweeps[name].append(cell)
    return Plan(base, sweeps)


@dataclasses.dataclass(frozen=True)
class _Alone(GradientAnalysis):
    """A config in which nothing is swept, which has no plan of its own."""

    def __post_init__(self) -> None:
        pass


def _cell(config: GradientAnalysis) -> Cell:
    void, flat = configs.void_options(config), configs.flat(config)
    return Cell(config, {name: None if name in void else flat[name] for name in SWEPT.values()})


def _of_model(config: GradientAnalysis, name: str) -> dict[str, Any]:
    """Another model's own defaults, where the base has those of its model."""
    flat, entries = configs.flat(config), configs.entries(type(config))
    own = model_defaults(ModelConfig, {"model": config.model.model})
    return {
        option: value for option, value in model_defaults(ModelConfig, {"model": name}).items()
        if flat[option] == own.get(option, entries[option].default)
    }  # fmt: skip


def command(*, prog: str, description: str, argv: list[str] | None = None) -> int:
    """The whole command line."""
    console = make_console()
    config, dry_run = configs.parse(
        GradientAnalysis, argv, prog=prog, description=description, adapt=adapt,
        note=console.print, examples=EXAMPLES, files=FILES,
    )  # fmt: skip
    if config.run.resume:
        given, _ = configs.given_values(GradientAnalysis, argv, prog=prog, folder=FILES)
        config = _resumed(config.run.resume, given)
    elif config.run.seed < 0:
        import secrets

        seed = secrets.randbelow(2**31 - config.run.trials)
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        console.print(f"--seed -1: {seed} drawn")
    if proceed(config, dry_run, console):
        if len(chosen(config.run.devices)) > 1:
            console.print("gradients are compared on the first device")
        from snnlab.problems.gradient_rows import run

        run(config, console)
    return 0


def _resumed(path: str, given: Mapping[str, Any]) -> GradientAnalysis:
    """The config of a folder, with longer lists.

    Raises:
        UsageError: the folder holds something else, or is asked for another experiment.
    """
    folder = RunFolder.existing(path)
    known = configs.entries(GradientAnalysis)
    wanted = given.get("filepath", "")
    if wanted and Path(wanted).expanduser().resolve() != folder.path.resolve():
        raise UsageError(
            f"--filepath {shown(wanted)} with --resume: it goes on in its folder {folder.path}"
        )
    saved = configs.renamed(folder.read_config(), known)
    if "rules" not in saved or set(saved) - set(known):
        raise UsageError(f"--resume {path} holds no gradient analysis")
    asked = {**saved, **given, "resume": "", "filepath": ""}
    made = configs.build(GradientAnalysis, asked, _without(given, "resume"))
    before = configs.build(GradientAnalysis, saved)
    _check_longer(before, made)
    ignore = (*FREE, *configs.void_options(before))
    changed = configs.differences(made, before, ignore=ignore)
    if changed:
        raise UsageError(
            f"--resume {path} holds another experiment (asked != saved): {'; '.join(changed)}"
        )
    run = dataclasses.replace(made.run, resume=path, filepath="")
    return dataclasses.replace(made, run=run)


def _check_longer(before: GradientAnalysis, now: GradientAnalysis) -> None:
    """Refuse what would leave out of a folder's results something that it has.

    Raises:
        UsageError: a list without one of its values, or fewer seeds or updates.
    """
    lists = {"rules": (parts(before.compare.rules), parts(now.compare.rules))}
    lists |= {flag: (own, now.compare.lists[flag]) for flag, own in before.compare.lists.items()}
    for flag, (had, asked) in lists.items():
        lost = [value for value in had if value not in asked]
        if lost:
            raise UsageError(
                f"--resume with --{flag} {shown(','.join(asked) or 'without values')}: the folder "
                f"has {shown(','.join(lost))}, and a list may only be longer"
            )
    had_seeds, seeds = before.seeds, now.seeds
    if seeds.start > had_seeds.start or seeds.stop < had_seeds.stop:
        raise UsageError(
            f"--resume: the folder has seeds {had_seeds.start} to {had_seeds.stop - 1}, and there "
            "may only be more (--seed, --trials)"
        )
    if now.training.updates < before.training.updates:
        raise UsageError(
            f"--resume with --updates {now.training.updates}: the folder has "
            f"{before.training.updates}, and there may only be more"
        )


def _without(given: Mapping[str, Any], name: str) -> Any:
    found = configs.Given()
    found.update({k: v for k, v in given.items() if k != name})
    found.files.update(getattr(given, "files", {}))
    return found
