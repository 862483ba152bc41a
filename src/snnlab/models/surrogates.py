"""Surrogate gradients of the spike function, by the names of ``--spk_fun``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from snnlab.registry import Registry, load


class Surrogate(NamedTuple):
    """A spike function with a derivative.

    Attributes:
        summary: for ``--help``.
        make: ``"module:attribute"``, called without arguments: a function of ``(V - V_th) / V_th``
            that is 1 above 0, else 0, whose derivative is the surrogate.
    """

    summary: str
    make: str


SURROGATES: Registry[Surrogate] = Registry(
    "surrogate",
    "snnlab.surrogates",
    Surrogate,
    {
        "relu": Surrogate("triangle", "braintools.surrogate:ReluGrad"),
        "s2nn": Surrogate("sigmoid below, logarithm above", "braintools.surrogate:S2NN"),
        "multi_gaussian": Surrogate("sum of Gaussians", "braintools.surrogate:MultiGaussianGrad"),
        "boxcar": Surrogate("1 up to 0.5 from the threshold", "snnlab.models.boxcar:Boxcar"),
    },
)


def surrogate(name: str) -> Callable:
    """The spike function ``name``."""
    return load(SURROGATES.get(name).make)()
