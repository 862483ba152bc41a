"""Trainable maps ``y = x @ W``, in the form that each learner's library can trace.

braintrace recognises its own ``matmul`` primitive, brainscale a parameter that carries its
operator; BPTT needs neither. A network is therefore built for one *operator*; its parameters
have the same names, shapes and initial values for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import brainstate
import braintools
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.devices import require_memory
from snnlab.errors import UsageError
from snnlab.models.sparse import sparse_product

Operator = Literal["plain", "braintrace", "brainscale"]


def kaiming_normal(n_in: int, n_out: int, scale: float) -> jax.Array:
    """``(n_in, n_out)`` from N(0, scale / n_in) (He et al. 2015 for ``scale`` 2)."""
    require_memory(4.0 * n_in * n_out, f"a weight matrix of {n_in:,} x {n_out:,}")
    return braintools.init.KaimingNormal(scale=scale)((n_in, n_out))


def stacked(*blocks: jax.Array) -> jax.Array:
    """Blocks ``(n_i, n_out)`` as one weight, for the map of a concatenated input."""
    return jnp.concatenate(blocks, axis=0)


class DenseMap(brainstate.nn.Module):
    """``y = x @ W`` for ``x (B, n_in)``, ``W (n_in, n_out)``.

    With ``sign`` the effective weight is ``sign * |W|``, so that no update can change the sign
    of a synapse; with ``mask`` it is multiplied by ``mask``.

    Args:
        weight: initial ``W``.
        operator: which library must be able to trace the map.
        sign: ``(n_in,)`` of +1 and -1, or ``None`` for free weights.
        mask: ``(n_in, n_out)`` of 0 and 1, or ``None`` for all connections.
        transform: function of the resulting weight whose derivative is element-wise
            (quantisation), or ``None``.
        rounded: what becomes of W after every update (see :meth:`Network.kept`), or ``None``.
    """

    def __init__(
        self,
        weight: jax.Array,
        operator: Operator = "plain",
        sign: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        transform: Callable[[jax.Array], jax.Array] | None = None,
        rounded: Callable[[jax.Array], jax.Array] | None = None,
    ) -> None:
        super().__init__()
        self.rounded = rounded
        self.operator = operator
        self.in_size, self.out_size = (weight.shape[0],), (weight.shape[1],)
        factor = None
        if sign is not None:
            weight = jnp.abs(weight)
            factor = jnp.broadcast_to(jnp.asarray(sign, weight.dtype)[:, None], weight.shape)
        if mask is not None:
            kept = jnp.asarray(mask, weight.dtype)
            weight = weight * kept
            factor = kept if factor is None else factor * kept
        #: ``(n_in, n_out)`` constant that multiplies W (or |W|), or ``None``.
        self.factor = factor
        self.signed = sign is not None
        self.transform = transform
        self._weight_fn = self._make_weight_fn()
        value = {"weight": weight}
        if operator == "brainscale":
            import brainscale

            op = brainscale.MatMulOp(weight_fn=self._weight_fn or (lambda w: w))
            self.weight = brainscale.ETraceParam(value, op=op)
        else:
            self.weight = brainstate.ParamState(value)

    def _make_weight_fn(self) -> Callable[[jax.Array], jax.Array] | None:
        factor, signed, transform = self.factor, self.signed, self.transform
        if factor is None:
            return transform

        def weight_fn(w: jax.Array) -> jax.Array:
            effective = (jnp.abs(w) if signed else w) * factor
            return effective if transform is None else transform(effective)

        return weight_fn

    def effective_weight(self) -> jax.Array:
        """``(n_in, n_out)``: the weight that multiplies the input."""
        w = self.weight.value["weight"]
        return w if self._weight_fn is None else self._weight_fn(w)

    def update(self, x: jax.Array) -> jax.Array:
        if self.operator == "brainscale":
            return self.weight.execute(x)
        if self.operator == "braintrace":
            import braintrace

            w = self.weight.value["weight"]
            if self._weight_fn is None:
                return braintrace.matmul(x, w)
            return braintrace.matmul(x, w, weight_fn=self._weight_fn)
        return x @ self.effective_weight()


class SparseMap(DenseMap):
    """``y = x @ W`` of which only ``k`` connections from each input exist, and are stored.

    Args:
        weight: initial values ``(n_in, k)``.
        post: targets ``(n_in, k)`` of these connections, different ones in each row; fixed.
        n_out: outputs.
        operator, sign, transform: see :class:`DenseMap`.

    Raises:
        UsageError: an operator whose library keeps traces of whole weights.
    """

    def __init__(
        self,
        weight: jax.Array,
        post: np.ndarray,
        n_out: int,
        operator: Operator = "plain",
        sign: np.ndarray | None = None,
        transform: Callable[[jax.Array], jax.Array] | None = None,
    ) -> None:
        if operator != "plain":
            raise UsageError(
                f"--backend {operator} cannot train sparse maps (--connectivity below 1): its "
                "traces are those of dense weights; use --backend snnlab"
            )
        super().__init__(weight, operator, sign, transform=transform)
        self.out_size = (n_out,)
        self.post = jnp.asarray(post, jnp.uint32)

    def dense_weight(self) -> jax.Array:
        """``(n_in, n_out)``: the effective weight with its zeros; for small maps."""
        rows = jnp.arange(self.in_size[0])[:, None]
        empty = jnp.zeros((*self.in_size, *self.out_size), jnp.float32)
        return empty.at[rows, self.post].set(self.effective_weight())

    def update(self, x: jax.Array) -> jax.Array:
        w = self.effective_weight()
        return sparse_product(x, w, self.post, n_out=self.out_size[0])


class Held(brainstate.nn.Module):
    """An array that no gradient changes.

    With ``renewed`` it is a parameter all the same, so that a refit may replace it between
    epochs and a checkpoint holds it; otherwise a constant of the program.
    """

    def __init__(self, value: jax.Array, renewed: bool = False) -> None:
        super().__init__()
        self._constant = None if renewed else value
        if renewed:
            self.weight = brainstate.ParamState({"weight": value})

    def update(self) -> jax.Array:
        if self._constant is not None:
            return self._constant
        return jax.lax.stop_gradient(self.weight.value["weight"])


class FixedMap(brainstate.nn.Module):
    """``y = x @ W`` with a W (n_in, n_out) that is not trained; see :class:`Held`."""

    def __init__(self, weight: jax.Array, renewed: bool = False) -> None:
        super().__init__()
        self.in_size, self.out_size = (weight.shape[0],), (weight.shape[1],)
        self.held = Held(weight, renewed)

    def effective_weight(self) -> jax.Array:
        return self.held()

    def update(self, x: jax.Array) -> jax.Array:
        return x @ self.held()
