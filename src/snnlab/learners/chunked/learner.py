"""``--backend snnlab``: D-RTRL and ES-D-RTRL in chunks of steps.

See :mod:`snnlab.learners.chunked.rules` for the algebra and
:mod:`snnlab.learners.chunked.graph` for what a network must be like (it is checked).

Source of the rules: Wang et al., "Model-agnostic linear-memory online learning in spiking neural
networks", Nature Communications 17:1745 (2026), doi 10.1038/s41467-026-68453-w.
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Learner, Objective, Segment, Stream, add, template
from snnlab.learners.chunked import derivatives, rules
from snnlab.learners.chunked.derivatives import Steps
from snnlab.learners.chunked.evaluate import Arrays, ByPiece, Frame, make_frame, weights
from snnlab.learners.chunked.graph import StepGraph
from snnlab.learners.functional import Carry, Params, PureNetwork
from snnlab.models.base import Network

#: What a chunk adds to: gradients by piece, and metrics.
Sums = tuple[ByPiece, Any]


def read_window(stream: Stream, start: Any, length: int) -> jax.Array:
    """Steps ``start .. start + length - 1`` of a stream, ``(length, B, n_in)``."""
    window = getattr(stream, "window", None)
    if window is not None:
        return window(start, length)
    return jax.lax.map(stream.at, start + jnp.arange(length))


def equal_parts(length: int, size: int) -> int:
    """Steps of a part when ``length`` is divided evenly into parts of at most ``size``."""
    return -(-length // -(-length // size))


class ChunkedLearner(Learner):
    """What the chunked rules share: the cut network, and sums over chunks.

    Args:
        network: any :class:`Network` whose trainables are maps, built with the plain operator.
        batch_size: B.
        objective: loss of a step.
        chunk_size: steps of a chunk at most (the gradient of ``D-RTRL`` and ``ES-D-RTRL`` does
            not depend on it).
        windowed: whether chunks are windows of backpropagation.

    Raises:
        UsageError: the network is outside of what the rule can do.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        objective: Objective,
        chunk_size: int,
        windowed: bool = False,
    ) -> None:
        self.net = PureNetwork(network, batch_size)
        self.objective = objective
        self.chunk_size = chunk_size
        self.windowed = windowed
        self.graph = StepGraph(self.net, windowed)
        self.initial = {"net": template(self.net.initial)}

    # -- from parameters to maps and back

    def _gradients(self, params: Params, found: ByPiece) -> Params:
        """Gradients of the parameters from those of the rows of the maps."""
        _, pull = jax.vjp(lambda p: weights(self.graph, p), params)
        rows = [
            [found[r, k] for k in range(len(cut.pieces))]
            for r, cut in enumerate(self.graph.cuts) if cut.trained
        ]  # fmt: skip
        (gradients,) = pull([jnp.concatenate(r) if len(r) > 1 else r[0] for r in rows])
        return gradients

    def _zero_sums(self, frame: Frame, h: Arrays, stream: Stream, batch: Any) -> Sums:
        def one():
            xs = read_window(stream, 0, 1)
            _, steps = derivatives.forward(frame, h, xs, jnp.arange(1))
            return derivatives.observe(frame, steps, self.objective, batch)[1]

        metrics = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one))
        gradients = {(r, k): jnp.zeros_like(frame.blocks[r][k])
                     for r, k in self.graph.trained_pieces()}  # fmt: skip
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
        frame = make_frame(self.graph, jax.lax.stop_gradient(params))
        h = self._leaves(carry["net"])
        sums = self._zero_sums(frame, h, stream, batch)
        size = min(self.chunk_size, length)
        if not self.windowed:  # the gradient does not depend on it: equal chunks
            size = equal_parts(length, size)
        n_full, rest = divmod(length, size)

        def advance(state, first, k, role):
            h, traces, (gradients, metrics) = state
            ts = first + jnp.arange(k)
            h, steps = derivatives.forward(frame, h, read_window(stream, first, k), ts)
            traces, new, measured = self.chunk(frame, steps, traces, batch, *role)
            gradients = {key: gradients[key] + new[key] for key in gradients}
            return h, traces, (gradients, add(metrics, measured))

        state = (h, self.traces_of(carry), sums)
        for first, count, k, role in self.plan(n_full, size, rest):
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

    def plan(self, n_full: int, size: int, rest: int) -> list[tuple[int, int, int, tuple]]:
        """Runs of equal chunks as (first step, chunks, steps of each, role)."""
        runs: list[tuple[int, int, int, tuple]] = [(0, n_full, size, ())]
        return runs + [(n_full * size, 1, rest, ())] * bool(rest)

    @abc.abstractmethod
    def traces_of(self, carry: Carry) -> Any:
        """The traces as :meth:`chunk` takes them."""

    @abc.abstractmethod
    def carry_of(self, net: Any, traces: Any) -> Carry: ...

    @abc.abstractmethod
    def chunk(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, *role: Any
    ) -> tuple[Any, ByPiece, Any]:
        """Traces after a chunk, its gradient by piece, its metrics."""


