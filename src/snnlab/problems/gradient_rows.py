"""Rows of a gradient analysis: gradients of rules beside BPTT's, cell by cell and seed by seed.

Every row is on disk before the next cell begins, and a cell whose rows are there is not computed
again. Programs of several seeds, recurrent scales and time constants that differ in constants
alone are compiled once.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.analysis.gradients import WHOLE, Shares, agreements, jacobian_shares, measured_steps
from snnlab.data import build_data
from snnlab.data.patterns import Noise
from snnlab.data.trials import TrialLoader
from snnlab.errors import UsageError, one_line
from snnlab.learners import PureNetwork, get_params, make_learner
from snnlab.learners.base import Learner
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import Params
from snnlab.learners.sequence import gradient_of_sequence
from snnlab.models import build_network
from snnlab.problems import gradient_report as report
from snnlab.problems.gradient_analysis import Cell, GradientAnalysis, Plan, plan, rules_of
from snnlab.problems.gradient_config import POISSON
from snnlab.problems.gradient_table import Table
from snnlab.problems.networks import check_model, layers
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Metrics
from snnlab.training.optim import Plateau, make_optimizer
from snnlab.training.programs import Programs, TrainState
from snnlab.training.seeds import signature

#: The stream of random numbers of a seed.
OF_INPUT = 0x501
BPTT = LearnerConfig(method="bptt")


class Compiled:
    """Programs, compiled once for all functions that differ in constants alone."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, Any]] = []

    def bind(self, fun: Callable[..., Any], *args: Any) -> Callable[..., Any]:
        """``fun`` for arguments of these shapes, as a program."""
        closed, out = jax.make_jaxpr(fun, return_shape=True)(*args)
        key, treedef = signature(closed.jaxpr), jax.tree.structure(out)
        program = next((made for known, made in self._known if known == key), None)
        if program is None:
            program = jax.jit(functools.partial(jax.core.eval_jaxpr, closed.jaxpr))
            self._known.append((key, program))

        def run(*args: Any) -> Any:
            found = program(closed.consts, *jax.tree.leaves(args))
            return jax.device_get(jax.tree.unflatten(treedef, found))

        return run


class Subject:
    """Network and input of a cell, of one seed.

    Args:
        config: of the cell.
        seed: of network and input.
        compiled: programs so far.

    Attributes:
        network: as a step.
        objective: the loss.
        first: the batch on which gradients are compared.

    Raises:
        UsageError: data that is missing or does not fit.
    """

    def __init__(self, config: GradientAnalysis, seed: int, compiled: Compiled) -> None:
        self.config, self.seed, self._compiled = config, seed, compiled
        drift = config.training
        self._loader, n_in, n_out, step_ms = _input(config, seed)
        self._make = functools.cache(
            lambda operator: build_network(config.model, n_in, n_out, operator, seed)
        )
        self.n_steps, self._size = config.data.data_length, config.data.batch_size
        training = TrainingConfig(
            loss=drift.loss, loss_steps=drift.loss_steps, optimizer=drift.optimizer, lr=drift.lr
        )
        first = self.n_steps - 1 if training.loss_steps == "end" else 0
        self.objective = Classification(n_out, len(layers(config)), first, step_ms, training)
        self.network = PureNetwork(self._make("plain"), self._size)
        self.first = next(self.batches())
        self._programs: dict[LearnerConfig, Callable[..., Any]] = {}

    def batches(self) -> Iterator[Any]:
        """Those of training, without end."""
        for epoch in itertools.count():
            self._loader.set_epoch(epoch)
            yield from self._loader

    def learner(self, rule: LearnerConfig) -> Learner:
        """The learner of a rule.

        Raises:
            UsageError: it cannot train this network, or is BPTT under another name.
        """
        if rule.window is not None and rule.window >= self.n_steps:
            raise UsageError(f"a window of {rule.window} steps is the whole sequence: plain BPTT")
        check_model(rule, self.config.model)
        return make_learner(rule, self._make, self._size, self.objective, self.seed)

    def gradient(self, rule: LearnerConfig, params: Params) -> tuple[Params, Metrics]:
        """Gradients by name, and metrics, of the whole first batch.

        Args:
            rule: which.
            params: of the network; those of the learner's own (feedback) are as it begins, unless
                ``params`` has them.
        """
        batch = self.first
        if rule not in self._programs:
            learner = self.learner(rule)
            own = learner.parameters()
            names = {*get_params(self.network.network), *own}

            def fun(params: Any, stream: Any, targets: Any) -> Any:
                return gradient_of_sequence(learner, params, stream, targets, self.n_steps)

            def known(params: Params) -> Params:
                return {**own, **{name: value for name, value in params.items() if name in names}}

            bound = self._compiled.bind(fun, known(params), batch.stream, batch.targets)
            self._programs[rule] = lambda params: bound(known(params), batch.stream, batch.targets)
        found: tuple[Params, Metrics] = self._programs[rule](params)
        return found

    def shares(self, params: Params) -> dict[str, Shares]:
        """Of the hidden Jacobian on the first batch; empty where it is not asked for."""
        if not self.config.compare.jacobian_steps:
            return {}
        wanted = measured_steps(self.n_steps, self.config.compare.jacobian_steps)

        def fun(params: Any, stream: Any) -> Any:
            return jacobian_shares(self.network, params, stream, wanted)

        args = params, self.first.stream
        found: dict[str, Shares] = self._compiled.bind(fun, *args)(*args)
        return found


