"""``snnlab.learner``: a learning rule for any step that is a pure function.

A step is ``step(params, carry, x) -> (carry, output)`` of arrays, as in :func:`jax.lax.scan`: a
function of one's own, or the call of an equinox, flax or haiku module. What comes back are pure
functions, for a loop and an optimiser of one's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from snnlab import config as configs
from snnlab.config import section
from snnlab.data.stream import DenseStream
from snnlab.errors import UsageError, as_keywords
from snnlab.learners.chunks import OnlineLearner
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import Carry, Params, PureStep
from snnlab.learners.registry import Make, learner_of
from snnlab.models.base import StepOutput
from snnlab.options import Given

#: ``step(params, carry, x) -> (carry, output)``.
Step = Callable[[Any, Any, jax.Array], tuple[Any, Any]]
#: ``loss(output, target)``: a scalar, or ``(B,)``.
Loss = Callable[[Any, Any], jax.Array]
#: ``spikes(carry, output)``: those of a layer ``(B, n)``, or of each layer.
Spikes = Callable[[Any, Any], Any]

#: Segments may be of any length.
ANY = 2**31 - 1


@section("Learner", only={"update_every": {}})
class StepOptions(LearnerConfig):
    """Options of a rule for a step: no task has a say in them."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The section of the learner alone."""

    learner: StepOptions


class Trained(NamedTuple):
    """What is trained with ``feedback="adaptive"``.

    Attributes:
        params: of the step.
        feedback: from the output's error to each layer, ``(n, n_out)`` by name.
    """

    params: Any
    feedback: Params


class Tree:
    """Names for the leaves of a tree, as Python writes them: ``params['w']``.

    Args:
        name: of the tree.
        example: the tree.
        batch_size: B, if its leaves are those of a batch; otherwise they are parameters.

    Raises:
        UsageError: a leaf that is no array, or has another type or shape.
    """

    def __init__(self, name: str, example: Any, batch_size: int | None = None) -> None:
        pairs, self._tree = jax.tree_util.tree_flatten_with_path(example)
        self.name = name
        self.leaves: dict[str, jax.Array] = {}
        for path, leaf in pairs:
            at = name + jax.tree_util.keystr(path)
            try:
                value = jnp.asarray(leaf)
            except (TypeError, ValueError):
                raise UsageError(
                    f"{at} is {type(leaf).__name__}, needed: an array (of a module only its arrays "
                    "go into params and carry)"
                ) from None
            is_float = jnp.issubdtype(value.dtype, jnp.floating)
            if value.dtype != jnp.float32 and (is_float or batch_size is None):
                raise UsageError(f"{at} is {value.dtype}, needed: float32")
            if batch_size is not None and value.ndim and value.shape[0] != batch_size:
                raise UsageError(f"{at} has shape {value.shape}, needed: ({batch_size}, n)")
            self.leaves[at] = value

    def named(self, tree: Any) -> dict[str, Any]:
        """Name -> leaf.

        Raises:
            UsageError: a tree of another structure.
        """
        leaves, found = jax.tree.flatten(tree)
        if found != self._tree:  # type: ignore[operator]
            raise UsageError(
                f"{self.name} has another structure than the {self.name} that the learner was "
                "made with"
            )
        return dict(zip(self.leaves, leaves, strict=True))

    def tree(self, named: dict[str, Any]) -> Any:
        """The tree of these leaves."""
        return jax.tree.unflatten(self._tree, [named[name] for name in self.leaves])


class FunctionStep(PureStep):
    """A function of trees as a step of names.

    Args:
        fun: ``step(params, carry, x)``.
        params, carry: examples; ``carry`` is that of a batch at rest.
        n_in: inputs.
        spikes: see :func:`learner`.
    """

    def __init__(
        self, fun: Step, params: Tree, carry: Tree, n_in: int, batch_size: int,
        spikes: Spikes | None,
    ) -> None:  # fmt: skip
        self._fun, self._params, self._carry, self._spikes = fun, params, carry, spikes
        self.n_in, self.batch_size = n_in, batch_size
        self.initial = carry.leaves

    def params(self) -> Params:
        return self._params.leaves

    def of_size(self, batch_size: int) -> FunctionStep:
        """Of the first samples."""
        rows = {n: v[:batch_size] if v.ndim else v for n, v in self._carry.leaves.items()}
        carry = Tree("carry", self._carry.tree(rows), batch_size)
        return FunctionStep(self._fun, self._params, carry, self.n_in, batch_size, self._spikes)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, StepOutput]:
        new, out = self._fun(self._params.tree(params), self._carry.tree(carry), x)
        shown = () if self._spikes is None else self._spikes(new, out)
        spikes = tuple(shown) if isinstance(shown, tuple | list) else (shown,)
        after = self._carry.named(new)
        for name, value in after.items():
            old, now = carry[name], jnp.asarray(value)
            if (now.shape, now.dtype) != (old.shape, old.dtype):
                raise UsageError(
                    f"the step makes {name} {now.dtype} {now.shape} of {old.dtype} {old.shape}"
                )
        return after, StepOutput(out, spikes, ())


