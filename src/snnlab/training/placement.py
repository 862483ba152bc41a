"""Where a batch's samples are: on one device, or in equal parts (shards) on several.

With several devices a program is :func:`jax.shard_map` over one axis of a mesh, the batch. Each
device is given its own samples (of events its own list, cut on the host), carries their states and
traces inside the program, and adds its part to the gradient; behind that sum parameters, optimiser
and numbers are the same on all of them. :mod:`snnlab.sharding` has what is not of one sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnlab import sharding
from snnlab.errors import UsageError
from snnlab.learners import tuning
from snnlab.learners.chunks import OnlineLearner

#: The axis of a mesh of seeds.
SEEDS = "seeds"
#: The axis of a mesh of neurons.
NEURONS = "neurons"


class Placement:
    """Devices of a program, and what is placed on them.

    Args:
        devices: one for each shard, in the order of samples, those of other processes included;
            none or one: programs of the default device, without a mesh.

    Attributes:
        n: shards.
        local: devices of this process.
    """

    def __init__(self, devices: Sequence[jax.Device] = ()) -> None:
        self.n = max(1, len(devices))
        self.local = [d for d in devices if d.process_index == jax.process_index()]
        if self.n > 1:
            mesh = Mesh(np.array(devices), (sharding.AXIS,))
            self._mesh = mesh
            self._same = NamedSharding(mesh, PartitionSpec())
            self._split = NamedSharding(mesh, PartitionSpec(sharding.AXIS))

    def size(self, batch_size: int) -> int:
        """Samples of a shard.

        Raises:
            UsageError: the batch cannot be split evenly.
        """
        if batch_size == 1 and self.n > 1:
            raise UsageError(
                f"a batch of one sample cannot be split over {self.n} devices: use one"
            )
        if batch_size % self.n:
            raise UsageError(
                f"a batch of {batch_size} cannot be split evenly over {self.n} devices: choose a "
                f"--batch_size that {self.n} divides, or other --devices"
            )
        return batch_size // self.n

    def planned(self) -> contextlib.AbstractContextManager[None]:
        """Build the network and the learner of a shard in this block."""
        return sharding.planned(self.n)

    def check(self, learner: Any) -> None:
        """Refuse a learner that cannot be placed so.

        Raises:
            UsageError: what it is.
        """

    def same(self, tree: Any) -> Any:
        """A pytree of arrays, whole on every device."""
        if self.n == 1:
            return tree

        def place(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and leaf.sharding == self._same:
                return leaf
            parts = [jax.device_put(leaf, device) for device in self.local]
            return self._joined(jnp.shape(leaf), self._same, parts)

        return jax.tree.map(place, tree)

    def batch(self, *trees: Any) -> Any:
        """Streams and targets of this process's samples, an equal part of them on each device.

        Arrays get a leading axis of shards.
        """
        if self.n == 1:
            return trees
        return tuple(self._cut(tree.parts(len(self.local))) for tree in trees)

    def _cut(self, parts: Sequence[Any]) -> Any:
        def join(*leaves: Any) -> jax.Array:
            shape = self.n, *jnp.shape(leaves[0])
            rows = [jax.device_put(a[None], d) for a, d in zip(leaves, self.local, strict=True)]
            return self._joined(shape, self._split, rows)

        return jax.tree.map(join, *parts)

    @staticmethod
    def _joined(shape: Any, where: NamedSharding, parts: list[jax.Array]) -> jax.Array:
        return jax.make_array_from_single_device_arrays(shape, where, parts)

    def over(self, fun: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        """The program of all shards of ``fun(same, stream, targets)``; one result for all of them.

        ``targets.total`` is then the number of the batch's samples.
        """
        if self.n == 1:
            return fun

        def of_shard(same: Any, stream: Any, targets: Any) -> Any:
            stream, targets = jax.tree.map(lambda a: a[0], (stream, targets))
            with sharding.inside(self.n):
                total = sharding.total(targets.mask.sum())
                return fun(same, stream, targets._replace(total=total))

        same, split = PartitionSpec(), PartitionSpec(sharding.AXIS)
        # What each device computes of sums is the same, which the check cannot see.
        return jax.shard_map(
            of_shard, mesh=self._mesh, in_specs=(same, split, split), out_specs=same,
            check_vma=False,
        )  # fmt: skip


#: Of one device.
ALONE = Placement()


class Columns(Placement):
    """Whole batches; weights, optimiser and traces in equal parts of the neurons on each device.

    An array is split along its last axis, of the neurons that a map leads to, where the devices
    divide it. The rest of the program is divided by XLA after these, and computes the same: spikes
    are gathered for the maps that they enter, in every step; of traces nothing is exchanged.

    Args:
        devices: of this process.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        super().__init__(devices)
        self._mesh = Mesh(np.array(devices), (NEURONS,))
        self._same = NamedSharding(self._mesh, PartitionSpec())

    def size(self, batch_size: int) -> int:
        return batch_size

    def planned(self) -> contextlib.AbstractContextManager[None]:
        """Without kernels of ours, which XLA does not divide, unless they are asked for."""
        return tuning.planned_for(dataclasses.replace(tuning.current(), kernels=tuning.Kernels()))

    def check(self, learner: Any) -> None:
        """Refuse what would not be split.

        Raises:
            UsageError: a learner without traces of ours, sparse maps, kernels of ours, or a layer
                that the devices do not divide.
        """
        if not isinstance(learner, OnlineLearner):
            raise UsageError(
                "--shard neurons splits what online rules of --backend snnlab remember (diag, "
                "expsm_diag, ...); this learner needs --shard batch"
            )
        if any(one.is_map and not one.dense for one in learner.graph.relations):
            raise UsageError("--shard neurons: not with sparse maps (--connectivity below 1)")
        if learner.graph.kernels != tuning.Kernels():
            raise UsageError(
                "--shard neurons: XLA divides its own operations, and each device would need the "
                "traces of all for --kernels pallas; use --kernels xla"
            )
        sizes = [v.aval.shape[-1] for v in learner.graph.out.spikes]
        if any(n % self.n for n in sizes):
            raise UsageError(
                f"--shard neurons: layers of {', '.join(map(str, sizes))} neurons cannot be split "
                f"evenly over {self.n} devices"
            )

    def _where(self, leaf: Any) -> NamedSharding:
        shape = jnp.shape(leaf)
        if len(shape) < 2 or shape[-1] % self.n:
            return self._same
        return NamedSharding(self._mesh, PartitionSpec(*[None] * (len(shape) - 1), NEURONS))

    def same(self, tree: Any) -> Any:
        """Parameters and all that is of their shape, each device with its columns."""
        return jax.tree.map(lambda leaf: jax.device_put(leaf, self._where(leaf)), tree)

    def batch(self, *trees: Any) -> Any:
        return jax.device_put(trees, self._same)

    def over(self, fun: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def split(leaf: Any) -> Any:
            return jax.lax.with_sharding_constraint(leaf, self._where(leaf))

        def of_columns(same: Any, stream: Any, targets: Any) -> Any:
            with sharding.split_columns(split):
                return sharding.columns(fun(same, stream, targets))

        return of_columns


def on_one(tree: Any) -> Any:
    """A pytree of arrays, those that are on several devices on the first of this process alone."""

    def alone(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1:
            return leaf
        return leaf.addressable_data(0) if leaf.is_fully_replicated else np.asarray(leaf)

    return jax.tree.map(alone, tree)


class Spread:
    """Equal parts of a leading axis, of seeds, on several devices.

    Args:
        devices: of this process; as many are used as divide the axis.
        length: of the axis.

    Attributes:
        n: devices that are used.
    """

    def __init__(self, devices: Sequence[jax.Device], length: int) -> None:
        self.n = max(k for k in range(1, max(1, len(devices)) + 1) if length % k == 0)
        if self.n > 1:
            self._mesh = Mesh(np.array(devices[: self.n]), (SEEDS,))

    def place(self, tree: Any) -> Any:
        """Arrays with the leading axis, each part of it on its device."""
        if self.n == 1:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec(SEEDS)))

    def same(self, tree: Any) -> Any:
        """Arrays without the axis, whole on every device."""
        if self.n == 1:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def over(self, fun: Callable[..., Any], spread: tuple[Any, ...]) -> Callable[..., Any]:
        """``fun`` of a part of the axis as a program of all parts.

        Args:
            fun: its results have the leading axis.
            spread: for each argument whether it has the axis, or a tree of that.
        """
        if self.n == 1:
            return fun
        specs = jax.tree.map(lambda s: PartitionSpec(SEEDS) if s else PartitionSpec(), spread)
        return jax.shard_map(
            fun, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec(SEEDS), check_vma=False
        )