def _input(config: GradientAnalysis, seed: int) -> tuple[Any, int, int, float]:
    """Loader of the training batches, inputs, classes, length of a step in ms."""
    data, dt = config.data, config.model.dt
    if data.dataset != POISSON:
        found = build_data(data, seed)
        return found.train, found.n_in, found.n_out, found.bin_ms or dt
    noise = Noise(data.n_in, data.data_length, data.rate * dt / 1000.0, data.n_out)
    loader = TrialLoader(noise, data.batch_size, data.batches, seed, OF_INPUT)
    return loader, data.n_in, data.n_out, dt


def run(config: GradientAnalysis, console: Console) -> dict[str, Any]:
    """Compare, write, draw; returns what ``results.json`` holds."""
    wanted = plan(config)
    _input(wanted.base.config, config.run.seed)  # data that are missing leave no folder
    if config.run.resume:
        folder = runs.RunFolder.existing(config.run.resume)
        folder.lock()
    else:
        folder = runs.RunFolder.create(
            config.run.filepath, "gradient-analysis", "", config.run.exp_name
        )
    saved = dataclasses.replace(
        config, run=dataclasses.replace(config.run, resume="", filepath=str(folder.path))
    )
    with runs.disk_errors(folder.path):
        folder.write_config(configs.to_yaml(saved, runs.provenance()))
        table = Table.of(folder.path)
        _fill(config, wanted, table, console)
        results = report.results(config, wanted, table)
        folder.write_results(results)
        for line in report.lines(config, wanted, table):
            console.print(line)
        for path in report.draw(config, wanted, table, folder.figures):
            console.print(f"figure     {path}")
    console.print(f"run folder {folder.path}")
    folder.unlock()
    return results


def _fill(config: GradientAnalysis, wanted: Plan, table: Table, console: Console) -> None:
    """All rows of a plan, those of the training behind the others."""
    rules, compiled = rules_of(config), Compiled()
    work = list(itertools.product(wanted.cells, config.seeds))
    for number, (cell, seed) in enumerate(work, start=1):
        added = compare(cell, seed, rules, table, compiled)
        told = report.told(cell, seed, table) if added else "was there"
        console.print(
            f"{number:3}/{len(work)}  {report.named(cell, wanted.base)} seed {seed}  {told}"
        )
    if config.training.updates:
        for seed in config.seeds:
            for by, which in _trainings(config, rules).items():
                train(wanted.base, seed, by, which, table, compiled)
                console.print(f"drift    trained by {by}, seed {seed}")