class FunctionLoss:
    """A loss of a step's output as an objective; a batch is the targets of a segment."""

    def __init__(self, loss: Loss, batch_size: int) -> None:
        self._loss, self._batch_size = loss, batch_size

    def example(self, batch_size: int) -> Any:
        return None

    def over_sequence(self, outs: StepOutput, batch: Any) -> jax.Array:
        return jnp.float32(0.0)

    def step(self, out: StepOutput, t: jax.Array, batch: Any) -> tuple[jax.Array, Any]:
        value = self._loss(out.readout, jax.tree.map(lambda a: jnp.asarray(a)[t], batch))
        if jnp.shape(value) not in ((), (self._batch_size,)):
            raise UsageError(
                f"loss has shape {jnp.shape(value)}, needed: a scalar, or ({self._batch_size},)"
            )
        mean = jnp.mean(value)
        return mean, jax.lax.stop_gradient(mean)


class PureLearner:
    """A learning rule for one step, batch size and loss; made by :func:`learner`.

    Its methods are pure, and meant to be called inside a compiled function.

    Attributes:
        params: what is to be trained, as it was given; with ``feedback="adaptive"`` a
            :class:`Trained` of it and of the feedback weights.
    """

    def __init__(
        self, config: LearnerConfig, net: FunctionStep, params: Tree, loss: Loss, seed: int,
        make: Make | None = None,
    ) -> None:  # fmt: skip
        self._net, self._step, self._update_every = net, params, config.update_every
        self._inner = learner_of(config, net, FunctionLoss(loss, net.batch_size), seed, make)
        own = self._inner.parameters()
        self._trained = Tree("params", Trained(params.tree(params.leaves), own)) if own else params
        self.params = self._trained.tree(self._trained.leaves)
        self._names = dict(zip(self._trained.leaves, [*params.leaves, *sorted(own)]))

    def init(self, key: jax.Array | None = None) -> Any:
        """What goes from segment to segment, at the start of a sequence: a pytree of arrays.

        Args:
            key: ``jax.random.key``, from which a rule that draws (uoro) does so.
        """
        return self._inner.fresh(None if key is None else jax.random.key_data(key))

    def value_and_grad(
        self, params: Any, carry: Any, xs: jax.Array, targets: Any = None
    ) -> tuple[jax.Array, Any, Any]:
        """Loss and gradient of a segment, the next T steps of a sequence.

        An endless stream is one segment after the other, each with the carry that the one before
        has returned; ``params`` may change in between. What an online rule needs does not grow
        with the stream.

        Args:
            params: of the structure of :attr:`params`.
            carry: of :meth:`init`, or of the segment before.
            xs: ``Float[Array, "T B n_in"]``.
            targets: pytree of arrays ``"T ..."``; ``loss`` is given those of a step.

        Returns:
            ``(loss, gradients, carry)``: the loss ``Float[Array, ""]`` summed over the steps, its
            gradients in the structure of ``params``, what goes into the next segment.

        Raises:
            UsageError: shapes that do not fit.
        """
        with as_keywords():
            shape, size = jnp.shape(xs), (self._net.batch_size, self._net.n_in)
            if len(shape) != 3 or shape[1:] != size or not shape[0]:
                raise UsageError(f"xs has shape {shape}, needed: (T, {size[0]}, {size[1]})")
            length = shape[0]
            if 0 < self._update_every < length:
                raise UsageError(
                    f"a segment of {length} steps, above --update_every {self._update_every}"
                )
            wrong = [s for a in jax.tree.leaves(targets) if (s := jnp.shape(a))[:1] != (length,)]
            if wrong:
                raise UsageError(f"targets have shape {wrong[0]}, needed: ({length}, ...)")
            if isinstance(self._inner, OnlineLearner):
                self._inner.check_loss(targets)
            given = self._trained.named(params)
            inner = {self._names[name]: value for name, value in given.items()}
            part = self._inner.segment(inner, carry, DenseStream(xs), targets, 0, length)
            found = {name: part.gradients[own] for name, own in self._names.items()}
            return part.metrics, self._trained.tree(found), part.carry


