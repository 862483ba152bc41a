"""``--backend snnlab``: D-RTRL and ES-D-RTRL in chunks of steps.

See :mod:`snnlab.learners.stores.traces` for the algebra and
:mod:`snnlab.learners.graph.step` and :mod:`snnlab.learners.graph.locality` for what a
network must be like (it is checked).

Source of the rules: Wang et al., "Model-agnostic linear-memory online learning in spiking neural
networks", Nature Communications 17:1745 (2026), doi 10.1038/s41467-026-68453-w.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.learners.base import (
    Learner,
    Objective,
    Segment,
    Stream,
    add,
    quiet_steps,
    template,
)
from snnlab.learners.config import Precision
from snnlab.learners.functional import Carry, Params, PureNetwork
from snnlab.learners.graph import derivatives, locality
from snnlab.learners.graph.derivatives import Steps
from snnlab.learners.graph.evaluate import Arrays, ByPiece, Frame, make_frame, weights
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import products
from snnlab.learners.stores import deferred
from snnlab.learners.stores import traces as rules
from snnlab.learners.stores.kernels.support import on_one_cpu
from snnlab.learners.tuning import current
from snnlab.models.base import Network

ChunkSize = int | Callable[[int], int]
#: What a chunk adds to: gradients by cut, and metrics.
Sums = tuple[rules.ByCut, Any]


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


def read_window(stream: Stream, start: Any, length: int) -> products.Input:
    """Steps ``start .. start + length - 1`` of a stream, ``(length, B, n_in)``."""
    window = getattr(stream, "window", None)
    if window is None:
        return jax.lax.map(stream.at, start + jnp.arange(length))
    dense = window(start, length)
    listed = getattr(stream, "events", False) and dense[0].size >= current().least_events
    if listed and on_one_cpu():
        cell, bounds = stream.packed(start, length)  # type: ignore[attr-defined]
        return products.Events(dense, cell, bounds, stream.binary)  # type: ignore[attr-defined]
    return dense


def equal_parts(length: int, size: int) -> int:
    """Steps of a part when ``length`` is divided evenly into parts of at most ``size``."""
    return -(-length // -(-length // size))


class ChunkedLearner(Learner):
    """What the chunked rules share: the cut network, and sums over chunks.

    Args:
        network: any :class:`Network` whose trainables are maps, built with the plain operator.
        batch_size: B.
        objective: loss of a step.
        chunk_size: steps of a chunk at most, or the function that says so for a segment's length
            (the gradient of ``D-RTRL`` and ``ES-D-RTRL`` does not depend on it).
        windowed: whether chunks are windows of backpropagation.
        precision: of products and traces; see :class:`~snnlab.learners.config.LearnerConfig`.

    Raises:
        UsageError: the network is outside of what the rule can do.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        objective: Objective,
        chunk_size: ChunkSize,
        windowed: bool = False,
        precision: Precision = "float32",
    ) -> None:
        self.net = PureNetwork(network, batch_size, training=True)
        self.objective = objective
        self.chunk_size = chunk_size
        self.windowed = windowed
        self.graph = StepGraph(self.net, windowed, precision)
        if precision != "float32" and any(cut.post is not None for cut in self.graph.cuts):
            raise UsageError(
                f"--precision {precision}: sparse maps (--connectivity below 1) are float32"
            )
        self.initial = {"net": template(self.net.initial)}

    def longest(self, length: int) -> int:
        """Steps of a chunk at most, in a segment of ``length`` steps."""
        size = self.chunk_size(length) if callable(self.chunk_size) else self.chunk_size
        return min(size, length)

    # -- from parameters to maps and back

    def _gradients(self, params: Params, found: rules.ByCut) -> Params:
        """Gradients of the parameters from those of the maps."""
        _, pull = jax.vjp(lambda p: weights(self.graph, p), params)
        (gradients,) = pull([found[r] for r, cut in enumerate(self.graph.cuts) if cut.trained])
        return gradients

    def _zero_sums(self, frame: Frame, h: Arrays, stream: Stream, batch: Any) -> Sums:
        def one():
            xs = read_window(stream, 0, 1)
            _, steps = derivatives.forward(frame, h, xs, jnp.arange(1))
            return derivatives.observe(frame, steps, self.objective, batch)[1]

        metrics = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one))
        gradients = {r: jnp.zeros(cut.w.aval.shape, jnp.float32)
                     for r, cut in enumerate(self.graph.cuts) if cut.trained}  # fmt: skip
        return gradients, metrics

    def _leaves(self, carry: Any) -> Arrays:
        return jax.tree.leaves(carry)

    def _net_carry(self, h: Arrays) -> Any:
        return jax.tree.unflatten(self.graph.carry_tree, h)


