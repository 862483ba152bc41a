"""The compiled programs of a run: one for a training batch, one for evaluation.

A whole batch (input made dense step by step, forward, gradient, clipping, optimiser) is one
compiled program; the batch enters as an argument, so no data is baked into it, and nor are large
constants (targets of a sparse map).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnlab import sharding
from snnlab.data.stream import Stream
from snnlab.learners.base import Learner
from snnlab.learners.counting import Counts, counted_sequence, over_shards
from snnlab.learners.forward import Forward
from snnlab.learners.functional import Params, PureNetwork, PureSequence, at_rest, get_params
from snnlab.models.base import StepOutput
from snnlab.training.averages import Averages
from snnlab.training.costs import Costs
from snnlab.training.objectives import Metrics, Objective, Targets
from snnlab.training.optim import norms
from snnlab.training.placement import ALONE, Placement, on_one

#: Bytes of constants from which on they are arguments of a program. Written into it, they are
#: copied several times and compiled: 400 MB took 30 s and more memory than the training.
LARGE_CONSTANTS = 2**24


class TrainState(NamedTuple):
    """Everything that training changes.

    Attributes:
        params: by name.
        opt_state: of the optax chain.
        plateau: of the plateau rule; its ``scale`` multiplies the updates.
        key: random key data (uint32) from which randomness inside programs is drawn.
        updates: optimiser steps so far.
    """

    params: Params
    opt_state: Any
    plateau: Any
    key: jax.Array
    updates: jax.Array


class Programs:
    """Training, evaluation and recording of one network on batches of one shape.

    Args:
        learner: source of gradients; of several devices that of a shard of the batch.
        optimizer: optax chain.
        objective: loss and metrics.
        network: pure network for evaluation, at rest with the batch size.
        n_steps: T.
        update_every: steps between optimiser updates; 0 = once, after the sequence.
        placement: devices of training and evaluation; what is recorded is on one.
        of_shard: ``network`` for the samples of a shard, where there are several.
    """

    #: Several seeds at once: :class:`snnlab.training.seeds.SeedPrograms`.
    n_seeds: int | None = None
    #: Whether the layers' outputs are spikes, whose mean is a rate.
    spiking: bool = True

    def __init__(
        self,
        learner: Learner,
        optimizer: optax.GradientTransformation,
        objective: Objective,
        network: PureNetwork | PureSequence,
        n_steps: int,
        update_every: int = 0,
        placement: Placement = ALONE,
        of_shard: PureNetwork | PureSequence | None = None,
    ) -> None:
        self.learner = learner
        self.optimizer = optimizer
        self.objective = objective
        self.network, self.placement = network, placement
        self.evaluated = network if of_shard is None else of_shard
        self.forward = Forward(self.evaluated) if isinstance(self.evaluated, PureNetwork) else None
        self.n_steps = n_steps
        self.update_every = min(update_every or n_steps, n_steps)
        self.compile_seconds = 0.0
        #: Operations of an evaluation that connect neurons and were not counted.
        self.unknown: tuple[str, ...] = ()
        self._compiled: dict[Any, Any] = {}

    @property
    def updates_per_batch(self) -> int:
        return -(-self.n_steps // self.update_every)

    def averages(self) -> list[Averages]:
        """Those of a split that begins, of the one seed."""
        return [Averages(outputs_ms=None if self.spiking else self.objective.step_ms)]

    # -- running

    def train(
        self, state: TrainState, stream: Stream, targets: Targets
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One batch; ``state`` is consumed. Returns the new state and the batch's numbers."""
        args = self.placement.same(state), *self.placement.batch(stream, targets)
        return self.program("train", self.placement.over(self.train_fn), *args)(*args)

    def evaluate(self, params: Params, stream: Stream, targets: Targets) -> dict[str, jax.Array]:
        """Loss, measures and rates of one batch."""
        return self._evaluated(params, stream, targets, False)[0]

    def evaluate_and_count(
        self, params: Params, stream: Stream, targets: Targets
    ) -> tuple[dict[str, jax.Array], Counts]:
        """The same numbers, and what the batch took; the same program."""
        return self._evaluated(params, stream, targets, True)

    def _evaluated(self, params: Params, stream: Stream, targets: Targets, count: bool) -> Any:
        same = self.placement.same((params, np.bool_(count)))
        args = same, *self.placement.batch(stream, targets)
        return self.program("eval", self.placement.over(self.count_fn), *args)(*args)

    def program(self, name: str, fun: Any, *args: Any) -> Any:
        """The executable of ``fun`` for the shapes of ``args``; compiled at first use."""
        shapes = tuple((jnp.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(args))
        key = (name, shapes)
        if key not in self._compiled:
            began = time.perf_counter()
            self._compiled[key] = _compiled(fun, args, donate=name == "train")
            self.compile_seconds += time.perf_counter() - began
        return self._compiled[key]

    def cost_facts(self, params: Params, costs: Costs) -> dict[str, Any]:
        """``costs`` of ``results.json``: what was counted of the network with these parameters."""
        mine = [params[name] for name in get_params(self.network.network)]
        return costs.facts(mine, self.network.constants, self.n_steps, self.spiking, self.unknown)

    def temporary_bytes(self) -> int:
        """Temporary memory of the training program on a device; 0 where that is not known: before
        it is compiled, or if it was read back compiled."""
        return temporary_bytes([made for (name, _), made in self._compiled.items()
                                if name == "train"])  # fmt: skip

    @property
    def n_compiled(self) -> int:
        """How many programs were compiled so far."""
        return len(self._compiled)

    # -- where a batch begins

    def started(self, state: TrainState) -> Any:
        """The state of a new run, from that of its parts."""
        return state

    def begun(self, state: Any) -> Any:
        """The learner's carry before a batch: at rest."""
        return sharding.columns(self.learner.fresh(sharding.numbered(state.key)))

    def ended(self, state: Any, carry: Any) -> Any:
        """The state after a batch that has left a carry."""
        return state

    # -- the functions that are compiled

    def train_fn(
        self, state: TrainState, stream: Stream, targets: Targets
    ) -> tuple[TrainState, dict[str, Any]]:
        scale = state.plateau.scale

        def part(params: Any, opt_state: Any, carry: Any, start: Any, length: Any) -> Any:
            segment = self.learner.segment(params, carry, stream, targets, start, length)
            gradients = sharding.total(segment.gradients)
            metrics = segment.metrics.over_shards()

            def update(params: Any, opt_state: Any) -> Any:
                updates, opt_state = self.optimizer.update(gradients, opt_state, params)
                updates = jax.tree.map(lambda u: u * scale, updates)
                params = self.network.network.kept(optax.apply_updates(params, updates))
                return params | (segment.renewed or {}), opt_state

            learned = metrics.scored > 0  # nothing to learn from warm-up alone
            # A branch, not a choice between two results, which takes three times as long.
            params, opt_state = jax.lax.cond(learned, update, lambda *same: same, params, opt_state)
            each, norm = norms(gradients)
            bad = {n: (~jnp.isfinite(size)).astype(jnp.int32) for n, size in each.items()}
            return params, opt_state, segment.carry, (metrics, norm, bad)

        carry = self.begun(state)
        params, opt_state = state.params, state.opt_state
        if self.updates_per_batch == 1:
            params, opt_state, carry, (metrics, norm, bad) = part(
                params, opt_state, carry, 0, self.n_steps
            )
        else:
            n, rest = divmod(self.n_steps, self.update_every)

            def body(c: Any, i: Any) -> Any:
                p, o, k = c
                p, o, k, measured = part(p, o, k, i * self.update_every, self.update_every)
                return (p, o, k), measured

            (params, opt_state, carry), measured = jax.lax.scan(
                body, (params, opt_state, carry), jnp.arange(n)
            )
            metrics, norm, bad = jax.tree.map(lambda a: a.sum(0), measured)
            if rest:
                params, opt_state, carry, last = part(
                    params, opt_state, carry, n * self.update_every, rest
                )
                metrics, norm, bad = jax.tree.map(jnp.add, (metrics, norm, bad), last)
        numbers = self.objective.summarise(metrics, targets)
        numbers["grad_norm"] = norm / self.updates_per_batch
        numbers["broken_gradients"] = jax.tree.map(lambda b: b > 0, bad)
        key = jax.random.key_data(jax.random.split(jax.random.wrap_key_data(state.key), 1)[0])
        done = state.updates + self.updates_per_batch
        now = state._replace(params=params, opt_state=opt_state, key=key, updates=done)
        return self.ended(now, carry), numbers

    def evaluate_fn(self, params: Params, stream: Stream, targets: Targets) -> dict[str, jax.Array]:
        if self.forward is None:
            metrics = self._evaluate_layerwise(params, stream, targets)
        else:
            metrics = self.forward.measure(params, stream, self.objective, targets)
        return self.objective.summarise(metrics.over_shards(), targets)

    def count_fn(
        self, same: tuple[Params, jax.Array], stream: Stream, targets: Targets
    ) -> tuple[dict[str, jax.Array], Counts]:
        """:meth:`evaluate_fn` of ``(params, wanted)``, and what it took if that is wanted."""
        params, wanted = same
        if self.forward is None:
            run = lambda p, xs: self._of_sequence(self.evaluated, p, xs)  # noqa: E731
            xs = stream.window(0, self.n_steps)
            outs, counts, self.unknown = counted_sequence(run, params, xs, targets.mask, wanted)
            metrics = self._observe(outs, targets)
        else:
            metrics, counts = self.forward.measure_and_count(
                params, stream, self.objective, targets, wanted
            )
            self.unknown = self.forward.counter.unknown
        return self.objective.summarise(metrics.over_shards(), targets), over_shards(counts)

    def _evaluate_layerwise(self, params: Params, stream: Stream, targets: Targets) -> Metrics:
        return self._observe(self._run_layerwise(self.evaluated, params, stream)[1], targets)

    def _observe(self, outs: StepOutput, targets: Targets) -> Metrics:
        observe = jax.vmap(self.objective.step, (0, 0, None))
        _, metrics = observe(outs, jnp.arange(self.n_steps), targets)
        return jax.tree.map(lambda a: a.sum(0), metrics)

    def _run_layerwise(
        self, network: Any, params: Params, stream: Stream
    ) -> tuple[jax.Array, StepOutput]:
        """Input and output of all steps of a batch; outside of training every sample counts."""
        xs = stream.window(0, self.n_steps)
        return xs, self._of_sequence(network, params, xs)

    @staticmethod
    def _of_sequence(network: Any, params: Params, xs: jax.Array) -> StepOutput:
        assert isinstance(network, PureSequence)
        everyone = jnp.ones(network.batch_size, jnp.float32)
        return network.run(params, at_rest(network.initial), xs, everyone)[2]

    def record(
        self, params: Params, stream: Stream, which: np.ndarray
    ) -> tuple[jax.Array, StepOutput]:
        """Input ``(T, b, n_in)`` and output (leading axis T) of the samples ``which (b,)``."""

        network = self.network

        def fun(params: Any, stream: Any, which: Any) -> Any:
            if isinstance(network, PureSequence):
                found = self._run_layerwise(network, params, stream)
                return jax.tree.map(lambda a: a[:, which], found)

            def body(carry: Any, t: Any) -> Any:
                x = stream.at(t)
                carry, out = network.step(params, carry, x)
                return carry, jax.tree.map(lambda a: a[which], (x, out))

            start = jax.tree.map(jnp.asarray, network.initial)
            return jax.lax.scan(body, start, jnp.arange(self.n_steps))[1]

        params = on_one(params)
        return self.program("record", fun, params, stream, which)(params, stream, which)


def temporary_bytes(compiled: Iterable[Any]) -> int:
    """The most that one of these executables takes beside its arguments and results."""
    found = [made.memory_analysis() for made in compiled]
    return max((int(one.temp_size_in_bytes) for one in found if one is not None), default=0)


class _Bound:
    """A compiled program, and the constants that are its first argument."""

    def __init__(self, compiled: Any, consts: list[Any]) -> None:
        self.compiled, self.consts = compiled, consts

    def __call__(self, *args: Any) -> Any:
        return self.compiled(self.consts, *args)

    def memory_analysis(self) -> Any:
        return self.compiled.memory_analysis()


def _compiled(fun: Any, args: tuple[Any, ...], donate: bool) -> Any:
    """The executable of ``fun``; with ``donate`` its first argument is consumed."""
    traced = jax.jit(fun, donate_argnums=(0,) if donate else ()).trace(*args)
    closed = traced.jaxpr
    if sum(getattr(c, "nbytes", 0) for c in closed.consts) < LARGE_CONSTANTS:
        return traced.lower().compile()
    treedef = jax.tree.structure(traced.out_info)

    def bound(consts: Any, *args: Any) -> Any:
        flat = jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(treedef, flat)

    consts = list(closed.consts)
    jitted = jax.jit(bound, donate_argnums=(1,) if donate else ())
    return _Bound(jitted.lower(consts, *args).compile(), consts)