def learner(
    method: str | Make,
    step: Step,
    params: Any,
    *,
    carry: Any,
    n_in: int,
    loss: Loss,
    batch_size: int | None = None,
    spikes: Spikes | None = None,
    seed: int = 0,
    **options: Any,
) -> PureLearner:
    """A learning rule for a step that is a pure function.

    ``step`` is traced once. Parameters may be weights of maps ``x @ w``, and values of neurons that
    enter elementwise operations; carry leaves ``(B, n)`` are the states of neurons, which act on
    each other through maps only. An online rule proves that and refuses what it would not follow,
    with the parameter's name; ``bptt``, ``tbptt``, ``rtrl`` and ``uoro`` take anything. See
    docs/learners.md for rules, sources and memory, docs/library.md for examples.

    Args:
        method: a rule of docs/learners.md by its name or alias, such as ``"d-rtrl"``; or the
            function ``make(request) -> learner`` of a rule of one's own (see there), which has the
            options of ``"hybrid"``.
        step: ``step(params, carry, x) -> (carry, output)`` of one time step, with ``x``
            ``Float[Array, "B n_in"]``; the same carry structure before and after.
        params: pytree of float32 arrays (of an equinox module ``eqx.filter(module,
            eqx.is_array)``).
        carry: pytree of arrays ``"B n"``, the states of a batch at rest; or a function of the
            batch size that makes it.
        n_in: inputs.
        loss: ``loss(output, target)`` of a step: a scalar, or ``Float[Array, "B"]``, which is
            averaged. The gradient is that of its sum over steps.
        batch_size: B; that of ``carry`` if it is no function.
        spikes: ``spikes(carry, output)``, of the new carry: the spikes ``Float[Array, "B n"]`` of a
            layer, or a tuple of those of each layer, as the maps above take them. Needed by rules
            that tell spiking layers from the readout: eprop, rflo, decolle, ottt, otpe.
        seed: of what a rule draws (feedback weights).
        **options: of the rule, as of the command: ``chunk_size``, ``etrace_decay``, ``feedback``,
            ``vjp_method``, ``precision``, ``remat``, ...; ``update_every=k`` promises segments of
            at most k steps (1: each step by itself), ``update_every=0`` segments that are whole
            sequences, whose carry is not continued.

    Raises:
        UsageError: an option or a parameter that the rule cannot take.

    >>> import jax, jax.numpy as jnp, snnlab
    >>> def step(params, carry, x):
    ...     v = 0.9 * carry + x @ params["w"]
    ...     return v, v.sum(-1)
    >>> made = snnlab.learner("d-rtrl", step, {"w": jnp.ones((3, 4))}, carry=jnp.zeros((2, 4)),
    ...                       n_in=3, loss=lambda output, target: (output - target) ** 2)
    >>> xs, targets = jnp.ones((5, 2, 3)), jnp.zeros((5, 2))
    >>> loss, gradients, carry = jax.jit(made.value_and_grad)(made.params, made.init(), xs, targets)
    >>> gradients["w"].shape
    (3, 4)
    """
    with as_keywords():
        if (backend := options.get("backend")) in ("braintrace", "brainscale", "layerwise"):
            raise UsageError(f"backend {backend} needs a network; for a step: auto, snnlab, plain")
        given = Given()
        given.update({"method": "hybrid" if callable(method) else method, **options})
        config = configs.build(Options, {"update_every": ANY, **given}, given).learner
        states = carry
        if callable(carry):
            if batch_size is None:
                raise UsageError("batch_size is missing: carry is a function of it")
            states = carry(batch_size)
        shapes = [s for v in jax.tree.leaves(states) if (s := jnp.shape(v))]
        if batch_size is None:
            if not shapes:
                raise UsageError("batch_size is missing: carry has no axis of samples")
            batch_size = int(shapes[0][0])
        named = Tree("params", params)
        if not named.leaves:
            raise UsageError("params holds no array")
        net = FunctionStep(step, named, Tree("carry", states, batch_size), n_in, batch_size, spikes)
        make = method if callable(method) else None
        return PureLearner(config, net, named, loss, seed, make)
