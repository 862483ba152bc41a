"""``--backend snnlab``: learners that go through a sequence in chunks of steps.

A chunk runs the network forward once. What rules need to know of its steps (Jacobians, the
learning signal) is computed for all steps at once, when the first rule asks for it; each rule then
makes the gradient of its relations, and what it remembers for the next chunk. See
:mod:`snnlab.learners.stores.dynamics` for the algebra, :mod:`snnlab.learners.graph.step` and
:mod:`snnlab.learners.graph.locality` for what a network must be like (it is checked).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from snnlab import sharding
from snnlab.data.stream import Stream
from snnlab.errors import UsageError
from snnlab.lazy import lazy
from snnlab.learners.base import Learner, Objective, Segment, add, template, unscored_prefix
from snnlab.learners.functional import Params, PureStep
from snnlab.learners.graph import derivatives, locality, past_states
from snnlab.learners.graph.derivatives import Steps, StepSignal, Windows
from snnlab.learners.graph.evaluate import Arrays, ByRelation, Frame, make_frame, weights
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Events, Input
from snnlab.learners.rules.base import Rule, Setting
from snnlab.learners.signals import Exact, Signal
from snnlab.learners.stores import dynamics
from snnlab.learners.stores.dynamics import Dynamics, plus
from snnlab.learners.stores.kernels.support import on_one_cpu
from snnlab.learners.stores.traces import within_chunk
from snnlab.learners.tuning import current, kernels

if TYPE_CHECKING:
    from snnlab.learners.config import Precision

launches = lazy("snnlab.learners.graph.launches")  # Pallas takes a while
ChunkSize = int | Callable[[int], int]


class Role(NamedTuple):
    """What a chunk has to do beside advancing states.

    Attributes:
        learns: its steps have a loss (otherwise only traces go on).
        reads: there are traces of what was before.
        writes: there are steps after it that need traces.
    """

    learns: bool = True
    reads: bool = True
    writes: bool = True


class Chunks(NamedTuple):
    """Equal chunks that follow each other: first step, how many, steps of each."""

    first: int
    number: int
    size: int
    role: Role


class OnlineCarry(NamedTuple):
    """What an online learner carries from segment to segment.

    Attributes:
        net: the network's states.
        rules: what each rule remembers; ``None`` after a segment that was to be the whole
            sequence, whose traces are gone.
        signal: what the learning signal keeps.
    """

    net: Any
    rules: tuple[Any, ...] | None
    signal: Any


def read_window(stream: Stream, start: Any, length: int) -> Input:
    """Steps ``start .. start + length - 1`` of a stream, ``(length, B, n_in)``."""
    dense = stream.window(start, length)
    listed = dense[0].size >= current().least_events and on_one_cpu()
    found = stream.listed(start, length) if listed else None
    return Input(dense) if found is None else Events(dense, *found)


def equal_parts(length: int, size: int) -> int:
    """Steps of a part when ``length`` is divided evenly into parts of at most ``size``."""
    return -(-length // -(-length // size))


class ChunkedLearner(Learner):
    """The cut network, and sums over chunks.

    Args:
        net: the step that is trained.
        graph: the same, cut at its relations.
        objective: loss of a step.
        chunk_size: steps of a chunk at most, or the function that says so for a segment's length.
        precision: of products and traces; see :class:`~snnlab.learners.config.LearnerConfig`.

    Raises:
        UsageError: sparse maps with another precision than float32.
    """

    def __init__(
        self,
        net: PureStep,
        graph: StepGraph,
        objective: Objective,
        chunk_size: ChunkSize,
        precision: Precision = "float32",
    ) -> None:
        self.net, self.graph = net, graph
        self.objective = objective
        self.chunk_size = chunk_size
        if precision != "float32" and any(one.is_map and not one.rounds for one in graph.relations):
            raise UsageError(
                f"--precision {precision}: sparse maps (--connectivity below 1) are float32"
            )

    def use(self, wanted: Literal["auto", "xla", "pallas"]) -> None:
        """Whether kernels of our own run what there is one for (``--kernels``).

        Raises:
            UsageError: ``pallas`` where there is none.
        """
        found = kernels(wanted)
        if wanted == "pallas" and not self.has_kernels():
            raise UsageError("--kernels pallas: no layer and no trace has a kernel here; use auto")
        self.graph.kernels = found

    def has_kernels(self) -> bool:
        """Whether a kernel of a GPU or TPU runs a part of it."""
        return bool(launches.any_in(self.graph))

    def longest(self, length: int) -> int:
        """Steps of a chunk at most, in a segment of ``length`` steps."""
        size = self.chunk_size(length) if callable(self.chunk_size) else self.chunk_size
        return min(size, length)

    def gradients(self, params: Params, found: ByRelation) -> Params:
        """Gradients of the parameters from those of the relations."""
        _, pull = jax.vjp(lambda p: weights(self.graph, p), params)
        (gradients,) = pull([found[r] for r, one in enumerate(self.graph.relations) if one.trained])
        return gradients

    def zero_sums(self, frame: Frame, h: Arrays, stream: Stream, batch: Any) -> Any:
        """What a chunk adds to: gradients by relation, and metrics."""

        def one() -> Any:
            xs = read_window(stream, 0, 1)
            _, steps = derivatives.forward(frame, h, xs, jnp.arange(1))
            return derivatives.observe(frame, steps, self.objective, batch)[1]

        metrics = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one))
        gradients = {r: jnp.zeros(one.w.aval.shape, jnp.float32)
                     for r, one in enumerate(self.graph.relations) if one.trained}  # fmt: skip
        return gradients, metrics

    def net_carry(self, h: Arrays) -> Any:
        return jax.tree.unflatten(self.graph.carry_tree, h)


class Chunk:
    """The steps of a chunk, and what is known of them; each computed when it is first asked for.

    Attributes:
        frame, steps, batch: the segment, its forward pass, targets.
        params: of the network and of the signal.
        signal: the learning signal.
        role: what is to be done.
        window: steps of a window of backpropagation; 0: there are none.
    """

    def __init__(
        self, frame: Frame, steps: Steps, batch: Any, params: Params, signal: Signal, role: Role,
        window: int = 0,
    ) -> None:  # fmt: skip
        self.frame, self.steps, self.batch = frame, steps, batch
        self.params, self.signal, self.role = params, signal, role
        self.graph, self.window = frame.graph, window
        self.length: int = steps.ts.shape[0]

    @functools.cached_property
    def dynamics(self) -> Dynamics:
        """The network's own recursion of traces."""
        return dynamics.of_step(self.graph, *derivatives.jacobians(self.frame, self.steps))

    @functools.cached_property
    def observations(self) -> tuple[derivatives.Blocks, derivatives.Blocks]:
        """``ds/dh`` by (layer, state), and ``ds/dy`` past states by (layer, relation)."""
        return derivatives.observations(self.frame, self.steps)

    @functools.cached_property
    def found(self) -> StepSignal:
        """The learning signal of each step."""

        def loss(out: Any, spikes: Any, t: Any) -> Any:
            return self.signal.loss(self.params, out, spikes, t, self.batch)

        return derivatives.step_signal(
            self.frame, self.steps, loss,
            through_maps=self.signal.through_maps, spikes=self.signal.at_spikes,
        )  # fmt: skip

    @functools.cached_property
    def windows(self) -> Windows:
        """Backpropagation inside the windows of the chunk."""
        return derivatives.windows(
            self.frame, self.steps, self.signal.objective, self.batch, self.window
        )

    @functools.cached_property
    def kappa(self) -> jax.Array:
        """The readout's decay: of the states that a readout's map enters, averaged over units."""
        graph, blocks = self.graph, self.dynamics.state_jacobian
        found = [
            blocks[b, b].mean()
            for r, one in enumerate(graph.relations) if one.is_map and graph.layer_of(r) is None
            for b in one.reach if r in graph.enters[b] and (b, b) in blocks
        ]  # fmt: skip
        return sharding.mean(jnp.mean(jnp.stack(found))) if found else jnp.float32(0.0)

    def direct(self, y_bar: ByRelation, mine: Mapping[int, Any]) -> ByRelation:
        """``y_bar`` of the relations ``mine``, with what reaches the loss past all states."""
        direct = self.found.direct_adjoint
        return plus(
            {r: g for r, g in y_bar.items() if r in mine},
            {r: g for r, g in direct.items() if r in mine},
        )

    @functools.cached_property
    def metrics(self) -> Any:
        """The objective's, summed over steps."""
        if self.role.learns and not self.window:
            return self.found.metrics
        return derivatives.observe(self.frame, self.steps, self.signal.objective, self.batch)[1]