class Traced(ChunkedLearner, abc.ABC):
    """An online rule: advances chunk by chunk with a state of traces."""

    def segment(
        self, params: Params, carry: Carry, stream: Stream, batch: Any, start: Any, length: int
    ) -> Segment:
        if "spent" in carry:
            raise ValueError(
                "this learner was built for whole sequences (update_every 0): its carry has lost "
                "the traces and cannot be continued"
            )
        frame = make_frame(self.graph, jax.lax.stop_gradient(params), length)
        h = self._leaves(carry["net"])
        sums = self._zero_sums(frame, h, stream, batch)

        def advance(state, first, k, role):
            h, traces, (gradients, metrics) = state
            ts = first + jnp.arange(k)
            h, steps = derivatives.forward(frame, h, read_window(stream, first, k), ts, keep=True)
            traces, new, measured = self.chunk(frame, steps, traces, batch, role)
            gradients = {k: g + new[k] if k in new else g for k, g in gradients.items()}
            return h, traces, (gradients, add(metrics, measured))

        state = (h, self.traces_of(carry), sums)
        for first, count, k, role in self.plan(quiet_steps(self.objective, start, length), length):
            at = start + first
            if count == 1:
                state = advance(state, at, k, role)
                continue

            def body(state, first, k=k, role=role):
                return advance(state, first, k, role), None

            state, _ = jax.lax.scan(body, state, at + k * jnp.arange(count))
        h, traces, (found, metrics) = state
        end = self.carry_of(self._net_carry(h), traces)
        return Segment(end, self._gradients(params, found), metrics)

    def plan(self, quiet: int, length: int) -> list[Chunks]:
        """A segment's chunks: of its steps without loss, then of those with one.

        A windowed rule's gradient depends on where windows begin, so they stay where they are.
        Otherwise chunks are equal parts.
        """
        size = self.longest(length)
        if self.windowed:
            quiet -= quiet % size
        found = []
        for first, span, learns in ((0, quiet, False), (quiet, length - quiet, True)):
            if not span:
                continue
            k = min(size, span) if self.windowed else equal_parts(span, min(size, span))
            n_full, rest = divmod(span, k)
            found.append(Chunks(first, n_full, k, Role(learns)))
            if rest:
                found.append(Chunks(first + n_full * k, 1, rest, Role(learns)))
        return found

    @abc.abstractmethod
    def traces_of(self, carry: Carry) -> Any:
        """The traces as :meth:`chunk` takes them."""

    @abc.abstractmethod
    def carry_of(self, net: Any, traces: Any) -> Carry: ...

    @abc.abstractmethod
    def chunk(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, role: Role
    ) -> tuple[Any, rules.ByCut, Any]:
        """Traces after a chunk, its gradient by cut (none without loss), its metrics."""


