"""Programs of accelerators, made on a machine without one."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from snnlab.learners import tuning

PLATFORMS = ("tpu", "cuda")


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype), tree)


def for_accelerators() -> contextlib.AbstractContextManager[None]:
    """What is built and traced inside has the policies of a GPU or TPU."""
    return tuning.planned_for(tuning.ACCELERATOR)


def exported(fun: Any, *args: Any) -> bytes:
    """``fun`` as StableHLO of both platforms, as it would be stored; nothing is run.

    What has no lowering for one of them, or calls into this process (numba's loops, callbacks), is
    an error of ``jax.export``.
    """
    found = jax.export.export(jax.jit(fun), platforms=PLATFORMS)(*shapes(args))
    assert found.platforms == PLATFORMS
    return found.mlir_module_serialized