class OnlineLearner(ChunkedLearner):
    """Rules that go forward with the sequence, each for some relations of the step.

    Args:
        net: the step that is trained.
        objective: loss of a step.
        choose: the rule of a relation, by its number in the cut step.
        signal: the learning signal; made for the cut step.
        setting: what rules are built with.
        chunk_size: see :class:`ChunkedLearner`; the gradient does not depend on it. With windows of
            backpropagation a chunk is as many of them as it has room for, one at least.
        precision: of products and traces; see :class:`~snnlab.learners.config.LearnerConfig`.

    Raises:
        UsageError: the step is outside of what the rules can do.
    """

    def __init__(
        self,
        net: PureStep,
        objective: Objective,
        choose: Callable[[StepGraph, int], type[Rule]],
        signal: Callable[[StepGraph], Signal] | None = None,
        setting: Setting = Setting(),  # noqa: B008 - immutable
        chunk_size: ChunkSize = 1,
        precision: Precision = "float32",
    ) -> None:
        scope = "window" if setting.window else "step"
        graph = StepGraph(net, scope, precision)  # type: ignore[arg-type]
        super().__init__(net, graph, objective, chunk_size, precision)
        locality.check(graph)
        self.window = setting.window
        if not self.window:
            past_states.check_maps(graph)
        if (batch := objective.example(net.batch_size)) is not None:
            self.check_loss(batch)
        self.signal = Exact(objective) if signal is None else signal(graph)
        table: dict[type[Rule], list[int]] = {}
        for r, one in enumerate(graph.relations):
            if one.trained:
                table.setdefault(choose(graph, r), []).append(r)
        #: Whether traces live between segments, or between the chunks of a segment.
        self.kept = setting.resumed or not all(kind.splits for kind in table)
        self.rules = [kind(graph, mine, setting, self.kept) for kind, mine in table.items()]
        initial = tuple(rule.initial for rule in self.rules) if self.kept else ()
        rest = self.signal.at_rest(net.batch_size)
        self.initial = OnlineCarry(template(self.net.initial), initial, rest)

    def check_loss(self, batch: Any) -> None:
        """Refuse a loss that would be followed in part; see :func:`past_states.check_loss`."""
        if not self.window:
            past_states.check_loss(self.graph, self.objective, batch)

    def has_kernels(self) -> bool:
        traced = {r for rule in self.rules for r in rule.traced}
        return any(self.graph.relations[r].dense for r in traced) or super().has_kernels()

    @property
    def trace_bytes(self) -> int:
        """Bytes of all traces of parameters."""
        return sum(rule.trace_bytes for rule in self.rules)

    def parameters(self) -> Params:
        return self.signal.parameters()

    def segment(
        self, params: Params, carry: Any, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        assert isinstance(carry, OnlineCarry)
        net, states, kept = carry
        if states is None:
            raise ValueError(
                "this learner was built for whole sequences (update_every 0): its carry has lost "
                "the traces and cannot be continued"
            )
        fixed = jax.lax.stop_gradient(params)
        frame = make_frame(self.graph, fixed, length)
        h = jax.tree.leaves(net)
        own = {name: jnp.zeros_like(v) for name, v in self.parameters().items()}
        sums = (*self.zero_sums(frame, h, stream, batch), own)

        def advance(state: Any, first: Any, k: Any, role: Any) -> Any:
            h, states, kept, sums = state
            ts = first + jnp.arange(k)
            h, steps = derivatives.forward(frame, h, read_window(stream, first, k), ts, keep=True)
            chunk = Chunk(frame, steps, batch, fixed, self.signal, role, self.window)
            states, new = self._learn(chunk, states)
            gradients, metrics, own = sums
            gradients = {r: g + new[r] if r in new else g for r, g in gradients.items()}
            if own:  # what the signal keeps goes on through steps without loss
                found, kept = self.signal.learn(chunk.found.kept, chunk.kappa, kept)
                own = add(own, found)
            return h, states, kept, (gradients, add(metrics, chunk.metrics), own)

        state = (h, states if self.kept else tuple(None for _ in self.rules), kept, sums)
        prefix = unscored_prefix(self.objective, start, length)
        for first, count, k, role in self.plan(prefix, length):
            at = start + first
            if count == 1:
                state = advance(state, at, k, role)
                continue

            def body(state: Any, first: Any, k: Any = k, role: Any = role) -> Any:
                return advance(state, first, k, role), None

            state, _ = jax.lax.scan(body, state, at + k * jnp.arange(count))
        h, states, kept, (found, metrics, own) = state
        end = OnlineCarry(self.net_carry(h), states if self.kept else None, kept)
        return Segment(end, {**self.gradients(params, found), **own}, metrics)

    def _learn(self, chunk: Chunk, states: tuple[Any, ...]) -> tuple[tuple[Any, ...], ByRelation]:
        """What rules remember after a chunk, and its gradient by relation."""
        y_bar: ByRelation = {}
        before: ByRelation = {}
        after = []
        for rule, state in zip(self.rules, states, strict=True):
            learned = rule.chunk(chunk, state)
            y_bar |= learned.y_bar
            before |= learned.before
            after.append(sharding.columns(learned.state))
        return tuple(after), plus(within_chunk(chunk.frame, chunk.steps.inputs, y_bar), before)

    def plan(self, prefix: int, length: int) -> list[Chunks]:
        """A segment's chunks: of its steps without loss, then of those with one.

        Chunks are equal parts, of whole windows where there are windows: a gradient depends on
        where these begin, so they stay where they are, and a shorter one at the end is a chunk of
        its own. Where traces live in a segment only, the first chunk finds none, and the last
        leaves none.
        """
        window = max(1, min(self.window, length))
        size = max(window, self.longest(length) // window * window)
        if not self.kept and length <= size and length % window == 0:
            return [Chunks(0, 1, length, Role(reads=False, writes=False))]
        prefix -= prefix % window
        found: list[Chunks] = []
        for first, span, learns in ((0, prefix, False), (prefix, length - prefix, True)):
            whole, short = divmod(span, window)
            if whole:
                k = window * equal_parts(whole, min(size // window, whole))
                n_full, rest = divmod(window * whole, k)
                found.append(Chunks(first, n_full, k, Role(learns)))
                if rest:
                    found.append(Chunks(first + n_full * k, 1, rest, Role(learns)))
            if short:
                found.append(Chunks(first + window * whole, 1, short, Role(learns)))
        if not self.kept:
            found = [*_split(found[0], 1), *found[1:]]
            found = [*found[:-1], *_split(found[-1], found[-1].number - 1)]
            found[0] = found[0]._replace(role=found[0].role._replace(reads=False))
            found[-1] = found[-1]._replace(role=found[-1].role._replace(writes=False))
        return found


def _split(chunks: Chunks, at: int) -> list[Chunks]:
    """The first ``at`` chunks, and the others."""
    behind = chunks.first + at * chunks.size
    parts = (
        chunks._replace(number=at),
        chunks._replace(first=behind, number=chunks.number - at),
    )
    return [part for part in parts if part.number]