def compare(
    cell: Cell, seed: int, rules: Mapping[str, LearnerConfig], table: Table, compiled: Compiled
) -> bool:
    """Rows of a cell that are not there yet; whether there were any to compute.

    A rule that cannot train the network leaves a row with the reason.
    """
    missing = {name: rule for name, rule in rules.items() if not table.has(cell, seed, name)}
    shares = not table.has_layers(cell, seed)
    if not missing and not shares:
        return False
    subject = Subject(cell.config, seed, compiled)
    params = get_params(subject.network.network)
    at = {**cell.values, "seed": seed, "update": 0}
    table.add(_gradient_rows(subject, missing, params, at))
    if shares:
        table.add_layers(_layer_rows(subject, params, at))
    table.write()
    return True


def _gradient_rows(
    subject: Subject, rules: Mapping[str, LearnerConfig], params: Params, at: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of all rules beside BPTT."""
    exact, _ = subject.gradient(BPTT, params)
    for name, rule in rules.items():
        head = {**at, "rule": name}
        try:
            found, _ = subject.gradient(rule, params)
        except UsageError as error:
            yield {**head, "refused": one_line(str(error))}
            continue
        yield from ({**head, **one._asdict()} for one in agreements(found, exact))


def _layer_rows(
    subject: Subject, params: Params, at: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rate and Jacobian of each layer."""
    rates = np.asarray(subject.gradient(BPTT, params)[1].spikes) / subject.n_steps
    shares = subject.shares(params)
    for k, rate in enumerate(map(float, rates)):
        name = f"layer {k + 1}"
        yield {**at, "layer": name, "spikes_per_step": rate, **_own(shares.get(name))}
    if shares:
        yield {**at, "layer": WHOLE, **_own(shares[WHOLE])}


def _own(share: Any) -> dict[str, float]:
    return {} if share is None else {"own_norm": float(share.norm), "own_rows": float(share.rows)}


def _trainings(
    config: GradientAnalysis, rules: Mapping[str, LearnerConfig]
) -> dict[str, dict[str, LearnerConfig]]:
    """Name of what trains -> the rules that are compared in its network."""
    if config.training.trained_by == "bptt":
        return {"bptt": dict(rules)}
    return {name: {name: rule} for name, rule in rules.items()}


def train(
    cell: Cell, seed: int, by: str, rules: Mapping[str, LearnerConfig], table: Table,
    compiled: Compiled,
) -> None:  # fmt: skip
    """Train with one rule and compare ``rules`` on the way; nothing, where all rows are there."""
    drift = cell.config.training
    places = range(0, drift.updates + 1, drift.every)
    if all(table.has(cell, seed, name, by, place) for name in rules for place in places):
        return
    subject = Subject(cell.config, seed, compiled)
    network, objective = subject.network, subject.objective
    try:
        learner = subject.learner(BPTT if by == "bptt" else rules[by])
    except UsageError:  # the rows of the cell say why
        return
    params = {**jax.tree.map(jnp.copy, get_params(network.network)), **learner.parameters()}
    optimizer, plateau = make_optimizer(objective.config, 1), Plateau(objective.config).init()
    programs = Programs(learner, optimizer, objective, network, subject.n_steps)
    key = jax.random.key_data(jax.random.key(seed))
    state = TrainState(params, optimizer.init(params), plateau, key, jnp.int32(0))
    for update, batch in zip(range(drift.updates + 1), subject.batches()):
        if update in places:
            missing = {n: r for n, r in rules.items() if not table.has(cell, seed, n, by, update)}
            at = {**cell.values, "seed": seed, "update": update, "trained_by": by}
            if missing:
                table.add(_gradient_rows(subject, missing, state.params, at))
                table.write()
        if update < drift.updates:
            state, _ = programs.train(state, batch.stream, batch.targets)
