"""The suite from Python: ``load``, ``train``, and the :class:`Run` that they return."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snnlab import config as configs
from snnlab import runs
from snnlab.errors import UsageError, as_keywords, missing, nearest, shown
from snnlab.experiment.task import of_earlier
from snnlab.problems.tasks import TASKS, task_of
from snnlab.yaml_files import parse_yaml

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike, NDArray

    from snnlab.data import EventStore
    from snnlab.experiment.problem import Problem
    from snnlab.models import Network
    from snnlab.training.hooks import Hook


@dataclasses.dataclass(frozen=True)
class Record:
    """What a network did in T steps; float32 of numpy.

    Attributes:
        spikes: by layer, ``Float[ndarray, "T B n"]``, 1 where a neuron spiked.
        membranes: by layer, ``Float[ndarray, "T B n"]`` after the step, in mV (of balanced networks
            without a unit).
        readout: ``Float[ndarray, "T B n_out"]``.

    There is no axis B if the input had none.
    """

    spikes: tuple[NDArray[np.float32], ...]
    membranes: tuple[NDArray[np.float32], ...]
    readout: NDArray[np.float32]


class Run:
    """The folder of a run, read only; what it is asked for is read when it is first asked for.

    Reading needs neither the dataset nor the lock: the run may be in training meanwhile.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = runs.RunFolder(path)

    def __repr__(self) -> str:
        return f"<snnlab run {self.path}>"

    # ------------------------------------------------------------------ what it was asked

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """Option -> value: those of the newest sound checkpoint, or of ``config.yaml``.

        Raises:
            UsageError: neither can be read.
        """
        if self._meta is not None:
            return runs.options_of(parse_yaml(self._meta["config"], "the config of the checkpoint"))
        return self._folder.read_config()

    @functools.cached_property
    def task(self) -> str:
        """Name of the task, as :func:`train` takes it.

        Raises:
            UsageError: a run of something else, such as the sandbox of the integrator.
        """
        if self._meta is not None and "task" in self._meta:
            return str(self._meta["task"])
        for name in TASKS.names():
            known = configs.entries(task_of(name).config)
            choices = known["dataset"].choices if "dataset" in known else ()
            fits = not choices or str(self.options.get("dataset")) in choices
            names = set(configs.renamed(self.options, known))
            if fits and "method" in names and names <= set(known):
                return name
        raise UsageError(f"{self.path} is no run of {', '.join(TASKS.names())}")

    @functools.cached_property
    def config(self) -> Any:
        """All options in sections: ``run.config.model.n_rec``."""
        with as_keywords():
            kind = task_of(self.task).config
            saved = configs.renamed(self.options, configs.entries(kind))
            return configs.build(kind, of_earlier(kind, saved))

    @property
    def _own_config(self) -> Any:
        """The config of this folder, whose copies of files count."""
        run = dataclasses.replace(self.config.run, resume=str(self.path))
        return dataclasses.replace(self.config, run=run)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the recurrent layers, in the order of :class:`Record`."""
        names = task_of(self.task).layers
        return () if names is None else names(self._own_config)

    @functools.cached_property
    def seeds(self) -> list[Run]:
        """The run of each seed, where several were trained in one folder; otherwise empty."""
        found = [p for p in self.path.glob("seed-*") if p.name[5:].isdecimal()]
        found = [p for p in found if runs.RunFolder(p).holds_a_run]
        return [Run(p) for p in sorted(found, key=lambda p: int(p.name[5:]))]

    # ------------------------------------------------------------------ what it found

    @property
    def results(self) -> dict[str, Any]:
        """``results.json``; empty as long as the run has not finished."""
        return self._folder.read_results()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each epoch and split; of several seeds those of all, with ``seed``."""
        return self._of_each(lambda folder: folder.metrics.rows())

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Of a classification a row for each test sample, as ``predictions.csv`` has them: split,
        index, label, prediction; of several seeds those of all, with ``seed``.
        """
        return self._of_each(runs.RunFolder.read_predictions)

    def _of_each(self, read: Callable[[runs.RunFolder], list[Any]]) -> list[dict[str, Any]]:
        if not self.seeds:
            return read(self._folder)
        each = [(int(run.path.name[5:]), read(run._folder)) for run in self.seeds]
        return [{"seed": seed, **row} for seed, rows in each for row in rows]

    @property
    def metrics(self) -> pandas.DataFrame:
        """:attr:`rows` as a table.

        Raises:
            UsageError: pandas is not installed.
        """
        if package := missing("pandas", "pandas"):
            raise UsageError(f"metrics as a table need {package}; rows has the same")
        import pandas

        return pandas.DataFrame(self.rows)

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """Name -> array: parameters of the best epoch so far, of the newest sound checkpoint.

        Raises:
            UsageError: there is none, or the folder holds several seeds.
        """
        return {name: value.copy() for name, value in self._checkpoint[0].items()}

    @functools.cached_property
    def _meta(self) -> dict[str, Any] | None:
        """What the newest checkpoint says of itself, if there is one."""
        from snnlab.training.checkpoint_files import places
        from snnlab.training.checkpoints import Reader

        if not places(self._folder.checkpoints):
            return None
        return Reader(self._folder.checkpoints, _warn).newest()[1]

    @functools.cached_property
    def _checkpoint(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from snnlab.training.checkpoints import Reader

        if self.seeds:
            raise UsageError(
                f"{self.path} holds {len(self.seeds)} seeds: take one, such as "
                f"{self.seeds[0].path} (from Python: run.seeds)"
            )
        return Reader(self._folder.checkpoints, _warn).weights()

    # ------------------------------------------------------------------ the network at work

    def network(self) -> Network:
        """A new network with :attr:`weights`, as in evaluation.

        Raises:
            UsageError: there are no weights, or they do not fit the config.
        """
        from snnlab.experiment.task import Sizes, sizes_of
        from snnlab.learners.functional import get_params, set_params

        weights, meta = self._checkpoint
        make = task_of(self.task).network
        if make is None:
            raise UsageError(f"the task {self.task} does not say how its network is made")
        config = self._own_config
        sizes = Sizes(**meta["sizes"]) if "sizes" in meta else sizes_of(make, config, weights)
        made = make(config, sizes, "plain")
        for name, value in get_params(made).items():
            if name not in weights or weights[name].shape != value.shape:
                raise UsageError(f"the weights of {self.path} are not those of its config: {name}")
        set_params(made, weights)
        return made

    def record(self, x: ArrayLike) -> Record:
        """Spikes, membranes and readout for an input of one's own.

        Args:
            x: ``Float[ndarray, "T B n_in"]`` or ``"T n_in"``: what the network receives in each
                step, from rest on; any T and B. Of recorded events it is the number in a bin (0 or
                1 with ``binary_bins``), input ``(polarity * height + y) * width + x``.

        Raises:
            UsageError: another shape, or there are no weights.
        """
        with as_keywords():
            xs = np.asarray(x, np.float32)
            network, program = self._program
            if xs.ndim not in (2, 3) or xs.shape[-1] != network.n_in or not xs.size:
                raise UsageError(
                    f"x has shape {xs.shape}, needed: (T, B, {network.n_in}) or (T, {network.n_in})"
                )
            out = program(xs if xs.ndim == 3 else xs[:, None])

            def shown(value: Any) -> NDArray[np.float32]:
                found = np.asarray(value, np.float32)
                return found if xs.ndim == 3 else found[:, 0]

            spikes, membranes = (tuple(map(shown, a)) for a in (out.spikes, out.membrane))
            return Record(spikes, membranes, shown(out.readout))

    @functools.cached_property
    def _program(self) -> tuple[Network, Any]:
        """The network, and what it does with an input ``(T, B, n_in)``."""
        from snnlab.learners.forward import response

        network = self.network()
        return network, functools.partial(response, network)


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=2)


def load(path: str | Path) -> Run:
    """A run from its folder: config, results, metrics, weights, and the network itself.

    Args:
        path: such as ``runs/NAME``; of several seeds the outer folder or one of its own.

    Raises:
        UsageError: there is no run.

    Example::

        run = snnlab.load("runs/NAME")
        run.config.model.n_rec, run.results["test_accuracy"], run.metrics
        run.weights["readout.map.weight"].shape
        run.record(np.random.rand(200, 700) < 0.02).spikes[0].mean()
    """
    with as_keywords():
        return Run(runs.RunFolder.existing(str(path)).path)


def train(
    task: str,
    *,
    config: str | Path | Sequence[str | Path] = (),
    progress: bool = True,
    hooks: Sequence[Hook] = (),
    recordings: EventStore | None = None,
    **options: Any,
) -> Run:
    """Train as the command of a task does, and return the run.

    Args:
        task: ``image-classification``, ``long-term-dependency``, ``coba-ei``, ``balanced-rsnn``,
            ``pattern-generation``, ``working-memory``, or one of a package's own (entry points
            ``snnlab.tasks``).
        config: YAML files of options, or names of ``snnlab configs``, each above those before it
            and below ``options``.
        progress: whether to print how it goes.
        hooks: objects of :class:`snnlab.training.hooks.Hook`, called beside training.
        recordings: of one's own for ``image-classification``, such as :func:`snnlab.data.pack`
            makes of arrays, in the place of a ``dataset`` and of its defaults.
        **options: those of the command, with its names, aliases, units and checks: ``method``,
            ``n_rec``, ``lr``, ``dataset``, ``filepath``, ``resume``, ``trials``, ...

    Raises:
        UsageError: an option that is unknown, not valid or without effect; data that cannot be
            used; a run that diverged.

    Example::

        run = snnlab.train("image-classification", method="expsm_diag", n_rec=128, epochs=3)
        run = snnlab.train("image-classification", resume=run.path, epochs=6)
    """
    with as_keywords():
        kind, folder = task_of(task).config, task_of(task).files
        known = configs.entries(kind)
        wanted: dict[str, Any] = {}
        for key, value in options.items():
            name = configs.canonical(key, known)
            if name is None:
                spellings = [n for e in known.values() for n in (e.name, *e.aliases)]
                raise UsageError(f"unknown option '{shown(key)}'{nearest(key, spellings)}")
            wanted[name] = str(value) if isinstance(value, Path) else value
        files = [config] if isinstance(config, str | Path) else config
        given = configs.gather(kind, [str(f) for f in files], wanted, folder)
        return _train(task, given, progress, hooks, recordings)


def _train(
    name: str, given: configs.Given, progress: bool, hooks: Sequence[Hook],
    recordings: EventStore | None,
) -> Run:  # fmt: skip
    from snnlab.experiment.command import together
    from snnlab.experiment.published import check_published

    task = task_of(name)
    kind, adapt = task.config, task.adapt
    build: Callable[..., Problem] = task.build
    if recordings is not None:
        if name != "image-classification" or "dataset" in given:
            raise UsageError("recordings belong to image-classification, without a dataset")
        adapt, build = None, functools.partial(build, recordings=recordings)
    asked: Any = configs.resolve(kind, given, adapt=adapt)
    check_published(task.published, asked)
    with together(asked) as config:
        path = _performed(name, kind, config, given, build, progress, hooks)
    return load(path)


def _performed(
    name: str, kind: type, asked: Any, given: configs.Given, build: Callable[..., Problem],
    progress: bool, hooks: Sequence[Hook],
) -> str:  # fmt: skip
    """Run what is asked; the folder."""
    from snnlab import processes
    from snnlab.console import make_console
    from snnlab.devices import select_device
    from snnlab.experiment.command import greet, perform, settled

    console = make_console(quiet=not (progress and processes.leads()))
    for line in configs.notes(asked, given):
        console.print(line)
    config: Any = settled(kind, asked, given, console)
    greet(config, console)
    processes.start_jax()
    note = select_device(config.run.devices)
    if note:
        console.print(note)
    if config.run.resume or config.run.filepath:
        perform(config, build, console, hooks)
        return config.run.resume or config.run.filepath
    method = config.learner.method if config.run.mode == "train" else config.run.mode
    leads = processes.leads()
    fresh = str(runs.RunFolder.fresh(name, method, config.run.exp_name)) if leads else ""
    path = processes.shared(fresh)
    own = dataclasses.replace(config.run, filepath=path)
    try:
        perform(dataclasses.replace(config, run=own), build, console, hooks)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(path).rmdir()  # if nothing was written
        raise
    return path