class ChunkedDRTRL(Traced):
    """D-RTRL; with ``windowed``, backpropagation inside a chunk and the trace for what was before.

    Without ``windowed`` the gradient is that of step-by-step D-RTRL, up to rounding, whatever the
    chunks: the trace is read and written once per chunk instead of once per step.

    Args:
        resumed: whether segments are continued (``update_every``). If not, traces live between
            the chunks of a segment only, and a segment of one chunk has none.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        objective: Objective,
        chunk_size: int,
        *,
        windowed: bool = False,
        resumed: bool = False,
    ) -> None:
        super().__init__(network, batch_size, objective, chunk_size, windowed)
        self.resumed = resumed
        self.graph.check_elementwise()
        if resumed:
            self.initial["traces"] = {
                self._name(key): jax.ShapeDtypeStruct(shape, jnp.float32)
                for key, shape in self.trace_shapes().items()
            }

    def trace_shapes(self) -> dict[rules.TraceKey, tuple[int, ...]]:
        """``(B, i, n)`` of every trace."""
        graph = self.graph
        return {
            key: (
                self.net.batch_size, rules.n_rows(graph, key),
                graph.cuts[key[0]].y.aval.shape[1],
            )
            for key in rules.trace_keys(graph)
        }  # fmt: skip

    def _name(self, key: rules.TraceKey) -> str:
        r, k, start, b = key
        cut = self.graph.cuts[r]
        first = cut.pieces[k].start + start
        return f"{r}:{'+'.join(cut.trained)}[{first}]->{self.graph.states[b]}#{b}"

    def traces_of(self, carry: Carry) -> Any:
        if not self.resumed:
            return None
        return {key: carry["traces"][self._name(key)] for key in self.trace_shapes()}

    def carry_of(self, net: Any, traces: Any) -> Carry:
        if not self.resumed:
            return {"net": net, "spent": ()}
        return {"net": net, "traces": {self._name(key): e for key, e in traces.items()}}

    def plan(self, n_full: int, size: int, rest: int) -> list[tuple[int, int, int, tuple]]:
        if self.resumed:
            return [(f, c, k, (True, True)) for f, c, k, _ in super().plan(n_full, size, rest)]
        if n_full == 1 and not rest:
            return [(0, 1, size, (False, False))]
        runs = [(0, 1, size, (False, True))]
        middle = n_full - 1 if rest else n_full - 2
        if middle:
            runs.append((size, middle, size, (True, True)))
        last = size * (middle + 1)
        return [*runs, (last, 1, rest or size, (True, False))]

    def chunk(
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, *role: Any
    ) -> tuple[Any, ByPiece, Any]:
        reads, writes = role
        graph = self.graph
        big_d: derivatives.Blocks = {}
        f: derivatives.Blocks = {}
        if self.windowed:
            pieces, metrics = derivatives.observe(frame, steps, self.objective, batch)
            nothing = [jnp.zeros_like(h[0]) for h in derivatives.floats(graph, steps.h)]
            h_bar, y_bar = derivatives.adjoint(frame, steps, self.objective, batch, nothing)
            by_leaf = dict(zip(graph.float_states, h_bar, strict=True))
            c = {b: by_leaf[b] for b in graph.trace_states}
        else:
            big_d, f = derivatives.jacobians(frame, steps)
            found = derivatives.signal(frame, steps, self.objective, batch)
            pieces, metrics = found.pieces, found.metrics
            c, y_bar = rules.backward(graph, found.d, big_d, f)
            for r, direct in found.taps.items():
                y_bar[r] = y_bar[r] + direct if r in y_bar else direct
        gradients = rules.within_chunk(pieces, y_bar)
        entering = None
        if writes:
            if not big_d:
                big_d, f = derivatives.jacobians(frame, steps)
            entering = rules.propagators(graph, big_d, f)
        if reads:
            traces, before = rules.pass_over_traces(graph, traces, c, entering, pieces)
            for key, part in before.items():
                gradients[key] = gradients[key] + part
        elif entering is not None:
            traces = rules.first_traces(graph, entering[1], pieces)
        return traces, gradients, metrics


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
        chunk_size: int,
        decay: float,
        *,
        windowed: bool = False,
    ) -> None:
        super().__init__(network, batch_size, objective, chunk_size, windowed)
        self.decay = decay
        self.graph.check_elementwise()
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
        self, frame: Frame, steps: Steps, traces: Any, batch: Any, *role: Any
    ) -> tuple[Any, ByPiece, Any]:
        graph, decay = self.graph, self.decay
        x_bar, f_bar, count = traces
        length = steps.ts.shape[0]
        big_d, f = derivatives.jacobians(frame, steps)
        new_f_bar, f_bars = rules.smooth_outputs(graph, big_d, f, f_bar, decay)
        if self.windowed:
            pieces, metrics = derivatives.observe(frame, steps, self.objective, batch)
            nothing = [jnp.zeros_like(h[0]) for h in derivatives.floats(graph, steps.h)]
            h_bar, y_bar = derivatives.adjoint(frame, steps, self.objective, batch, nothing)
            gradients = rules.within_chunk(pieces, y_bar)
            c = dict(zip(graph.float_states, h_bar, strict=True))
            warm = rules.warm_up(decay, jnp.maximum(count - 1, 0), 1)[0]
            before = rules.through_maps(graph, f_bar, c)
            before = {r: value / warm for r, value in before.items()}
        else:
            found = derivatives.signal(frame, steps, self.objective, batch)
            pieces, metrics = found.pieces, found.metrics
            warm = rules.warm_up(decay, count, length)[:, None, None]
            g = rules.through_maps(graph, f_bars, found.d)
            before, smooth = rules.smooth_signal({r: v / warm for r, v in g.items()}, decay)
            gradients = rules.within_chunk(pieces, smooth)
            for key, part in rules.within_chunk(pieces, found.taps).items():
                gradients[key] = gradients[key] + part if key in gradients else part
        for (r, k), old in x_bar.items():
            gradients[r, k] = gradients[r, k] + old.T @ before[r]
        new_x_bar = rules.smooth_inputs(x_bar, pieces, decay)
        return (new_x_bar, new_f_bar, count + length), gradients, metrics