class ChunkedDRTRL(Traced):
    """D-RTRL; with ``windowed``, backpropagation inside a chunk and the trace for what was before.

    Without ``windowed`` the gradient is that of step-by-step D-RTRL, up to rounding, whatever the
    chunks: the trace is read and written once per chunk instead of once per step.

    Args:
        resumed: whether segments are continued (``update_every``). If not, traces live between
            the chunks of a segment only, and a segment of one chunk has none.
        single: whether every segment is one step (``update_every`` 1): large traces are then not
            written at every step (:mod:`snnlab.learners.stores.deferred`).
        only: names of the parameters whose gradient is wanted; ``None`` for all. The others
            have no traces, and their gradient is not to be used.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        objective: Objective,
        chunk_size: ChunkSize,
        *,
        windowed: bool = False,
        resumed: bool = False,
        single: bool = False,
        only: Set[str] | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(network, batch_size, objective, chunk_size, windowed, precision)
        self.resumed = resumed
        locality.check(self.graph)
        if not windowed:
            locality.check_loss(self.graph, objective)
        self.traced = rules.trace_keys(self.graph, only)
        #: Cuts whose traces are not written at every step.
        self.deferred: list[int] = []
        if resumed:
            shapes = {
                key: jax.ShapeDtypeStruct(shape, self.graph.dtype)
                for key, shape in self.trace_shapes().items()
            }
            self.initial["traces"] = {self._name(key): e for key, e in shapes.items()}
            if single and not windowed:
                self.deferred = rules.cuts_of_kernel(self.graph, shapes)
        if self.deferred:
            self.initial["waiting"] = deferred.nothing(self.graph, self.deferred)

    def trace_shapes(self) -> dict[rules.TraceKey, tuple[int, ...]]:
        """``(B, i, n)`` of every trace; ``(B, i, k)`` of a sparse map."""
        batch, cuts = self.net.batch_size, self.graph.cuts
        return {
            (r, k, b): (batch, cuts[r].pieces[k].size, cuts[r].w.aval.shape[1])
            for r, k, b in self.traced
        }

    @property
    def trace_bytes(self) -> int:
        """Bytes of all traces."""
        return self.graph.dtype.itemsize * sum(map(math.prod, self.trace_shapes().values()))

    def _name(self, key: rules.TraceKey) -> str:
        r, k, b = key
        cut = self.graph.cuts[r]
        first = cut.pieces[k].start
        return f"{r}:{'+'.join(cut.trained)}[{first}]->{self.graph.states[b]}#{b}"

    def traces_of(self, carry: Carry) -> Any:
        if not self.resumed:
            return None
        traces = {key: carry["traces"][self._name(key)] for key in self.trace_shapes()}
        return (traces, carry["waiting"]) if self.deferred else traces

    def carry_of(self, net: Any, traces: Any) -> Carry:
        if not self.resumed:
            return {"net": net, "spent": ()}
        own, waiting = traces if self.deferred else (traces, None)
        carry = {"net": net, "traces": {self._name(key): e for key, e in own.items()}}
        return carry | ({"waiting": waiting} if self.deferred else {})

    def plan(self, quiet: int, length: int) -> list[Chunks]:
        if self.resumed:
            return super().plan(quiet, length)
        if length <= self.longest(length):
            return [Chunks(0, 1, length, Role(reads=False, writes=False))]
        found = super().plan(quiet, length)
        found = [*_split(found[0], 1), *found[1:]]
        found = [*found[:-1], *_split(found[-1], found[-1].number - 1)]
        found[0] = found[0]._replace(role=found[0].role._replace(reads=False))
        found[-1] = found[-1]._replace(role=found[-1].role._replace(writes=False))
        return found

    def chunk(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, role: Role
    ) -> tuple[Any, rules.ByCut, Any]:
        graph = self.graph
        if self.deferred:
            return self._deferred_step(frame, steps, traces, batch)
        big_d: derivatives.Blocks = {}
        f: derivatives.Blocks = {}
        c: rules.ByState | None = None
        y_bar: rules.ByCut = {}
        pieces, length = steps.pieces, steps.ts.shape[0]
        if not role.learns or self.windowed:
            _, metrics = derivatives.observe(frame, steps, self.objective, batch)
        if role.learns and self.windowed:
            nothing = [
                jnp.zeros_like(h[0], jnp.float32) for h in derivatives.floats(graph, steps.h)
            ]
            h_bar, y_bar = derivatives.adjoint(frame, steps, self.objective, batch, nothing)
            by_leaf = dict(zip(graph.float_states, h_bar, strict=True))
            c = {b: by_leaf[b] for b in graph.trace_states}
        elif role.learns:
            big_d, f = derivatives.jacobians(frame, steps)
            found = derivatives.signal(frame, steps, self.objective, batch)
            metrics = found.metrics
            c, y_bar = rules.backward(graph, found.d, big_d, f)
            y_bar = rules.plus(y_bar, found.taps)
        within: rules.ByCut = {}
        if role.reads and role.writes and length <= current().few_steps:
            within = {r: y_bar.pop(r) for r in rules.cuts_of_kernel(graph, traces) if r in y_bar}
        gradients = rules.join(graph, rules.within_chunk(frame, pieces, y_bar))
        entering = None
        if role.writes:
            if not big_d:
                big_d, f = derivatives.jacobians(frame, steps)
            entering = rules.propagators(graph, length, big_d, f)
        if role.reads:
            traces, before = rules.pass_over_traces(graph, traces, c, entering, pieces, within)
            gradients = rules.plus(gradients, before)
        elif entering is not None:
            traces = rules.first_traces(graph, self.traced, entering[1], pieces)
        return traces, gradients, metrics

    def _deferred_step(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any
    ) -> tuple[Any, rules.ByCut, Any]:
        """A chunk that is one step; see :mod:`snnlab.learners.stores.deferred`."""
        graph = self.graph
        traces, waiting = traces
        big_d, f = derivatives.jacobians(frame, steps)
        found = derivatives.signal(frame, steps, self.objective, batch)
        large = {key: e for key, e in traces.items() if key[0] in self.deferred}
        large, waiting, gradients = deferred.step(
            graph, large, waiting, steps.pieces, found.d, big_d, f
        )
        others = {key: e for key, e in traces.items() if key not in large}
        c, y_bar = rules.backward(graph, found.d, big_d, f)
        y_bar = {r: g for r, g in y_bar.items() if r not in self.deferred}
        y_bar = rules.plus(y_bar, found.taps)
        entering = rules.propagators(graph, 1, big_d, f)
        others, before = rules.pass_over_traces(graph, others, c, entering, steps.pieces, {})
        within = rules.join(graph, rules.within_chunk(frame, steps.pieces, y_bar))
        gradients = rules.plus(rules.plus(gradients, within), before)
        return ({**large, **others}, waiting), gradients, found.metrics


def _split(chunks: Chunks, at: int) -> list[Chunks]:
    """The first ``at`` chunks, and the others."""
    behind = chunks.first + at * chunks.size
    parts = (
        chunks._replace(number=at),
        chunks._replace(first=behind, number=chunks.number - at),
    )
    return [part for part in parts if part.number]


class ChunkedESDRTRL(Traced):
    """ES-D-RTRL (braintrace's pp-prop), one product per chunk instead of one per step.

    Args:
        decay: of both smoothed vectors, in [0, 1).
        windowed: backpropagation inside a chunk, the smoothed vectors for what was before; the
            warm-up correction counts steps.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        objective: Objective,
        chunk_size: ChunkSize,
        decay: float,
        *,
        windowed: bool = False,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(network, batch_size, objective, chunk_size, windowed, precision)
        self.decay = decay
        locality.check(self.graph)
        if not windowed:
            locality.check_loss(self.graph, objective)
        traced = [(r, k) for r, k in self.graph.trained_pieces() if self.graph.cuts[r].reach]
        batch = self.net.batch_size
        cuts = self.graph.cuts
        self._inputs = {f"{r}.{k}": ((r, k), (batch, cuts[r].pieces[k].size)) for r, k in traced}
        self._outputs = {
            f"{r}->{self.graph.states[b]}#{b}": ((b, r), cuts[r].y.aval.shape)
            for r in sorted({r for r, _ in traced}) for b in cuts[r].reach
        }  # fmt: skip

        def empty(table: dict) -> dict:
            return {
                name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, (_, shape) in table.items()
            }

        self.initial["x_bar"] = empty(self._inputs)
        self.initial["f_bar"] = empty(self._outputs)
        self.initial["steps"] = jax.ShapeDtypeStruct((), jnp.int32)

    def traces_of(self, carry: Carry) -> Any:
        x_bar = {key: carry["x_bar"][name] for name, (key, _) in self._inputs.items()}
        f_bar = {key: carry["f_bar"][name] for name, (key, _) in self._outputs.items()}
        return x_bar, f_bar, carry["steps"]

    def carry_of(self, net: Any, traces: Any) -> Carry:
        x_bar, f_bar, steps = traces
        return {
            "net": net,
            "x_bar": {name: x_bar[key] for name, (key, _) in self._inputs.items()},
            "f_bar": {name: f_bar[key] for name, (key, _) in self._outputs.items()},
            "steps": steps,
        }

    def chunk(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, role: Role
    ) -> tuple[Any, rules.ByCut, Any]:
        graph, decay = self.graph, self.decay
        x_bar, f_bar, count = traces
        pieces, length = steps.pieces, steps.ts.shape[0]
        big_d, f = derivatives.jacobians(frame, steps)
        new_f_bar, f_bars = rules.smooth_outputs(graph, length, big_d, f, f_bar, decay)
        gradients: ByPiece = {}
        before: rules.ByCut = {}
        if not role.learns or self.windowed:
            _, metrics = derivatives.observe(frame, steps, self.objective, batch)
        if role.learns and self.windowed:
            nothing = [
                jnp.zeros_like(h[0], jnp.float32) for h in derivatives.floats(graph, steps.h)
            ]
            h_bar, y_bar = derivatives.adjoint(frame, steps, self.objective, batch, nothing)
            gradients = rules.within_chunk(frame, pieces, y_bar)
            c = dict(zip(graph.float_states, h_bar, strict=True))
            warm = rules.warm_up(decay, jnp.maximum(count - 1, 0), 1)[0]
            before = rules.through_maps(graph, f_bar, c)
            before = {r: value / warm for r, value in before.items()}
        elif role.learns:
            found = derivatives.signal(frame, steps, self.objective, batch)
            metrics = found.metrics
            warm = rules.warm_up(decay, count, length)[:, None, None]
            g = rules.through_maps(graph, f_bars, found.d)
            before, smooth = rules.smooth_signal({r: v / warm for r, v in g.items()}, decay)
            gradients = rules.within_chunk(frame, pieces, rules.plus(smooth, found.taps))
        for (r, k), old in x_bar.items():
            if r in before:
                gradients[r, k] = gradients[r, k] + products.outer(old, before[r], graph.post(r, k))
        new_x_bar = rules.smooth_inputs(x_bar, pieces, decay)
        return (new_x_bar, new_f_bar, count + length), rules.join(graph, gradients), metrics
